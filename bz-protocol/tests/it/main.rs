//! The machines against each other, in virtual time, with everything hostile between them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "a broken assumption is a failed test"
)]

#[path = "../../../bz-core/tests/it/idp.rs"]
mod idp;

#[cfg(feature = "driver")]
#[allow(dead_code, reason = "shared with the tests above")]
mod logged;
mod world;
mod tap;
mod sim;
mod peer;
mod stage;
mod streams;
mod resume;
mod session;
mod gate;
mod matrix;
mod hostile;
mod vectors;
mod fuzz;
#[cfg(all(feature = "files", unix))]
mod files;
mod rules;
mod rogue;
mod transcript;
mod receipt;
mod segment;
mod verifiers;
mod model;
#[cfg(feature = "driver")]
mod carriers;
#[cfg(feature = "driver")]
mod ways;
