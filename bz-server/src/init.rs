//! The first steps on the server's host: organization, keys, certificate, configuration, and the claim code that
//! makes somebody administrator. Without a claim nobody is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bz_core::digest::Digest;
use bz_core::id::{EnvironmentId, OrganizationId};
use bz_core::time::UnixTime;

use crate::app::{AppError, bundle};
use crate::config::{Config, ConfigError, Tls, TlsFiles};
use crate::keys::{self, KeysError};
use crate::seam::{Clock, Entropy, EntropyError, random};
use crate::store::organization::Organization;
use crate::store::{Store, StoreError};
use crate::tls::{self, TlsError};

/// The configuration's file in the data folder.
pub const CONFIG: &str = "server.toml";
/// The trust bundle's file in the data folder.
pub const BUNDLE: &str = "bundle.toml";
/// How long a claim code is good.
pub const CLAIM: Duration = Duration::from_secs(24 * 3600);

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The folder is in use.
    #[error("{0} exists: this folder is in use, and init overwrites nothing")]
    Exists(PathBuf),
    /// A file.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] bz_core::trust::BundleError),
    /// The settings cannot be written as TOML.
    #[error("the configuration cannot be written: {0}")]
    Write(#[from] toml::ser::Error),
    /// The data folder was not made by `init`.
    #[error(transparent)]
    App(#[from] Box<AppError>),
}

/// What was made.
#[derive(Clone)]
pub struct Initialized {
    /// The configuration's file.
    pub config: PathBuf,
    /// The trust bundle's text, for agents and clients.
    pub bundle: String,
    /// What people compare.
    pub fingerprint: Digest,
    /// Makes whoever logs in with it administrator, once, within 24 hours.
    pub claim: String,
    /// SHA-256 of the CA's public key, when a CA was made.
    pub pin: Option<Digest>,
}

impl std::fmt::Debug for Initialized {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Initialized").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// What to do about TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitTls {
    /// What the configuration says.
    AsConfigured,
    /// Make a CA and a certificate for these names and addresses.
    Make(Vec<String>),
}

/// Makes a server's folder out of settings.
///
/// # Errors
/// [`InitError`]; [`InitError::Exists`] when anything is there already.
pub async fn init(
    mut config: Config,
    certificate: InitTls,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Initialized, InitError> {
    let data = config.data.clone();
    for file in [CONFIG, BUNDLE, keys::ROOT, crate::store::FILE] {
        if data.join(file).exists() {
            return Err(InitError::Exists(data.join(file)));
        }
    }
    keys::private_folder(&data)?;
    let now = clock.now().wall;
    let mut pin = None;
    if let InitTls::Make(names) = certificate {
        let made = tls::make(&config.organization, names, year(now))?;
        let files = TlsFiles { certificate: data.join("tls.crt"), key: data.join("tls.key") };
        keys::write_private(&files.certificate, made.chain.as_bytes())?;
        keys::write_private(&files.key, made.key.as_bytes())?;
        keys::write_private(&data.join("ca.crt"), made.ca.as_bytes())?;
        pin = Some(made.pin);
        config.tls = Tls::Files(files);
    }
    config.check()?;
    let root = keys::create_root(&data, &random(entropy)?)?;
    let organization = OrganizationId::from_random(random(entropy)?);
    let bundle = bundle(&config, organization, &root);
    let text = bundle.to_text()?;
    let store = Store::open(&data)?;
    let row = Organization { id: organization, name: config.organization.clone(), created: now, policy_version: 1 };
    store.create_organization(row, EnvironmentId::from_random(random(entropy)?)).await?;
    let claim = claim(&store, entropy, now).await?;
    keys::write_private(&data.join(BUNDLE), text.as_bytes())?;
    let path = data.join(CONFIG);
    keys::write_private(&path, toml::to_string(&config)?.as_bytes())?;
    Ok(Initialized { config: path, fingerprint: bundle.fingerprint()?, bundle: text, claim, pin })
}

/// Reads the configuration that `init` wrote, or another.
///
/// # Errors
/// [`InitError`].
pub fn read_config(path: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Result<Config, InitError> {
    let text = fs::read_to_string(path).map_err(|error| KeysError::File { path: path.to_owned(), error })?;
    Ok(Config::parse(&text, environment)?)
}

/// A new claim code, kept by its hash.
///
/// # Errors
/// [`InitError`].
pub async fn claim(store: &Store, entropy: &dyn Entropy, now: UnixTime) -> Result<String, InitError> {
    // Letters and digits that are not mistaken for one another; 32 of them, so that each is five random bits.
    const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
    let random: [u8; 20] = random(entropy)?;
    let letters = random.iter().filter_map(|b| LETTERS.get(usize::from(b & 31))).map(|b| char::from(*b));
    let mut code = String::new();
    for (at, letter) in letters.enumerate() {
        if at > 0 && at % 5 == 0 {
            code.push('-');
        }
        code.push(letter);
    }
    store.add_claim(claim_hash(&code), now.after(CLAIM)).await?;
    Ok(code)
}

/// A claim code's hash, however it was typed. A hundred random bits need no slow hash.
#[must_use]
pub fn claim_hash(code: &str) -> Digest {
    let plain: String = code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    Digest::of(plain.as_bytes())
}

fn year(now: UnixTime) -> i16 {
    let stamp = i64::try_from(now.as_millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or(2026, |s| s.to_zoned(jiff::tz::TimeZone::UTC).year())
}
