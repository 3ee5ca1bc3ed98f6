//! Web servers behind a target: a port of this machine that a browser, curl or any other program takes for theirs.
//!
//! **Absent:** what is in pages. One that names its own server in full leads past the port.

mod front;

pub use front::{Front, Open, Watcher, WebError};

#[cfg(test)]
mod tests;
