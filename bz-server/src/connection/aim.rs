//! What a person asks for: a target with an agent of its own, or one that another's agent reaches.

use bz_core::access::request::Parameters;
use bz_core::access::upstream::{DatabaseRequest, WebRequest};
use bz_core::access::{Mode, Verb};
use bz_core::api::target::TargetKind;
use bz_core::database::{ANY, Database};
use bz_core::id::{BootId, EnvironmentId, TargetId};
use bz_core::label::Labels;

use crate::app::App;
use crate::error::ApiError;
use crate::store::target::Target;
use crate::store::virtual_target::{Behind, VirtualTarget};

/// A target of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aim {
    /// One with an agent of its own.
    Host(Box<Target>),
    /// One behind another.
    Behind(Box<VirtualTarget>),
}

/// The target whose agent acts, and its present start.
#[derive(Debug, Clone)]
pub struct Acting {
    /// The target.
    pub target: Target,
    /// Its agent's start.
    pub boot: BootId,
}

impl Aim {
    /// The target.
    #[must_use]
    pub const fn id(&self) -> TargetId {
        match self {
            Self::Host(target) => target.id,
            Self::Behind(target) => target.id,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Host(target) => &target.name,
            Self::Behind(target) => &target.name,
        }
    }

    /// Its environment, and that one's name.
    #[must_use]
    pub fn environment(&self) -> (EnvironmentId, &str) {
        match self {
            Self::Host(target) => (target.environment, &target.environment_name),
            Self::Behind(target) => (target.environment, &target.environment_name),
        }
    }

    /// The labels that administrators gave it.
    #[must_use]
    pub const fn labels(&self) -> &Labels {
        match self {
            Self::Host(target) => &target.labels,
            Self::Behind(target) => &target.labels,
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> TargetKind {
        match self {
            Self::Host(_) => TargetKind::Bzero,
            Self::Behind(target) => target.kind,
        }
    }

    /// The verb that is asked for when none is named.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        match self.kind() {
            TargetKind::Bzero => Verb::Shell,
            TargetKind::Db => Verb::Database,
            TargetKind::Web => Verb::Web,
            TargetKind::Cluster => Verb::Kubernetes,
        }
    }

    /// The mode of a session for that verb.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self {
            Self::Behind(target) => {
                target.database_request().map_or(Mode::Inspected, |asked| asked.access().spec().mode)
            }
            Self::Host(_) => Mode::Inspected,
        }
    }

    /// Whether this is what the parameters are for: a client that knows an older place of it signs the older place.
    ///
    /// # Errors
    /// [`ApiError`] of another kind, or one that says that the target has changed.
    pub fn fits(&self, parameters: &Parameters) -> Result<(), ApiError> {
        if self.kind() != TargetKind::of(parameters.access()) {
            return Err(ApiError::other_kind(self.name(), self.kind()));
        }
        let Self::Behind(target) = self else { return Ok(()) };
        let same = match parameters {
            Parameters::Database(asked) => target.database_request().as_ref() == Some(asked),
            Parameters::Web(asked) => target.web_request().as_ref() == Some(asked),
            Parameters::Kube(_) => true,
            Parameters::Shell { .. }
            | Parameters::Attach { .. }
            | Parameters::Exec { .. }
            | Parameters::Handler { .. }
            | Parameters::Tunnel { .. }
            | Parameters::Ssh { .. }
            | Parameters::Copy(_)
            | Parameters::SshServer { .. } => false,
        };
        let changed = || ApiError::conflict(format!("{} is somewhere else by now: connect again", self.name()));
        if same { Ok(()) } else { Err(changed()) }
    }

    /// The target whose agent acts: of an environment's, the one that is online and has the fewest connections.
    ///
    /// # Errors
    /// [`ApiError::target_offline`].
    pub async fn acting(&self, app: &App) -> Result<Acting, ApiError> {
        let target = match self {
            Self::Host(target) => Target::clone(target),
            Self::Behind(target) => match target.behind {
                Behind::Target(id) => {
                    app.store.target(id).await?.ok_or_else(|| ApiError::nobody_behind(self.name()))?
                }
                Behind::Environment(id) => {
                    least_busy(app, id).await?.ok_or_else(|| ApiError::nobody_behind(self.name()))?
                }
            },
        };
        let boot = app.links.online(target.id).ok_or_else(|| ApiError::target_offline(&target.name))?;
        Ok(Acting { target, boot })
    }
}

async fn least_busy(app: &App, environment: EnvironmentId) -> Result<Option<Target>, ApiError> {
    let loads = app.store.loads().await?;
    let load = |target: &Target| loads.iter().find(|(id, _)| *id == target.id).map_or(0, |(_, load)| *load);
    let targets = app.store.targets().await?.into_iter();
    let online = targets.filter(|t| t.environment == environment && app.links.online(t.id).is_some());
    Ok(online.min_by_key(load))
}

impl VirtualTarget {
    /// The row of what it is.
    #[must_use]
    pub fn row(&self) -> &'static Database {
        Database::named(&self.database).unwrap_or(&ANY)
    }

    /// What a session to it asks for, where it is a database.
    #[must_use]
    pub fn database_request(&self) -> Option<DatabaseRequest> {
        let destination = self.remote.clone().filter(|_| self.kind == TargetKind::Db)?;
        Some(DatabaseRequest { destination, wire: self.row().wire, tls: self.tls })
    }

    /// What a session to it asks for, where it is a web server.
    #[must_use]
    pub fn web_request(&self) -> Option<WebRequest> {
        let destination = self.remote.clone().filter(|_| self.kind == TargetKind::Web)?;
        Some(WebRequest { destination, tls: self.tls })
    }
}

/// Finds a target by id or name.
///
/// # Errors
/// [`ApiError`] when there is none, or several of that name.
pub async fn find(
    app: &App,
    id: Option<TargetId>,
    (name, environment): (Option<String>, Option<String>),
) -> Result<Aim, ApiError> {
    if let Some(id) = id {
        return by_id(app, id).await?.ok_or_else(|| ApiError::not_found("target"));
    }
    let name = name.ok_or_else(|| ApiError::field("targetName", "name a target, or give its id"))?;
    let hosts = app.store.targets_called(name.clone(), environment.clone()).await?;
    let behind = app.store.virtual_targets_called(name.clone(), environment).await?;
    let hosts = hosts.into_iter().map(|target| Aim::Host(Box::new(target)));
    let mut found: Vec<_> = hosts.chain(behind.into_iter().map(|target| Aim::Behind(Box::new(target)))).collect();
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(ApiError::no_target(&name)),
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            found.push(last);
            let environments = found.iter().map(|aim| aim.environment().1.to_owned()).collect();
            let message =
                format!("there are several targets called {name}: name the environment, as {name}.ENVIRONMENT");
            Err(ApiError::ambiguous(message, environments))
        }
    }
}

/// The target of this id.
///
/// # Errors
/// [`ApiError`] when the store fails.
pub async fn by_id(app: &App, id: TargetId) -> Result<Option<Aim>, ApiError> {
    if let Some(target) = app.store.target(id).await? {
        return Ok(Some(Aim::Host(Box::new(target))));
    }
    Ok(app.store.virtual_target(id).await?.map(|target| Aim::Behind(Box::new(target))))
}
