//! The agent: hands on the target.
//!
//! What touches the operating system on behalf of a person stands behind the feature `shell`:
//! a [`user`] is resolved by name, a re-executed [`helper`] becomes that user, and either runs one
//! command with pipes ([`exec`]) or lives on beside the agent and keeps a shell with its screen
//! ([`holders`]). Nothing here decides whether somebody may: that was settled before these modules
//! are called, and no protocol, key or token is known to them.
//!
//! A program that starts shells or commands calls [`helper::enter`] as the first line of `main`.

#[cfg(feature = "shell")]
pub mod exec;
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
#[cfg(feature = "shell")]
pub mod user;
