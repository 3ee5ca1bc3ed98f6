//! `bz ssh-proxy`: what `ssh` runs to reach a target: its own sshd, or its agent in place of one.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bz_client::pins::{FirstContact, KnownBy};
use bz_client::session::Dialed;
use bz_client::ssh::agent::OneLogin;
use bz_client::ssh::door::Names;
use bz_client::ssh::{SshError, SshStream};
use bz_client::target_name::TargetName;
use bz_core::target::TargetUser;
use bz_protocol::frame::Fin;
use bz_protocol::session::End;
use clap::Args;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::context::Context;
use crate::exit::Exit;

const CHUNK: usize = 64 << 10;
/// How long sshd may take to say its end, once nobody listens any more.
const LEAVE: Duration = Duration::from_secs(3);
/// What an sshd is that does not take the session's key.
const REFUSED: &str = "the target's own sshd does not let this session's key in. On the target, `bz-agent ssh-ca` prints the \
                       lines that it needs, and `bz-agent ssh-ca --help` what there is where it cannot have them; or the \
                       account is locked there, or AllowUsers leaves it out.";

/// What helps whoever may come in, but not so.
const SEALED: &str = "this was the way to the target's own sshd, for which policy must give you the verb Tunnel as this user. \
                      Where it gives Shell or FileTransfer, the target's agent answers: `bz generate ssh-config` writes down \
                      which way is yours, anew when policies changed.";

/// What `bz ssh-proxy` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "A ProxyCommand, written by `bz generate ssh-config`: standard input and output are the bytes of SSH, with \
                  the target's own sshd (verb Tunnel), or with --inspected with its agent, as far as the verbs Shell and \
                  FileTransfer go. While ssh \
                  logs in, the key of the session is at an agent's socket, and the host's keys are in a file, both in DIR \
                  under names that the same command gives to ssh. Exits with 255 when the session did not end in order."
)]
pub(crate) struct SshProxy {
    /// Where to.
    #[arg(help = "The target: [user@]target[.environment], or its id")]
    target: TargetName,
    /// The folder of the socket and the host's keys [default: `ssh` in the profile]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Let the target's agent answer, so that the server can read, log and record what is done
    #[arg(long)]
    inspected: bool,
    /// Let the target's agent answer when this is the user, who may not tunnel
    #[arg(long, value_name = "USER", conflicts_with = "inspected")]
    inspected_as: Vec<TargetUser>,
}

impl SshProxy {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let mut signals = Signals::new()?;
        // Standard input is ssh's; a person sees the words here.
        let first = if std::io::stderr().is_terminal() { FirstContact::Accept } else { FirstContact::Refuse };
        let client = context.client_meeting(first)?;
        let inspected =
            self.inspected || self.target.user.as_ref().is_some_and(|user| self.inspected_as.contains(user));
        let opened = tokio::select! {
            opened = client.ssh(&self.target), if !inspected => opened,
            opened = client.ssh_inspected(&self.target), if inspected => opened,
            () = signals.any() => return Ok(Exit::Status(255)),
        };
        if !inspected && opened.as_ref().is_err_and(SshError::is_denied) {
            context.output.warn(&format!("bz: {SEALED}"));
        }
        let opened = opened?;
        let SshStream { stream, credential, host_keys, connection, known_by, .. } = opened;
        if known_by == KnownBy::FirstUse {
            context
                .output
                .warn(&format!("{} is new to this machine; its agent's key is kept from now on.", self.target));
        }
        let run_dir = self.run_dir.unwrap_or_else(|| context.ssh_dir());
        let door = Names::new(&run_dir, &self.target.target)?.open(&credential.user, &host_keys).await?;
        let login = OneLogin::new(&credential, &host_keys);
        let serve = async {
            if let Err(error) = door.serve(&login).await {
                context.output.warn(&format!("bz: ssh cannot be given its key: {error}"));
            }
            std::future::pending::<()>().await;
        };
        // Where the session itself is driven: each block would otherwise wake another thread.
        let carried = tokio::spawn(carry(stream, signals));
        let end = tokio::select! {
            end = carried => end?,
            () = serve => None,
        };
        if login.was_refused() && !inspected {
            context.output.warn(&format!("bz: {REFUSED}"));
        }
        // An end that sshd was too slow to say: what the server does not hear now it learns in some minutes.
        if end.is_none() {
            client.close(connection).await.unwrap_or_default();
        }
        // Without an end `ssh` hung up: that was all.
        Ok(end.map_or(Exit::Fine, |end| finish(context, &end, client.reason(connection))))
    }
}

/// Says why it ended, unless that was in order.
fn finish(context: &Context<'_>, end: &End, reason: Option<String>) -> Exit {
    match end {
        End::Completed(Fin::Done) => return Exit::Fine,
        End::Completed(_) => context.output.warn("bz: the connection was closed."),
        End::Reported(_)
        | End::Refused(_)
        | End::Misbehavior(_)
        | End::Timeout
        | End::Lost
        | End::Forgotten
        | End::Expired
        | End::Truncated => context.output.warn(&format!("bz: {end}")),
    }
    if let Some(reason) = reason {
        context.output.warn(&format!("The server says: {reason}"));
    }
    Exit::Status(255)
}

/// Carries bytes between `ssh` and the session, until both have said their last; `None` when nobody listens any more.
async fn carry(stream: Dialed, mut signals: Signals) -> Option<End> {
    let (mut from_sshd, mut to_sshd) = tokio::io::split(stream);
    let leaving = tokio::sync::Notify::new();
    let outward = async {
        tokio::select! {
            // What breaks here shows at the other direction, too.
            copied = copy(standard_input(), &mut to_sshd) => drop(copied),
            () = leaving.notified() => {}
        }
        to_sshd.shutdown().await.unwrap_or_default();
    };
    let inward = async {
        let copied = tokio::select! {
            copied = copy(&mut from_sshd, standard_output()) => copied,
            () = signals.any() => Ok(Copied::Unheard),
        };
        leaving.notify_one();
        !matches!(copied, Ok(Copied::Unheard))
    };
    let ((), heard) = tokio::join!(outward, inward);
    if heard {
        return Some(from_sshd.unsplit(to_sshd).ended().await);
    }
    let rest = async {
        copy(&mut from_sshd, tokio::io::sink()).await.map(drop).unwrap_or_default();
        from_sshd.unsplit(to_sshd).ended().await;
    };
    // However that ends: nobody is there to be told.
    tokio::time::timeout(LEAVE, rest).await.unwrap_or_default();
    None
}

/// `ssh` gives its proxy pipes, which can be waited for; anything else is read by a thread of its own, block by block.
fn standard_input() -> Box<dyn AsyncRead + Send + Unpin> {
    let pipe = std::io::stdin().as_fd().try_clone_to_owned().and_then(|own| pipe::Receiver::from_file(own.into()));
    match pipe {
        Ok(pipe) => Box::new(pipe),
        Err(_) => Box::new(tokio::io::stdin()),
    }
}

/// As [`standard_input`].
fn standard_output() -> Box<dyn AsyncWrite + Send + Unpin> {
    let pipe = std::io::stdout().as_fd().try_clone_to_owned().and_then(|own| pipe::Sender::from_file(own.into()));
    match pipe {
        Ok(pipe) => Box::new(pipe),
        Err(_) => Box::new(tokio::io::stdout()),
    }
}

/// How a direction ended.
enum Copied {
    /// There is no more.
    All,
    /// Nobody takes it any more.
    Unheard,
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> std::io::Result<Copied> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(Copied::All);
        }
        let bytes = buffer.get(..n).unwrap_or_default();
        if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
            return Ok(Copied::Unheard);
        }
    }
}

/// What ends a program from without; `ssh` hangs its proxy up when it is done.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let of = |kind| signal(kind).context("signals cannot be heard");
        Ok(Self([of(SignalKind::hangup())?, of(SignalKind::terminate())?, of(SignalKind::interrupt())?]))
    }

    async fn any(&mut self) {
        let [hangup, terminate, interrupt] = &mut self.0;
        tokio::select! {
            _ = hangup.recv() => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
