//! What a user of the client can see: names, pins, logins over real sockets, lies of a server, and the program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken assumption is a failed test"
)]

#[path = "../../../bz-core/tests/it/idp.rs"]
#[allow(dead_code, reason = "shared with the tests of bz-core")]
mod idp;
#[cfg(feature = "cli")]
#[path = "../../../bz-protocol/tests/it/sim.rs"]
#[allow(dead_code, clippy::cast_possible_truncation, reason = "shared with the tests of bz-protocol")]
mod sim;
#[cfg(feature = "cli")]
#[path = "../../../bz-protocol/tests/it/tap.rs"]
#[allow(dead_code, reason = "shared with the tests of bz-protocol")]
mod tap;
#[cfg(feature = "cli")]
#[path = "../../../bz-protocol/tests/it/world.rs"]
#[allow(dead_code, reason = "shared with the tests of bz-protocol")]
mod world;
mod stand;

mod name;
mod pins;
mod login;
mod refresh;
mod made;
mod rest;
mod tls;
#[cfg(all(feature = "cli", unix))]
mod profile;
#[cfg(feature = "cli")]
mod program;
#[cfg(feature = "cli")]
mod refusals;
mod receipts;
mod recordings;
#[cfg(feature = "cli")]
mod verify;
