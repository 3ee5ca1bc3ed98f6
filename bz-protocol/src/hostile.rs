//! A hostile server, to test ends against: what a stolen server, a stolen provider, somebody on the way, or a client that
//! keeps no rule can try, and what came of it.
//!
//! [`scenarios`] are data: steps that a server takes, and what must come of them. [`play()`] takes them on a [`Field`]:
//! [`Machines`] are the pure machines in virtual time, and [`Wire`] is an agent and a client of anybody's making, each
//! with a link to the hostile [`Server`]. The server has the organization's real grant and control keys; it has no key of
//! the agent, the person, or the identity provider.
//!
//! A verdict is made of effects. The target's program tells an [`Observer`] each line that it does, and the person's
//! side each line that is shown; a line that was done and not typed, done twice or out of turn, an answer shown that was
//! never given, and a session called complete that is not: each is unsafe, whoever claims to have checked what.
//!
//! ```
//! use bz_protocol::hostile::{Machines, at_once, play, scenarios};
//!
//! # fn main() -> Result<(), bz_protocol::hostile::KitError> {
//! let replay = scenarios().find(|scenario| scenario.id == "H2").expect("it is in the table");
//! let outcome = at_once(play(&mut Machines::new(1)?, replay, 1))?;
//! assert_eq!((outcome.verdict(), outcome.harm), ("safe", None));
//! # Ok(())
//! # }
//! ```
//!
//! To attack an agent of your own, implement [`Ends`]: start the agent with the keys and pins of [`Parts`], behind the
//! route [`ROUTE`] a program that calls [`Observer::serve`] or does its own work and tells the observer, and dial the
//! server's address. `examples/src/hostile.rs` is that for this product's own ends.
//!
//! ```no_run
//! use bz_protocol::carrier::{Boxed, MemoryCarrier};
//! use bz_protocol::hostile::{
//!     AgentUnderTest, Asking, ClientUnderTest, Ends, KitError, Parts, Told, Wire, play, scenarios,
//! };
//!
//! struct Mine(MemoryCarrier);
//!
//! impl Ends for Mine {
//!     fn carrier(&self) -> &'static str {
//!         "memory"
//!     }
//!
//!     fn agent<'a>(&'a self, parts: &'a Parts) -> Boxed<'a, Result<Box<dyn AgentUnderTest>, String>> {
//!         // Dials `self.0`, with `parts.organization.agent` as its identity key.
//!         # let _ = parts;
//!         todo!()
//!     }
//!
//!     fn client<'a>(&'a self, parts: &'a Parts, asking: Asking) -> Boxed<'a, Result<Box<dyn ClientUnderTest>, Told>> {
//!         // Opens a session of exactly `asking.opening`.
//!         # let _ = (parts, asking);
//!         todo!()
//!     }
//! }
//!
//! # async fn run() -> Result<(), KitError> {
//! for scenario in scenarios() {
//!     let (carrier, links) = MemoryCarrier::new();
//!     let mut wire = Wire::start(Mine(carrier), links, 1).await?;
//!     let outcome = play(&mut wire, scenario, 1).await?;
//!     wire.stop().await;
//!     assert!(outcome.is_good(), "{}: {:?} {:?}", scenario.id, outcome.harm, outcome.unexpected);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Absent: sockets, and anything that a program which serves somebody would want. The feature is for tests alone.

mod case;
mod effects;
mod field;
mod found;
mod machines;
mod organization;
mod play;
mod relay;
mod rogue;
mod scenario;
mod server;
mod table;
mod talk;
mod token;
mod wire;

pub use case::{Asking, Case, Forgery, Place, Token};
pub use effects::{Observer, answer};
pub use field::{Field, Told};
pub use machines::{Machines, Weakness, at_once};
pub use organization::{AUDIENCE, Dice, ISSUER, KitError, Organization, PERSON, ROUTE, TARGET_NAME, connection};
pub use play::{Outcome, play};
pub use relay::{How, Passed, Relay, Rule, Sort, Which};
pub use rogue::RogueClient;
pub use scenario::{Came, Expect, Keys, Local, OrderLie, Rogue, Scenario, Step, Who};
pub use server::Server;
pub use table::scenarios;
pub use talk::{Attempt, Kept, Own, Talker};
pub use token::{Issuer, Signing, claims};
pub use wire::{AgentUnderTest, ClientUnderTest, Ends, KitClock, Parts, START, Wire};

#[cfg(test)]
mod tests;
