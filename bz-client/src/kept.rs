//! What `bz` keeps as evidence beside its work: receipts, and the identity provider's keys. What cannot be kept fails no
//! command, and is said when the terminal is free again.

use std::sync::{Arc, Mutex, PoisonError};

use bz_client::FileError;
use bz_client::issuer_keys::{SeenKeys, SeenKeysFile};
use bz_client::login::Login;
use bz_client::profile::Profile;
use bz_client::receipts::FolderReceipts;
use bz_core::oidc::jwks::Jwks;
use bz_core::time::UnixTime;
use bz_protocol::driver::{Clock as _, SystemClock};
use bz_protocol::receipt::{NotKept, Receipt, Receipts};

/// The profile's evidence.
#[derive(Debug)]
pub(crate) struct Kept {
    receipts: FolderReceipts,
    keys: SeenKeysFile,
    /// The last complaint of each kind: what was kept at last is no complaint.
    said: Mutex<[Option<String>; 2]>,
}

impl Kept {
    pub(crate) fn new(profile: &Profile) -> Arc<Self> {
        Arc::new(Self { receipts: profile.receipts(), keys: profile.issuer_keys(), said: Mutex::default() })
    }

    /// Keeps the keys behind a login that was just made.
    pub(crate) fn saw(&self, login: &Login) {
        if let Some(keys) = login.issuer_keys() {
            // It is noted, and told at the end.
            drop(SeenKeys::saw(self, &login.person().issuer, keys, SystemClock::new().now().wall));
        }
    }

    /// What could not be kept.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().filter_map(Option::take).collect()
    }

    fn note(&self, kind: usize, complaint: Option<String>) {
        if let Some(place) = self.said.lock().unwrap_or_else(PoisonError::into_inner).get_mut(kind) {
            *place = complaint;
        }
    }
}

impl Receipts for Kept {
    fn keep(&self, receipt: &Receipt, now: UnixTime) -> Result<(), NotKept> {
        let kept = self.receipts.keep(receipt, now);
        let complaint = |error| {
            format!("WARNING: no receipt of this session is kept ({error}): it cannot show later what is missing.")
        };
        self.note(0, kept.as_ref().err().map(complaint));
        kept
    }
}

impl SeenKeys for Kept {
    fn saw(&self, issuer: &str, keys: &Jwks, now: UnixTime) -> Result<(), FileError> {
        let kept = self.keys.saw(issuer, keys, now);
        let complaint = |error| {
            format!("WARNING: the identity provider's keys are not kept ({error}): `bz verify` will need them.")
        };
        self.note(1, kept.as_ref().err().map(complaint));
        kept
    }
}
