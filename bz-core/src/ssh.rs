//! SSH's own encodings, as far as one end must say them for the other: public keys (RFC 4253, 5656, 8709), `ssh-agent`'s
//! signatures, and the user certificates that OpenSSH defines.
//!
//! An agent signs a certificate for the key a client made a moment ago, and its own host's sshd lets that key in.
//! **Absent:** the SSH protocol, which the person's own `ssh` and the host's own sshd speak with each other, and private
//! keys in files.

pub mod wire;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::key::{KeyError, PrivateKey, PublicKey};
use crate::target::TargetUser;
use crate::time::UnixTime;
use wire::{Malformed, Reader, Writer};

/// The most bytes of a person's key.
pub const MAX_KEY: usize = 128;
/// The most bytes of a host's key: RSA of 8192 bits.
pub const MAX_HOST_KEY: usize = 1200;
/// The most bytes of a certificate made here.
pub const MAX_CERTIFICATE: usize = 2048;
/// The fact of an answer that is one of the host's keys.
pub const HOST_KEY_FACT: &str = "ssh-host-key";

const ECDSA: &str = "ecdsa-sha2-nistp256";
const CURVE: &str = "nistp256";
const ED25519: &str = "ssh-ed25519";
/// What a certificate for a P-256 key calls itself.
pub const ECDSA_CERTIFICATE: &str = "ecdsa-sha2-nistp256-cert-v01@openssh.com";
const ED25519_CERTIFICATE: &str = "ssh-ed25519-cert-v01@openssh.com";
/// A certificate of a user, not of a host.
const USER: u32 = 1;
const MAX_ALGORITHM: usize = 64;

/// What a session may do with sshd once it is in, as `ssh-keygen` gives it. In the order that OpenSSH asks for.
const EXTENSIONS: [&str; 5] =
    ["permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"];

/// A key pair for SSH alone. Unlike every other key here it signs what SSH says, which has no label of ours; so it is a
/// type of its own, and never one of the other keys.
#[derive(Debug, Clone)]
pub struct SshKey(PrivateKey);

impl SshKey {
    /// The key derived from 32 random bytes.
    ///
    /// # Errors
    /// As [`PrivateKey::from_seed`].
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        PrivateKey::from_seed(seed).map(Self)
    }

    /// The key with this scalar, as [`Self::to_bytes`] gave it.
    ///
    /// # Errors
    /// As [`PrivateKey::from_bytes`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        PrivateKey::from_bytes(bytes).map(Self)
    }

    /// The scalar, for the key's own file and nothing else.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.to_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> SshPublicKey {
        let point = self.0.public().to_bytes();
        SshPublicKey(Kind::Ecdsa, Writer::default().text(ECDSA).text(CURVE).string(&point).finish())
    }

    /// Signs exactly these bytes, as RFC 5656 writes signatures.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature = self.0.sign_unlabelled(bytes);
        let (r, s) = signature.as_bytes().split_at(32);
        let numbers = Writer::default().number(r).number(s).finish();
        Writer::default().text(ECDSA).string(&numbers).finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ecdsa,
    Ed25519,
}

/// A person's public key: P-256 or Ed25519, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshPublicKey(Kind, Vec<u8>);

impl SshPublicKey {
    /// The key in exactly these bytes.
    ///
    /// # Errors
    /// [`Malformed`] for any other kind, and for one that is no key of its kind.
    pub fn from_blob(blob: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(blob);
        let kind = match reader.string()? {
            kind if kind == ECDSA.as_bytes() => {
                if reader.string()? != CURVE.as_bytes() {
                    return Err(Malformed);
                }
                PublicKey::from_bytes(reader.string()?).map_err(|_| Malformed)?;
                Kind::Ecdsa
            }
            kind if kind == ED25519.as_bytes() => {
                <&[u8; 32]>::try_from(reader.string()?).map_err(|_| Malformed)?;
                Kind::Ed25519
            }
            _ => return Err(Malformed),
        };
        reader.end()?;
        Ok(Self(kind, blob.to_owned()))
    }

    /// Its bytes.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.1
    }

    /// The line that `authorized_keys`, `TrustedUserCAKeys` and people read.
    #[must_use]
    pub fn to_line(&self) -> String {
        let name = match self.0 {
            Kind::Ecdsa => ECDSA,
            Kind::Ed25519 => ED25519,
        };
        format!("{name} {}", STANDARD.encode(&self.1))
    }

    /// What comes behind the kind's name: the key itself, as a certificate repeats it.
    fn fields(&self) -> &[u8] {
        let mut reader = Reader::new(&self.1);
        // Its name was read when it was made.
        reader.string().unwrap_or_default();
        reader.rest()
    }
}

/// A host's public key, of whatever kind its sshd has.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    algorithm: String,
    blob: Vec<u8>,
}

impl HostKey {
    /// The key in exactly these bytes.
    ///
    /// # Errors
    /// [`Malformed`] when they are too many or do not begin with a name.
    pub fn from_blob(blob: &[u8]) -> Result<Self, Malformed> {
        let name = Reader::new(blob).string()?;
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-@.".contains(b);
        if blob.len() > MAX_HOST_KEY || name.is_empty() || name.len() > MAX_ALGORITHM || !name.iter().all(plain) {
            return Err(Malformed);
        }
        Ok(Self { algorithm: String::from_utf8_lossy(name).into_owned(), blob: blob.to_owned() })
    }

    /// The key in a line of a `.pub` file.
    ///
    /// # Errors
    /// [`Malformed`] when it holds none.
    pub fn from_line(line: &str) -> Result<Self, Malformed> {
        let mut words = line.split_whitespace();
        let (name, text) = (words.next().ok_or(Malformed)?, words.next().ok_or(Malformed)?);
        let key = Self::from_blob(&STANDARD.decode(text).map_err(|_| Malformed)?)?;
        if key.algorithm == name { Ok(key) } else { Err(Malformed) }
    }

    /// Its bytes.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The line of a `.pub` file, which `known_hosts` repeats behind the host's name.
    #[must_use]
    pub fn to_line(&self) -> String {
        format!("{} {}", self.algorithm, STANDARD.encode(&self.blob))
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.to_line())
    }
}

/// What a certificate says, before it is signed.
#[derive(Debug)]
pub struct UserCertificate<'a> {
    /// Whose key.
    pub key: &'a SshPublicKey,
    /// As whom, and as nobody else.
    pub principal: &'a TargetUser,
    /// What sshd writes into its log.
    pub id: &'a str,
    /// A number of its own.
    pub serial: u64,
    /// From when.
    pub after: UnixTime,
    /// Until when sshd takes it; a login that stands is not ended by it.
    pub before: UnixTime,
    /// The only addresses it is good from, as CIDR with commas.
    pub sources: &'a str,
}

impl UserCertificate<'_> {
    /// The certificate, signed by a host's own authority.
    #[must_use]
    pub fn sign(&self, nonce: &[u8; 32], authority: &SshKey) -> Vec<u8> {
        let name = match self.key.0 {
            Kind::Ecdsa => ECDSA_CERTIFICATE,
            Kind::Ed25519 => ED25519_CERTIFICATE,
        };
        let principals = Writer::default().text(self.principal.as_str()).finish();
        let source = Writer::default().text(self.sources).finish();
        let critical = Writer::default().text("source-address").string(&source).finish();
        let extensions = EXTENSIONS.iter().fold(Writer::default(), |all, name| all.text(name).text("")).finish();
        let body = Writer::default()
            .text(name)
            .string(nonce)
            .raw(self.key.fields())
            .u64(self.serial)
            .u32(USER)
            .text(self.id)
            .string(&principals)
            .u64(self.after.as_secs())
            .u64(self.before.as_secs())
            .string(&critical)
            .string(&extensions)
            .text("")
            .string(authority.public().blob())
            .finish();
        let signature = authority.sign(&body);
        Writer::default().raw(&body).string(&signature).finish()
    }
}

#[cfg(test)]
mod tests;
