//! The tests that look at the whole: the repository itself, and all parts together on loopback, one binary.
//!
//! `cfg(test)` is always true here; it tells clippy that the functions beside the tests are tests too.

#[cfg(test)]
mod carriers;
#[cfg(test)]
#[path = "../../../bz-protocol/tests/it/logged.rs"]
mod logged;
#[cfg(test)]
mod acme;
#[cfg(test)]
mod api;
#[cfg(test)]
mod certified;
#[cfg(all(test, feature = "compare"))]
mod compare;
#[cfg(test)]
mod client_secret;
#[cfg(test)]
#[path = "../../../bz-core/tests/it/idp.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod forger;
#[cfg(test)]
mod idp;
#[cfg(test)]
mod evidence;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod copy;
#[cfg(test)]
mod cuts;
#[cfg(test)]
mod databases;
#[cfg(test)]
#[path = "../../../bz-server/tests/it/directories/stand.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod directories;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod liar;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod kube;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod people;
#[cfg(test)]
mod person;
#[cfg(test)]
mod port;
#[cfg(test)]
mod guide;
#[cfg(test)]
mod quickstart;
#[cfg(test)]
mod recordings;
#[cfg(test)]
mod relying_party;
#[cfg(test)]
mod segments;
#[cfg(test)]
mod service_accounts;
#[cfg(test)]
mod services;
#[cfg(test)]
mod session;
#[cfg(test)]
mod shells;
#[cfg(test)]
mod ssh;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod schemathesis;
#[cfg(test)]
#[path = "../../../bz-server/tests/it/policy/generated.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod generated;
#[cfg(test)]
mod second_opinion;
#[cfg(test)]
mod typist;
#[cfg(test)]
mod time;
#[cfg(test)]
mod tunnels;
#[cfg(test)]
mod web;
#[cfg(test)]
mod workloads;
#[cfg(test)]
mod enroll_page;
#[cfg(all(test, feature = "hostile"))]
mod hostile;
