//! Each proof is taken once: the randoms seen within the window.

use std::collections::{BTreeMap, BTreeSet};

use bz_core::api::proof::WINDOW;
use bz_core::id::LoginId;
use bz_core::time::UnixTime;

/// The most proofs remembered; more within the window are refused.
const MOST: usize = 200_000;

/// Proofs seen, by the time they name. Only proofs whose signature verified come in here.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    seen: BTreeMap<UnixTime, BTreeSet<(LoginId, [u8; 16])>>,
    count: usize,
}

/// What became of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Never seen before, and remembered now.
    New,
    /// Seen before.
    Before,
    /// There is no room to remember it.
    Full,
}

impl Replay {
    /// Remembers a proof whose time is within the window.
    pub(crate) fn see(&mut self, login: LoginId, random: [u8; 16], time: UnixTime, now: UnixTime) -> Seen {
        // What names an earlier time is refused by its time alone.
        let kept = self.seen.split_off(&now.before(WINDOW));
        self.count -= self.seen.values().map(BTreeSet::len).sum::<usize>();
        self.seen = kept;
        if self.count >= MOST {
            return Seen::Full;
        }
        if !self.seen.entry(time).or_default().insert((login, random)) {
            return Seen::Before;
        }
        self.count += 1;
        Seen::New
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LOGIN: LoginId = LoginId::from_bytes([1; 16]);

    #[test]
    fn a_proof_is_taken_once_in_its_window() {
        let mut replay = Replay::default();
        let now = UnixTime::from_secs(1000);
        assert_eq!(replay.see(LOGIN, [1; 16], now, now), Seen::New);
        assert_eq!(replay.see(LOGIN, [1; 16], now, now), Seen::Before);
        assert_eq!(replay.see(LoginId::from_bytes([2; 16]), [1; 16], now, now), Seen::New);
        assert_eq!(replay.see(LOGIN, [2; 16], now, now), Seen::New);
        assert_eq!(replay.see(LOGIN, [1; 16], now, now.after(WINDOW)), Seen::Before);
        let later = now.after(WINDOW + Duration::from_millis(1));
        assert_eq!(replay.see(LOGIN, [3; 16], later, later), Seen::New);
        assert_eq!(replay.count, 1, "what is past the window is forgotten");
    }

    #[test]
    fn a_flood_is_refused_not_forgotten() {
        let mut replay = Replay { count: MOST, ..Replay::default() };
        let now = UnixTime::from_secs(1000);
        assert_eq!(replay.see(LOGIN, [1; 16], now, now), Seen::Full);
    }
}
