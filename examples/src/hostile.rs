//! The real agent and the real client as the hostile-server kit attacks them, over real sockets on loopback.
//!
//! This is also how anybody runs the kit against an agent of their own: start it in [`Ends::agent`], with a program
//! behind the route that tells the observer what it does.

mod listen;
mod person;

use std::sync::{Arc, Mutex, PoisonError};

use bz_agent::agent::{Agent, Identity, Running};
use bz_agent::handler::Call;
use bz_agent::jwks::{FetchError, IssuerKeys, JwksSource};
use bz_core::access::Mode;
use bz_core::api::target::Route;
use bz_core::oidc::jwks::Jwks;
use bz_protocol::carrier::{Boxed, Carrier};
use bz_protocol::client::{Action, Event};
use bz_protocol::gate::LocalRule;
use bz_protocol::hostile::{
    AgentUnderTest, Asking, ClientUnderTest, Ends, KitError, Machines, Outcome, Parts, ROUTE, Scenario, Told, Wire,
    at_once, play,
};
use bz_protocol::session::End;
use futures::{Stream, StreamExt as _};

use crate::hostile::listen::Listener;
pub use crate::world::Way;

/// How many real runs go on at once: most of each is waiting for what does not come.
const AT_ONCE: usize = 16;

/// One run.
#[derive(Debug)]
pub struct Played {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// What carried it.
    pub carrier: &'static str,
    /// What came of it; an error when the kit itself could not play it.
    pub outcome: Result<Outcome, KitError>,
}

impl Played {
    /// Whether it was safe, and as expected.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.outcome.as_ref().is_ok_and(Outcome::is_good)
    }
}

/// What the target's program does with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// It, once.
    Right,
    /// It, twice: what nobody should do, for seeing that the kit sees it.
    Careless,
}

/// Plays these, each with the pure machines and over both carriers, some at once, and tells them in order.
pub fn play_all(wanted: Vec<&'static Scenario>, seed: u64) -> impl Stream<Item = Played> + Unpin {
    let runs =
        wanted.into_iter().flat_map(move |scenario| [None, Some(Way::Ws), Some(Way::Quic)].map(|way| (scenario, way)));
    let play = move |(scenario, way): (&'static Scenario, Option<Way>)| async move {
        let (carrier, outcome) = match way {
            None => ("machines", Machines::new(seed).and_then(|mut field| at_once(play(&mut field, scenario, seed)))),
            Some(way) => {
                (if way == Way::Quic { "quic" } else { "ws" }, play_over((way, Program::Right), scenario, seed).await)
            }
        };
        Played { scenario, carrier, outcome }
    };
    futures::stream::iter(runs.map(play)).buffered(AT_ONCE).boxed()
}

/// Plays a scenario with the real agent and the real client over this carrier.
///
/// # Errors
/// When the kit itself could not; that is no verdict.
pub async fn play_over((way, program): (Way, Program), scenario: &Scenario, seed: u64) -> Result<Outcome, KitError> {
    let listener = Listener::bind(way).await.map_err(|error| KitError::Stand(error.to_string()))?;
    let Listener { carrier, links, task } = listener;
    let mut wire = Wire::start(Product { carrier, program }, links, seed).await?;
    let outcome = play(&mut wire, scenario, seed).await;
    wire.stop().await;
    drop(task);
    outcome
}

/// This product's own ends.
struct Product {
    carrier: Arc<dyn Carrier>,
    program: Program,
}

impl Ends for Product {
    fn carrier(&self) -> &'static str {
        self.carrier.name()
    }

    fn agent<'a>(&'a self, parts: &'a Parts) -> Boxed<'a, Result<Box<dyn AgentUnderTest>, String>> {
        Box::pin(async move {
            let of = &parts.organization;
            let identity = Identity {
                organization: of.id,
                target: of.target,
                identity_key: of.agent.clone(),
                control_key: of.agent_control.clone(),
            };
            let keys = IssuerKeys::From(Arc::new(Published(Arc::clone(&parts.keys))));
            let local = parts.local.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let observer = parts.observer.clone();
            let route = Route { name: ROUTE.to_owned(), description: "acts".to_owned(), mode: Mode::Inspected };
            let program = self.program;
            let act = move |call: Call| {
                let observer = if program == Program::Careless { observer.doing_twice() } else { observer.clone() };
                async move { observer.serve(call.stream).await }
            };
            let agent = Agent::new(identity, of.bundle(), Arc::clone(&self.carrier), keys);
            let agent = agent.clock(Arc::clone(&parts.clock)).local_policy(local).route(route, act);
            let running = agent.start().map_err(|error| error.to_string())?;
            running.online().await;
            Ok(Box::new(Started(running)) as Box<dyn AgentUnderTest>)
        })
    }

    fn client<'a>(&'a self, parts: &'a Parts, asking: Asking) -> Boxed<'a, Result<Box<dyn ClientUnderTest>, Told>> {
        Box::pin(async move {
            let session = person::session(&self.carrier, parts, &asking).await?;
            Ok(Box::new(Opened(session)) as Box<dyn ClientUnderTest>)
        })
    }
}

/// What the issuer publishes at the moment.
struct Published(Arc<Mutex<Option<Jwks>>>);

impl JwksSource for Published {
    fn fetch<'a>(&'a self, _issuer: &'a str) -> Boxed<'a, Result<Jwks, FetchError>> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(std::future::ready(keys.ok_or(FetchError::NotPinned)))
    }
}

struct Started(Running);

impl AgentUnderTest for Started {
    fn local(&self, rule: LocalRule) {
        self.0.set_local(rule);
    }

    fn stop(self: Box<Self>) -> Boxed<'static, ()> {
        Box::pin(self.0.stop())
    }
}

struct Opened(bz_client::session::Session);

impl ClientUnderTest for Opened {
    fn next(&mut self) -> Boxed<'_, Option<Event>> {
        Box::pin(self.0.next())
    }

    fn act(&self, action: Action) -> Boxed<'_, bool> {
        let actions = self.0.actions();
        Box::pin(async move { actions.act(action).await.is_ok() })
    }

    fn words(&self, end: &End) -> String {
        person::words(end)
    }
}
