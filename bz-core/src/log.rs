//! A server's word about the beginning of its logs: what retention cut, so that what is left still proves itself.
//!
//! Absent: the rows and their chain, which are the server's.

use bincode::{Decode, Encode};

use crate::digest::{Digest, Label};
use crate::signed::Object;
use crate::time::UnixTime;

/// Rows that were cut off: how many, and the hash of the last.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LogAnchor {
    /// How many rows there were up to there.
    pub count: u64,
    /// The hash of the last of them.
    pub hash: Digest,
    /// When they were cut.
    pub at: UnixTime,
}

impl Object for LogAnchor {
    const LABEL: Label = Label::LogAnchor;
    const VERSION: u16 = 1;
    const LIMIT: usize = 1024;
}
