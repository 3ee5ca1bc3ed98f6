//! The server's keys: the root in a file, and the short-lived keys it certifies, in memory only.
//!
//! Absent: keys of clients and agents. The server has none.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bz_core::grant::{Purpose, ServerCert};
use bz_core::id::OrganizationId;
use bz_core::key::{KeyError, PrivateKey};
use bz_core::signed::Signed;
use bz_core::time::UnixTime;
use bz_core::wire::WireError;
use zeroize::Zeroizing;

/// How long an online key is certified.
pub const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// The root key's file in the data folder.
pub const ROOT: &str = "root.key";

/// The file in the data folder of the key that stored tokens are encrypted under.
pub const TOKENS: &str = "tokens.key";
/// The key that secrets of second factors are encrypted under.
pub const MFA: &str = "mfa.key";
/// The key that secrets of API keys are hashed under.
pub const API_KEYS: &str = "api-keys.key";

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// A file is there already, and it would be lost.
    #[error("{0} exists and is not overwritten")]
    Exists(PathBuf),
    /// Others can read the key.
    #[error("{0} can be read by others: chmod 0600 it, and consider the key as known")]
    Exposed(PathBuf),
    /// The file holds no key.
    #[error("{0} holds no key: expected 64 hexadecimal digits")]
    Malformed(PathBuf),
    /// A seed gives no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate does not fit.
    #[error("a certificate cannot be encoded: {0}")]
    Certificate(#[from] WireError),
}

/// Makes a folder that only its owner can enter; one that is there must be so already.
///
/// # Errors
/// [`KeysError::File`], or [`KeysError::Exposed`] for a folder others can enter.
pub fn private_folder(path: &Path) -> Result<(), KeysError> {
    let file = |error| KeysError::File { path: path.to_owned(), error };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() && found.permissions().mode() & 0o077 == 0 => Ok(()),
        Ok(_) => Err(KeysError::Exposed(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(file)
        }
        Err(error) => Err(file(error)),
    }
}

/// Writes a new file with mode 0600: whole or not at all, and never over another.
///
/// # Errors
/// [`KeysError::File`] or [`KeysError::Exists`].
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), KeysError> {
    let file = |error| KeysError::File { path: path.to_owned(), error };
    let draft = path.with_extension("new");
    let mut out =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(file)?;
    out.write_all(content).and_then(|()| out.sync_all()).map_err(file)?;
    // A hard link fails where a rename would overwrite.
    let linked = fs::hard_link(&draft, path).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists { KeysError::Exists(path.to_owned()) } else { file(error) }
    });
    fs::remove_file(&draft).map_err(file)?;
    linked
}

/// Makes the root key out of a seed and writes it.
///
/// # Errors
/// [`KeysError`].
pub fn create_root(data: &Path, seed: &[u8; 32]) -> Result<PrivateKey, KeysError> {
    let key = PrivateKey::from_seed(seed)?;
    let text = Zeroizing::new(format!("{}\n", hex::encode(key.to_bytes().as_slice())));
    write_private(&data.join(ROOT), text.as_bytes())?;
    Ok(key)
}

/// Reads the root key.
///
/// # Errors
/// [`KeysError`]; also when others can read the file.
pub fn read_root(data: &Path) -> Result<PrivateKey, KeysError> {
    let path = data.join(ROOT);
    let scalar = read_hex(&path)?;
    PrivateKey::from_bytes(&scalar).map_err(|_| KeysError::Malformed(path))
}

/// The key in this file, that stored secrets are encrypted under; `fresh` is it from now on where there was none.
///
/// # Errors
/// [`KeysError`]; also when others can read the file.
pub fn secret_key(data: &Path, file: &str, fresh: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let path = data.join(file);
    if !path.exists() {
        write_private(&path, Zeroizing::new(format!("{}\n", hex::encode(fresh))).as_bytes())?;
    }
    read_hex(&path)
}

/// Whether a key that [`secret_key`] keeps is there.
///
/// # Errors
/// [`KeysError`]; also when others can read the file.
pub fn is_secret_key(data: &Path, file: &str) -> Result<bool, KeysError> {
    let path = data.join(file);
    if path.exists() { read_hex(&path).map(|_| true) } else { Ok(false) }
}

fn read_hex(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let file = |error| KeysError::File { path: path.to_owned(), error };
    if fs::metadata(path).map_err(file)?.permissions().mode() & 0o077 != 0 {
        return Err(KeysError::Exposed(path.to_owned()));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(file)?);
    let mut bytes = Zeroizing::new([0; 32]);
    let decoded = hex::decode_to_slice(text.trim_end(), bytes.as_mut_slice());
    decoded.map(|()| bytes).map_err(|_| KeysError::Malformed(path.to_owned()))
}

/// A key and the root's certificate for its one purpose.
#[derive(Debug, Clone)]
pub struct OnlineKey {
    /// The key.
    pub key: PrivateKey,
    /// The certificate, which travels with what the key signs.
    pub certificate: Signed<ServerCert>,
}

/// The three online keys of one node. They die with the process; a restart makes new ones.
#[derive(Debug, Clone)]
pub struct OnlineKeys {
    /// Signs grants.
    pub grant: OnlineKey,
    /// Signs control messages.
    pub control: OnlineKey,
    /// Signs records.
    pub record: OnlineKey,
    made: UnixTime,
}

/// Whose keys are certified, and when.
#[derive(Debug, Clone, Copy)]
pub struct Certifier<'a> {
    /// The root.
    pub root: &'a PrivateKey,
    /// The organization.
    pub organization: OrganizationId,
    /// The node that will hold the keys.
    pub node: &'a str,
    /// The wall clock.
    pub now: UnixTime,
}

impl OnlineKeys {
    /// Three new keys out of three seeds.
    ///
    /// # Errors
    /// [`KeysError::Key`] or [`KeysError::Certificate`].
    pub fn certify(by: Certifier<'_>, seeds: &[[u8; 32]; 3]) -> Result<Self, KeysError> {
        let [grant, control, record] = seeds;
        Ok(Self {
            grant: by.key(Purpose::Grant, grant)?,
            control: by.key(Purpose::Control, control)?,
            record: by.key(Purpose::Record, record)?,
            made: by.now,
        })
    }

    /// Whether half of their life is over, or the clock stepped back behind their making.
    #[must_use]
    pub fn is_stale(&self, now: UnixTime) -> bool {
        now < self.made || now.since(self.made) >= VALIDITY / 2
    }
}

impl Certifier<'_> {
    fn key(&self, purpose: Purpose, seed: &[u8; 32]) -> Result<OnlineKey, KeysError> {
        let key = PrivateKey::from_seed(seed)?;
        let body = ServerCert {
            key: key.public(),
            purpose,
            node: self.node.to_owned(),
            not_before: self.now,
            not_after: self.now.after(VALIDITY),
        };
        Ok(OnlineKey { certificate: Signed::seal(&body, self.organization, self.root)?, key })
    }
}

#[cfg(test)]
mod tests {
    use bz_core::grant::{Pins, ServerCertError};

    use super::*;

    #[test]
    fn files_are_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        private_folder(&data).unwrap();
        private_folder(&data).unwrap();
        let key = create_root(&data, &[1; 32]).unwrap();
        assert_eq!(fs::metadata(data.join(ROOT)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_root(&data).unwrap().public(), key.public());
        assert!(matches!(create_root(&data, &[2; 32]), Err(KeysError::Exists(_))));
        assert_eq!(read_root(&data).unwrap().public(), key.public(), "the refused second root changed the first");
        fs::set_permissions(data.join(ROOT), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_root(&data), Err(KeysError::Exposed(_))));
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(private_folder(&data), Err(KeysError::Exposed(_))));
    }

    /// TRUST-3: each online key is certified for one purpose and 24 hours, and renewed at half of it.
    #[test]
    fn online_keys_serve_one_purpose_for_a_day() {
        let root = PrivateKey::from_seed(&[1; 32]).unwrap();
        let organization = OrganizationId::from_bytes([1; 16]);
        let made = UnixTime::from_secs(100_000);
        let by = Certifier { root: &root, organization, node: "main", now: made };
        let keys = OnlineKeys::certify(by, &[[2; 32], [3; 32], [4; 32]]).unwrap();
        let check = |purpose, at: u64| {
            let pins = Pins { organization, roots: &[root.public()], now: made.after(Duration::from_secs(at)) };
            ServerCert::verify(&keys.grant.certificate, purpose, &pins).map(|c| c.key)
        };
        assert_eq!(check(Purpose::Grant, 0), Ok(keys.grant.key.public()));
        assert_eq!(check(Purpose::Grant, 86_399), Ok(keys.grant.key.public()));
        assert_eq!(check(Purpose::Grant, 86_400), Err(ServerCertError::Validity));
        assert_eq!(check(Purpose::Record, 0), Err(ServerCertError::Purpose));
        assert!(!keys.is_stale(made.after(VALIDITY / 2).before(Duration::from_millis(1))));
        assert!(keys.is_stale(made.after(VALIDITY / 2)));
        assert!(keys.is_stale(made.before(Duration::from_secs(1))));
    }
}
