//! What the protocol asks, answered: who is let in, and what a channel may be.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bz_core::access::request::MAX_COMMAND;
use russh::keys::{Certificate, PublicKey};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{ChannelId, ChannelOpenFailure, ChannelWriteHalf, Error, Pty};
use tokio::sync::mpsc;

use super::channel::{Channel, Out, STDERR, Word, Words};
use super::{Served, command, scp, terminal, transfer};
use crate::helper::transfer::Service;
use crate::holders::Size;
use crate::user::Environment;

/// What a channel asks to be done.
pub(super) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Channels of one session at once, as many as sshd has.
const MAX_CHANNELS: usize = 10;
/// The status of what is not part of the session, as shells have it for what may not be executed.
const NOT_ALLOWED: u32 = 126;
/// What a login shell is started by where there is no terminal to ask for commands in.
const SHELL: &[u8] = b"exec \"$SHELL\"";

pub(super) struct Handler {
    served: Arc<Served>,
    jobs: mpsc::Sender<Job>,
    channels: HashMap<ChannelId, Open>,
}

/// A channel as far as it has come.
struct Open {
    words: mpsc::UnboundedSender<Word>,
    environment: Environment,
    terminal: Option<Size>,
    /// Taken when the channel begins what it is for.
    idle: Option<(ChannelWriteHalf<Msg>, mpsc::UnboundedReceiver<Word>)>,
}

impl Handler {
    pub(super) fn new(served: Arc<Served>, jobs: mpsc::Sender<Job>) -> Self {
        Self { served, jobs, channels: HashMap::new() }
    }

    fn knows(&self, user: &str, key: &PublicKey) -> Auth {
        let same = key.to_bytes().is_ok_and(|bytes| bytes == self.served.key);
        if user == self.served.name && same { Auth::Accept } else { Auth::reject() }
    }

    /// Makes of a channel what it asked for; once.
    fn begin(&mut self, id: ChannelId, session: &Session) -> Option<Channel> {
        let open = self.channels.get_mut(&id)?;
        let (write, words) = open.idle.take()?;
        Some(Channel {
            words: Words::new(words, Arc::clone(&self.served)),
            out: Out::new(id, session.handle(), write, Arc::clone(&self.served)),
            environment: open.environment.clone(),
            served: Arc::clone(&self.served),
        })
    }

    async fn start(
        &self,
        id: ChannelId,
        session: &mut Session,
        job: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        session.channel_success(id)?;
        self.jobs.send(Box::pin(job)).await.map_err(|_| Error::Disconnect)
    }

    /// Says why something is not done, where the person sees it.
    async fn refuse(&self, id: ChannelId, session: &mut Session, (what, why): (&str, &str)) -> Result<(), Error> {
        self.served.told.refused(what).await;
        session.channel_success(id)?;
        session.extended_data(id, STDERR, format!("bz: {why}\r\n").into_bytes())?;
        session.exit_status_request(id, NOT_ALLOWED)?;
        session.eof(id)?;
        session.close(id)
    }

    async fn run(&mut self, id: ChannelId, session: &mut Session, line: Option<Vec<u8>>) -> Result<(), Error> {
        let purpose = self.served.purpose;
        let terminal = self.channels.get(&id).and_then(|open| open.terminal);
        let service = line.as_deref().filter(|_| terminal.is_none()).and_then(scp::parse);
        if service.is_some() && !purpose.has_files() {
            return self.refuse(id, session, ("the command scp", ONLY_COMMANDS)).await;
        }
        if service.is_none() && !purpose.has_shell() {
            let what = line.map_or_else(|| "a shell".to_owned(), |line| format!("the command {}", shown(&line)));
            return self.refuse(id, session, (&what, ONLY_FILES)).await;
        }
        if line.as_ref().is_some_and(|line| line.is_empty() || line.len() > MAX_COMMAND || line.contains(&0)) {
            return self.refuse(id, session, ("a command that is none", "that is no command, or too long a one")).await;
        }
        let Some(channel) = self.begin(id, session) else { return session.channel_failure(id) };
        match (service, terminal, line) {
            (Some(scp), _, _) => self.start(id, session, transfer::run(channel, Service::Scp(scp))).await,
            (None, Some(size), line) => self.start(id, session, terminal::run(channel, size, line)).await,
            (None, None, line) => {
                let line = line.unwrap_or_else(|| SHELL.to_vec());
                self.start(id, session, command::run(channel, line)).await
            }
        }
    }

    async fn not_forwarded(&self, what: &str, reply: ChannelOpenHandle) {
        self.served.told.refused(what).await;
        let reason = ChannelOpenFailure::Other { code: 1, reason: FORWARDING.to_owned() };
        reply.reject(reason).await;
    }
}

const ONLY_FILES: &str = "policy lets you copy files here with scp and sftp, and run nothing";
const ONLY_COMMANDS: &str = "policy lets you run commands here, and copy no files";
const FORWARDING: &str = "nothing is forwarded here: that needs the verb Tunnel";

impl server::Handler for Handler {
    type Error = Error;

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        Ok(self.knows(user, offer.public_key))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        Ok(self.knows(user, key.public_key))
    }

    /// What the certificate says counts for nothing: the key in it has signed this login, and it is the session's.
    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Error> {
        Ok(self.knows(user, &PublicKey::from(certificate.public_key().clone())))
    }

    async fn channel_open_session(
        &mut self,
        channel: russh::Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        if self.channels.len() >= MAX_CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let (words, coming) = mpsc::unbounded_channel();
        let id = channel.id();
        let (_, write) = channel.split();
        let idle = Some((write, coming));
        self.channels.insert(id, Open { words, environment: Environment::default(), terminal: None, idle });
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _: russh::Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        self.not_forwarded(&format!("forwarding to {}:{port}", shown(host.as_bytes())), reply).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: russh::Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        self.not_forwarded(&format!("forwarding to {}", shown(path.as_bytes())), reply).await;
        Ok(())
    }

    async fn tcpip_forward(&mut self, host: &str, port: &mut u32, _: &mut Session) -> Result<bool, Error> {
        self.served.told.refused(&format!("forwarding from {}:{port}", shown(host.as_bytes()))).await;
        Ok(false)
    }

    async fn streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, Error> {
        self.served.told.refused(&format!("forwarding from {}", shown(path.as_bytes()))).await;
        Ok(false)
    }

    async fn agent_request(&mut self, _: ChannelId, _: &mut Session) -> Result<bool, Error> {
        self.served.told.refused("forwarding of an agent").await;
        Ok(false)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.served.told.refused("forwarding of a display").await;
        session.channel_failure(id)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let Some(open) = self.channels.get_mut(&id) else { return session.channel_failure(id) };
        match open.environment.clone().with(name, value) {
            Ok(environment) => {
                open.environment = environment;
                session.channel_success(id)
            }
            Err(_) => session.channel_failure(id),
        }
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        // Also where nothing may be run: it is refused then in words.
        let Some(open) = self.channels.get_mut(&id) else { return session.channel_failure(id) };
        // A terminal of no name, or of none that may be set, is a terminal all the same.
        open.environment = open.environment.clone().with("TERM", term).unwrap_or_else(|_| open.environment.clone());
        open.terminal = Some(size(rows, columns));
        session.channel_success(id)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Result<(), Error> {
        self.word(id, Word::Resize(size(rows, columns)));
        Ok(())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.run(id, session, None).await
    }

    async fn exec_request(&mut self, id: ChannelId, line: &[u8], session: &mut Session) -> Result<(), Error> {
        self.run(id, session, Some(line.to_vec())).await
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), Error> {
        if name != "sftp" {
            self.served.told.refused(&format!("the subsystem {}", shown(name.as_bytes()))).await;
            return session.channel_failure(id);
        }
        if !self.served.purpose.has_files() {
            return self.refuse(id, session, ("the subsystem sftp", ONLY_COMMANDS)).await;
        }
        match self.begin(id, session) {
            Some(channel) => self.start(id, session, transfer::run(channel, Service::Sftp)).await,
            None => session.channel_failure(id),
        }
    }

    async fn data(&mut self, id: ChannelId, bytes: &[u8], _: &mut Session) -> Result<(), Error> {
        self.word(id, Word::Bytes(bytes.to_vec()));
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Error> {
        self.word(id, Word::Eof);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Error> {
        // Whoever works for it sees its words end.
        self.channels.remove(&id);
        Ok(())
    }
}

impl Handler {
    fn word(&self, id: ChannelId, word: Word) {
        let Some(open) = self.channels.get(&id) else { return };
        let weight = word.weight();
        // Counted before it is there, so that it is never taken first.
        self.served.throttle.add(weight);
        if open.words.send(word).is_err() {
            self.served.throttle.taken(weight);
        }
    }
}

fn size(rows: u32, columns: u32) -> Size {
    let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
    Size::clamped(side(rows), side(columns))
}

/// Text of somebody else's, in one short line.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(200).flat_map(char::escape_default).collect()
}
