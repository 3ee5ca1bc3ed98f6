//! How people and programs reach targets: login, the server's API, (with `ws`) sessions, and (with `files`) copies.
//!
//! A program gives everything by value: the [`server::Server`], the [`trust::Trust`] anchors, the [`login::Login`].
//! Nothing here touches anything process-wide, and dropping a [`client::Client`] ends what it started.
//!
//! **Absent:** a terminal, commands and a profile on disk, which are the `bz` program's (feature `cli`); passwords.
//!
//! ```no_run
//! use bz_client::client::Client;
//! use bz_client::login::{Browser, Login, LoginOptions};
//! use bz_client::server::Server;
//! use bz_client::trust::Trust;
//!
//! # async fn example(browser: &dyn Browser) -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::new("https://bz.example.com")?;
//! let trust = Trust::from_file("acme.toml".as_ref())?;
//! let login = Login::begin(&server, &trust, &LoginOptions::default(), browser).await?;
//! let client = Client::new(&server, trust, login)?;
//! for target in client.targets().await? {
//!     println!("{}", target.name);
//! }
//! # Ok(())
//! # }
//! ```

pub mod server;
pub mod secret;
pub mod trust;
pub mod login;
pub mod target_name;
pub mod pins;
pub mod client;
pub mod session;
#[cfg(feature = "tcp")]
pub mod tunnel;
#[cfg(feature = "tcp")]
pub mod database;
#[cfg(feature = "tcp")]
pub mod sealed;
#[cfg(feature = "web")]
pub mod web;
#[cfg(feature = "kube")]
pub mod kube;
#[cfg(all(feature = "files", unix))]
pub mod copy;
pub mod issuer_keys;
pub mod receipts;
#[cfg(feature = "terminal")]
pub mod terminal;
#[cfg(feature = "ssh")]
pub mod ssh;
pub mod player;
pub mod doctor;
#[cfg(feature = "cli")]
pub mod profile;

mod link;
mod rest;
mod http;
mod file;
mod platform;
mod clock;
mod shown;

pub use clock::NoRandom;
pub use file::FileError;
pub use http::HttpError;
pub use rest::{Refused, RestError};
