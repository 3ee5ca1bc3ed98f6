//! Known agents: which key is behind a name.
//!
//! With a directory key in the trust bundle, every contact needs an entry signed by it. Without one, the key is pinned
//! at first contact under the name as typed, and another key is refused until [`trust_anew`] names it. A name that was
//! never used is accepted only when the caller chose so.

mod stores;

use std::fmt;

use bz_core::api::access::ConnectionMade;
use bz_core::digest::Digest;
use bz_core::id::TargetId;
use bz_core::signed::{ObjectError, Signed};
use bz_core::time::UnixTime;
use bz_core::trust::{DirectoryEntry, TrustBundle};
use bz_core::wire;

use crate::file::FileError;
use crate::target_name::TargetRef;

pub use stores::{KnownAgentsFile, MemoryPins};

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Fingerprint of the agent's identity key.
    #[serde(with = "hex_digest")]
    pub agent_key: Digest,
    /// The target; absent until the first contact after [`trust_anew`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetId>,
    /// The serial of the last directory entry; 0 without one.
    #[serde(default)]
    pub serial: u64,
}

/// Where pins are kept: per organization, under names as typed.
pub trait KnownAgents: fmt::Debug + Send + Sync {
    /// What is known of a name.
    ///
    /// # Errors
    /// When the store cannot be read; nobody is trusted then.
    fn find(&self, name: &str) -> Result<Option<Pin>, FileError>;

    /// Keeps this of a name.
    ///
    /// # Errors
    /// When it cannot be kept; nobody is trusted then.
    fn keep(&self, name: &str, pin: &Pin) -> Result<(), FileError>;
}

/// Whether an agent may be met without anything known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstContact {
    /// Its key is pinned.
    Accept,
    /// It is refused.
    Refuse,
}

/// How an agent's key is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownBy {
    /// The organization's directory signed it.
    Directory,
    /// It was pinned before.
    Pin,
    /// It was pinned just now: tell the person.
    FirstUse,
}

/// Why an agent's key is not believed.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Nothing is known of the name and first contact is refused.
    #[error(
        "nothing is known of {name}: if its agent's key is {fingerprint}, run `bz target trust {name} {fingerprint}`"
    )]
    Unknown {
        /// The name as typed.
        name: String,
        /// The key the server names.
        fingerprint: Digest,
    },
    /// Another key, or another target, than before.
    #[error(
        "{name} is behind another {what} than before: was {was}, is {is}. Somebody may be in between. If the host was \
         set up anew, run `bz target trust {name} {fingerprint}`, with the fingerprint read on the host itself"
    )]
    Changed {
        /// The name as typed.
        name: String,
        /// `key` or `target`.
        what: &'static str,
        /// What was known.
        was: String,
        /// What the server says now.
        is: String,
        /// The key the server names.
        fingerprint: Digest,
    },
    /// The bundle has a directory key and the server shows no entry.
    #[error("the organization keeps a directory, and the server shows no entry of it for {0}")]
    NoEntry(String),
    /// The entry is forged, of the past, or no entry.
    #[error("the directory entry for {name} is refused: {cause}")]
    Entry {
        /// The name as typed.
        name: String,
        /// Why.
        cause: ObjectError,
    },
    /// The entry is about something else.
    #[error("the directory entry shown for {name} is for another {what}")]
    OtherEntry {
        /// The name as typed.
        name: String,
        /// `name`, `target` or `key`.
        what: &'static str,
    },
    /// An entry older than one seen before.
    #[error("the directory entry shown for {0} is older than one seen before")]
    OldEntry(String),
    /// The pins cannot be read or kept.
    #[error(transparent)]
    Store(#[from] FileError),
}

/// What the server says is behind a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meeting<'a> {
    pub(crate) asked: &'a TargetRef,
    pub(crate) made: &'a ConnectionMade,
    pub(crate) first: FirstContact,
}

/// Checks the key the server names. Nothing is kept before the agent has proved it; see [`keep`].
pub(crate) fn check(
    meeting: &Meeting<'_>,
    bundle: &TrustBundle,
    store: &dyn KnownAgents,
    now: UnixTime,
) -> Result<KnownBy, PinError> {
    judge(meeting, bundle, store, now).map(|(known_by, _)| known_by)
}

/// Keeps what is known of an agent that has proved its key.
pub(crate) fn keep(
    meeting: &Meeting<'_>,
    bundle: &TrustBundle,
    store: &dyn KnownAgents,
    now: UnixTime,
) -> Result<(), PinError> {
    // Judged once more: another program may have met another agent meanwhile.
    let (_, pin) = judge(meeting, bundle, store, now)?;
    Ok(store.keep(&meeting.asked.to_string(), &pin)?)
}

fn judge(
    meeting: &Meeting<'_>,
    bundle: &TrustBundle,
    store: &dyn KnownAgents,
    now: UnixTime,
) -> Result<(KnownBy, Pin), PinError> {
    let name = meeting.asked.to_string();
    let known = store.find(&name)?;
    let fresh = |serial| Pin {
        agent_key: meeting.made.agent_public_key.fingerprint(),
        target: Some(meeting.made.acting()),
        serial,
    };
    if bundle.directory_key.is_some() {
        let entry = directory_entry(meeting, bundle, &name, now)?;
        if known.is_some_and(|pin| entry.serial < pin.serial) {
            return Err(PinError::OldEntry(name));
        }
        return Ok((KnownBy::Directory, fresh(entry.serial)));
    }
    match known {
        Some(pin) => {
            let fresh = fresh(pin.serial);
            same(&name, &pin, &fresh)?;
            Ok((KnownBy::Pin, fresh))
        }
        None if meeting.first == FirstContact::Accept => Ok((KnownBy::FirstUse, fresh(0))),
        None => Err(PinError::Unknown { name, fingerprint: fresh(0).agent_key }),
    }
}

/// Names the key that is behind a name from now on: after a host was set up anew, or before its first contact.
///
/// # Errors
/// [`FileError`] when it cannot be kept.
pub fn trust_anew(store: &dyn KnownAgents, name: &TargetRef, agent_key: Digest) -> Result<(), FileError> {
    let name = name.to_string();
    let serial = store.find(&name)?.map_or(0, |pin| pin.serial);
    store.keep(&name, &Pin { agent_key, target: None, serial })
}

fn same(name: &str, was: &Pin, is: &Pin) -> Result<(), PinError> {
    let changed = |what, was: String, now: String| {
        Err(PinError::Changed { name: name.to_owned(), what, was, is: now, fingerprint: is.agent_key })
    };
    if was.agent_key != is.agent_key {
        return changed("key", was.agent_key.to_string(), is.agent_key.to_string());
    }
    match (was.target, is.target) {
        (Some(was), Some(is)) if was != is => changed("target", was.to_string(), is.to_string()),
        _ => Ok(()),
    }
}

fn directory_entry(
    meeting: &Meeting<'_>,
    bundle: &TrustBundle,
    name: &str,
    now: UnixTime,
) -> Result<DirectoryEntry, PinError> {
    let made = meeting.made;
    let refused = |cause| PinError::Entry { name: name.to_owned(), cause };
    let bytes = made.directory_entry.as_ref().ok_or_else(|| PinError::NoEntry(name.to_owned()))?;
    let signed: Signed<DirectoryEntry> = wire::decode(&bytes.0, MAX_ENTRY).map_err(|e| refused(e.into()))?;
    let entry = DirectoryEntry::verify(&signed, bundle, now).map_err(refused)?;
    let other = |what| Err(PinError::OtherEntry { name: name.to_owned(), what });
    if entry.target != made.acting() {
        return other("target");
    }
    if entry.agent_key != made.agent_public_key {
        return other("key");
    }
    let named = match meeting.asked {
        TargetRef::Id(_) => true,
        TargetRef::Name { environment: Some(_), .. } => entry.name == name,
        // Who types no environment leaves it to the server; the directory may name it all the same.
        TargetRef::Name { environment: None, .. } => {
            entry.name == name || entry.name == format!("{name}.{}", made.environment_name)
        }
    };
    if named { Ok(entry) } else { other("name") }
}

/// A directory entry, its signature and their lengths.
const MAX_ENTRY: usize = 4096;

mod hex_digest {
    use bz_core::digest::Digest;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
