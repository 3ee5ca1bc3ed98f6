//! Fuzz targets, for `cargo fuzz run NAME` in the folder above this one's; see README.md.
#![allow(dead_code, reason = "modules shared with the tests of bz-protocol, which use more of them")]

#[path = "../../bz-core/tests/it/idp.rs"]
mod idp;
#[path = "../../bz-protocol/tests/it/world.rs"]
mod world;
#[path = "../../bz-protocol/tests/it/peer.rs"]
mod peer;
#[path = "../../bz-protocol/tests/it/stage.rs"]
mod stage;
#[path = "../../bz-protocol/tests/it/matrix.rs"]
mod matrix;
mod machines;
#[path = "protocol.rs"]
mod fuzzed;
#[cfg(feature = "server")]
mod server;

/// Calls the target of this name.
pub fn run(name: &str, bytes: &[u8]) {
    let server: &[fuzzed::Target] = &[];
    #[cfg(feature = "server")]
    let server = server::TARGETS;
    let found = fuzzed::TARGETS.iter().chain(server).find(|(target, _)| *target == name);
    found.expect("a target, and the feature that it needs").1(bytes);
}
