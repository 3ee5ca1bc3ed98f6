//! The agent: hands on the target, as a library.
//!
//! It dials the server and nothing else, checks both roots of trust for every session on this machine, and gives an
//! admitted session to a back end: a [`handler::Handler`] of the embedding program, (feature `shell`) a shell or
//! command of one of the host's users, (`files`) a copy of files as such a user, (`ssh`) the host's own sshd,
//! (`ssh-server`) SSH that the agent itself ends, (`tcp`) whatever the host reaches, (`web`) a web server that it
//! reaches, or (`kube`) its cluster, as somebody else.
//!
//! **Absent:** a listening socket, a key that others' targets accept, and anything process-wide: dropping
//! [`agent::Running`] ends every task of it.
//!
//! ```no_run
//! # async fn embed(
//! #     identity: bz_agent::agent::Identity, bundle: bz_core::trust::TrustBundle,
//! #     ways: bz_protocol::link::Ways,
//! #     keys: bz_agent::jwks::IssuerKeys,
//! # ) -> std::io::Result<()> {
//! use bz_agent::agent::Agent;
//! use bz_agent::handler::Call;
//! use bz_core::access::Mode;
//! use bz_core::api::target::Route;
//! use tokio::io::AsyncWriteExt as _;
//!
//! let route = Route { name: "debug".into(), description: "state".into(), mode: Mode::Sealed };
//! let hello = |mut call: Call| async move {
//!     let who = call.identity.person.subject.clone();
//!     call.stream.write_all(format!("hello, {who}\n").as_bytes()).await
//! };
//! let running = Agent::new(identity, bundle, ways, keys).route(route, hello).start()?;
//! running.online().await;
//! # Ok(())
//! # }
//! ```
//!
//! A program that starts shells or commands calls [`helper::enter`] as the first line of `main`.

pub mod agent;
pub mod handler;
pub mod http;
pub mod jwks;
pub mod policy_file;
pub mod receipts;
pub mod register;
pub mod vault;
mod backend;
mod file;
mod link;
mod session;

pub use file::FileError;

#[cfg(feature = "shell")]
pub use backend::shell;
#[cfg(feature = "shell")]
pub mod exec;
#[cfg(feature = "files")]
pub mod files;
#[cfg(feature = "shell")]
mod frame;
#[cfg(feature = "shell")]
pub mod helper;
#[cfg(feature = "shell")]
mod holder;
#[cfg(feature = "shell")]
pub mod holders;
#[cfg(feature = "shell")]
pub mod marks;
#[cfg(feature = "ssh")]
pub mod ssh;
#[cfg(feature = "ssh-server")]
pub mod ssh_server;
#[cfg(feature = "ssh-server")]
mod transfer;
#[cfg(feature = "shell")]
pub mod user;
#[cfg(feature = "kube")]
pub mod kube;
#[cfg(feature = "web")]
pub mod web;
#[cfg(any(feature = "shell", feature = "ssh"))]
mod account;
