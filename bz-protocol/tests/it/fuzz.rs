//! Bytes from nowhere, into every decoder and into both machines in every state.

use bz_core::access::request::Request;
use bz_core::api::proof::Proof;
use bz_core::cert::{BzCert, CertCheck, DEFAULT_MAX_AGE};
use bz_core::grant::SignedGrant;
use bz_core::local::LocalPolicy;
use bz_core::oidc::jwks::Jwks;
use bz_core::signed::Signed;
use bz_core::trust::{DirectoryEntry, TrustBundle};
use bz_core::wire;
use bz_protocol::checkpoint::Signer;
use bz_protocol::frame::{Fin, Header, Notice};
use bz_protocol::keys::Direction;
use bz_protocol::packet::Packet;
use bz_protocol::session::CarrierId;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::matrix::{AGENT, CLIENT, agent_word, client_word, to_agent, to_client};
use crate::stage::{AgentStage, FIRST, agent_end, client_end};
use crate::world::{ORG, World, key, start};

/// Bytes of no packet, of a packet's kind, and of a right packet that lost, gained or changed something.
fn attack() -> impl Strategy<Value = (usize, Vec<u8>, u8, usize)> {
    (0..MESSAGES.len(), vec(any::<u8>(), 0..200), 0..6_u8, any::<usize>())
}

const MESSAGES: [&str; 9] =
    ["Syn", "SynAck", "Data", "DataAck", "Control", "Resume", "ResumeAck", "ResumeDone", "Refusal Grant"];

fn mangle(right: &[u8], random: &[u8], how: u8, at: usize) -> Vec<u8> {
    let at = at % right.len();
    match how {
        0 => random.to_vec(),
        1 => [&right[..1], random].concat(),
        2 => right[..at].to_vec(),
        3 => [right, random, &[0]].concat(),
        4 => [&right[..at], random].concat(),
        _ => {
            let mut bytes = right.to_vec();
            bytes[at] ^= 1 << (at % 8);
            bytes
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// PR-FUZZ-1 (T11, I8): no bytes make a decoder panic, and what decodes is what was there.
    #[test]
    fn decoders_take_any_bytes(bytes in vec(any::<u8>(), 0..400), kind in 1..10_u8) {
        for bytes in [bytes.clone(), [&[kind], bytes.as_slice()].concat()] {
            if let Ok(packet) = Packet::decode(&bytes) {
                prop_assert_eq!(packet.encode().unwrap(), bytes);
            }
        }
        if let Some(header) = Header::parse(&bytes) {
            prop_assert_eq!(&header.to_bytes()[..], &bytes[..21]);
        }
        for direction in [Direction::ToAgent, Direction::ToClient] {
            let signer = Signer { organization: ORG, direction };
            prop_assert!(signer.verify(&bytes, &key(1).public()).is_err());
        }
        let signed = wire::decode::<Signed<DirectoryEntry>>(&bytes, 4096);
        prop_assert!(signed.map_or(true, |entry| entry.open(&key(1).public(), ORG).is_err()));
        prop_assert!(wire::decode::<SignedGrant>(&bytes, 4096).is_err());
        if let Ok(request) = Request::decode(&bytes) {
            prop_assert_eq!(request.encode().unwrap(), bytes.clone());
        }
        for read in [wire::decode::<Fin>(&bytes, 64).is_ok(), wire::decode::<Notice>(&bytes, 64).is_ok()] {
            prop_assert!(!read || bytes.len() <= 8);
        }
        let provider = crate::idp::provider();
        let check = CertCheck {
            organization: ORG, provider: &provider, jwks: &Jwks::default(), max_age: DEFAULT_MAX_AGE,
            known_initial: None, not_older_than: None, now: start().wall,
        };
        prop_assert!(BzCert::verify(&bytes, &check).is_err());
        prop_assert_eq!(BzCert::claimed_issuer(&bytes), None);
        prop_assert!(Jwks::parse(&bytes).is_err());
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(Proof::parse(&text).is_err());
        prop_assert!(LocalPolicy::parse(&text).is_err());
        prop_assert!(TrustBundle::parse(&text).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// PR-FUZZ-1 (T11, H1): in every state, bytes that prove nothing leave the agent's machine as it was, or closed.
    #[test]
    fn an_agent_takes_any_bytes((message, random, how, at) in attack()) {
        for (name, reach, carrier) in AGENT {
            let mut stage = reach(AgentStage::new(&World::new()));
            let right = to_agent(&mut reach(AgentStage::new(&World::new())), MESSAGES[message]);
            let bytes = mangle(&right, &random, how, at);
            prop_assume!(bytes != right);
            let done = stage.say(carrier, &bytes);
            // A Syn is judged by the gate, and only there.
            let judged = done.events.iter().any(|e| matches!(e, bz_protocol::agent::Event::Judge(_)));
            let told = done.events.len() - usize::from(agent_end(&done).is_some()) - usize::from(judged);
            prop_assert_eq!(told, 0, "{}: {:?}", name, done);
            let ended = agent_end(&done).is_some() || name == "Closed";
            let follow = |stage: &mut AgentStage| {
                let next = to_agent(stage, "Data");
                let done = stage.say(if carrier == FIRST || name == "Open, aside" { FIRST } else { carrier }, &next);
                agent_word(&done)
            };
            let now = follow(&mut stage);
            if ended {
                prop_assert_eq!(now, "-", "{}: a closed machine acts", name);
            } else if !judged && done.closed.is_empty() {
                prop_assert_eq!(now, follow(&mut reach(AgentStage::new(&World::new()))), "{}", name);
            } else if name == "Open, aside" {
                prop_assert_eq!(now, "Bytes", "the session goes on");
            }
        }
    }

    /// PR-FUZZ-1 (T11, H1): and the client's.
    #[test]
    fn a_client_takes_any_bytes((message, random, how, at) in attack()) {
        for (name, reach, carrier) in CLIENT {
            let mut stage = reach(&World::new());
            let right = to_client(&mut reach(&World::new()), MESSAGES[message]);
            let bytes = mangle(&right, &random, how, at);
            prop_assume!(bytes != right);
            let done = stage.say(carrier, &bytes);
            prop_assert_eq!(done.events.len(), usize::from(client_end(&done).is_some()), "{}: {:?}", name, done);
            let ended = client_end(&done).is_some() || name == "Closed";
            let follow = |stage: &mut crate::stage::ClientStage, message: &str, carrier: CarrierId| {
                let next = to_client(stage, message);
                client_word(&stage.say(carrier, &next))
            };
            for message in ["SynAck", "DataAck"] {
                let now = follow(&mut stage, message, carrier);
                if ended {
                    prop_assert_eq!(now, "-", "{}: a closed machine acts", name);
                } else if message == "SynAck" && done.closed.is_empty() {
                    prop_assert_eq!(now, follow(&mut reach(&World::new()), message, carrier), "{}", name);
                }
            }
        }
    }
}
