//! Copies between two ends in one process, on real file systems.
//!
//! `cfg(test)` is always true here; it tells clippy that the functions beside the tests are tests too.
#![cfg(unix)]

#[cfg(test)]
mod cut;
#[cfg(test)]
mod full;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod tree;
