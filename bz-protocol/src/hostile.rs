//! A hostile-server kit.
#![allow(missing_docs)]

mod case;
mod effects;
mod field;
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
pub use organization::{AUDIENCE, Dice, ISSUER, KitError, Organization, PERSON, ROUTE, TARGET_NAME, connection};
pub use play::{Outcome, play};
pub use relay::{How, Passed, Relay, Rule, Sort, Which};
pub use rogue::RogueClient;
pub use scenario::{Came, Expect, Keys, Local, OrderLie, Rogue, Scenario, Step, Who};
pub use server::Server;
pub use table::SCENARIOS;
pub use talk::{Attempt, Kept, Own, Talker};
pub use token::{Issuer, Signing, claims};
pub use wire::{AgentUnderTest, ClientUnderTest, Ends, KitClock, Parts, START, Wire};
