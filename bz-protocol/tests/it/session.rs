//! One session from opening to end.

use std::time::Duration;

use bz_core::access::request::Parameters;
use bz_core::oidc::SKEW;
use bz_protocol::agent;
use bz_protocol::client::{Action, Event};
use bz_protocol::copy::MANIFEST;
use bz_protocol::frame::{Fin, Notice};
use bz_protocol::limits::{CHECKPOINT_LINE, LOGIN_WARNING};
use bz_protocol::refusal::Code;
use bz_protocol::session::End;

use crate::sim::Sim;
use crate::world::World;

/// PR-HS-1: both roots agree, the client confirms, bytes flow, both ends sign off.
#[test]
fn a_session_opens_carries_bytes_and_ends_signed() {
    let mut sim = Sim::new(&World::new(), 1);
    sim.client_app.to_send = 10_000;
    sim.agent_app.to_send = 3_000_000;
    sim.answer = Fin::Exited(7);
    sim.connect();
    sim.settle();
    assert_eq!(sim.admitted.as_ref().unwrap().identity().person.subject, "alice");
    sim.check_exact("plain");
    sim.close();
    assert_eq!(sim.client_ended, Some(End::Completed(Fin::Exited(7))));
    assert_eq!(sim.agent_ended, Some(End::Completed(Fin::Exited(7))));
}

/// PR-COPY-5: what became of a file is signed at once, and no more often than typed lines are.
#[test]
fn a_word_about_a_file_is_signed_without_delay() {
    let mut sim = Sim::new(&World::new(), 1);
    sim.connect();
    sim.settle();
    sim.pass(Duration::from_secs(5));
    let signed = |sim: &Sim| sim.agent.receipt().unwrap().agent;
    let say = |sim: &mut Sim, sign: bool| {
        let said = agent::Action::Bytes { stream: MANIFEST, bytes: b"copied".to_vec() };
        for action in [Some(said), sign.then_some(agent::Action::Sign)].into_iter().flatten() {
            sim.agent.act(sim.now, action).unwrap();
        }
        signed(sim)
    };
    let opening = signed(&sim);
    assert_eq!(say(&mut sim, false), opening, "bytes alone wait");
    let first = say(&mut sim, true);
    assert_ne!(first, opening, "nothing was signed");
    assert_eq!(say(&mut sim, true), first, "signed again within 50 ms");
    sim.pass(CHECKPOINT_LINE);
    assert_ne!(signed(&sim), first, "what came too soon is signed a moment later");
}

/// PR-HS-5: a certificate believed to be known is sent along when it is not.
#[test]
fn an_unknown_certificate_is_sent_along() {
    let mut world = World::new();
    world.certificate_known = true;
    let mut sim = Sim::new(&world, 1);
    sim.connect();
    sim.settle();
    assert_eq!(sim.refusals(), [Code::CertificateUnknown]);
    assert!(sim.admitted.is_some());
}

/// PR-END-2 (E1): an expired login ends the session in both directions, also when only output flows.
#[test]
fn an_expired_login_ends_a_session_that_only_receives() {
    let mut world = World::new();
    world.token_life = 100;
    let mut sim = Sim::new(&world, 1);
    sim.connect();
    sim.settle();
    sim.pass(Duration::from_secs(140));
    assert_eq!(sim.client_ended, None);
    sim.agent_app.to_send = 1000;
    sim.pass(Duration::from_secs(25));
    assert_eq!(sim.client_ended, Some(End::Refused(Code::Expired)));
    assert_eq!(sim.agent_ended, None);
    sim.pass(Duration::from_secs(30));
    assert_eq!(sim.agent_ended, Some(End::Expired));
    assert_eq!(sim.client_app.received.len(), 1000);
}

/// PR-REAUTH-1 (E2): a newer token of the same login moves the end, and nothing stalls.
#[test]
fn a_newer_token_keeps_a_session_alive() {
    let mut world = World::new();
    world.token_life = 100;
    let mut sim = Sim::new(&world, 1);
    sim.connect();
    sim.settle();
    sim.pass(Duration::from_secs(80));
    sim.client.act(sim.now, Action::Reauthenticate(world.certificate(75))).unwrap();
    sim.pass(Duration::from_secs(140));
    assert_eq!(sim.client_ended, None);
    sim.pass(Duration::from_secs(40));
    assert_eq!(sim.client_ended, Some(End::Refused(Code::Expired)));
}

/// PR-REAUTH-4: who is at a shell is asked to log in again ten minutes before the login ends, once for each token; a
/// login that ends sooner anyway, and a command, are not worth the question.
#[test]
fn a_person_is_asked_to_log_in_again() {
    let asked = |sim: &Sim| sim.client_events.iter().filter(|e| matches!(e, Event::Notice(Notice::LoginEnds))).count();
    let world = World::new();
    let mut sim = Sim::new(&world, 1);
    sim.connect();
    sim.settle();
    // A token counts for as long as clocks may differ beyond its end.
    let before = Duration::from_secs(world.token_life) + SKEW - LOGIN_WARNING;
    sim.pass(before - Duration::from_secs(5));
    assert_eq!(asked(&sim), 0);
    sim.pass(Duration::from_secs(10));
    assert_eq!(asked(&sim), 1);
    sim.client.act(sim.now, Action::Reauthenticate(world.certificate(before.as_secs()))).unwrap();
    sim.pass(before - Duration::from_secs(15));
    assert_eq!(asked(&sim), 1, "the newer token put it off");
    sim.pass(Duration::from_secs(30));
    assert_eq!(asked(&sim), 2);
    assert_eq!(sim.client_ended, None);
    for (life, parameters) in [(500, world.parameters), (3600, Parameters::Exec { command: "sleep 9999".to_owned() })] {
        let world = World { token_life: life, parameters, ..World::new() };
        let mut sim = Sim::new(&world, 1);
        sim.connect();
        sim.settle();
        sim.pass(Duration::from_secs(life - 10));
        assert_eq!((asked(&sim), sim.client_ended.clone()), (0, None), "{life}");
    }
}

/// PR-FLOW-1 (T8): a client that takes nothing is sent no more than its credit.
#[test]
fn a_client_that_takes_nothing_is_sent_its_credit_and_no_more() {
    let mut sim = Sim::new(&World::new(), 1);
    sim.client_app.slow = true;
    sim.agent_app.to_send = 2_000_000;
    sim.connect();
    sim.settle();
    assert_eq!(sim.client_app.received.len() as u64, bz_protocol::limits::STREAM_CREDIT);
    sim.take();
    sim.settle();
    sim.check_exact("after a pause");
}

/// PR-RESUME-3: without a carrier for longer than patience both ends give up, each by itself.
#[test]
fn both_ends_give_up_after_their_patience() {
    let mut sim = Sim::new(&World::new(), 1);
    sim.connect();
    sim.settle();
    sim.cut();
    sim.pass(Duration::from_secs(119));
    assert_eq!((&sim.client_ended, &sim.agent_ended), (&None, &None));
    sim.pass(Duration::from_secs(2));
    assert_eq!((&sim.client_ended, &sim.agent_ended), (&Some(End::Lost), &Some(End::Lost)));
}

/// PR-HS-2: nothing is done for a client that never confirms.
#[test]
fn an_unconfirmed_session_is_forgotten_and_burns_nothing() {
    let world = World::new();
    let mut sim = Sim::new(&world, 1);
    sim.tamper = Some(Box::new(|side, bytes| match (side, bytes[0]) {
        (crate::sim::Side::Client, _) | (_, 1) => vec![bytes.to_vec()],
        _ => vec![],
    }));
    sim.connect();
    sim.pass(Duration::from_secs(40));
    assert!(sim.admitted.is_none());
    assert_eq!(sim.agent_ended, Some(End::Timeout));
    let mut again = Sim::new(&world, 2);
    again.gate = sim.gate;
    again.connect();
    again.settle();
    assert!(again.admitted.is_some(), "the grant was not used up: {:?}", again.denials);
    assert!(again.client_events.iter().any(|e| matches!(e, Event::Opened(_))));
}

/// Tokens and seeds are in no `Debug`: a log line that shows a machine or a packet shows no secret.
#[test]
fn a_machine_shows_no_secret() {
    let world = World::new();
    let sim = Sim::new(&world, 1);
    let shown = format!("{:?} {:?} {:?} {:?}", sim.client, sim.agent, world.opening(), world.agent());
    // The first bytes of a JWS, as text and as the list of numbers that bytes are shown as; and the fixed seeds.
    for secret in ["eyJ", "101, 121, 74", "[31, 31", "[21, 21"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
