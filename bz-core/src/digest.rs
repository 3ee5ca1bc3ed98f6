//! SHA-256 digests, always over a labelled, length-framed message.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Digest([u8; 32]);

/// The text is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: expected 64 hexadecimal digits")]
pub struct ParseDigestError;

impl Digest {
    /// The digest with this value.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// SHA-256 of the bytes alone. For exact bytes that carry their own label.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// SHA-256 of `label || 0x00 || (length as u64 big-endian || part)…`.
    #[must_use]
    pub fn labelled(label: Label, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(label.as_str().as_bytes());
        hash.update([0]);
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// The thirty-two bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseDigestError)?;
        Ok(Self(bytes))
    }
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident = $text:literal)*) => {
        /// What a signature or digest is for.
        ///
        /// No label is the beginning of another, and each object and role has its own, so bytes made for one
        /// purpose are void for every other.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Label { $($(#[$doc])* $name),* }

        impl Label {
            /// Every label.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The label's text, as signed.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

labels! {
    /// Proof of possession inside a `BzCert`.
    CertProof = "bz/1 cert proof;"
    /// The commitment that the identity provider signs.
    CertCommitment = "bz/1 cert commitment;"
    /// The fingerprint of a trust bundle.
    TrustBundle = "bz/1 trust bundle;"
    /// A root's certificate for an online key of the server.
    ServerCert = "bz/1 server certificate;"
    /// A directory entry for a target.
    DirectoryEntry = "bz/1 directory entry;"
    /// A grant.
    Grant = "bz/1 grant;"
    /// The client's opening message.
    Syn = "bz/1 syn;"
    /// The agent's answer.
    SynAck = "bz/1 syn ack;"
    /// The id of a session.
    Session = "bz/1 session;"
    /// An agent's word that it does not know a session.
    Forgotten = "bz/1 forgotten;"
    /// An agent's opening of a segment.
    Segment = "bz/1 segment;"
    /// An agent's word about a stream that was opened in a sealed session.
    StreamReport = "bz/1 stream report;"
    /// A client's checkpoint.
    ClientCheckpoint = "bz/1 client checkpoint;"
    /// An agent's checkpoint.
    AgentCheckpoint = "bz/1 agent checkpoint;"
    /// One link of a direction's chain.
    Chain = "bz/1 chain;"
    /// The commitment to one frame's payload.
    Payload = "bz/1 payload;"
    /// An agent's login over its control key.
    ControlLogin = "bz/1 control login;"
    /// An agent's proof of its identity key at registration.
    RegisterIdentity = "bz/1 register identity;"
    /// An agent's proof of its control key at registration.
    RegisterControl = "bz/1 register control;"
    /// A call to the REST API.
    RestCall = "bz/1 rest call;"
    /// A login on a client link.
    LinkLogin = "bz/1 link login;"
    /// A control message of the server.
    ControlOrder = "bz/1 control order;"
    /// The server's claim over a transcript.
    Record = "bz/1 record;"
    /// The next root of a server, signed by the one before.
    RootSuccession = "bz/1 root succession;"
    /// One link of the chain of a server's logs.
    LogRow = "bz/1 log row;"
    /// A server's word about rows of its logs that retention cut off.
    LogAnchor = "bz/1 log anchor;"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PR-LABEL-1: labels are prefix-free.
    #[test]
    fn no_label_begins_another() {
        for a in Label::ALL {
            for b in Label::ALL {
                assert!(a == b || !b.as_str().starts_with(a.as_str()), "{a:?} begins {b:?}");
            }
        }
    }

    #[test]
    fn framing_separates_parts() {
        let joined = Digest::labelled(Label::Session, &[b"ab", b"c"]);
        assert_ne!(joined, Digest::labelled(Label::Session, &[b"a", b"bc"]));
        assert_ne!(joined, Digest::labelled(Label::Chain, &[b"ab", b"c"]));
    }
}
