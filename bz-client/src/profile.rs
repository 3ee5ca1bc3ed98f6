//! The profile of the `bz` program: one server, its trust bundle, one login and the known agents, in one folder.
//!
//! `profile.toml`, `trust.toml`, `login.json`, `known-agents.toml`, `carriers.toml`, `ports.toml`, `sealed.toml`, `issuer-keys.json`
//! and the files in `receipts`, each replaced whole. What cannot be read is named and left as it is. Absent: any search of environment or
//! working directory; the caller gives the folder.

mod carrier;
mod ports;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bz_core::trust::{BundleError, TrustBundle};
use bz_protocol::receipt::Bounds;
use serde::{Deserialize, Serialize};

use crate::file::{self, FileError};
use crate::issuer_keys::SeenKeysFile;
use crate::login::{LockedLogin, Locking, Login, LoginStore};
use crate::pins::KnownAgentsFile;
use crate::platform;
use crate::receipts::FolderReceipts;
use crate::sealed::SealedFile;
use crate::server::{Roots, Server, ServerError};
use crate::trust::{Trust, TrustError, TrustSource};

pub use carrier::CarrierFile;
pub use ports::PortFile;

/// How long another program may hold the login while it refreshes it.
const LOCK_LIMIT: Duration = Duration::from_secs(60);
const LOCK_POLL: Duration = Duration::from_millis(50);
const MAX_NAME: usize = 64;

/// A profile's folder.
#[derive(Debug, Clone)]
pub struct Profile {
    folder: PathBuf,
}

/// What `profile.toml` holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pins: Vec<String>,
    trust_on_first_use: bool,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not a name.
    #[error("{0:?} is no profile's name: use 1 to 64 letters, digits, '_' or '-'")]
    Name(String),
    /// No login was made in this profile.
    #[error("no server is known in this profile ({0}): run `bz login --server https://…`")]
    NoServer(PathBuf),
    /// Nobody is logged in.
    #[error("nobody is logged in: run `bz login`")]
    NotLoggedIn,
    /// The bundle cannot be written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl Profile {
    /// The profile of this name below the configuration folder. Nothing is made yet.
    ///
    /// # Errors
    /// [`ProfileError::Name`] for a name that could leave the folder.
    pub fn new(config: &Path, name: &str) -> Result<Self, ProfileError> {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if name.is_empty() || name.len() > MAX_NAME || !plain {
            return Err(ProfileError::Name(name.chars().take(MAX_NAME).collect()));
        }
        Ok(Self { folder: config.join(name) })
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server, once there is one.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn server(&self) -> Result<Server, ProfileError> {
        let (path, settings) = self.settings()?;
        let damaged = |error: &dyn ToString| FileError::damaged(&path, &error.to_string(), again());
        let roots = match (settings.ca, settings.pins.as_slice()) {
            (Some(ca), []) => Roots::Ca(ca),
            (None, []) => Roots::Platform,
            (None, pins) => {
                let pins = pins.iter().map(|pin| pin.parse()).collect::<Result<_, _>>();
                Roots::Pins(pins.map_err(|e| damaged(&e))?)
            }
            (Some(_), _) => return Err(damaged(&"it has both a CA and pins").into()),
        };
        let server = Server::new(&settings.server).and_then(|server| server.with_roots(roots));
        Ok(server.map_err(|e: ServerError| damaged(&e))?)
    }

    /// The trust bundle that was pinned.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn trust(&self) -> Result<Trust, ProfileError> {
        let (_, settings) = self.settings()?;
        let path = self.folder.join("trust.toml");
        let damaged = |error: &dyn ToString| FileError::damaged(&path, &error.to_string(), again());
        let text = file::read(&path)?.ok_or_else(|| damaged(&"it is gone"))?;
        let bundle = TrustBundle::parse(&text).map_err(|e| damaged(&e))?;
        let trust = Trust::given(bundle).map_err(|e: TrustError| damaged(&e))?;
        Ok(if settings.trust_on_first_use { trust.with_source(TrustSource::FirstUse) } else { trust })
    }

    /// Keeps server and bundle.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn keep(&self, server: &Server, trust: &Trust) -> Result<(), ProfileError> {
        let (ca, pins) = match server.roots() {
            Roots::Platform => (None, Vec::new()),
            Roots::Ca(pem) => (Some(pem.clone()), Vec::new()),
            Roots::Pins(pins) => (None, pins.iter().map(ToString::to_string).collect()),
        };
        let trust_on_first_use = trust.source() == TrustSource::FirstUse;
        let settings = Settings { server: server.to_string(), ca, pins, trust_on_first_use };
        let path = self.folder.join("profile.toml");
        let text = toml::to_string(&settings).map_err(|e| FileError::damaged(&path, &e.to_string(), again()))?;
        file::replace(&self.folder.join("trust.toml"), &trust.bundle().to_text()?)?;
        Ok(file::replace(&path, &text)?)
    }

    /// The login.
    ///
    /// # Errors
    /// [`ProfileError::NotLoggedIn`] without one.
    pub fn login(&self) -> Result<Login, ProfileError> {
        self.read_login()?.ok_or(ProfileError::NotLoggedIn)
    }

    /// Where the login is shared with other programs.
    #[must_use]
    pub fn login_store(&self) -> LoginFile {
        LoginFile { profile: self.clone() }
    }

    /// The agents known here.
    #[must_use]
    pub fn known_agents(&self) -> KnownAgentsFile {
        KnownAgentsFile::new(self.folder.join("known-agents.toml"))
    }

    /// The carriers that won to this server.
    #[must_use]
    pub fn carriers(&self, server: &Server) -> CarrierFile {
        CarrierFile::new(self.folder.join("carriers.toml"), server.to_string())
    }

    /// The names that led to sealed sessions.
    #[must_use]
    pub fn sealed_names(&self) -> SealedFile {
        SealedFile::new(self.folder.join("sealed.toml"))
    }

    /// The ports that lead to targets.
    #[must_use]
    pub fn ports(&self) -> PortFile {
        PortFile::new(self.folder.join("ports.toml"))
    }

    /// The receipts of the last sessions opened here.
    #[must_use]
    pub fn receipts(&self) -> FolderReceipts {
        FolderReceipts::new(self.folder.join("receipts"), Bounds::CLIENT)
    }

    /// The identity providers' keys that were seen here.
    #[must_use]
    pub fn issuer_keys(&self) -> SeenKeysFile {
        SeenKeysFile::new(self.folder.join("issuer-keys.json"))
    }

    /// Keeps the configuration of the person's own `ssh`.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn keep_ssh_config(&self, text: &str) -> Result<(), FileError> {
        file::replace(&self.folder.join("ssh-config"), text)
    }

    fn settings(&self) -> Result<(PathBuf, Settings), ProfileError> {
        let path = self.folder.join("profile.toml");
        let text = file::read(&path)?.ok_or_else(|| ProfileError::NoServer(self.folder.clone()))?;
        let settings = toml::from_str(&text).map_err(|e| FileError::damaged(&path, e.message(), again()))?;
        Ok((path, settings))
    }

    fn login_path(&self) -> PathBuf {
        self.folder.join("login.json")
    }

    fn read_login(&self) -> Result<Option<Login>, FileError> {
        let path = self.login_path();
        let opened = match File::open(&path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileError::io(&path, "opened")(error)),
        };
        if platform::is_exposed(&opened).map_err(FileError::io(&path, "examined"))? {
            return Err(FileError::Exposed(path));
        }
        let text = zeroize::Zeroizing::new(file::read_open(&path, &opened)?);
        let damaged = |error: crate::login::ParseLoginError| {
            FileError::damaged(&path, &error.to_string(), format!("move {} away and run `bz login`", path.display()))
        };
        Login::from_text(&text).map(Some).map_err(damaged)
    }
}

/// The login file of a profile, shared by the programs of one person.
#[derive(Debug, Clone)]
pub struct LoginFile {
    profile: Profile,
}

impl LoginFile {
    /// Takes the right to change the login, for a program that means to put another in its place or remove it.
    ///
    /// # Errors
    /// [`FileError::Locked`] when another program has it for too long.
    pub async fn take(&self) -> Result<LoginFileLock, FileError> {
        let path = self.profile.folder.join("lock");
        platform::create_private_dir(&self.profile.folder).map_err(FileError::io(&self.profile.folder, "made"))?;
        let file = platform::open_lock(&path).map_err(FileError::io(&path, "opened"))?;
        let locking = async {
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(LOCK_POLL).await,
                    Err(fs::TryLockError::Error(error)) => return Err(FileError::io(&path, "locked")(error)),
                }
            }
        };
        let locked = tokio::time::timeout(LOCK_LIMIT, locking).await;
        locked.map_err(|_| FileError::Locked(path.clone()))??;
        Ok(LoginFileLock { profile: self.profile.clone(), _lock: file })
    }
}

impl LoginStore for LoginFile {
    fn lock(&self) -> Locking<'_> {
        Box::pin(async move { Ok(Box::new(self.take().await?) as Box<dyn LockedLogin>) })
    }
}

/// The right to change a profile's login.
#[derive(Debug)]
pub struct LoginFileLock {
    profile: Profile,
    /// Unlocked when dropped.
    _lock: File,
}

impl LoginFileLock {
    /// Removes the login.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub fn remove(&self) -> Result<(), FileError> {
        let path = self.profile.login_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::io(&path, "removed")(error)),
            _ => Ok(()),
        }
    }
}

impl LockedLogin for LoginFileLock {
    fn load(&self) -> Result<Option<Login>, FileError> {
        self.profile.read_login()
    }

    fn save(&self, login: &Login) -> Result<(), FileError> {
        // Under the lock nobody else writes: what is left over is of a program that was killed, and holds secrets.
        file::remove_leftovers(&self.profile.login_path())?;
        file::replace(&self.profile.login_path(), &login.to_text())
    }
}

/// Replaces a file of the person's, for nobody else to read: whole, or not at all.
///
/// # Errors
/// [`FileError`].
pub fn replace_private(path: &Path, text: &str) -> Result<(), FileError> {
    file::replace(path, text)
}

fn again() -> String {
    "mend it, or move it away and run `bz login --server … --bundle …` again".to_owned()
}
