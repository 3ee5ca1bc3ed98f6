//! The floor's tests: evidence with one broken thing at a time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken assumption is a failed test"
)]

mod idp;
mod cert;
mod token;
mod workload;
