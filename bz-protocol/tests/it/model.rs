//! Model checking of the real machines: every order of what an honest pair does and a hostile network between them can
//! do, within bounds, explored by stateright.
//!
//! ```text
//! Client ⇄ network ⇄ Agent, Gate        network: drop, double, overtake, flip a bit, replay anything to anybody, refuse
//! Twin   ⇄ network ⇄ Second, same Gate  a client that opens twice on one grant, or a `Syn` replayed to a new machine
//! ```
//!
//! The machines cannot be copied, because a copy would seal two frames under one number, so a state is the steps that lead
//! to it, and is made again from the start where the checker goes back. Two states are the same when each machine has
//! heard the same and the same is under way and recorded. [`Broken`] are machines that skip a check, and must be caught.

mod live;

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use live::{Holds, Live};

/// Whose machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Party {
    Client,
    Agent,
    /// A second client with the same login and grant.
    Twin,
    /// Another machine of the same agent, for another opening.
    Second,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    /// The first packet under way arrives.
    Arrive(Party),
    /// It is lost.
    Drop(Party),
    /// It arrives, and is still under way.
    Double(Party),
    /// The second one arrives before it.
    Overtake(Party),
    /// It arrives with a bit changed: in its kind, its middle or its last byte.
    Flip(Party, u8),
    /// A packet seen before is put before somebody.
    Replay(usize, Party),
    /// The client is told that the agent refuses, or has forgotten the session.
    Refuse,
    /// The carrier is lost, or another one stands.
    Cut,
    Connect,
    /// Time passes until somebody wants to be woken.
    Tick,
    /// An application sends bytes.
    Write(Party),
    /// A newer token.
    Renew,
    /// An application ends the session.
    Finish(Party),
}

/// How often what may happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Bounds {
    hostile: u8,
    cuts: u8,
    ticks: u8,
    client_writes: u8,
    agent_writes: u8,
    renewals: u8,
    finishes: u8,
    /// Whether a second client opens on the same grant.
    twin: bool,
}

/// What the client comes with. All but the first must move no agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Roots {
    Both,
    /// The grant is certified by another server's root.
    NoServer,
    /// The tokens are signed by another provider.
    NoProvider,
    /// The grant is for another client's key.
    AnothersGrant,
    /// The login is another person's than the grant.
    AnothersLogin,
}

/// An agent around the machine that skips a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Broken {
    Nothing,
    /// It remembers no grant.
    ForgetsGrants,
    /// It believes whatever root the client comes with.
    TrustsAnyRoot,
    /// It takes a frame that comes again once more.
    TakesTwice,
    /// It begins before the session is confirmed.
    ActsEarly,
}

#[derive(Debug, Clone)]
struct Case {
    name: &'static str,
    bounds: Bounds,
    roots: &'static [Roots],
    broken: Broken,
}

#[derive(Clone)]
struct State {
    roots: Roots,
    steps: Vec<Step>,
    print: u64,
    holds: Holds,
    choices: Arc<Vec<Step>>,
    /// The machines after these steps, until a state behind this one takes them on.
    live: Arc<Mutex<Option<Box<Live>>>>,
}

impl State {
    fn new(roots: Roots, steps: Vec<Step>, live: Box<Live>) -> Self {
        let (print, holds, choices) = (live.print(), live.holds, Arc::new(live.choices()));
        Self { roots, steps, print, holds, choices, live: Arc::new(Mutex::new(Some(live))) }
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
        self.holds.hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        (self.print, self.holds) == (other.print, other.holds)
    }
}

impl Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} {:?}", self.roots, self.steps, self.holds)
    }
}

impl Case {
    fn start(&self, roots: Roots) -> Box<Live> {
        Box::new(Live::new(self.bounds, roots, self.broken))
    }
}

impl Model for Case {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        self.roots.iter().map(|roots| State::new(*roots, vec![], self.start(*roots))).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        actions.extend(state.choices.iter());
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let taken = last.live.lock().unwrap().take();
        let mut live = taken.unwrap_or_else(|| {
            let mut live = self.start(last.roots);
            last.steps.iter().for_each(|step| live.step(*step));
            live
        });
        live.step(step);
        let steps = last.steps.iter().copied().chain([step]).collect();
        Some(State::new(last.roots, steps, live))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no action without both roots and the confirmation", |_, state: &State| state.holds.roots),
            Property::always("both ends agree on a prefix, and on the session", |_, state: &State| state.holds.prefix),
            Property::always("exactly once: no byte doubled, no grant used twice", |_, state: &State| state.holds.once),
            Property::always("nothing is accepted after a refusal or an end", |_, state: &State| state.holds.after),
            Property::always("the transcript verifies, and no changed one does", |_, state: &State| state.holds.record),
            Property::always("what the record shows as the agent's is what it did", |_, state: &State| {
                state.holds.done
            }),
            Property::sometimes(OPENS, |_, state: &State| state.holds.opened),
            Property::sometimes(RESUMES, |_, state: &State| state.holds.resumed),
            Property::sometimes(RENEWS, |_, state: &State| state.holds.renewed),
            Property::sometimes(COMPLETES, |_, state: &State| state.holds.completed),
        ]
    }
}

/// What a case must come to, so that its properties are about something.
const OPENS: &str = "a session opens";
const RESUMES: &str = "a session is resumed";
const RENEWS: &str = "a login is renewed";
const COMPLETES: &str = "a session completes";
const REACHED: [&str; 4] = [OPENS, RESUMES, RENEWS, COMPLETES];

const BOTH: &[Roots] = &[Roots::Both];
const NONE: Bounds =
    Bounds { hostile: 0, cuts: 0, ticks: 0, client_writes: 0, agent_writes: 0, renewals: 0, finishes: 0, twin: false };

fn full() -> bool {
    std::env::var("BZ_TEST").is_ok_and(|size| size == "full")
}

/// What is explored: each to its end in the default size, each with more freedom in full.
fn cases() -> Vec<Case> {
    let more = u8::from(full());
    let case = |name, bounds, roots| Case { name, bounds, roots, broken: Broken::Nothing };
    vec![
        case("handshake and data", Bounds { hostile: 1 + more, client_writes: 1, ..NONE }, BOTH),
        case("both write", Bounds { client_writes: 1, agent_writes: 1, ticks: 1, hostile: more, ..NONE }, BOTH),
        case("resumption", Bounds { cuts: 1, client_writes: 1, agent_writes: more, ..NONE }, BOTH),
        case("hostile resumption", Bounds { hostile: 1, cuts: 1, ticks: more, ..NONE }, BOTH),
        case("re-authentication", Bounds { hostile: more, renewals: 1, cuts: 1, ..NONE }, BOTH),
        case("end", Bounds { hostile: 1, finishes: 1, cuts: more, ..NONE }, BOTH),
        case("one grant, two openings", Bounds { client_writes: more, hostile: more, twin: true, ..NONE }, BOTH),
    ]
}

fn explore(case: &Case, most: Option<Duration>) -> (Vec<(&'static str, Vec<Step>)>, String) {
    let began = Instant::now();
    let mut builder = case.clone().checker().threads(2);
    if case.broken != Broken::Nothing {
        builder = builder.finish_when(HasDiscoveries::AnyFailures);
    }
    if let Some(most) = most {
        builder = builder.timeout(most);
    }
    let checker = builder.spawn_dfs().join();
    let mut found: Vec<(&'static str, Vec<Step>)> =
        checker.discoveries().into_iter().map(|(name, path)| (name, path.into_actions())).collect();
    found.sort_by_key(|(name, _)| *name);
    let told = format!(
        "{}: {} states, {} steps, {} deep, {} ms",
        case.name,
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_millis()
    );
    (found, told)
}

/// PR-MODEL-1: whatever the network does, in every order, within the bounds, no property is broken.
#[test]
fn no_order_of_events_breaks_a_property() {
    let most = full().then(|| Duration::from_secs(600));
    for case in cases() {
        let (found, told) = explore(&case, most);
        println!("{told}");
        let broken: Vec<_> = found.iter().filter(|(name, _)| !REACHED.contains(name)).collect();
        assert!(broken.is_empty(), "{}: {broken:#?}", case.name);
        let wanted = [
            (OPENS, true),
            (RESUMES, case.bounds.cuts > 0),
            (RENEWS, case.bounds.renewals > 0),
            (COMPLETES, case.bounds.finishes > 0),
        ];
        for (name, wanted) in wanted {
            assert!(!wanted || names(&found).contains(&name), "{}: never {name}", case.name);
        }
    }
    let bounds = Bounds { hostile: 1, client_writes: 1, ..NONE };
    let roots = &[Roots::NoServer, Roots::NoProvider, Roots::AnothersGrant, Roots::AnothersLogin];
    let (found, told) = explore(&Case { name: "without both roots", bounds, roots, broken: Broken::Nothing }, most);
    println!("{told}");
    assert!(found.is_empty(), "{found:#?}");
}

/// PR-MODEL-2: an agent that skips a check is caught, whichever it is.
#[test]
fn a_machine_that_skips_a_check_is_caught() {
    let bounds = Bounds { hostile: 1, client_writes: 1, ..NONE };
    let twin = Bounds { hostile: 0, client_writes: 0, twin: true, ..bounds };
    for (broken, bounds, roots, want) in [
        (Broken::ForgetsGrants, twin, BOTH, "exactly once"),
        (Broken::TrustsAnyRoot, bounds, &[Roots::NoServer], "no action without"),
        (Broken::TakesTwice, bounds, BOTH, "both ends agree"),
        (Broken::ActsEarly, bounds, BOTH, "no action without"),
    ] {
        let (found, told) = explore(&Case { name: "broken", bounds, roots, broken }, None);
        println!("{broken:?}, {told}: {found:?}");
        assert!(names(&found).iter().any(|name| name.starts_with(want)), "{broken:?} is not caught: {found:?}");
    }
}

fn names(found: &[(&'static str, Vec<Step>)]) -> Vec<&'static str> {
    found.iter().map(|(name, _)| *name).collect()
}
