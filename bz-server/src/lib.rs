//! The server: who may, and what happened.
//!
//! It decides by policy ([`policy`]), signs grants ([`keys`], [`connection`]), keeps what happened ([`store`]), and
//! speaks a REST API ([`api`]). Inside the crate the arrow is `main → server → api → connection → policy, store`.
//!
//! **Absent:** keys of clients and agents, so it can make no frame that either end accepts; bearer secrets of people;
//! anything process-wide. Clock, randomness, issuers' keys and live links come in through [`seam`].

pub mod config;
pub mod seam;
pub mod keys;
pub mod init;
pub mod admin;
pub mod backup;
pub mod doctor;
pub mod store;
pub mod policy;
pub mod mfa;
mod page;
pub mod auth;
pub mod error;
pub mod app;
pub mod artifacts;
pub mod connection;
pub mod groups;
pub mod jobs;
pub mod api;
pub mod metrics;
pub mod tls;
pub mod record;
pub mod relay;
pub mod observe;
pub mod server;
pub mod sink;
pub mod acme;

pub use crate::app::{App, Seams};
pub use crate::config::Config;
pub use crate::server::Server;
