//! How often a stranger may call: each call costs a row in the log, so each address has a bounded number. And how often
//! an address may be wrong about a secret: then its wrong ones are not looked at any more for a while, and leave no rows.
//!
//! Right credentials pass also then: secrets here are 100 random bits and more, so that nobody finds one, and one broken
//! program must not shut out all others behind its address. Codes of second factors, which are short, lock their person:
//! see `mfa.rs`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bz_core::time::Mono;

/// Calls per address and [`PERIOD`].
pub(crate) const CALLS: u32 = 300;
/// The period.
pub(crate) const PERIOD: Duration = Duration::from_secs(60);
/// The most addresses remembered; beyond, all strangers share one count.
const MOST: usize = 10_000;

/// Wrong credentials of an address that lock it, when they come within [`WATCHED`].
pub(crate) const GUESSES: u32 = 20;
/// For how long wrong ones are remembered, from the first on.
pub(crate) const WATCHED: Duration = Duration::from_secs(5 * 60);
/// For how long an address is locked.
pub(crate) const LOCK: Duration = Duration::from_secs(15 * 60);

/// Wrong credentials of addresses.
#[derive(Debug, Default)]
pub(crate) struct Guesses(BTreeMap<IpAddr, Guesser>);

#[derive(Debug)]
struct Guesser {
    wrong: u32,
    /// When they are forgotten.
    until: Mono,
}

/// What becomes of a wrong credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guess {
    /// It is refused as what it is.
    Counted,
    /// So it is, and it was the last one that is looked at for a while.
    Locks,
    /// It is not looked at, for so long.
    Locked(Duration),
}

impl Guesses {
    /// Counts a wrong credential.
    pub(crate) fn wrong(&mut self, from: IpAddr, now: Mono) -> Guess {
        if self.0.len() >= MOST && !self.0.contains_key(&from) {
            self.0.retain(|_, guesser| now < guesser.until);
        }
        if self.0.len() >= MOST && !self.0.contains_key(&from) {
            // Guessed from everywhere at once: nothing is said of one address any more.
            return Guess::Locked(PERIOD);
        }
        let fresh = || Guesser { wrong: 0, until: now.after(WATCHED) };
        let guesser = self.0.entry(from).or_insert_with(fresh);
        if now >= guesser.until {
            *guesser = fresh();
        }
        if guesser.wrong >= GUESSES {
            return Guess::Locked(guesser.until.since(now));
        }
        guesser.wrong = guesser.wrong.saturating_add(1);
        if guesser.wrong < GUESSES {
            return Guess::Counted;
        }
        guesser.until = now.after(LOCK);
        Guess::Locks
    }
}

/// Calls of strangers in the present period.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    since: Option<Mono>,
    calls: BTreeMap<IpAddr, u32>,
    others: u32,
}

impl Limit {
    /// Counts one call; whether it may go on.
    pub(crate) fn allows(&mut self, from: IpAddr, now: Mono) -> bool {
        if self.since.is_none_or(|since| now.since(since) >= PERIOD) {
            *self = Self { since: Some(now), ..Self::default() };
        }
        let known = self.calls.len() < MOST || self.calls.contains_key(&from);
        let count = if known { self.calls.entry(from).or_default() } else { &mut self.others };
        *count = count.saturating_add(1);
        *count <= CALLS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count_per_period() {
        let mut limit = Limit::default();
        let (one, two) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let at = |secs| Mono::at(Duration::from_secs(secs));
        assert!((0..CALLS).all(|_| limit.allows(one, at(1))));
        assert!(!limit.allows(one, at(60)));
        assert!(limit.allows(two, at(60)));
        assert!(limit.allows(one, at(61)));
    }

    #[test]
    fn wrong_credentials_lock_their_address_for_a_while() {
        let mut guesses = Guesses::default();
        let (one, two) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let at = |secs| Mono::at(Duration::from_secs(secs));
        assert!((1..GUESSES).all(|_| guesses.wrong(one, at(1)) == Guess::Counted));
        assert_eq!(guesses.wrong(one, at(2)), Guess::Locks);
        assert_eq!(guesses.wrong(one, at(12)), Guess::Locked(LOCK - Duration::from_secs(10)));
        assert_eq!(guesses.wrong(two, at(12)), Guess::Counted);
        assert_eq!(guesses.wrong(one, at(2 + LOCK.as_secs())), Guess::Counted, "the lock is over");
        for number in 1..=3 * GUESSES {
            let slow = guesses.wrong(two, at(2000 + u64::from(number) * 30));
            assert_eq!(slow, Guess::Counted, "one each half minute is nobody who guesses");
        }
    }
}
