//! The server as its callers see it: a real router over a real database, with a clock, an identity provider and links
//! that stand still until a test moves them. Files are laid out as the paths of the API.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken assumption is a failed test"
)]

#[path = "../../../bz-core/tests/it/idp.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod idp;

#[path = "../../../bz-protocol/tests/it/logged.rs"]
mod logged;
mod world;
mod authorization;
mod openapi;
mod users;
mod agents;
mod api_keys;
mod targets;
mod virtual_targets;
mod mfa;
mod mfa_page;
mod service_accounts;
mod workloads;
mod policies;
#[path = "policy/generated.rs"]
mod generated;
mod policy_selection;
mod policy_changes;
mod policy_versions;
mod policy_questions;
mod labels;
mod environments;
mod lists;
mod go_sdk;
mod page;
mod bad_bodies;
mod connections;
mod links;
mod events;
mod logs;
mod lens;
mod recordings;
mod registration_keys;
mod admin;
mod directories;
mod server;
mod backup;
mod sinks;
mod limits;
mod operations;
#[path = "../../../fuzz/src/server.rs"]
mod fuzzed;
mod corpora;
