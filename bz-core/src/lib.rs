//! Nouns and evidence of MrZAP: what is true, and how it is proved.
//!
//! A target acts only when two independent roots agree: the organization's identity provider, whose ID token is bound
//! to the client's key by a [`cert::BzCert`], and the server, whose [`grant::Grant`] names exactly one connection. Both
//! are evidence types here: they exist only as the result of a check against a [`trust::TrustBundle`].
//!
//! **Absent:** I/O, clocks, randomness, `async`. Bytes, key sets, seeds and [`time::Now`] are arguments.
//!
//! ```
//! use bz_core::digest::Label;
//! use bz_core::key::PrivateKey;
//!
//! let key = PrivateKey::from_seed(&[7; 32])?;
//! let signature = key.sign(Label::Grant, b"exact bytes");
//! assert!(key.public().verify(Label::Grant, b"exact bytes", &signature).is_ok());
//! assert!(key.public().verify(Label::Syn, b"exact bytes", &signature).is_err());
//! # Ok::<(), bz_core::key::KeyError>(())
//! ```
#![warn(missing_docs)]

pub mod id;
pub mod time;
pub mod digest;
pub mod key;
pub mod wire;
pub mod signed;
pub mod oidc;
pub mod cert;
pub mod trust;
pub mod access;
pub mod target;
pub mod label;
pub mod database;
pub mod totp;
pub mod grant;
pub mod log;
pub mod local;
pub mod api;
pub mod script;
pub mod ssh;

mod json;
