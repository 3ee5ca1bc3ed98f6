//! The agent on a real machine: real users, processes, terminals and shells; its link and sessions against a server's
//! end in memory; its files; and the program itself.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "a broken assumption is a failed test; the organization in memory is shared with the protocol's tests"
)]

#[path = "../../../bz-protocol/tests/it/world.rs"]
mod gate_world;
#[path = "../../../bz-core/tests/it/idp.rs"]
mod idp;
#[path = "../../../bz-protocol/tests/it/logged.rs"]
mod logged;

#[cfg(test)]
mod agent;
#[cfg(test)]
mod exec;
#[cfg(test)]
mod holder;
#[cfg(test)]
mod marks;
#[cfg(all(test, feature = "cli"))]
mod program;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod receipts;
#[cfg(test)]
mod issuer;
#[cfg(test)]
mod policy_file;
#[cfg(test)]
mod server;
#[cfg(test)]
mod shell;
#[cfg(test)]
mod shells;
#[cfg(all(test, feature = "ssh"))]
mod ssh;
#[cfg(test)]
mod user;
#[cfg(test)]
mod vault;
#[cfg(test)]
mod world;
