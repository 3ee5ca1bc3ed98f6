//! What the relay asks and says: who may take a connection's stream, where its agent is, who came and who left.
//!
//! Absent: sockets, and anything about frames.

use std::collections::BTreeSet;

use bz_core::api::record::ConnectionEventType;
use bz_core::api::target::TargetStatus;
use bz_core::id::{BootId, ConnectionId, EventId, LoginId, ShellId, TargetId};
use bz_core::key::PublicKey;

use crate::app::App;
use crate::auth;
use crate::connection::life::{By, Input, State, StepError};
use crate::connection::{close, log, lose_all_on, returned};
use crate::error::ApiError;
use crate::record::Ends;
use crate::store::StoreError;
use crate::store::connection::{Connection, ConnectionFilter, Stepped};
use crate::store::event::EventFilter;
use crate::store::login::Login;
use crate::store::target::{Announced, StatusLog, Target};

/// Why a stream is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The login is unknown, ended or expired, or lacks the second factor.
    #[error("log in again")]
    Login,
    /// There is no such connection, or it belongs to another login or target than the one that asks.
    #[error("there is no such connection for this login or target")]
    Connection,
    /// The connection has ended.
    #[error("the connection is closed")]
    Closed,
    /// The machine refuses the step.
    #[error(transparent)]
    Step(StepError),
    /// The target has no link, or was deleted.
    #[error("the target is offline")]
    Offline,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server failed in another way, which its log says.
    #[error("the server failed")]
    Internal,
}

impl From<ApiError> for LinkError {
    fn from(_: ApiError) -> Self {
        Self::Internal
    }
}

/// Where a connection's agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentPlace {
    /// The target.
    pub target: TargetId,
    /// The agent's identity key.
    pub identity_key: PublicKey,
    /// Its present start.
    pub boot: BootId,
}

/// The login, while it lives: whose key opens a client link.
///
/// # Errors
/// [`LinkError::Login`].
pub async fn live_login(app: &App, login: LoginId) -> Result<Login, LinkError> {
    let (login, _) = app.store.login(login).await?.ok_or(LinkError::Login)?;
    let over = login.ended || app.now().wall >= login.expires;
    if over || auth::standing(app, &login).await?.is_pending() { Err(LinkError::Login) } else { Ok(login) }
}

/// The connection, when this login may take its stream now.
///
/// # Errors
/// [`LinkError`].
pub async fn authorize_link(app: &App, login: LoginId, connection: ConnectionId) -> Result<Connection, LinkError> {
    live_login(app, login).await?;
    let found = app.store.connection(connection).await?.filter(|c| c.login == login);
    let found = found.ok_or(LinkError::Connection)?;
    if found.life.is_over() { Err(LinkError::Closed) } else { Ok(found) }
}

/// Why a closed connection was closed, as its log says; nothing for one that lives.
///
/// # Errors
/// [`LinkError::Store`].
pub async fn why_closed(app: &App, connection: ConnectionId) -> Result<Option<String>, LinkError> {
    let filter = EventFilter { connections: vec![connection], limit: 10, ..EventFilter::default() };
    let events = app.store.connection_events(filter).await?;
    let closed = events.into_iter().find(|e| e.connection_event_type == ConnectionEventType::Closed);
    Ok(closed.map(|event| event.reason))
}

/// Where the connection's agent is now.
///
/// # Errors
/// [`LinkError::Offline`], or [`LinkError::Connection`].
pub async fn agent_for(app: &App, connection: ConnectionId) -> Result<AgentPlace, LinkError> {
    let found = app.store.connection(connection).await?.ok_or(LinkError::Connection)?;
    let target = app.store.target(found.agent).await?.ok_or(LinkError::Offline)?;
    let boot = app.links.online(target.id).ok_or(LinkError::Offline)?;
    Ok(AgentPlace { target: target.id, identity_key: target.identity_key, boot })
}

/// The target whose control key this is: how an agent's link is known.
///
/// # Errors
/// [`LinkError::Store`].
pub async fn target_of(app: &App, control_key: PublicKey) -> Result<Option<Target>, LinkError> {
    Ok(app.store.target_of_control_key(control_key).await?)
}

/// The connection's client came. Logs `ClientConnect`, and `ShellConnect` when it comes back to a shell.
///
/// # Errors
/// [`LinkError::Step`] when it has ended.
pub async fn client_connected(app: &App, connection: ConnectionId) -> Result<Connection, LinkError> {
    step(app, connection, Input::ClientConnected, "its client came").await
}

/// The connection's client gave way to another of its person, which has come already. Logs the leaving and the coming.
///
/// # Errors
/// [`LinkError::Step`] when it has ended.
pub async fn client_replaced(app: &App, connection: ConnectionId) -> Result<Connection, LinkError> {
    step(app, connection, Input::ClientReplaced, "another client of its person took its place").await
}

/// The connection's client left. Logs `ClientDisconnect`, and `ShellDisconnect` when a shell runs on.
///
/// # Errors
/// [`LinkError::Step`] when it has ended.
pub async fn client_disconnected(app: &App, connection: ConnectionId, why: &str) -> Result<Connection, LinkError> {
    step(app, connection, Input::ClientDisconnected, why).await
}

/// The agent of `target` says which shell the client is on. Logs `ShellConnect` the first time, and `ShellDisconnect`
/// after it when the client has already gone.
///
/// # Errors
/// [`LinkError::Connection`] when the connection is unknown or on another target: an agent speaks for its own alone.
/// [`LinkError::Step`] for another shell than before, or before any client came.
pub async fn shell_attached(
    app: &App,
    target: TargetId,
    connection: ConnectionId,
    shell: ShellId,
) -> Result<Connection, LinkError> {
    let known = app.store.connection(connection).await?.filter(|c| c.agent == target);
    let known = known.ok_or(LinkError::Connection)?;
    if known.life.is_over() {
        return returned(app, known, shell).await;
    }
    step(app, connection, Input::ShellAttached(shell), "the target named its shell").await
}

/// The connection whose shell an agent goes on with while nobody is attached, and the ends of its record.
///
/// # Errors
/// [`LinkError::Connection`] when it is on another target, [`LinkError::Closed`] when it has ended.
pub async fn segment_of(
    app: &App,
    target: TargetId,
    connection: ConnectionId,
) -> Result<(Connection, Ends), LinkError> {
    let known = app.store.connection(connection).await?.filter(|c| c.agent == target);
    let known = known.ok_or(LinkError::Connection)?;
    if known.life.is_over() {
        return Err(LinkError::Closed);
    }
    let (login, user) = app.store.login(known.login).await?.ok_or(LinkError::Login)?;
    let agent_key = app.store.target(target).await?.ok_or(LinkError::Offline)?.identity_key;
    Ok((known, Ends { client_key: login.client_key, agent_key, issuer: user.person.issuer }))
}

/// The agent of `target` says that these are the shells it has. Detached connections to others end: nobody can come back
/// to them. Those with a client hear of the end in their sessions.
///
/// # Errors
/// [`LinkError`].
pub async fn shells_known(app: &App, target: TargetId, shells: &BTreeSet<ShellId>) -> Result<(), LinkError> {
    let filter = ConnectionFilter { target: Some(target), ..ConnectionFilter::default() };
    for connection in app.store.connections(filter).await? {
        let gone = connection.life.shell.is_some_and(|shell| !shells.contains(&shell));
        if gone && connection.life.state == State::Detached {
            close(app, connection.id, &By::Service, "its shell has ended").await?;
        }
    }
    Ok(())
}

/// A session ended at the target, and said nothing of a shell's end: where there is a shell, its client left.
///
/// # Errors
/// [`LinkError`].
pub async fn session_ended(app: &App, connection: ConnectionId, why: &str) -> Result<(), LinkError> {
    let found = app.store.connection(connection).await?.ok_or(LinkError::Connection)?;
    if found.access.spec().detaches && found.life.shell.is_some() {
        client_disconnected(app, connection, why).await.map(drop)
    } else {
        closed(app, connection, &By::Service, why).await
    }
}

/// The connection ended, at the target or here. Logs `Closed` once, and tells the links.
///
/// # Errors
/// [`LinkError::Internal`].
pub async fn closed(app: &App, connection: ConnectionId, by: &By, why: &str) -> Result<(), LinkError> {
    Ok(close(app, connection, by, why).await?)
}

/// The target's agent has a link, with this start.
///
/// # Errors
/// [`LinkError::Store`].
pub async fn target_online(app: &App, target: TargetId, agent: Announced) -> Result<(), LinkError> {
    Ok(app.store.target_online(target, agent, status_log(app)?).await?)
}

/// The target has had no link for the resume window: its connections close.
///
/// # Errors
/// [`LinkError`].
pub async fn target_offline(app: &App, target: TargetId) -> Result<(), LinkError> {
    let why = format!("its agent has had no link for {} seconds", app.config().offline_seconds);
    if app.store.target_offline(target, why, status_log(app)?).await? {
        lose_all_on(app, target).await?;
    }
    Ok(())
}

fn status_log(app: &App) -> Result<StatusLog, ApiError> {
    let id = || Ok::<_, ApiError>(EventId::from_random(app.random()?));
    Ok(StatusLog { ids: [id()?, id()?], organization: app.organization, at: app.now().wall })
}

/// Targets that the store believes online: after a start, those whose window begins now.
///
/// # Errors
/// [`LinkError::Store`].
pub async fn believed_online(app: &App) -> Result<Vec<TargetId>, LinkError> {
    let all = app.store.targets().await?;
    Ok(all.into_iter().filter(|t| t.status == TargetStatus::Online).map(|t| t.id).collect())
}

async fn step(app: &App, connection: ConnectionId, input: Input, why: &str) -> Result<Connection, LinkError> {
    match app.store.step_connection(connection, input, log(app, why.to_owned())?).await? {
        Stepped::Done(connection, _) => Ok(*connection),
        Stepped::Unknown => Err(LinkError::Connection),
        Stepped::Refused(refused) => Err(LinkError::Step(refused)),
    }
}
