//! Copies of files: the hands of both ends on their own file system, over any pair of byte streams.
//!
//! [`give()`] walks a tree and tells it, [`take()`] puts what it is told in its place; `crate::copy` is what they say.
//! Both block, and run as whoever may read and write there: on a target a process of the target user, so that the
//! kernel decides what is permitted.
//!
//! What a taker does never leaves its destination: names are single, directories are opened one below the other and no
//! symbolic link is followed on the way, and what a copy begins with is called what the taker's own request says.
//! A file is written under a name of its own beside its place, and moved there when it is whole.
//!
//! **Absent:** processes, networks, who may copy what, and anything printed. On systems other than Unix this module is
//! absent itself: what keeps a taker within its destination does not exist there in the same form.

mod disk;
mod frames;
mod give;
mod partial;
mod place;
mod report;
mod take;

pub use disk::problem_of;
pub use give::{Source, give};
pub use report::{End, Interrupted, Report};
pub use take::{Destination, take};
