//! What the runnable examples and the end-to-end tests share: identity providers that run on loopback, a way to log in
//! to them without a browser, a clock that moves, and the list of programs the tests need.
//!
//! Absent: anything a product links. This crate stands above all others, and nothing here may serve an address that
//! another machine can reach.

pub mod browser;
pub mod certified;
pub mod clock;
pub mod evidence;
#[cfg(feature = "hostile")]
pub mod hostile;
pub mod idp;
pub mod needs;
pub mod world;
