//! SSH to a target: a stream to its own sshd, a certificate that it lets in for a minute, and the host's keys, all out
//! of one authenticated session.
//!
//! Where a person chose that, the target's agent ends SSH itself, as far as the verbs
//! `Shell` and `FileTransfer` go, and lets in the session's key.
//!
//! [`Client::ssh`] is everything for programs that speak SSH themselves. For people's own `ssh` there are [`agent`], which
//! answers it in place of `ssh-agent`, [`door`], where it finds that, and [`config`], which tells it so.
//!
//! **Absent:** the SSH protocol, and long-lived keys: a key is made for each session, and never leaves memory.

pub mod agent;
#[cfg(unix)]
pub mod config;
#[cfg(unix)]
pub mod door;

use std::time::Duration;

use bz_core::access::Access;
use bz_core::access::request::{Parameters, SshPurpose};
use bz_core::api::error::Code as RestCode;
use bz_core::id::ConnectionId;
use bz_core::key::KeyError;
use bz_core::ssh::{HOST_KEY_FACT, HostKey, MAX_CERTIFICATE, SshKey, UserCertificate};
use bz_core::target::TargetUser;
use bz_core::time::UnixTime;
use bz_protocol::client::Event;
use bz_protocol::refusal::Code;
use bz_protocol::session::End;

use crate::client::{AskError, Asked, Client};
use crate::clock;
use crate::pins::KnownBy;
use crate::rest::RestError;
use crate::session::{Dialed, Session, SessionError};
use crate::target_name::TargetName;

/// How long an agent may take to reach its sshd.
const PATIENCE: Duration = Duration::from_secs(30);
/// The stream that the certificate comes on, before anything of sshd's.
const CERTIFICATE: u32 = 1;
/// Where the agent may be, of whom nobody asks that, either.
const ANYWHERE: &str = "0.0.0.0/0,::/0";
/// How far clocks may differ, for a certificate that nobody asks about its time.
const CLOCKS: Duration = Duration::from_secs(24 * 3600);

/// A stream to a target's sshd, and what an SSH client needs to be let in by it.
#[derive(Debug)]
pub struct SshStream {
    /// sshd's bytes, from its first line on.
    pub stream: Dialed,
    /// Who may log in with it, and for how long.
    pub credential: Credential,
    /// The only keys that the host may show.
    pub host_keys: Vec<HostKey>,
    /// The connection.
    pub connection: ConnectionId,
    /// How the agent's key is known.
    pub known_by: KnownBy,
    /// When the session ends unless the login is renewed, which happens by itself where it can be.
    pub expires_at: UnixTime,
}

/// A key of this session, with the certificate for it.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The key.
    pub key: SshKey,
    /// The certificate, in SSH's own form.
    pub certificate: Vec<u8>,
    /// As whom it lets in.
    pub user: TargetUser,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// There is no session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// It ended before sshd was reached.
    #[error("{}", unreached(.end, .reason.as_deref()))]
    Ended {
        /// How.
        end: End,
        /// What the server says.
        reason: Option<String>,
    },
    /// The agent sent something else than a certificate and keys.
    #[error("the target's agent sent no usable {0}: are both ends of the same release?")]
    Agent(&'static str),
    /// The agent did not go on.
    #[error("the target's agent did not reach its sshd in time: try again")]
    Timeout,
    /// No key can be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl SshError {
    /// Whether policy does not allow it, as far as the server says.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Session(SessionError::Ask(error)) if is_denied(error))
    }
}

fn unreached(end: &End, reason: Option<&str>) -> String {
    let sshd = if *end == End::Refused(Code::Unavailable) {
        ". Does an sshd run on the target? `bz-agent run --help` says where the agent looks for it"
    } else {
        ""
    };
    let said = reason.map(|reason| format!(" (the server says: {reason})")).unwrap_or_default();
    format!("{end}{sshd}{said}")
}

impl Client {
    /// Opens a session with a target's own sshd, sealed. Where the server says that no policy allows that, nothing else is
    /// tried: nobody proves it, and what an agent answers instead the server can read.
    ///
    /// # Errors
    /// [`SshError`].
    pub async fn ssh(&self, target: &TargetName) -> Result<SshStream, SshError> {
        let key = new_key().map_err(|error| *error)?;
        let parameters = Parameters::Ssh { key: key.public().blob().to_owned() };
        let asked = self.ask(target, parameters, None).await.map_err(SessionError::from)?;
        self.ssh_session(asked, key).await
    }

    /// Opens a session with the SSH server of a target's agent, also where a policy allows more.
    ///
    /// # Errors
    /// [`SshError`].
    pub async fn ssh_inspected(&self, target: &TargetName) -> Result<SshStream, SshError> {
        let key = new_key().map_err(|error| *error)?;
        let asked = self.ask_agent(target, &key).await.map_err(SessionError::from)?;
        self.ssh_session(asked, key).await
    }

    /// For as much as policy allows.
    async fn ask_agent(&self, target: &TargetName, key: &SshKey) -> Result<Asked, AskError> {
        let mut denied = None;
        for purpose in [SshPurpose::ShellAndFiles, SshPurpose::Shell, SshPurpose::Files] {
            let parameters = Parameters::SshServer { key: key.public().blob().to_owned(), purpose };
            match self.ask(target, parameters, None).await {
                Err(error) if is_denied(&error) => denied = Some(error),
                asked => return asked,
            }
        }
        Err(denied.unwrap_or(AskError::Rest(RestError::Request)))
    }

    async fn ssh_session(&self, asked: Asked, key: SshKey) -> Result<SshStream, SshError> {
        let agent_ends = asked.request.access() == Access::SshServer;
        let Asked { known_by, .. } = asked;
        let user = asked.request.user.clone().ok_or(SshError::Agent("target user"))?;
        let mut session = self.session(asked).await?;
        let facts = std::mem::take(&mut session.opened.facts);
        let keys = facts.iter().filter(|fact| fact.name == HOST_KEY_FACT).map(|fact| HostKey::from_blob(&fact.value));
        let host_keys = keys.collect::<Result<Vec<_>, _>>().map_err(|_| SshError::Agent("host key"))?;
        if host_keys.is_empty() {
            return Err(SshError::Agent("host key"));
        }
        let certificate = if agent_ends {
            own_certificate((&key, &user), self.now(), &clock::random().map_err(SessionError::from)?)
        } else {
            let certificate = tokio::time::timeout(PATIENCE, certificate(&mut session)).await;
            certificate.map_err(|_| SshError::Timeout)??
        };
        let credential = Credential { key, certificate, user };
        let (connection, expires_at) = (session.connection(), session.opened.expires_at);
        Ok(SshStream { stream: Dialed::new(session), credential, host_keys, connection, known_by, expires_at })
    }
}

fn new_key() -> Result<SshKey, Box<SshError>> {
    let seed = clock::random().map_err(|error| Box::new(SessionError::from(error).into()))?;
    SshKey::from_seed(&zeroize::Zeroizing::new(seed)).map_err(|error| Box::new(error.into()))
}

fn is_denied(error: &AskError) -> bool {
    matches!(error, AskError::Rest(error) if error.code() == Some(RestCode::Denied))
}

/// The key's own word about itself: the agent knows the key already, and `ssh` is told to offer certificates alone, so
/// that it offers none of the person's own keys.
fn own_certificate((key, user): (&SshKey, &TargetUser), now: UnixTime, salt: &[u8; 32]) -> Vec<u8> {
    let certificate = UserCertificate {
        key: &key.public(),
        principal: user,
        id: "bz",
        serial: 0,
        after: now.before(CLOCKS),
        before: now.after(CLOCKS),
        sources: ANYWHERE,
    };
    certificate.sign(salt, key)
}

/// What comes on its own stream before sshd's bytes.
async fn certificate(session: &mut Session) -> Result<Vec<u8>, SshError> {
    let mut certificate = Vec::new();
    loop {
        match session.next().await {
            Some(Event::Bytes { stream: CERTIFICATE, bytes }) if certificate.len() + bytes.len() <= MAX_CERTIFICATE => {
                certificate.extend(bytes);
            }
            Some(Event::Eof { stream: CERTIFICATE }) if !certificate.is_empty() => return Ok(certificate),
            Some(Event::Bytes { .. } | Event::Eof { .. }) => return Err(SshError::Agent("certificate")),
            Some(Event::Ended(end)) => return Err(SshError::Ended { end, reason: session.reason() }),
            Some(
                Event::Opened(_) | Event::Notice(_) | Event::Answered { .. } | Event::Reset { .. } | Event::Resumed,
            ) => {}
            None => return Err(SshError::Ended { end: End::Lost, reason: session.reason() }),
        }
    }
}
