//! Certificates seen before, bounded: so that `Syn` can name one by its hash, and a login outlives a key rotation.

use std::collections::VecDeque;

use bz_core::cert::{BzCert, Verified, VerifiedInitial};
use bz_core::digest::Digest;
use bz_core::time::UnixTime;

/// The most certificates kept; the oldest goes first.
const MAX_CERTIFICATES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Certificates(VecDeque<Entry>);

#[derive(Debug)]
struct Entry {
    digest: Digest,
    bytes: Vec<u8>,
    client_key: [u8; 65],
    initial: VerifiedInitial,
    newest: UnixTime,
}

impl Certificates {
    pub(super) fn bytes(&self, digest: &Digest) -> Option<&[u8]> {
        self.0.iter().rev().find(|e| e.digest == *digest).map(|e| e.bytes.as_slice())
    }

    /// The login's earlier verification, and the newest token accepted for it. The verifier itself compares the token's
    /// hash and commitment, so offering an entry for a key that is only claimed proves nothing by itself.
    pub(super) fn known(&self, bytes: &[u8]) -> (Option<&VerifiedInitial>, Option<UnixTime>) {
        match BzCert::claimed_client_key(bytes) {
            None => (None, None),
            Some(key) => {
                let entry = self.0.iter().find(|e| e.client_key == key.to_bytes());
                (entry.map(|e| &e.initial), entry.map(|e| e.newest))
            }
        }
    }

    pub(super) fn keep(&mut self, digest: Digest, bytes: Vec<u8>, certificate: &Verified<BzCert>) {
        let client_key = certificate.client_key().to_bytes();
        self.0.retain(|e| e.client_key != client_key);
        if self.0.len() >= MAX_CERTIFICATES {
            self.0.pop_front();
        }
        let (initial, newest) = (certificate.initial().clone(), certificate.claims().issued_at);
        self.0.push_back(Entry { digest, bytes, client_key, initial, newest });
    }
}
