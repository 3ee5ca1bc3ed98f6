//! MrZAP: what may be said next.
//!
//! Two pure machines, [`client::Client`] and [`agent::Agent`], and between them the [`gate::Gate`], where the target
//! checks both roots of trust. The run loop is the same everywhere: **one input, then [`poll`](client::Client::poll)
//! until it waits.**
//!
//! ```text
//! client                           server (relay)                         agent
//!   Syn {request, BzCert, grant} ───────────────────────────────────────▶ gate.admit
//!   ◀─────────────────────────────────────────────────────────────────── SynAck (signed)
//!   Data 0: checkpoint = confirmation ──────────────────────────────────▶ gate.consume, back end begins
//!   Data ⇄ DataAck, authenticated and chained, both signed at checkpoints
//!   Fin + signature ⇄ Fin + signature
//! ```
//!
//! **Absent** without features: I/O, clocks, randomness, `async`. Time is [`bz_core::time::Now`], randomness arrives in
//! inputs. `docs/protocol.md` is normative for every byte.
#![warn(missing_docs)]

pub mod limits;
pub mod refusal;
pub mod handshake;
pub mod packet;
pub mod keys;
pub mod frame;
pub mod checkpoint;
pub mod gate;
pub mod session;
pub mod client;
pub mod agent;
pub mod mux;
pub mod control;
#[cfg(feature = "driver")]
pub mod carrier;
#[cfg(feature = "driver")]
pub mod driver;
#[cfg(feature = "driver")]
pub mod link;
pub mod transcript;
pub mod receipt;
pub mod segment;
pub mod stream;
pub mod copy;
pub mod ssh;
#[cfg(all(feature = "files", unix))]
pub mod files;
#[cfg(feature = "http")]
pub mod hop;
#[cfg(feature = "hostile")]
pub mod hostile;

mod flow;

pub use flow::{Misbehavior, SendError};
