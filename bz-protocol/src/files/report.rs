//! What a copy tells whoever runs it, and how it ends.

use crate::copy::{Copied, Malformed, OutOfTurn, Problem};

/// Which end something happened at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At this one.
    Here,
    /// At the other one, which says so.
    There,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// What the copy begins with on the target, by its full path.
    Root(Vec<u8>),
    /// A file begins.
    Begun {
        /// Its path, from the first entry on.
        path: Vec<u8>,
        /// Its bytes.
        size: u64,
    },
    /// So many bytes of it were there from before, and are not sent again.
    Resumed(u64),
    /// So many bytes went over.
    Bytes(u64),
    /// A file is in its place.
    Copied(Copied),
    /// Something was not copied.
    Failed {
        /// Its path, from the first entry on.
        path: Vec<u8>,
        /// Why.
        problem: Problem,
        /// Where.
        at: End,
    },
}

/// Why a copy did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted {
    /// The stream ended before the last word.
    #[error("the copy was cut before its end")]
    Cut,
    /// The stream broke.
    #[error("the copy was cut before its end: {0}")]
    Stream(std::io::Error),
    /// Bytes that are no message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A message that has no place.
    #[error(transparent)]
    OutOfTurn(#[from] OutOfTurn),
}
