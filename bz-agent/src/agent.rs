//! The agent as a library: configured by value, started once, ended by dropping it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bz_core::api::target::Route;
use bz_core::id::{BootId, OrganizationId, TargetId};
use bz_core::key::PrivateKey;
use bz_core::time::UnixTime;
use bz_core::trust::TrustBundle;
use bz_protocol::carrier::Link;
use bz_protocol::driver::{Clock, SystemClock, random};
use bz_protocol::gate::{Gate, LocalRule};
use bz_protocol::link::Ways;
use bz_protocol::receipt::Receipts;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backend::Backends;
use crate::handler::{Handler, Routed};
use crate::http::ThroughLink;
use crate::jwks::{Cache, Fetch, IssuerKeys};
use crate::session::Sessions;

/// What registration leaves: who this agent is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The organization.
    pub organization: OrganizationId,
    /// The target.
    pub target: TargetId,
    /// Signs sessions.
    pub identity_key: PrivateKey,
    /// Signs link logins.
    pub control_key: PrivateKey,
}

/// An agent that is not started.
pub struct Agent {
    identity: Identity,
    bundle: TrustBundle,
    local: LocalRule,
    ways: Ways,
    not_before: UnixTime,
    keys: IssuerKeys,
    clock: Arc<dyn Clock>,
    receipts: Option<Arc<dyn Receipts>>,
    routes: BTreeMap<String, Routed>,
    backends: Backends,
}

impl Agent {
    /// An agent that serves nothing yet. It reaches its server by a carrier, or by [`Ways`] of which one is taken.
    #[must_use]
    pub fn new(identity: Identity, bundle: TrustBundle, ways: impl Into<Ways>, keys: IssuerKeys) -> Self {
        Self {
            identity,
            bundle,
            local: LocalRule::Unrestricted,
            ways: ways.into(),
            not_before: UnixTime::from_millis(0),
            keys,
            clock: Arc::new(SystemClock::new()),
            receipts: None,
            routes: BTreeMap::new(),
            backends: Backends::default(),
        }
    }

    /// Narrows what grants may allow on this host.
    #[must_use]
    pub fn local_policy(mut self, local: LocalRule) -> Self {
        self.local = local;
        self
    }

    /// Refuses everything while the clock is before this, such as the day this program was made: a clock that wrong takes
    /// expired tokens for good.
    #[must_use]
    pub const fn not_before(mut self, day: UnixTime) -> Self {
        self.not_before = day;
        self
    }

    /// Reads other clocks.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Keeps the receipt of each session there: [`crate::receipts::FolderReceipts`], or anything else. Without it none
    /// is kept, and nobody can show later that the server's transcripts are whole.
    #[must_use]
    pub fn receipts(mut self, receipts: Arc<dyn Receipts>) -> Self {
        self.receipts = Some(receipts);
        self
    }

    /// Serves a route of this program. Sealed unless the route says inspected.
    #[must_use]
    pub fn route(mut self, route: Route, handler: impl Handler) -> Self {
        self.routes.insert(route.name.clone(), Routed { route, handler: Arc::new(handler) });
        self
    }

    /// Serves shells and commands of the host's users.
    #[cfg(feature = "shell")]
    #[must_use]
    pub fn shell(mut self, shell: crate::backend::shell::Shells) -> Self {
        self.backends.shells = Some(Arc::new(shell));
        self
    }

    /// Believes these authorities about databases behind this host, to which it speaks TLS. Without it, it does not.
    #[cfg(feature = "tcp")]
    #[must_use]
    pub fn upstream_tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.backends.upstream_tls = Some(config);
        self
    }

    /// Connects people to whatever this host reaches, databases among it, where grant and local policy allow it.
    #[cfg(feature = "tcp")]
    #[must_use]
    pub const fn tunnels(mut self) -> Self {
        self.backends.tunnels = true;
        self
    }

    /// Lets people in at the host's own sshd.
    #[cfg(feature = "ssh")]
    #[must_use]
    pub fn ssh(mut self, sshd: crate::ssh::Sshd) -> Self {
        self.backends.sshd = Some(sshd);
        self
    }

    /// Serves copies of files, as the host's users.
    #[cfg(feature = "files")]
    #[must_use]
    pub fn files(mut self, files: crate::files::Files) -> Self {
        self.backends.files = Some(files);
        self
    }

    /// Leads people to web servers that this host reaches, where grant and local policy allow it.
    #[cfg(feature = "web")]
    #[must_use]
    pub fn web(mut self, web: crate::web::Web) -> Self {
        self.backends.web = Some(web);
        self
    }

    /// Leads people to this host's cluster, as the users and groups that their grants name.
    #[cfg(feature = "kube")]
    #[must_use]
    pub fn cluster(mut self, cluster: crate::kube::Cluster) -> Self {
        self.backends.cluster = Some(cluster);
        self
    }

    /// Answers ssh, scp and sftp itself, as the host's users.
    #[cfg(feature = "ssh-server")]
    #[must_use]
    pub fn ssh_server(mut self, server: crate::ssh_server::SshServer) -> Self {
        self.backends.ssh_server = Some(server);
        self
    }

    /// Starts it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn start(self) -> std::io::Result<Running> {
        let boot = BootId::from_random(random()?);
        let key = self.identity.identity_key.public();
        let mut gate = Gate::new(self.bundle.clone(), key, vec![self.identity.target], boot);
        gate.local = self.local;
        gate.built_at = self.not_before;
        let (online, present) = watch::channel(None);
        let source = match self.keys {
            IssuerKeys::ThroughLink(tls) => Arc::new(Fetch::new(Arc::new(ThroughLink(present)), tls)),
            IssuerKeys::From(source) => source,
        };
        let context = Arc::new(Context {
            gate: Mutex::new(gate),
            jwks: Cache::new(source, Arc::clone(&self.clock)),
            link: online,
            identity: self.identity,
            bundle: self.bundle,
            boot,
            clock: self.clock,
            receipts: self.receipts,
            routes: self.routes,
            backends: self.backends,
            sessions: Sessions::default(),
        });
        let link = crate::link::run(Arc::clone(&context), self.ways);
        let kept = context.backends.keep(&context);
        let task = tokio::spawn(async move { tokio::join!(link, kept).0 });
        Ok(Running { context, task })
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("target", &self.identity.target).finish_non_exhaustive()
    }
}

/// What every task of one agent shares.
pub(crate) struct Context {
    gate: Mutex<Gate>,
    pub(crate) jwks: Cache,
    pub(crate) link: watch::Sender<Option<Arc<dyn Link>>>,
    pub(crate) identity: Identity,
    pub(crate) bundle: TrustBundle,
    pub(crate) boot: BootId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) receipts: Option<Arc<dyn Receipts>>,
    pub(crate) routes: BTreeMap<String, Routed>,
    pub(crate) backends: Backends,
    pub(crate) sessions: Sessions,
}

impl Context {
    /// The gate. Never held across an await.
    pub(crate) fn gate(&self) -> MutexGuard<'_, Gate> {
        // A session that panicked while it asked left the gate as it was or with one grant more consumed.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A started agent. Dropping it ends every task of it; shells that holders keep live on.
pub struct Running {
    context: Arc<Context>,
    task: JoinHandle<()>,
}

impl Running {
    /// Waits until the agent has a link to the server.
    pub async fn online(&self) {
        let mut link = self.context.link.subscribe();
        // The sender lives in the context, which we hold.
        link.wait_for(Option::is_some).await.map(drop).unwrap_or_default();
    }

    /// Narrows anew what grants may allow on this host, as when its owner changed the file. Counts for every session
    /// that opens from now on, and for a running one when its login is next renewed.
    pub fn set_local(&self, local: LocalRule) {
        self.context.gate().local = local;
    }

    /// This start, as grants name it.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.context.boot
    }

    /// Ends the agent: sessions get their end, links are closed.
    pub async fn stop(mut self) {
        self.context.sessions.end().await;
        self.task.abort();
        // An aborted task ends with an error that says so.
        (&mut self.task).await.unwrap_or_default();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        self.context.sessions.abort();
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("boot", &self.context.boot).finish_non_exhaustive()
    }
}
