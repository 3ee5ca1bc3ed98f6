//! Connections: asking for one, attaching, listing, closing.

use bz_core::access::{Access, request::Parameters};
use bz_core::api::access::{
    AttachShell, Connection as ConnectionBody, ConnectionMade, ConnectionState, NewConnection, ShellConnection,
};
use bz_core::api::target::TargetKind;

use crate::api::openapi::Nothing;
use crate::api::page::List;
use crate::api::{Answer, Call, virtual_target};
use crate::connection::life::{By, State};
use crate::connection::{self, Wanted, aim};
use crate::error::ApiError;
use crate::store::connection::{Connection, ConnectionFilter};

/// `POST connections/universal`.
pub(super) async fn open(call: Call, new: NewConnection) -> Result<Answer<ConnectionMade>, ApiError> {
    let named = new.target_id.map(|t| t.to_string()).or_else(|| new.target_name.clone());
    call.note(named.unwrap_or_default());
    let who = call.person()?;
    let names = (new.target_name.clone(), new.environment_name.clone());
    let aim = aim::find(&call.app, new.target_id, names).await?;
    call.note(aim.name());
    let wanted = Wanted::of(new)?;
    let made = connection::open(&call.app, who, aim, wanted).await?;
    call.note_context(made.connection_id.to_string());
    Answer::json(&made)
}

/// `POST connections/{id}/shell/attach`.
pub(super) async fn attach(call: Call, body: AttachShell) -> Result<Answer<ConnectionMade>, ApiError> {
    let found = call.app.store.connection(call.id()?).await?;
    let found = found.ok_or_else(|| ApiError::not_found("connection"))?;
    let shell = match (found.life.state, found.life.shell) {
        (State::Closed, _) => return Err(ApiError::conflict("the connection is closed")),
        (State::Lost, _) => {
            let why = "the target is offline; the shell is listed again when the target comes back with it";
            return Err(ApiError::conflict(why));
        }
        (State::Opening | State::Open | State::Detached, Some(shell)) => shell,
        (State::Opening | State::Open | State::Detached, None) => {
            return Err(ApiError::conflict("there is no shell behind this connection"));
        }
    };
    let made = connection::attach(&call.app, call.person()?, found, Parameters::Attach { shell, size: body.size });
    Answer::json(&made.await?)
}

/// A way of reaching things, as the original's lists know it.
pub(super) trait Way {
    /// The technologies of it.
    const ACCESS: &'static [Access];
}

macro_rules! ways {
    ($($(#[$doc:meta])* $name:ident $access:expr;)*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl Way for $name {
            const ACCESS: &'static [Access] = $access;
        }
    )*};
}

ways! {
    /// `connections/db`.
    Db &[Access::Database, Access::Tcp];
    /// `connections/kube`.
    Kube &[Access::Kube];
    /// `connections/web`.
    Web &[Access::Web];
    /// `connections/shell`.
    Shell &[Access::Shell];
    /// `connections/ssh`.
    Ssh &[Access::Ssh, Access::SshServer];
    /// `connections/rdp` and `connections/sqlserver`: there are none here.
    Never &[];
}

/// `GET connections`: the caller's own; others' for those who may.
pub(super) async fn list(call: Call) -> Result<Answer<List<ConnectionBody>>, ApiError> {
    listed(call, None).await
}

/// `GET connections/WAY`: the same, of one way.
pub(super) async fn list_of<W: Way>(call: Call) -> Result<Answer<List<ConnectionBody>>, ApiError> {
    listed(call, Some(W::ACCESS)).await
}

/// `GET connections/shell/{id}`.
pub(super) async fn shell(call: Call) -> Result<Answer<ShellConnection>, ApiError> {
    let found = call.app.store.connection(call.id()?).await?.filter(|found| Shell::ACCESS.contains(&found.access));
    let found = found.ok_or_else(|| ApiError::not_found("shell connection"))?;
    let recording = found.recording;
    let parts = call.app.records.parts(found.id).await?;
    Answer::json(&ShellConnection {
        connection: show(&found),
        session_recording_available: (recording.output || recording.input) && !parts.is_empty(),
        session_recording: recording.output,
        input_recording: recording.input,
    })
}

async fn listed(call: Call, ways: Option<&[Access]>) -> Result<Answer<List<ConnectionBody>>, ApiError> {
    let email = call.query("userEmail").pop();
    let all = call.flag("all");
    let own = call.person().ok().map(|p| p.user.clone());
    let others = all || own.as_ref().is_none_or(|own| email.as_ref().is_some_and(|e| *e != own.email));
    if others && !call.has("connectionservice:list-others") {
        return Err(ApiError::denied("only administrators see the connections of others"));
    }
    let user = match email {
        Some(email) if others => {
            let found = call.app.store.users_called(email).await?.into_iter().next();
            Some(found.ok_or_else(|| ApiError::not_found("user"))?.id)
        }
        Some(_) | None => own.filter(|_| !others).map(|own| own.id),
    };
    let states = states(&call)?;
    let closed = states.contains(&ConnectionState::Closed);
    let found = call
        .app
        .store
        .connections(ConnectionFilter { user, target: None, closed, whole: call.page()?.is_some() })
        .await?;
    let asked = found.iter().filter(|c| ways.is_none_or(|ways| ways.contains(&c.access)));
    let mut shown: Vec<_> = asked.map(show).filter(|c| states.contains(&c.state)).collect();
    if shown.iter().any(|connection| connection.target_type != TargetKind::Bzero.to_string()) {
        let places = [TargetKind::Db, TargetKind::Web].map(|kind| call.app.store.virtual_targets(kind));
        let places = futures::future::try_join_all(places).await?.concat();
        for connection in &mut shown {
            let remote = places.iter().find(|t| t.id == connection.target_id).and_then(virtual_target::place_of);
            connection.remote_port = remote.as_ref().and_then(|remote| remote.remote_port.value);
            connection.remote_host = remote.map(|remote| remote.remote_host);
        }
    }
    Answer::list(&call, shown)
}

/// `PATCH connections/{id}/close`.
pub(super) async fn close(call: Call) -> Result<Answer<Nothing>, ApiError> {
    let id = call.id()?;
    let found = call.app.store.connection(id).await?.ok_or_else(|| ApiError::not_found("connection"))?;
    let own = call.person().is_ok_and(|p| p.user.id == found.user);
    let by = if own { By::EndUser(found.actor.subject_name) } else { connection::administrator(&call.caller) };
    connection::close(&call.app, id, &by, "closed on request").await?;
    Ok(Answer::empty())
}

/// The states asked for; all but closed ones when none is.
pub(super) fn states(call: &Call) -> Result<Vec<ConnectionState>, ApiError> {
    let asked: Vec<_> = [call.query("connectionState"), call.query("connectionStates")].concat();
    if asked.is_empty() {
        return Ok(vec![ConnectionState::Open, ConnectionState::Pending]);
    }
    let parse = |text: &String| match text.as_str() {
        "Open" => Ok(ConnectionState::Open),
        "Closed" => Ok(ConnectionState::Closed),
        "Error" => Ok(ConnectionState::Error),
        "Pending" => Ok(ConnectionState::Pending),
        _ => Err(ApiError::field("connectionState", "must be Open, Closed, Error or Pending")),
    };
    asked.iter().map(parse).collect()
}

pub(super) const fn state(connection: &Connection) -> ConnectionState {
    match connection.life.state {
        State::Opening => ConnectionState::Pending,
        State::Open | State::Detached => ConnectionState::Open,
        State::Lost | State::Closed => ConnectionState::Closed,
    }
}

pub(super) fn show(connection: &Connection) -> ConnectionBody {
    let place = &connection.place;
    ConnectionBody {
        id: connection.id,
        time_created: connection.created.to_string(),
        state: state(connection),
        target_id: connection.target,
        target_name: place.target_name.clone(),
        target_type: place.target_type.clone(),
        target_user: place.target_user.parse().ok(),
        subject_id: connection.user,
        kind: kind(connection.access),
        shell_id: connection.life.shell,
        attached: connection.life.state == State::Open,
        remote_host: None,
        remote_port: None,
        target_groups: place.target_groups.clone(),
    }
}

/// The technology's name with a capital.
fn kind(access: Access) -> String {
    let mut letters = access.spec().name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
