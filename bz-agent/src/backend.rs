//! What the agent does with the bytes of an admitted session: the crate's one match on the shape of a back end.

#[cfg(feature = "tcp")]
mod database;
#[cfg(feature = "tcp")]
mod dial;
#[cfg(feature = "shell")]
mod exec;
#[cfg(feature = "files")]
mod files;
#[cfg(feature = "web")]
mod http;
#[cfg(feature = "kube")]
mod kube;
#[cfg(any(feature = "tcp", feature = "web"))]
mod reach;
mod route;
#[cfg(feature = "shell")]
pub mod shell;
#[cfg(feature = "ssh")]
mod ssh;
#[cfg(feature = "ssh-server")]
mod ssh_server;

use std::sync::Arc;

use bz_core::access::Backend;
#[cfg(feature = "web")]
use bz_core::access::request::Parameters;
use bz_core::access::request::Size;
use bz_core::id::ConnectionId;
#[cfg(feature = "ssh")]
use bz_core::ssh::{HOST_KEY_FACT, HostKey};
#[cfg(any(feature = "shell", feature = "ssh"))]
use bz_core::target::FIRST_PERSONAL_UID;
use bz_protocol::agent::{Action, Event};
use bz_protocol::control::ShellReport;
use bz_protocol::driver::Openings;
use bz_protocol::frame::Fin;
use bz_protocol::gate::{Admission, Admitted};
use bz_protocol::handshake::{Attached, Fact};
use bz_protocol::refusal::Code;
use bz_protocol::segment::Delivered;
use tokio::sync::{mpsc, watch};

use crate::agent::Context;

/// What a back end hears.
#[derive(Debug)]
#[cfg_attr(not(feature = "shell"), expect(dead_code, reason = "only shells have a size, and are left in several ways"))]
pub(crate) enum ToBackend {
    /// The person's bytes.
    Bytes(Vec<u8>),
    /// No more of them.
    Eof,
    /// The terminal's new size.
    Resize(Size),
    /// The person ends the session.
    Finished(Fin),
    /// The session must end.
    Close(Closing),
}

/// How far an order to close goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The session alone; a shell runs on.
    Session,
    /// What it holds, too.
    ForGood,
}

impl ToBackend {
    /// What of a machine's event concerns the back end.
    pub(crate) fn from_event(event: Event) -> Option<Self> {
        match event {
            Event::Bytes { bytes, .. } => Some(Self::Bytes(bytes)),
            Event::Eof { .. } => Some(Self::Eof),
            Event::Resize(size) => Some(Self::Resize(size)),
            Event::Finished(fin) => Some(Self::Finished(fin)),
            Event::Judge(_)
            | Event::Answered { .. }
            | Event::Confirmed(_)
            | Event::Reauthenticate(_)
            | Event::Resumed
            | Event::Delivered(_)
            | Event::Open { .. }
            | Event::Reset { .. }
            | Event::Ended(_) => None,
        }
    }
}

/// One session as its back end sees it.
pub(crate) struct Io {
    pub(crate) words: mpsc::Receiver<ToBackend>,
    pub(crate) actions: mpsc::Sender<Action>,
    /// Streams that the client opens; who does not take them refuses them.
    #[cfg_attr(not(any(feature = "tcp", feature = "web")), expect(dead_code, reason = "nothing else has streams"))]
    pub(crate) openings: Openings,
    /// What the client acknowledged.
    #[cfg_attr(not(feature = "shell"), expect(dead_code, reason = "only what is kept goes on from there"))]
    pub(crate) delivered: watch::Receiver<Option<Delivered>>,
}

impl Io {
    /// Says something to the machine; `false` when the session is gone.
    pub(crate) async fn act(&self, action: Action) -> bool {
        self.actions.send(action).await.is_ok()
    }
}

/// The built-in technologies that this agent serves.
#[derive(Default)]
pub(crate) struct Backends {
    #[cfg(feature = "shell")]
    pub(crate) shells: Option<Arc<shell::Shells>>,
    #[cfg(feature = "tcp")]
    pub(crate) tunnels: bool,
    #[cfg(feature = "tcp")]
    pub(crate) upstream_tls: Option<Arc<rustls::ClientConfig>>,
    #[cfg(feature = "ssh")]
    pub(crate) sshd: Option<crate::ssh::Sshd>,
    #[cfg(feature = "files")]
    pub(crate) files: Option<crate::files::Files>,
    #[cfg(feature = "web")]
    pub(crate) web: Option<crate::web::Web>,
    #[cfg(feature = "kube")]
    pub(crate) cluster: Option<crate::kube::Cluster>,
    #[cfg(feature = "ssh-server")]
    pub(crate) ssh_server: Option<crate::ssh_server::SshServer>,
}

impl Backends {
    /// The shells that are kept, for the server to list; new at once where shells are served at all.
    pub(crate) fn reports(&self) -> watch::Receiver<Vec<ShellReport>> {
        #[cfg(feature = "shell")]
        if let Some(shells) = &self.shells {
            return shells.reports();
        }
        watch::channel(Vec::new()).1
    }

    /// What runs beside the link as long as the agent does: the record of what nobody is attached to.
    pub(crate) fn keep(&self, context: &Arc<Context>) -> impl Future<Output = ()> + Send + 'static {
        #[cfg(feature = "shell")]
        let kept = self.shells.clone().map(|shells| shell::keep_segments(Arc::clone(context), shells));
        #[cfg(not(feature = "shell"))]
        let (kept, _) = (None::<std::future::Ready<()>>, context);
        async move {
            if let Some(kept) = kept {
                kept.await;
            }
        }
    }

    /// Ends the shells of a connection that no session is on.
    pub(crate) fn hang_up(&self, connection: ConnectionId) {
        #[cfg(feature = "shell")]
        if let Some(shells) = &self.shells {
            shells.hang_up(connection);
        }
        #[cfg(not(feature = "shell"))]
        tracing::debug!(%connection, "nothing is kept for this connection");
    }

    /// What an attached shell was before; nothing for anything else.
    pub(crate) fn attached(&self, admission: &Admission) -> Option<Attached> {
        let shell = admission.request().parameters.shell()?;
        #[cfg(feature = "shell")]
        let predecessor = self.shells.as_ref().and_then(|shells| shells.predecessor(shell));
        #[cfg(not(feature = "shell"))]
        let predecessor = None;
        Some(Attached { shell, predecessor })
    }

    /// What the client should know of the target before it says anything to it.
    pub(crate) fn facts(&self, admission: &Admission) -> Result<Vec<Fact>, Code> {
        let backend = admission.request().access().spec().backend;
        #[cfg(feature = "ssh-server")]
        if let (Backend::SshServer, Some(server)) = (backend, &self.ssh_server) {
            return Ok(vec![Fact { name: HOST_KEY_FACT.to_owned(), value: server.host_key() }]);
        }
        if !matches!(backend, Backend::Ssh | Backend::SshServer) {
            return Ok(vec![]);
        }
        #[cfg(feature = "ssh")]
        if let (Backend::Ssh, Some(sshd)) = (backend, &self.sshd) {
            let keys = sshd.read_host_keys().map_err(|error| {
                tracing::warn!(%error, "the host keys of this host's sshd cannot be read; is openssh-server installed?");
                Code::Unavailable
            })?;
            let fact = |key: HostKey| Fact { name: HOST_KEY_FACT.to_owned(), value: key.blob().to_owned() };
            return Ok(keys.into_iter().map(fact).collect());
        }
        Err(Code::Unavailable)
    }
}

/// Runs an admitted session's back end to its end.
pub(crate) async fn run(context: Arc<Context>, connection: ConnectionId, admitted: Admitted, mut io: Io) {
    let done = match admitted.request().access().spec().backend {
        Backend::Handler => route::run(&context, &admitted, &mut io).await,
        #[cfg(feature = "shell")]
        Backend::Exec => match &context.backends.shells {
            Some(shells) => exec::run(shells, &admitted, &mut io).await,
            None => Err(Code::Unavailable),
        },
        #[cfg(feature = "shell")]
        Backend::Pty => match &context.backends.shells {
            Some(shells) => shell::run(shells, connection, &admitted, &mut io).await,
            None => Err(Code::Unavailable),
        },
        #[cfg(not(feature = "shell"))]
        Backend::Exec | Backend::Pty => Err(Code::Unavailable),
        #[cfg(feature = "tcp")]
        Backend::Dial if context.backends.tunnels => Ok(dial::run(&context, connection, &admitted, &mut io).await),
        Backend::Dial => Err(Code::Unavailable),
        #[cfg(feature = "ssh")]
        Backend::Ssh => match &context.backends.sshd {
            Some(sshd) => ssh::run(sshd, &admitted, &*context.clock, &mut io).await,
            None => Err(Code::Unavailable),
        },
        #[cfg(not(feature = "ssh"))]
        Backend::Ssh => Err(Code::Unavailable),
        #[cfg(feature = "files")]
        Backend::Files => match &context.backends.files {
            Some(work) => files::run(work, &admitted, &mut io).await,
            None => Err(Code::Unavailable),
        },
        #[cfg(not(feature = "files"))]
        Backend::Files => Err(Code::Unavailable),
        #[cfg(any(feature = "tcp", feature = "web"))]
        Backend::Database | Backend::Http | Backend::Kube => behind(&context, connection, &admitted, &mut io).await,
        #[cfg(not(any(feature = "tcp", feature = "web")))]
        Backend::Database | Backend::Http | Backend::Kube => Err(Code::Unavailable),
        #[cfg(feature = "ssh-server")]
        Backend::SshServer => match &context.backends.ssh_server {
            Some(server) => ssh_server::run(server, &admitted, &mut io).await,
            None => Err(Code::Unavailable),
        },
        #[cfg(not(feature = "ssh-server"))]
        Backend::SshServer => Err(Code::Unavailable),
    };
    let last = match done {
        Ok(fin) => Action::Finish(fin),
        Err(code) => {
            tracing::warn!(%connection, %code, "the back end refused");
            Action::Refuse(code)
        }
    };
    // A session that is gone needs no last word.
    io.act(last).await;
}

/// The same for what is behind the host; what this agent does not serve is unavailable.
#[cfg(any(feature = "tcp", feature = "web"))]
async fn behind(
    context: &Arc<Context>,
    connection: ConnectionId,
    admitted: &Admitted,
    io: &mut Io,
) -> Result<Fin, Code> {
    match admitted.request().access().spec().backend {
        #[cfg(feature = "tcp")]
        Backend::Database if context.backends.tunnels => database::run(context, connection, admitted, io).await,
        #[cfg(feature = "web")]
        Backend::Http => match (&context.backends.web, &admitted.request().parameters) {
            (Some(web), Parameters::Web(request)) => {
                http::run(context, (connection, admitted), (web, request), io).await
            }
            _ => Err(Code::Unavailable),
        },
        #[cfg(feature = "kube")]
        Backend::Kube => match (&context.backends.cluster, admitted.request().parameters.cluster()) {
            (Some(cluster), Some(request)) => kube::run(connection, (cluster, request), io).await,
            _ => Err(Code::Unavailable),
        },
        _ => Err(Code::Unavailable),
    }
}

/// What comes out of an identity is a person, never one of the system's own users.
#[cfg(any(feature = "shell", feature = "ssh"))]
fn check_person(admitted: &Admitted, uid: u32) -> Result<(), Code> {
    if admitted.user_is_substituted() && uid < FIRST_PERSONAL_UID {
        tracing::warn!(user = ?admitted.request().user, uid, "a substitution gave a user of the system");
        return Err(Code::User);
    }
    Ok(())
}
