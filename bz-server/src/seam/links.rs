//! What the server asks of live links: is this target here, and end this.
//!
//! Absent: sockets and frames. [`MemoryLinks`] is the fake; the relay brings the real one.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bz_core::id::{BootId, ConnectionId, LoginId, TargetId};

/// The live links of agents and clients, wherever their sockets end.
pub trait Links: Send + Sync {
    /// The agent's present start, when the target has a link.
    fn online(&self, target: TargetId) -> Option<BootId>;
    /// The connection was closed: its streams end, and the client may be told why.
    fn closed(&self, connection: ConnectionId, why: &str);
    /// The login ended: its sessions that were not closed are cut, and its client link ends.
    fn logged_out(&self, login: LoginId);
    /// The target was deleted: its agent's link ends and may not come back.
    fn removed(&self, target: TargetId);
    /// How many there are.
    fn count(&self) -> Count;
}

/// How many links and sessions there are now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Agents that have a link.
    pub agents: u64,
    /// Clients that have one.
    pub clients: u64,
    /// Paired streams.
    pub sessions: u64,
}

/// What was asked of [`MemoryLinks`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// [`Links::closed`].
    Closed(ConnectionId, String),
    /// [`Links::logged_out`].
    LoggedOut(LoginId),
    /// [`Links::removed`].
    Removed(TargetId),
}

/// Links that exist because somebody says so.
#[derive(Debug, Default)]
pub struct MemoryLinks {
    online: Mutex<BTreeMap<TargetId, BootId>>,
    asked: Mutex<Vec<Asked>>,
}

impl MemoryLinks {
    /// Puts a target online, or offline.
    pub fn set(&self, target: TargetId, boot: Option<BootId>) {
        let mut online = self.online.lock().unwrap_or_else(PoisonError::into_inner);
        match boot {
            Some(boot) => online.insert(target, boot),
            None => online.remove(&target),
        };
    }

    /// Everything asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ask(&self, asked: Asked) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    }
}

impl Links for MemoryLinks {
    fn online(&self, target: TargetId) -> Option<BootId> {
        self.online.lock().unwrap_or_else(PoisonError::into_inner).get(&target).copied()
    }

    fn closed(&self, connection: ConnectionId, why: &str) {
        self.ask(Asked::Closed(connection, why.to_owned()));
    }

    fn logged_out(&self, login: LoginId) {
        self.ask(Asked::LoggedOut(login));
    }

    fn removed(&self, target: TargetId) {
        self.ask(Asked::Removed(target));
    }

    fn count(&self) -> Count {
        let agents = self.online.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        Count { agents, ..Count::default() }
    }
}
