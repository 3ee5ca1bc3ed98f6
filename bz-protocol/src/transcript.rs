//! Transcripts: what happened in one session, in one append-only file that can be checked later, offline, by anybody
//! who holds the organization's trust bundle.
//!
//! ```text
//! relay: packets ──Observer──▶ records ──Writer──▶ file          withhold, redact: file ──▶ file
//! later: file ──verify──▶ Verdict | Refused                      explain: file ──▶ who did what, when
//! ```
//!
//! Every byte of a file is under a checkpoint or signature of one end, under the server's own signature (then it is the
//! server's claim and called so), or counted as uncovered. `docs/transcript.md` is normative for every byte.
//!
//! **Absent:** session keys (tags of frames cannot be checked by anybody but the two ends, and are not kept), times of
//! single frames (checkpoints carry the only signed ones), files and clocks.

mod anchors;
mod evidence;
mod explain;
mod file;
mod history;
mod observer;
mod record;
mod verdict;
mod verify;

pub use anchors::{Anchors, ArchiveError, JwksArchive};
pub use explain::{Line, Who, explain};
pub use file::{MAGIC, Position, Reader, Writer, redact, restore, withhold, without_tokens};
pub use history::{Coverage, Fault};
pub use observer::{Apart, Keep, Observed, Observer, Parties, Seen, Violation};
pub use record::{
    Claim, Content, Directory, Embedded, Frame, MAX_KEYS, MAX_REASON, MAX_RECORD, Opening, Record, ServerRecord,
};
pub use verdict::{AgentKnown, Following, Identity, Reason, Refused, ServerClaims, Tail, Trust, Verdict, WayVerdict};
pub use verify::verify;
