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
#[path = "../../../fuzz/src/machines.rs"]
#[cfg(feature = "ws")]
mod machines;
#[path = "../../../fuzz/src/protocol.rs"]
#[cfg(feature = "ws")]
mod fuzzed;
#[cfg(feature = "ws")]
mod corpora;
mod symbolic;
#[cfg(feature = "driver")]
mod carriers;
#[cfg(feature = "driver")]
mod ways;
