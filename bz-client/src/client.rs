//! One login at one server: its calls, its connections, its refreshes. In memory, and cheap to clone.

pub mod administer;
mod ask;
mod follow;
mod key;
mod groups;
mod made;
mod mfa;
mod policy;
mod record;
mod watch;
mod service_account;
mod session;
mod virtual_target;

use std::sync::Arc;

use bz_core::api::access::{Connection, Why, WhyQuestion};
use bz_core::api::api_key::{ApiKey, ApiKeyMade, NewApiKey};
use bz_core::api::login::{ChangeUser, Role, User};
use bz_core::api::policy::{
    KubernetesContent, KubernetesPolicy, ProxyContent, ProxyPolicy, RecordingContent, RecordingPolicy,
    TargetConnectContent, TargetConnectPolicy,
};
use bz_core::api::record::{CommandEvent, ConnectionEvent, UserEvent};
use bz_core::api::target::{Environment, Target};
use bz_core::id::{ConnectionId, UserId};
use bz_core::label::LabelNeed;
use bz_core::time::UnixTime;
use reqwest::Method;
use serde::de::DeserializeOwned;

use crate::issuer_keys::SeenKeys;
use crate::login::{Login, LoginStore, TokenSource};
use crate::pins::{FirstContact, KnownAgents, MemoryPins};
use crate::rest::{Rest, RestError};
#[cfg(feature = "tcp")]
use crate::sealed::Sealed;
use crate::server::Server;
use crate::target_name::TargetRef;
use crate::trust::Trust;
use session::LiveLogin;

use bz_protocol::driver::Clock;
use bz_protocol::link::Ways;
use bz_protocol::receipt::Receipts;

use crate::clock;
use crate::link::Links;

pub use ask::{AskError, Asked};
pub use follow::{Followed, Following};
pub use key::ScriptQuestion;
pub use made::Lie;
pub use record::{Download, EventFilter};
pub use session::RefreshError;
pub use virtual_target::Virtual;
pub use watch::{Watched, Watching};

/// A client of one server. Clones share the login.
#[derive(Debug, Clone)]
pub struct Client {
    rest: Rest,
    trust: Arc<Trust>,
    login: Arc<LiveLogin>,
    store: Option<Arc<dyn LoginStore>>,
    tokens: Option<Arc<dyn TokenSource>>,
    known: Arc<dyn KnownAgents>,
    first: FirstContact,
    links: Option<Arc<Links>>,
    receipts: Option<Arc<dyn Receipts>>,
    seen_keys: Option<Arc<dyn SeenKeys>>,
    clock: Arc<dyn Clock>,
    #[cfg(feature = "tcp")]
    sealed: Sealed,
}

impl Client {
    /// A client that keeps everything in memory and meets no agent it does not know.
    ///
    /// # Errors
    /// [`RestError`] when no TLS can be set up here.
    pub fn new(server: &Server, trust: Trust, login: Login) -> Result<Self, RestError> {
        let clock = clock::system();
        Ok(Self {
            links: crate::http::ways(server)?.map(|ways| Arc::new(Links::new(ways, Arc::clone(&clock)))),
            clock,
            rest: Rest::new(server)?,
            trust: Arc::new(trust),
            login: Arc::new(LiveLogin::new(login)),
            store: None,
            tokens: None,
            known: Arc::new(MemoryPins::default()),
            first: FirstContact::Refuse,
            receipts: None,
            seen_keys: None,
            #[cfg(feature = "tcp")]
            sealed: Sealed::default(),
        })
    }

    /// The same client, its known agents kept there, meeting new ones or not.
    #[must_use]
    pub fn with_known_agents(self, known: Arc<dyn KnownAgents>, first: FirstContact) -> Self {
        Self { known, first, ..self }
    }

    /// The same client, the names that led to sealed sessions kept there. `may_be_read` opens one of them also where the
    /// server says that it could read what passes from now on: when the person said so.
    #[cfg(feature = "tcp")]
    #[must_use]
    pub fn with_sealed_names(self, names: Arc<dyn crate::sealed::SealedNames>, may_be_read: bool) -> Self {
        Self { sealed: Sealed { names, may_be_read }, ..self }
    }

    /// The same client, its login shared with other programs through this store.
    #[must_use]
    pub fn with_login_store(self, store: Arc<dyn LoginStore>) -> Self {
        Self { store: Some(store), ..self }
    }

    /// The same client, its login a job's whose newer tokens come from there.
    #[must_use]
    pub fn with_token_source(self, source: Arc<dyn TokenSource>) -> Self {
        Self { tokens: Some(source), ..self }
    }

    /// The same client, the receipt of each session kept there.
    #[must_use]
    pub fn with_receipts(self, receipts: Arc<dyn Receipts>) -> Self {
        Self { receipts: Some(receipts), ..self }
    }

    /// The same client, the identity provider's keys kept there whenever a refresh shows them. Those of the login itself
    /// are in [`Login::issuer_keys`].
    #[must_use]
    pub fn with_seen_keys(self, seen_keys: Arc<dyn SeenKeys>) -> Self {
        Self { seen_keys: Some(seen_keys), ..self }
    }

    /// The same client, its sessions carried this way: by a carrier, or by [`Ways`] of which one is taken.
    #[must_use]
    pub fn with_carrier(self, ways: impl Into<Ways>) -> Self {
        let links = Some(Arc::new(Links::new(ways.into(), Arc::clone(&self.clock))));
        Self { links, ..self }
    }

    /// The name of what carries the link that stands, if one does.
    pub async fn carrier(&self) -> Option<&'static str> {
        self.links.as_ref()?.carrier().await
    }

    /// The same client, its login, calls and sessions telling the time by this clock; over the usual carriers.
    ///
    /// # Errors
    /// [`RestError`] when no TLS can be set up here.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Result<Self, RestError> {
        let ways = crate::http::ways(self.server())?;
        let links = ways.map(|ways| Arc::new(Links::new(ways, Arc::clone(&clock))));
        Ok(Self { links, rest: self.rest.with_clock(&clock), clock, ..self })
    }

    #[cfg(feature = "tcp")]
    pub(crate) const fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    pub(crate) fn links(&self) -> Option<&Arc<Links>> {
        self.links.as_ref()
    }

    pub(crate) fn receipts(&self) -> Option<Arc<dyn Receipts>> {
        self.receipts.clone()
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.clock.now().wall
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The server.
    #[must_use]
    pub const fn server(&self) -> &Server {
        self.rest.server()
    }

    /// The anchors.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The login as it is now.
    #[must_use]
    pub fn login(&self) -> Login {
        self.login.get()
    }

    /// The targets the caller may know of.
    ///
    /// # Errors
    /// [`RestError`], as every call here.
    pub async fn targets(&self) -> Result<Vec<Target>, RestError> {
        self.targets_labelled(&[]).await
    }

    /// Those of whose labels all this holds.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn targets_labelled(&self, needs: &[LabelNeed]) -> Result<Vec<Target>, RestError> {
        let needs: Vec<_> = needs.iter().map(ToString::to_string).collect();
        self.get("targets/bzero", &needs.iter().map(|need| ("label", need.as_str())).collect::<Vec<_>>()).await
    }

    /// The environments.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn environments(&self) -> Result<Vec<Environment>, RestError> {
        self.get("environments", &[]).await
    }

    /// The caller's connections that live.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn connections(&self) -> Result<Vec<Connection>, RestError> {
        self.connections_where(&ConnectionFilter::default()).await
    }

    /// The connections that fit.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn connections_where(&self, filter: &ConnectionFilter) -> Result<Vec<Connection>, RestError> {
        let mut query = Vec::new();
        if let Some(email) = &filter.user_email {
            query.push(("userEmail", email.as_str()));
        }
        if filter.with_ended {
            query.extend(["Open", "Pending", "Closed", "Error"].map(|state| ("connectionState", state)));
        }
        self.get("connections", &query).await
    }

    /// Closes a connection, of any kind.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn close(&self, connection: ConnectionId) -> Result<(), RestError> {
        self.act(Method::PATCH, &format!("connections/{connection}/close")).await
    }

    /// Which policies allow a connection, or why none does.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn why(&self, question: &WhyQuestion) -> Result<Why, RestError> {
        self.rest.post(&self.caller().await, "policy-query/why", question).await
    }

    /// The target access policies.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn policies(&self) -> Result<Vec<TargetConnectPolicy>, RestError> {
        self.get("policies/target-connect", &[]).await
    }

    /// The session recording policies.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn recording_policies(&self) -> Result<Vec<RecordingPolicy>, RestError> {
        self.get("policies/session-recording", &[]).await
    }

    /// Makes a target access policy.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn create_policy(&self, content: &TargetConnectContent) -> Result<TargetConnectPolicy, RestError> {
        self.rest.post(&self.caller().await, "policies/target-connect", content).await
    }

    /// Makes a session recording policy (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn create_recording_policy(&self, content: &RecordingContent) -> Result<RecordingPolicy, RestError> {
        self.rest.post(&self.caller().await, "policies/session-recording", content).await
    }

    /// The proxy policies.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn proxy_policies(&self) -> Result<Vec<ProxyPolicy>, RestError> {
        self.get("policies/proxy", &[]).await
    }

    /// The Kubernetes policies.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn kubernetes_policies(&self) -> Result<Vec<KubernetesPolicy>, RestError> {
        self.get("policies/kubernetes", &[]).await
    }

    /// Makes a proxy policy (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn create_proxy_policy(&self, content: &ProxyContent) -> Result<ProxyPolicy, RestError> {
        self.rest.post(&self.caller().await, "policies/proxy", content).await
    }

    /// Makes a Kubernetes policy (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn create_kubernetes_policy(&self, content: &KubernetesContent) -> Result<KubernetesPolicy, RestError> {
        self.rest.post(&self.caller().await, "policies/kubernetes", content).await
    }

    /// The API keys.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, RestError> {
        self.get("api-keys", &[]).await
    }

    /// Makes an API key; its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn create_api_key(&self, key: &NewApiKey) -> Result<ApiKeyMade, RestError> {
        self.rest.post(&self.caller().await, "api-keys", key).await
    }

    /// The people.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn users(&self) -> Result<Vec<User>, RestError> {
        self.get("users", &[]).await
    }

    /// Gives or takes the administrator's role (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn set_role(&self, user: UserId, role: Role) -> Result<User, RestError> {
        self.rest.patch(&self.caller().await, &format!("users/{user}"), &ChangeUser { role }).await
    }

    /// Deletes a person (for administrators): connections, logins and policies end; logs stay.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn delete_user(&self, user: UserId) -> Result<(), RestError> {
        self.act(Method::DELETE, &format!("users/{user}")).await
    }

    /// Closes all connections of a person (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn close_connections_of(&self, user: UserId) -> Result<(), RestError> {
        self.act(Method::PATCH, &format!("users/{user}/close-connections")).await
    }

    /// The caller.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn me(&self) -> Result<User, RestError> {
        self.get("users/me", &[]).await
    }

    /// The latest calls of the API.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn user_events(&self, count: u32) -> Result<Vec<UserEvent>, RestError> {
        self.user_events_where(&EventFilter { count, ..EventFilter::default() }).await
    }

    /// The latest that happened to connections.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn connection_events(&self, count: u32) -> Result<Vec<ConnectionEvent>, RestError> {
        self.connection_events_where(&EventFilter { count, ..EventFilter::default() }).await
    }

    /// The latest command lines.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn command_events(&self, count: u32) -> Result<Vec<CommandEvent>, RestError> {
        self.command_events_where(&EventFilter { count, ..EventFilter::default() }).await
    }

    /// Ends the login at the server. What is stored of it is the caller's to remove.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn logout(&self) -> Result<(), RestError> {
        // Not refreshed first: what ends needs no longer life.
        self.rest.act(&self.login.get().caller(), Method::POST, "users/logout").await
    }

    /// The one target with this name or id.
    ///
    /// # Errors
    /// [`FindError`], which names the candidates where several fit.
    pub async fn find_target(&self, wanted: &TargetRef) -> Result<Target, FindError> {
        let fits = |target: &Target| match wanted {
            TargetRef::Id(id) => target.id == *id,
            TargetRef::Name { name, environment } => {
                target.name == *name && environment.as_ref().is_none_or(|wanted| target.environment_name == *wanted)
            }
        };
        let fitting = self.targets().await?.into_iter().filter(fits).collect();
        only(wanted, fitting, |target: &Target| format!("{}.{}", target.name, target.environment_name))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, RestError> {
        self.rest.get(&self.caller().await, path, query).await
    }

    async fn act(&self, method: Method, path: &str) -> Result<(), RestError> {
        self.rest.act(&self.caller().await, method, path).await
    }
}

/// The one of those that fit a name.
fn only<T>(wanted: &TargetRef, mut fitting: Vec<T>, name: impl Fn(&T) -> String) -> Result<T, FindError> {
    match (fitting.pop(), fitting.is_empty()) {
        (None, _) => Err(FindError::None(wanted.to_string())),
        (Some(one), true) => Ok(one),
        (Some(last), false) => {
            fitting.push(last);
            Err(FindError::Several(fitting.iter().map(name).collect::<Vec<_>>().join(", ")))
        }
    }
}

/// Which connections to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionFilter {
    /// Those of the person with this address, for administrators; the caller's own when absent.
    pub user_email: Option<String>,
    /// Those that ended, too.
    pub with_ended: bool,
}

/// Why there is no one target.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The targets cannot be listed.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// No such target.
    #[error("there is no target {0} that you may know of: `bz list-targets` lists them")]
    None(String),
    /// Several.
    #[error("several targets have that name: name the environment, one of {0}")]
    Several(String),
}
