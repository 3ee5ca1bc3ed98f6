//! SSH without an sshd: the agent itself ends the protocol, for people whose policies give them shells or files and no
//! tunnels, and says in the session's record what they did.
//!
//! The key that it shows is made for this host, kept in the agent's folder, and told inside the authenticated session. The
//! one key that it lets in is the one that the session's client made for this session.
//!
//! **Absent:** a listening socket, passwords, keys in files, forwarding of ports, agents and displays.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bz_core::ssh::SshKey;
use bz_core::ssh::wire::Writer;
use russh::keys::PrivateKey;
use russh::keys::ssh_encoding::Decode as _;
use russh::keys::ssh_key::private::KeypairData;
use russh::server::Config;
use russh::{MethodKind, MethodSet, SshId};
use zeroize::Zeroizing;

use crate::helper::Helper;
use crate::holders::{Holders, HoldersError};
use crate::ssh::{AuthorityError, kept_key};

const KEY: &str = "ssh-host.key";
const LOCK: &str = "ssh-host.lock";
/// Where holders of terminals have their sockets.
const HOLDERS: &str = "ssh-terminals";
/// A person's `ssh` asks what there is, offers its key, and signs.
const MAX_ATTEMPTS: usize = 6;
const WINDOW: u32 = 1 << 20;

/// Answers `ssh`, `scp` and `sftp`.
#[derive(Debug, Clone)]
pub struct SshServer {
    pub(crate) helper: Helper,
    pub(crate) holders: Holders,
    pub(crate) config: Arc<Config>,
    public: Vec<u8>,
}

/// The server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SshServerError {
    /// The host key.
    #[error(transparent)]
    Key(#[from] AuthorityError),
    /// The folder for terminals.
    #[error(transparent)]
    Holders(#[from] HoldersError),
}

impl SshServer {
    /// With the host key that is kept in the agent's folder, made where there is none.
    ///
    /// # Errors
    /// [`SshServerError`].
    pub fn open(folder: &Path, helper: Helper) -> Result<Self, SshServerError> {
        let (key, _) = kept_key(folder, (KEY, LOCK))?;
        let holders = Holders::new(helper.clone(), folder.join(HOLDERS))?;
        let config = Config {
            server_id: SshId::Standard("SSH-2.0-bz".into()),
            methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
            auth_rejection_time: Duration::from_secs(1),
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: vec![private(&key).ok_or(AuthorityError::Random)?],
            window_size: WINDOW,
            max_auth_attempts: MAX_ATTEMPTS,
            inactivity_timeout: None,
            ..Config::default()
        };
        Ok(Self { helper, holders, config: Arc::new(config), public: key.public().blob().to_vec() })
    }

    /// The host's public key, as SSH writes it.
    pub(crate) fn host_key(&self) -> Vec<u8> {
        self.public.clone()
    }
}

/// The key pair in SSH's own form: the public key, and the scalar behind it. Of a scalar the library wants all 32 bytes,
/// also where SSH's numbers are shorter: one in 512.
fn private(key: &SshKey) -> Option<PrivateKey> {
    let scalar = key.to_bytes();
    let sign: &[u8] = if scalar.first()? < &0x80 { &[] } else { &[0] };
    let scalar = Zeroizing::new([sign, scalar.as_slice()].concat());
    let pair = Writer::default().raw(key.public().blob()).string(&scalar).finish();
    let pair = Zeroizing::new(pair);
    let data = KeypairData::decode(&mut pair.as_slice()).ok()?;
    PrivateKey::new(data, "").ok()
}

#[cfg(test)]
mod tests {
    use bz_core::ssh::UserCertificate;
    use bz_core::time::UnixTime;
    use russh::keys::{Certificate, PublicKey};

    use super::*;

    /// A host's key is whatever chance gave it when the agent came.
    #[test]
    fn a_scalar_of_any_length_is_a_key() {
        for first in [&[0x01][..], &[0x7f], &[0x80], &[0xfe], &[0, 0x01], &[0, 0x80], &[0, 0, 0x7f]] {
            let mut scalar = [0x55; 32];
            scalar[..first.len()].copy_from_slice(first);
            let key = SshKey::from_bytes(&scalar).unwrap();
            let host = private(&key).unwrap_or_else(|| panic!("a scalar that begins with {first:x?}"));
            assert_eq!(host.public_key().to_bytes().unwrap(), key.public().blob());
        }
    }

    /// What a client offers: its key, in a certificate that it has signed itself.
    #[test]
    fn keys_and_certificates_are_the_same_on_both_sides() {
        let key = SshKey::from_seed(&[1; 32]).unwrap();
        let (public, user) = (key.public(), "alice".parse().unwrap());
        let offered = UserCertificate {
            key: &public,
            principal: &user,
            id: "bz",
            serial: 0,
            after: UnixTime::from_secs(1),
            before: UnixTime::from_secs(2),
            sources: "0.0.0.0/0,::/0",
        };
        let offered = offered.sign(&[2; 32], &key);
        let read = Certificate::from_bytes(&offered).unwrap();
        read.verify_signature().unwrap();
        assert_eq!(PublicKey::from(read.public_key().clone()).to_bytes().unwrap(), public.blob());
        let host = private(&key).unwrap();
        assert_eq!(host.public_key().to_bytes().unwrap(), public.blob());
    }
}
