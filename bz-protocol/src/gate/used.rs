//! Grants used before, so that none opens twice: bounded, and forgotten only when no clock could make one good again.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bz_core::grant::MAX_OPENING;
use bz_core::id::GrantId;
use bz_core::time::{Mono, Now, UnixTime};

use crate::gate::Denial;

/// The most grant ids remembered. Beyond it the gate refuses rather than forget one that could be used again.
pub(super) const MAX_USED: usize = 100_000;

/// How long after its use a grant could still open: it begins at most one skew from now.
const REMEMBERED: Duration = MAX_OPENING.saturating_add(bz_core::oidc::SKEW);

#[derive(Debug, Default)]
pub(super) struct Used {
    ids: BTreeSet<GrantId>,
    /// In the order of their use. Both clocks must pass: a wall clock that jumps ahead and back forgets nothing.
    order: VecDeque<(Mono, UnixTime, GrantId)>,
}

impl Used {
    pub(super) fn contains(&self, id: &GrantId) -> bool {
        self.ids.contains(id)
    }

    /// Remembers a grant.
    pub(super) fn take(&mut self, id: GrantId, now: Now) -> Result<(), Denial> {
        self.forget(now);
        if self.ids.contains(&id) {
            return Err(Denial::GrantUsed);
        }
        if self.ids.len() >= MAX_USED {
            return Err(Denial::GrantsFull);
        }
        self.ids.insert(id);
        self.order.push_back((now.mono.after(REMEMBERED), now.wall.after(REMEMBERED), id));
        Ok(())
    }

    fn forget(&mut self, now: Now) {
        while let Some((mono, wall, id)) = self.order.front()
            && now.mono >= *mono
            && now.wall >= *wall
        {
            self.ids.remove(id);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> GrantId {
        GrantId::from_bytes(number.to_be_bytes())
    }

    fn now(mono: u64, wall: u64) -> Now {
        Now { mono: Mono::at(Duration::from_secs(mono)), wall: UnixTime::from_secs(wall) }
    }

    /// PR-GRANT-2: the memory is bounded, and a full one refuses instead of forgetting.
    #[test]
    fn a_full_memory_refuses_until_time_has_passed() {
        let mut used = Used::default();
        for number in 0..MAX_USED as u128 {
            assert_eq!(used.take(id(number), now(0, 1000)), Ok(()));
        }
        let (another, passed) = (id(u128::MAX), REMEMBERED.as_secs());
        assert_eq!(used.take(another, now(1, 1001)), Err(Denial::GrantsFull));
        assert_eq!(used.take(id(0), now(1, 1001)), Err(Denial::GrantUsed));
        assert_eq!(used.take(another, now(passed, 1000 + passed)), Ok(()));
        assert_eq!((used.ids.len(), used.order.len()), (1, 1));
    }

    /// PR-GRANT-2: a wall clock that jumps ahead makes no grant forgotten.
    #[test]
    fn a_jump_of_the_wall_clock_forgets_nothing() {
        let mut used = Used::default();
        assert_eq!(used.take(id(1), now(0, 1000)), Ok(()));
        assert_eq!(used.take(id(2), now(1, 1_000_000)), Ok(()));
        assert_eq!(used.take(id(1), now(2, 1002)), Err(Denial::GrantUsed));
    }
}
