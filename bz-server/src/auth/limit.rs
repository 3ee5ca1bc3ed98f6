//! How often a stranger may call: each call costs a row in the log, so each address has a bounded number.

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
}
