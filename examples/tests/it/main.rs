//! The tests that look at the whole: the repository itself, and all parts together on loopback, one binary.
//!
//! `cfg(test)` is always true here; it tells clippy that the functions beside the tests are tests too.

#[cfg(test)]
mod certified;
#[cfg(test)]
mod idp;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod cuts;
#[cfg(test)]
mod guide;
#[cfg(test)]
mod quickstart;
#[cfg(test)]
mod relying_party;
#[cfg(test)]
mod session;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod time;
