//! The output of a shell that no agent has confirmed yet, each byte under its number since the
//! shell began. Pure.

use std::collections::VecDeque;

/// Minutes of ordinary work, and the most that one shell's output may cost in memory.
pub(super) const LIMIT: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    base: u64,
    dropped: u64,
}

impl Ring {
    pub(super) const fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn end(&self) -> u64 {
        self.base.saturating_add(self.bytes.len() as u64)
    }

    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= LIMIT
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Forgets what lies before `offset`; a number from the future forgets all there is.
    pub(super) fn release(&mut self, offset: u64) {
        let count = usize::try_from(offset.saturating_sub(self.base)).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.drain(..count);
        self.base = self.base.saturating_add(count as u64);
        if self.bytes.is_empty() {
            self.bytes.shrink_to(64 << 10);
        }
    }

    /// Drops the oldest bytes that are over the limit, and counts them.
    pub(super) fn shed(&mut self) {
        let excess = self.bytes.len().saturating_sub(LIMIT) as u64;
        self.release(self.base.saturating_add(excess));
        self.dropped = self.dropped.saturating_add(excess);
    }

    /// Up to `most` bytes from `offset`, which is moved up to the first byte still kept.
    pub(super) fn read(&self, offset: u64, most: usize) -> (u64, Vec<u8>) {
        let start = offset.max(self.base);
        let skip = usize::try_from(start.saturating_sub(self.base)).unwrap_or(usize::MAX).min(self.bytes.len());
        let until = skip.saturating_add(most).min(self.bytes.len());
        (start, self.bytes.range(skip..until).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ring: &Ring, from: u64, expected: (u64, &[u8])) {
        assert_eq!(ring.read(from, 4), (expected.0, expected.1.to_vec()), "from {from} in {ring:?}");
    }

    #[test]
    fn bytes_keep_their_numbers_while_the_front_is_forgotten() {
        let mut ring = Ring::default();
        ring.push(b"abcdefgh");
        check(&ring, 0, (0, b"abcd"));
        check(&ring, 6, (6, b"gh"));
        check(&ring, 8, (8, b""));
        ring.release(3);
        ring.release(2);
        check(&ring, 0, (3, b"defg"));
        ring.release(u64::MAX);
        assert_eq!((ring.base(), ring.end(), ring.dropped()), (8, 8, 0));
        ring.push(b"i");
        check(&ring, 3, (8, b"i"));
        check(&ring, u64::MAX, (u64::MAX, b""));
    }

    #[test]
    fn only_what_is_over_the_limit_is_dropped_and_all_of_it_is_counted() {
        let mut ring = Ring::default();
        ring.push(&vec![b'x'; LIMIT]);
        ring.shed();
        assert_eq!((ring.dropped(), ring.is_full()), (0, true));
        ring.push(b"yyy");
        ring.shed();
        assert_eq!((ring.base(), ring.dropped(), ring.end()), (3, 3, LIMIT as u64 + 3));
        check(&ring, ring.end() - 4, (ring.end() - 4, b"xyyy"));
    }
}
