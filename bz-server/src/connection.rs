//! Connections: decided by policy, granted, kept, logged, ended.
//!
//! The API opens and closes them; the relay says when clients come and leave ([`link`]). Absent: frames.

pub mod aim;
pub mod life;
pub mod link;

use std::sync::Arc;

use bz_core::access::request::{Parameters, Request, Size, UserNeed};
use bz_core::access::{Access, Lens, Mode, Verb};
use bz_core::api::Bytes;
use bz_core::api::access::{Cluster, ConnectionMade, NewConnection, Proxy};
use bz_core::api::record::Place;
use bz_core::grant::{GrantBody, Recording, SignedGrant};
use bz_core::id::{ConnectionId, EventId, GrantId, ShellId, TargetId, UserId};
use bz_core::signed::Signed;
use bz_core::target::{TargetUser, UserRule};
use bz_core::time::UnixTime;
use bz_core::wire;
use serde_json::json;

use crate::app::App;
use crate::auth::{self, Caller, LoggedIn};
use crate::connection::aim::{Acting, Aim};
use crate::connection::life::{By, Input, Life, State};
use crate::connection::link::LinkError;
use crate::error::ApiError;
use crate::jobs::own_event;
use crate::mfa::Standing;
use crate::policy::{AccessQuestion, AllowedUser, Decision, Index, PersonInput, TargetInput};
use crate::record::RecordError;
use crate::store::connection::{Connection, ConnectionFilter, Log, Standing as RecordStanding, Stepped};

/// What a person wants of a target.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The technology's parameters.
    pub parameters: Parameters,
    /// As whom; the only allowed user when absent.
    pub user: Option<TargetUser>,
    /// Who can read the content.
    pub mode: Mode,
}

impl Wanted {
    /// What a body asks for. Without parameters it is a shell of the usual size.
    ///
    /// # Errors
    /// [`ApiError::field`] for parameters that are none, or an attach, which goes another way.
    pub fn of(new: NewConnection) -> Result<Self, ApiError> {
        let parameters = match new.parameters {
            Some(Bytes(bytes)) => wire::decode(&bytes, bz_core::access::request::MAX_REQUEST)
                .map_err(|e| ApiError::field("parameters", &e.to_string()))?,
            None => Parameters::Shell { term: "xterm-256color".to_owned(), size: Size { rows: 24, columns: 80 } },
        };
        if matches!(parameters, Parameters::Attach { .. }) {
            return Err(ApiError::field("parameters", "attach to a shell by POST connections/{id}/shell/attach"));
        }
        let spec = parameters.access().spec();
        let mode = new.mode.unwrap_or(spec.mode);
        if mode == Mode::Sealed && matches!(spec.lens, Lens::Query | Lens::Http | Lens::Kube) {
            return Err(ApiError::field("mode", "a sealed session of this kind would leave no log"));
        }
        Ok(Self { parameters, user: new.target_user, mode })
    }
}

/// The question that policy is asked; policies are put in by [`AccessQuestion::about`].
#[must_use]
pub fn question(
    who: &LoggedIn,
    aim: &Aim,
    (verb, user, mode): (Verb, Option<TargetUser>, Mode),
    now: UnixTime,
) -> AccessQuestion {
    question_of(person(who), aim, (verb, user, mode), now)
}

/// Somebody who is logged in, as policies see one.
#[must_use]
pub fn person(who: &LoggedIn) -> PersonInput {
    PersonInput {
        id: who.user.id,
        kind: who.user.kind,
        username: who.login.username.clone(),
        groups: who.login.groups.clone(),
    }
}

/// The same about anybody.
#[must_use]
pub fn question_of(
    person: PersonInput,
    aim: &Aim,
    (verb, user, mode): (Verb, Option<TargetUser>, Mode),
    now: UnixTime,
) -> AccessQuestion {
    let (id, kind, labels) = (aim.id(), aim.kind(), aim.labels().clone());
    AccessQuestion {
        person,
        target: TargetInput { id, environment: aim.environment().0, kind, labels },
        verb,
        user,
        cluster: None,
        mode,
        now: now.as_millis(),
        policies: Vec::new(),
        recording: Vec::new(),
    }
}

/// An administrator's or access key's name as who closed something.
#[must_use]
pub fn administrator(caller: &Caller) -> By {
    By::Administrator(caller.actor().subject_name)
}

/// A way through policy to an agent: everything a grant is made of.
struct Allowed<'a> {
    who: &'a LoggedIn,
    aim: Aim,
    acting: Acting,
    rule: Option<UserRule>,
    request: Request,
    decision: Decision,
    policies: Arc<Index>,
}

/// Opens a connection: decides, signs the grant, keeps the connection and logs it.
///
/// # Errors
/// [`ApiError`]: denied, several users, offline, or the server failed.
pub async fn open(app: &App, who: &LoggedIn, aim: Aim, wanted: Wanted) -> Result<ConnectionMade, ApiError> {
    let id = ConnectionId::from_random(app.random()?);
    let allowed = decide(app, who, aim, wanted).await?;
    let grant = sign(app, id, &allowed)?;
    let now = app.now().wall;
    let connection = Connection {
        id,
        user: who.user.id,
        login: who.login.id,
        target: allowed.aim.id(),
        agent: allowed.acting.target.id,
        access: allowed.request.access(),
        mode: allowed.request.mode,
        verb: allowed.request.verb(),
        second_verb: allowed.request.parameters.second_verb(),
        life: Life::new(),
        created: now,
        actor: auth::actor(&who.user),
        place: place(&allowed),
        recording: allowed.decision.recording,
        record: record(&allowed),
        redacted: allowed.decision.redacted,
    };
    let reason = format!("opened by the end user {}, allowed by {}", who.user.name(), names(&allowed));
    app.store.add_connection(connection, log(app, reason)?).await?;
    Ok(made(id, &allowed, grant, None))
}

/// Grants the shell behind a connection to this login of its person.
///
/// # Errors
/// As [`open`].
pub async fn attach(
    app: &App,
    who: &LoggedIn,
    connection: Connection,
    parameters: Parameters,
) -> Result<ConnectionMade, ApiError> {
    let shell = connection.life.shell;
    let aim = aim::find(app, Some(connection.target), (None, None)).await?;
    let user = connection.place.target_user.parse().ok();
    let allowed = decide(app, who, aim, Wanted { parameters, user, mode: connection.mode }).await?;
    let grant = sign(app, connection.id, &allowed)?;
    app.store.hold_connection(connection.id, who.login.id, record(&allowed)).await?;
    Ok(made(connection.id, &allowed, grant, shell))
}

/// Closes a connection, whatever it is doing. Closing a closed one is no error.
///
/// # Errors
/// [`ApiError`].
pub async fn close(app: &App, id: ConnectionId, by: &By, why: &str) -> Result<(), ApiError> {
    end(app, id, Input::Closed, format!("closed by {by}: {why}")).await
}

async fn end(app: &App, id: ConnectionId, how: Input, reason: String) -> Result<(), ApiError> {
    match app.store.step_connection(id, how, log(app, reason.clone())?).await? {
        Stepped::Done(connection, rows) if !rows.is_empty() => {
            app.links.closed(id, &reason);
            // The record of a shell that may come back is not over.
            if connection.life.state == State::Closed {
                app.records.close(id, &reason);
            }
        }
        Stepped::Done(..) | Stepped::Unknown | Stepped::Refused(_) => {}
    }
    Ok(())
}

/// Closes all connections on a target.
///
/// # Errors
/// [`ApiError`].
pub async fn close_all_on(app: &App, target: TargetId, by: &By, why: &str) -> Result<(), ApiError> {
    let filter = ConnectionFilter { target: Some(target), ..ConnectionFilter::default() };
    for connection in app.store.connections(filter).await? {
        close(app, connection.id, by, why).await?;
    }
    Ok(())
}

/// Closes all connections of a person; how many there were.
///
/// # Errors
/// [`ApiError`].
pub async fn close_all_of(app: &App, user: UserId, by: &By, why: &str) -> Result<usize, ApiError> {
    let filter = ConnectionFilter { user: Some(user), ..ConnectionFilter::default() };
    let open = app.store.connections(filter).await?;
    for connection in &open {
        close(app, connection.id, by, why).await?;
    }
    Ok(open.len())
}

/// The target went offline: its connections close, with that reason. Kept shells may come back with it.
///
/// # Errors
/// [`ApiError`].
pub async fn lose_all_on(app: &App, target: TargetId) -> Result<(), ApiError> {
    let filter = ConnectionFilter { target: Some(target), ..ConnectionFilter::default() };
    for connection in app.store.connections(filter).await? {
        end(app, connection.id, Input::TargetLost, format!("closed by {}: the target is offline", By::Service)).await?;
    }
    Ok(())
}

/// A target has a shell whose connection is over: it is listed again when it was lost with its target and policy still
/// allows it, and ended otherwise.
///
/// # Errors
/// [`LinkError`].
pub async fn returned(app: &App, connection: Connection, shell: ShellId) -> Result<Connection, LinkError> {
    let id = connection.id;
    let policies = app.policies().await?;
    let standing = still_allowed(app, &connection, &policies).await?.filter(RecordStanding::suffices);
    if let (State::Lost, Some(standing)) = (connection.life.state, standing) {
        record_on(app, &connection, standing).await?;
        let reason = "the target is back, and its shell runs on".to_owned();
        return match app.store.step_connection(id, Input::ShellAttached(shell), log(app, reason)?).await? {
            Stepped::Done(connection, _) => Ok(*connection),
            Stepped::Unknown => Err(LinkError::Connection),
            Stepped::Refused(refused) => Err(LinkError::Step(refused)),
        };
    }
    close(app, id, &By::Service, "no policy allows it any more").await?;
    app.links.closed(id, "the connection is closed, and its shell ends");
    Err(LinkError::Closed)
}

/// After policies changed: closes every connection that none allows any more, kept shells included, and records the
/// others as policy says now.
///
/// # Errors
/// [`ApiError`].
pub async fn recheck(app: &App, by: &By) -> Result<(), ApiError> {
    let policies = app.policies().await?;
    for connection in app.store.connections(ConnectionFilter::default()).await? {
        match still_allowed(app, &connection, &policies).await? {
            None => close(app, connection.id, by, "no policy allows it any more").await?,
            Some(standing) if !standing.suffices() => {
                close(app, connection.id, by, "it must be recorded from now on, and was not: connect again").await?;
            }
            Some(standing) => record_on(app, &connection, standing).await?,
        }
    }
    Ok(())
}

/// Records a connection in this way from now on, also the sessions that run. What changes in it is in the log of calls.
///
/// # Errors
/// [`ApiError`].
pub(crate) async fn record_on(app: &App, connection: &Connection, standing: RecordStanding) -> Result<(), ApiError> {
    if standing == connection.record {
        return Ok(());
    }
    app.store.keep_of_connection(connection.id, standing).await?;
    app.records.keep(connection.id, standing.keeps);
    if standing.keeps != connection.record.keeps {
        let Recording { output, input } = standing.keeps;
        let context = json!({ "output": output, "input": input, "stopped": standing.stopped }).to_string();
        let event = own_event(app, ("recordservice:changed", &connection.id.to_string()), context)?;
        app.store.add_user_event(event, app.now().wall).await?;
    }
    Ok(())
}

/// Asked as at the opening, with the identity of the login that holds the connection: how it is recorded, if it may go on.
async fn still_allowed(
    app: &App,
    connection: &Connection,
    policies: &Index,
) -> Result<Option<RecordStanding>, ApiError> {
    let Some(aim) = aim::by_id(app, connection.target).await? else { return Ok(None) };
    let Some((login, user)) = app.store.login(connection.login).await? else { return Ok(None) };
    let target_user = connection.place.target_user.parse().ok();
    // What policies allow does not hang on the second factor: it was asked for at the opening.
    let who = LoggedIn { login, user, standing: Standing::FREE };
    let cluster = (connection.access == Access::Kube).then(|| Cluster {
        user: connection.place.target_user.clone(),
        groups: connection.place.target_groups.clone(),
    });
    let ask = |verb: &Verb| {
        let what = (verb.clone(), target_user.clone(), connection.mode);
        let asked = AccessQuestion { cluster: cluster.clone(), ..question(&who, &aim, what, app.now().wall) };
        app.engine.access(&asked.about(policies))
    };
    let first = ask(&connection.verb);
    let second = connection.second_verb.as_ref().map(ask);
    let allowed = first.allowed && second.is_none_or(|second| second.allowed);
    Ok(allowed.then(|| connection.record.under(first.recording, first.must_record)))
}

/// After a logout: what cannot live without its person ends; shells run on, detached.
///
/// # Errors
/// [`ApiError`].
pub async fn after_logout(app: &App, who: &LoggedIn) -> Result<(), ApiError> {
    let filter = ConnectionFilter { user: Some(who.user.id), ..ConnectionFilter::default() };
    let held = app.store.connections(filter).await?;
    for connection in held.into_iter().filter(|c| c.login == who.login.id) {
        if connection.access.spec().detaches && connection.life.shell.is_some() {
            let reason = format!("the end user {} logged out", who.user.name());
            app.store.step_connection(connection.id, Input::ClientDisconnected, log(app, reason)?).await?;
        } else {
            close(app, connection.id, &By::EndUser(who.user.name().to_owned()), "logged out").await?;
        }
    }
    Ok(())
}

fn denied(decision: &Decision) -> ApiError {
    ApiError::denied(format!("{}: `bz why` says what an administrator would have to allow", decision.reason))
}

async fn decide<'a>(app: &App, who: &'a LoggedIn, aim: Aim, wanted: Wanted) -> Result<Allowed<'a>, ApiError> {
    aim.fits(&wanted.parameters)?;
    let policies = app.policies().await?;
    let (verb, second) = (wanted.parameters.verb(), wanted.parameters.second_verb());
    let cluster =
        wanted.parameters.cluster().map(|asked| Cluster { user: asked.user.clone(), groups: asked.groups.clone() });
    let ask_for = |verb: &Verb, user| {
        let what = (verb.clone(), user, wanted.mode);
        let asked = AccessQuestion { cluster: cluster.clone(), ..question(who, &aim, what, app.now().wall) };
        app.engine.access(&asked.about(&policies))
    };
    let ask = |user: Option<TargetUser>| match &second {
        Some(second) => ask_for(&verb, user.clone()).and(ask_for(second, user)),
        None => ask_for(&verb, user),
    };
    let mut decision = ask(wanted.user.clone());
    if !decision.allowed {
        return Err(denied(&decision));
    }
    let chosen = choose(&decision, wanted.user.is_some(), &wanted.parameters)?;
    if let (Some(chosen), None) = (&chosen, &wanted.user) {
        // Asked again for this user alone, so that the grant names exactly the policies that allow it.
        decision = ask(Some(chosen.user.clone()));
        if !decision.allowed {
            return Err(denied(&decision));
        }
    }
    if !is_watched(&wanted.parameters) {
        // Recording policies are about what people see and type. Of files the manifest is kept, in any case, and nothing
        // of their content; of statements and requests their log.
        decision.recording = Recording { output: false, input: false };
    } else if decision.must_record {
        app.records.can_record().await.map_err(|error| unrecordable(&error))?;
    }
    let acting = aim.acting(app).await?;
    let (user, rule) = chosen.map_or((None, None), |c| (Some(c.user), Some(c.rule)));
    let request = Request { target: acting.target.id, user, mode: wanted.mode, parameters: wanted.parameters };
    Ok(Allowed { who, aim, acting, rule, request, decision, policies })
}

fn record(allowed: &Allowed<'_>) -> RecordStanding {
    let watched = is_watched(&allowed.request.parameters);
    RecordStanding::granted(allowed.decision.recording, watched, watched && allowed.decision.must_record)
}

fn unrecordable(error: &RecordError) -> ApiError {
    tracing::error!(%error, "nothing can be recorded: who must be recorded is refused");
    ApiError::conflict(
        "policy lets you in only while you are recorded, and the server cannot record now: tell an administrator",
    )
}

/// Whether they are about what people see and type.
fn is_watched(parameters: &Parameters) -> bool {
    match (parameters.access().spec().lens, parameters) {
        (Lens::Ssh, Parameters::SshServer { purpose, .. }) => purpose.has_shell(),
        (Lens::Command | Lens::Request | Lens::Opaque | Lens::Ssh, _) => true,
        (Lens::Files | Lens::Query | Lens::Http | Lens::Kube, _) => false,
    }
}

/// The user to become: none where nobody is needed, otherwise the one that is named or the only one there is.
fn choose(decision: &Decision, named: bool, parameters: &Parameters) -> Result<Option<AllowedUser>, ApiError> {
    match parameters.needs_user() {
        UserNeed::None => {
            let none = format!("a {} has none: leave it out", parameters.access().spec().name);
            return if named { Err(ApiError::field("targetUser", &none)) } else { Ok(None) };
        }
        UserNeed::Possible if !named && decision.any_user => return Ok(None),
        UserNeed::Possible | UserNeed::Needed => {}
    }
    match decision.users.as_slice() {
        [] => Err(ApiError::denied("policies allow this verb, but no user: {username} means nobody for this login")),
        [only] => Ok(Some(only.clone())),
        several => Err(ApiError::target_user_needed(several.iter().map(|u| u.user.to_string()).collect())),
    }
}

fn sign(app: &App, connection: ConnectionId, allowed: &Allowed<'_>) -> Result<Bytes, ApiError> {
    let bytes = allowed.request.encode().map_err(|e| ApiError::field("parameters", &e.to_string()))?;
    let now = app.now().wall;
    // A session ends at the target when the second factor is asked for again.
    let standing = allowed.who.standing;
    let most = app.config().session_max();
    let left = standing.until.map_or(most, |until| most.min(until.since(now)));
    let session = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
    let body = GrantBody {
        id: GrantId::from_random(app.random()?),
        connection,
        person: allowed.who.user.person.clone(),
        client_key: allowed.who.login.client_key,
        agent_key: allowed.acting.target.identity_key,
        boot: allowed.acting.boot,
        target: allowed.acting.target.id,
        verb: allowed.request.verb(),
        user: allowed.rule.clone(),
        mode: allowed.request.mode,
        recording: allowed.decision.recording,
        request: Request::digest(&bytes),
        scope: allowed.request.parameters.scope(),
        mfa: allowed.who.login.mfa.clone(),
        policies: allowed.decision.policies.clone(),
        policy_version: allowed.policies.version(),
        not_before: now,
        not_after: app.config().grant_ends(now),
        session_seconds: session,
    };
    let keys = app.online_keys().map_err(ApiError::internal)?;
    let grant = Signed::seal(&body, app.organization, &keys.grant.key).map_err(ApiError::internal)?;
    let signed = SignedGrant { certificate: keys.grant.certificate.clone(), grant };
    wire::encode(&signed, bz_core::grant::MAX_GRANT).map(Bytes).map_err(ApiError::internal)
}

fn made(id: ConnectionId, allowed: &Allowed<'_>, grant: Bytes, shell_id: Option<ShellId>) -> ConnectionMade {
    let Recording { output, .. } = allowed.decision.recording;
    let acting = &allowed.acting.target;
    ConnectionMade {
        connection_id: id,
        target_id: allowed.aim.id(),
        target_name: allowed.aim.name().to_owned(),
        environment_name: allowed.aim.environment().1.to_owned(),
        target_user: allowed.request.user.clone(),
        target_type: allowed.aim.kind().to_string(),
        proxy: (acting.id != allowed.aim.id()).then(|| Proxy {
            target_id: acting.id,
            target_name: acting.name.clone(),
            environment_name: acting.environment_name.clone(),
        }),
        verb_type: allowed.request.verb(),
        agent_public_key: acting.identity_key,
        agent_version: acting.version.clone(),
        mode: allowed.request.mode,
        recorded: output,
        grant,
        shell_id,
        directory_entry: None,
    }
}

fn place(allowed: &Allowed<'_>) -> Place {
    let (environment_id, environment_name) = allowed.aim.environment();
    let cluster = allowed.request.parameters.cluster();
    let user = allowed.request.user.as_ref().map(ToString::to_string);
    Place {
        target_id: allowed.aim.id(),
        target_name: allowed.aim.name().to_owned(),
        target_type: allowed.aim.kind().to_string(),
        target_user: cluster.map(|cluster| cluster.user.clone()).or(user).unwrap_or_default(),
        target_groups: cluster.map(|cluster| cluster.groups.clone()).unwrap_or_default(),
        environment_id,
        environment_name: environment_name.to_owned(),
    }
}

fn names(allowed: &Allowed<'_>) -> String {
    allowed.policies.names(&allowed.decision.policies).join(", ")
}

pub(crate) fn log(app: &App, reason: String) -> Result<Log, ApiError> {
    let id = || Ok::<_, ApiError>(EventId::from_random(app.random()?));
    Ok(Log {
        ids: [id()?, id()?, id()?, id()?],
        reason,
        organization: app.organization,
        node: app.config().node.clone(),
        at: app.now().wall,
    })
}
