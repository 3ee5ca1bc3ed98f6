//! What the examples and the end-to-end tests stand on: identity providers that run on loopback, and a way to log in
//! to them without a browser.
//!
//! Absent: anything a product links. Nothing here may serve an address that another machine can reach.

pub mod browser;
pub mod certified;
pub mod idp;
