//! SSH through the host's own sshd: the authority that this host alone believes, and where its sshd is.
//!
//! The agent makes the authority for its own host, the host's owner tells sshd to believe it (`bz-agent ssh-ca` prints
//! how), and an admitted session gets a certificate for a minute, one user and this machine's own addresses. Whoever
//! steals it cannot use it from elsewhere, and no other host believes it.
//!
//! Where sshd cannot be told so, it [asks](asked) the agent about each key, or, last of all, a [line](lines) in the
//! user's own `authorized_keys` says so for half a minute. In all of these what is let in is the session's certificate:
//! a line that stays behind names an authority that signs nothing for whoever finds it.
//!
//! **Absent:** users' long-lived keys, and any key that more than one host accepts.

pub mod asked;
#[cfg(feature = "shell")]
pub mod lines;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bz_core::digest::Digest;
use bz_core::ssh::{HostKey, SshKey, SshPublicKey, UserCertificate};
use bz_core::target::TargetUser;
use bz_core::time::UnixTime;
use bz_protocol::driver::{Clock, random};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::file::{self, FileError};
use asked::{Asked, Offer};
#[cfg(feature = "shell")]
use lines::{Line, Lines};

/// The public half, for sshd's `TrustedUserCAKeys`, in the agent's folder.
pub const AUTHORITY: &str = "ssh-ca.pub";
const KEY: &str = "ssh-ca.key";
const LOCK: &str = "ssh-ca.lock";
/// Where sshd's own port is, unless the host says otherwise.
pub const PORT: u16 = 22;
/// How long a certificate lets somebody in. A login that stands is not ended by it.
const LIFE: Duration = Duration::from_secs(60);
/// sshd reads its clock in whole seconds.
const SKEW: Duration = Duration::from_secs(5);
const SOURCES: &str = "127.0.0.1/32,::1/128";
/// What a line of `authorized_keys` allows: what a certificate does, from this machine, and nothing that is invented
/// later.
const OPTIONS: &str = "restrict,pty,port-forwarding,agent-forwarding,X11-forwarding,user-rc,from=\"127.0.0.1,::1\"";
const DIAL: Duration = Duration::from_secs(10);
/// More than any sshd has: one of each kind.
const MAX_HOST_KEYS: usize = 8;
const MAX_HOST_KEY_FILE: u64 = 8 << 10;
const HOST_KEYS: &str = "/etc/ssh";

/// The authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file or folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not what this program wrote.
    #[error("{0} is damaged: restore it, or move it away, run `bz-agent ssh-ca` and give sshd the new key")]
    Damaged(PathBuf),
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    Random,
}

/// The key that signs for this host's sshd, and for nobody else's.
#[derive(Debug)]
pub struct Authority {
    key: SshKey,
    public: PathBuf,
}

impl Authority {
    /// The authority that is kept in the agent's folder, made where there is none. Also while the agent runs.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn open(folder: &Path) -> Result<Self, AuthorityError> {
        // The lock is held until the file beside the key is written, too.
        let (key, _lock) = kept_key(folder, (KEY, LOCK))?;
        let authority = Self { key, public: folder.join(AUTHORITY) };
        let line = authority.line();
        if fs::read(&authority.public).ok().as_deref() != Some(line.as_bytes()) {
            file::replace(&authority.public, line.as_bytes())?;
        }
        Ok(authority)
    }

    /// The file with the public half.
    #[must_use]
    pub fn public(&self) -> &Path {
        &self.public
    }

    /// The line in it.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} bz-agent\n", self.key.public().to_line())
    }

    /// What stands in each line that lets somebody in by a certificate of this authority, and in no other line.
    fn mark(&self) -> String {
        format!(" {} bz-agent session ", self.key.public().to_line())
    }

    /// The line that lets one user in so, for sshd.
    fn user_line(&self, user: &TargetUser, session: Digest) -> String {
        format!("{OPTIONS},cert-authority,principals=\"{user}\"{}{session}", self.mark())
    }
}

/// The key that is kept in a file of the agent's folder, made where there is none, and the lock under which it was.
pub(crate) fn kept_key(folder: &Path, (name, lock): (&str, &str)) -> Result<(SshKey, File), AuthorityError> {
    file::private_folder(folder)?;
    let path = folder.join(lock);
    let lock = file::open(OpenOptions::new().write(true).create(true).truncate(false), &path);
    let lock = lock.map_err(FileError::io(&path, "opened"))?;
    // Whoever else makes one is done in a moment.
    lock.lock().map_err(FileError::io(&path, "locked"))?;
    let path = folder.join(name);
    if let Some(text) = file::read(&path, MAX_HOST_KEY_FILE)? {
        return parse(&text).map(|key| (key, lock)).ok_or(AuthorityError::Damaged(path));
    }
    let seed = Zeroizing::new(random().map_err(|_| AuthorityError::Random)?);
    let key = SshKey::from_seed(&seed).map_err(|_| AuthorityError::Random)?;
    file::replace(&path, Zeroizing::new(hex::encode(key.to_bytes().as_slice())).as_bytes())?;
    Ok((key, lock))
}

fn parse(text: &[u8]) -> Option<SshKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text, bytes.as_mut_slice()).ok()?;
    SshKey::from_bytes(&bytes).ok()
}

/// The host's own sshd.
#[derive(Debug)]
pub struct Sshd {
    authority: Authority,
    port: u16,
    host_keys: Vec<PathBuf>,
    told: Told,
}

/// How sshd is told of a session's certificate.
#[derive(Debug)]
enum Told {
    /// It believes the authority.
    Before,
    /// It asks.
    Asked(Asked),
    /// A line of the user's.
    #[cfg(feature = "shell")]
    Line(Lines),
}

/// A session's certificate, and what makes sshd take it; what of that is still there ends with this value.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) certificate: Vec<u8>,
    _told: Telling,
}

#[derive(Debug)]
#[expect(dead_code, reason = "they are held, and end what they are")]
enum Telling {
    Before,
    Asked(Offer),
    #[cfg(feature = "shell")]
    Line(Line),
}

impl Sshd {
    /// The sshd on [`PORT`] of this machine, with its host keys where sshd looks for them.
    #[must_use]
    pub const fn new(authority: Authority) -> Self {
        Self { authority, port: PORT, host_keys: Vec::new(), told: Told::Before }
    }

    /// One that does not believe the authority, and asks.
    #[must_use]
    pub fn asks(self, asked: Asked) -> Self {
        Self { told: Told::Asked(asked), ..self }
    }

    /// One that neither believes nor asks: a line in the target user's own file lets each session in.
    #[cfg(feature = "shell")]
    #[must_use]
    pub fn reads(self, lines: Lines) -> Self {
        Self { told: Told::Line(lines), ..self }
    }

    /// On another port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// With these files' public host keys; with the usual ones when there are none.
    #[must_use]
    pub fn host_keys(self, host_keys: Vec<PathBuf>) -> Self {
        Self { host_keys, ..self }
    }

    /// The host's keys as they are now. Reads files and does nothing else.
    pub(crate) fn read_host_keys(&self) -> io::Result<Vec<HostKey>> {
        let usual = self.host_keys.is_empty();
        let files = if usual { usual_host_keys()? } else { self.host_keys.clone() };
        let mut keys = Vec::new();
        for path in files.into_iter().take(MAX_HOST_KEYS) {
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            keys.push(host_key(&path).map_err(named)?);
        }
        if keys.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{HOST_KEYS} has no ssh_host_*_key.pub")));
        }
        Ok(keys)
    }

    /// Has sshd let a person's key in, as one user of this host.
    #[cfg_attr(not(feature = "shell"), expect(clippy::unused_async, reason = "only lines are waited for"))]
    pub(crate) async fn admit(
        &self,
        (key, user): (&SshPublicKey, &TargetUser),
        session: Digest,
        clock: &dyn Clock,
    ) -> io::Result<Pass> {
        let certificate = self.certify((key, user), session, clock.now().wall)?;
        let line = || self.authority.user_line(user, session);
        let told = match &self.told {
            Told::Before => Telling::Before,
            Told::Asked(asked) => Telling::Asked(asked.offer(user, (&certificate, line()))),
            #[cfg(feature = "shell")]
            Told::Line(lines) => Telling::Line(lines.add(user, line()).await.map_err(io::Error::other)?),
        };
        Ok(Pass { certificate, _told: told })
    }

    /// A certificate for a person's key.
    fn certify(
        &self,
        (key, user): (&SshPublicKey, &TargetUser),
        session: Digest,
        now: UnixTime,
    ) -> io::Result<Vec<u8>> {
        let certificate = UserCertificate {
            key,
            principal: user,
            id: &session.to_string(),
            serial: u64::from_be_bytes(random()?),
            after: now.before(SKEW),
            before: now.after(LIFE),
            sources: SOURCES,
        };
        Ok(certificate.sign(&random()?, &self.authority.key))
    }

    /// A stream to it.
    pub(crate) async fn dial(&self) -> io::Result<TcpStream> {
        let dial = async {
            match TcpStream::connect((IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)).await {
                Ok(stream) => Ok(stream),
                // It may listen there alone; if not, the first answer is the one to tell.
                Err(error) => TcpStream::connect((IpAddr::V6(Ipv6Addr::LOCALHOST), self.port)).await.map_err(|_| error),
            }
        };
        let stream = tokio::time::timeout(DIAL, dial).await.map_err(io::Error::other)?;
        let named = |error: io::Error| io::Error::new(error.kind(), format!("sshd on port {}: {error}", self.port));
        let stream = stream.map_err(named)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn usual_host_keys() -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(HOST_KEYS)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("ssh_host_") && name.ends_with("_key.pub") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn host_key(path: &Path) -> io::Result<HostKey> {
    let mut text = String::new();
    File::open(path)?.take(MAX_HOST_KEY_FILE).read_to_string(&mut text)?;
    HostKey::from_line(&text).map_err(|_| io::Error::other("it holds no public key"))
}
