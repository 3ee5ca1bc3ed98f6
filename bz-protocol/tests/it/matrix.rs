//! Every message in every state of both machines: one cell each, one word each.
//!
//! A word says what the machine did: `-` nothing, `!Rule` ended for a broken rule, `End(…)` ended otherwise, `>Packet`
//! answered, `close` closed the carrier and nothing else, any other word is the event it told. Acknowledgements and
//! frames of its own are left out.

use std::collections::BTreeSet;
use std::fmt::Debug;

use bz_core::digest::Digest;
use bz_core::signed::Signed;
use bz_protocol::agent;
use bz_protocol::client;
use bz_protocol::frame::Kind;
use bz_protocol::handshake::session_id;
use bz_protocol::packet::{Forgotten, Packet, Resume, ResumeAck, ResumeDone};
use bz_protocol::refusal::Code;
use bz_protocol::session::{CarrierId, End};
use expect_test::{Expect, expect};

use crate::peer::Peer;
use crate::stage::{AgentStage, ClientStage, Done, FIRST, SECOND, agent_end, client_end};
use crate::world::World;

/// The messages: each kind of packet, right for the state where it can be, and bytes that are none.
fn messages() -> Vec<String> {
    let named = ["Syn", "Syn other", "SynAck", "SynAck forged", "Data", "DataAck", "Control"];
    let rest = ["Resume", "Resume forged", "ResumeAck", "ResumeAck forged", "ResumeDone"];
    let last = ["Forgotten", "Forgotten forged", "Forgotten other", "Forgotten stale", "garbage", "empty"];
    let refusals = Code::ALL.map(|code| format!("Refusal {code:?}"));
    [
        named.map(str::to_owned).to_vec(),
        refusals.to_vec(),
        rest.map(str::to_owned).to_vec(),
        last.map(str::to_owned).to_vec(),
    ]
    .concat()
}

pub(crate) type AgentState = (&'static str, fn(AgentStage) -> AgentStage, CarrierId);

pub(crate) const AGENT: [AgentState; 8] = [
    ("ExpectSyn", |stage| stage, FIRST),
    ("Judging", AgentStage::judging, FIRST),
    ("Unconfirmed", AgentStage::unconfirmed, FIRST),
    ("Open", AgentStage::open, FIRST),
    (
        "Open, aside",
        |stage| {
            let mut stage = stage.open();
            stage.up(SECOND);
            stage
        },
        SECOND,
    ),
    ("Resuming", AgentStage::resuming, SECOND),
    ("Finished", AgentStage::finished, FIRST),
    ("Closed", AgentStage::closed, FIRST),
];

pub(crate) type ClientState = (&'static str, fn(&World) -> ClientStage, CarrierId);

pub(crate) const CLIENT: [ClientState; 6] = [
    ("SynSent", |world| ClientStage::sent(&World { certificate_known: true, ..world.clone() }), FIRST),
    ("SynSent, whole", ClientStage::sent, FIRST),
    ("Open", |world| ClientStage::sent(world).open(), FIRST),
    ("Resuming", |world| ClientStage::sent(world).resuming(), SECOND),
    ("Resuming, old", |world| ClientStage::sent(world).resuming(), FIRST),
    ("Closed", |world| ClientStage::sent(world).closed(), FIRST),
];

/// PR-MATRIX-1 (T11): the agent's machine.
#[test]
fn an_agent_answers_every_message_in_every_state() {
    let cell = |(_, reach, carrier): &AgentState, message: &str| {
        let mut stage = reach(AgentStage::new(&World::new()));
        let bytes = to_agent(&mut stage, message);
        let done = stage.say(*carrier, &bytes);
        agent_word(&done)
    };
    check(
        &AGENT.map(|s| s.0),
        |column, message| cell(&AGENT[column], message),
        &expect![[r#"
            message                    | ExpectSyn           | Judging             | Unconfirmed | Open       | Open, aside      | Resuming | Finished   | Closed
            Syn                        | Judge               | -                   | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Syn other                  | Judge               | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            SynAck                     | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            SynAck forged              | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Data                       | !OutOfTurn >Refusal | !OutOfTurn >Refusal | Confirmed   | Bytes      | -                | -        | -          | -
            DataAck                    | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Control                    | !OutOfTurn >Refusal | !OutOfTurn >Refusal | -           | -          | -                | -        | -          | -
            Refusal CertificateUnknown | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Refusal Malformed          | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Refusal Identity           | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Refusal Grant              | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Refusal LocalPolicy        | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Refusal User               | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Refusal Unavailable        | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Refusal Clock              | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Refusal Expired            | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Refusal Revoked            | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Resume                     | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | >ResumeAck close | close    | !OutOfTurn | -
            Resume forged              | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            ResumeAck                  | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            ResumeAck forged           | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            ResumeDone                 | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | Resumed  | !OutOfTurn | -
            Forgotten                  | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Forgotten forged           | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Forgotten other            | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            Forgotten stale            | !OutOfTurn >Refusal | !OutOfTurn >Refusal | !OutOfTurn  | !OutOfTurn | close            | close    | !OutOfTurn | -
            garbage                    | !Malformed >Refusal | !OutOfTurn >Refusal | !Malformed  | !Malformed | close            | close    | !Malformed | -
            empty                      | !Malformed >Refusal | !OutOfTurn >Refusal | !Malformed  | !Malformed | close            | close    | !Malformed | -
        "#]],
    );
}

/// PR-MATRIX-2, PR-RESUME-6 (T11): the client's machine.
#[test]
fn a_client_answers_every_message_in_every_state() {
    let cell = |(_, reach, carrier): &ClientState, message: &str| {
        let mut stage = reach(&World::new());
        let bytes = to_client(&mut stage, message);
        let done = stage.say(*carrier, &bytes);
        client_word(&done)
    };
    check(
        &CLIENT.map(|s| s.0),
        |column, message| cell(&CLIENT[column], message),
        &expect![[r#"
            message                    | SynSent                    | SynSent, whole                    | Open       | Resuming            | Resuming, old | Closed
            Syn                        | !OutOfTurn                 | !OutOfTurn                        | !OutOfTurn | close               | -             | -
            Syn other                  | !OutOfTurn                 | !OutOfTurn                        | !OutOfTurn | close               | -             | -
            SynAck                     | Opened                     | Opened                            | !OutOfTurn | close               | -             | -
            SynAck forged              | !OtherAgent                | !OtherAgent                       | !OutOfTurn | close               | -             | -
            Data                       | !OutOfTurn                 | !OutOfTurn                        | !OutOfTurn | close               | -             | -
            DataAck                    | !OutOfTurn                 | !OutOfTurn                        | Bytes      | close               | -             | -
            Control                    | !OutOfTurn                 | !OutOfTurn                        | -          | close               | -             | -
            Refusal CertificateUnknown | >Syn                       | End(Reported(CertificateUnknown)) | !OutOfTurn | close               | -             | -
            Refusal Malformed          | End(Reported(Malformed))   | End(Reported(Malformed))          | !OutOfTurn | close               | -             | -
            Refusal Identity           | End(Reported(Identity))    | End(Reported(Identity))           | !OutOfTurn | close               | -             | -
            Refusal Grant              | End(Reported(Grant))       | End(Reported(Grant))              | !OutOfTurn | close               | -             | -
            Refusal LocalPolicy        | End(Reported(LocalPolicy)) | End(Reported(LocalPolicy))        | !OutOfTurn | close               | -             | -
            Refusal User               | End(Reported(User))        | End(Reported(User))               | !OutOfTurn | close               | -             | -
            Refusal Unavailable        | End(Reported(Unavailable)) | End(Reported(Unavailable))        | !OutOfTurn | close               | -             | -
            Refusal Clock              | End(Reported(Clock))       | End(Reported(Clock))              | !OutOfTurn | close               | -             | -
            Refusal Expired            | End(Reported(Expired))     | End(Reported(Expired))            | !OutOfTurn | close               | -             | -
            Refusal Revoked            | End(Reported(Revoked))     | End(Reported(Revoked))            | !OutOfTurn | close               | -             | -
            Resume                     | !OutOfTurn                 | !OutOfTurn                        | !OutOfTurn | close               | -             | -
            Resume forged              | !OutOfTurn                 | !OutOfTurn                        | !OutOfTurn | close               | -             | -
            ResumeAck                  | !OutOfTurn                 | !OutOfTurn                        | !OutOfTurn | Resumed >ResumeDone | -             | -
            ResumeAck forged           | !OutOfTurn                 | !OutOfTurn                        | !OutOfTurn | close               | -             | -
            ResumeDone                 | !OutOfTurn                 | !OutOfTurn                        | !OutOfTurn | close               | -             | -
            Forgotten                  | !OutOfTurn                 | !OutOfTurn                        | !OutOfTurn | End(Forgotten)      | -             | -
            Forgotten forged           | !OutOfTurn                 | !OutOfTurn                        | !OutOfTurn | close               | -             | -
            Forgotten other            | !OutOfTurn                 | !OutOfTurn                        | !OutOfTurn | close               | -             | -
            Forgotten stale            | !OutOfTurn                 | !OutOfTurn                        | !OutOfTurn | close               | -             | -
            garbage                    | !Malformed                 | !Malformed                        | !Malformed | close               | -             | -
            empty                      | !Malformed                 | !Malformed                        | !Malformed | close               | -             | -
        "#]],
    );
}

/// The rows name every kind of packet there is.
#[test]
fn no_packet_is_missing() {
    let mut stage = AgentStage::new(&World::new()).open();
    let packets: Vec<_> = messages().iter().map(|message| to_agent(&mut stage, message)).collect();
    let named: BTreeSet<u8> = packets.iter().filter_map(|p| p.first().copied()).filter(|kind| *kind != 0xff).collect();
    // A kind decodes when it does so with some packet's body.
    let with = |kind: u8, packet: &[u8]| Packet::decode(&[&[kind], packet.get(1..).unwrap_or_default()].concat());
    let known: BTreeSet<u8> = (0..=255).filter(|kind| packets.iter().any(|p| with(*kind, p).is_ok())).collect();
    assert_eq!(named, known, "kinds of packets in the table, and kinds that decode");
}

fn check(states: &[&str], cell: impl Fn(usize, &str) -> String, want: &Expect) {
    let mut rows = vec![[&["message"], states].concat().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()];
    for message in messages() {
        let cells = (0..states.len()).map(|column| cell(column, &message));
        rows.push(std::iter::once(message.clone()).chain(cells).collect());
    }
    let widths: Vec<_> = (0..=states.len()).map(|at| rows.iter().map(|row| row[at].len()).max().unwrap()).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join(" | ").trim_end())
    };
    want.assert_eq(&rows.iter().map(line).collect::<String>());
}

/// What an agent did, in a word.
pub(crate) fn agent_word(done: &Done<agent::Event>) -> String {
    word(done, agent_end(done), |event| match event {
        agent::Event::Ended(_) => None,
        other => Some(name(other)),
    })
}

/// What a client did, in a word.
pub(crate) fn client_word(done: &Done<client::Event>) -> String {
    word(done, client_end(done), |event| match event {
        client::Event::Ended(_) => None,
        other => Some(name(other)),
    })
}

fn word<E: Debug>(done: &Done<E>, end: Option<End>, event: impl Fn(&E) -> Option<String>) -> String {
    let mut words: Vec<String> = done.events.iter().filter_map(event).collect();
    words.extend(end.map(|end| match end {
        End::Misbehavior(rule) => format!("!{rule:?}"),
        other => format!("End({other:?})"),
    }));
    words.extend(done.packets.iter().filter_map(|(_, packet)| match Packet::decode(packet) {
        Ok(Packet::Data(_) | Packet::DataAck(_) | Packet::Control(_)) => None,
        Ok(packet) => Some(format!(">{}", packet.name())),
        Err(error) => Some(format!(">{error}")),
    }));
    words.extend(done.closed.iter().map(|_| "close".to_owned()));
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

fn name(event: &impl Debug) -> String {
    format!("{event:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

const RESUME: Resume =
    Resume { session: Digest::from_bytes([0; 32]), epoch: 9, random: [0; 32], position: 0, proof: [0; 32] };
const ACK: ResumeAck = ResumeAck { epoch: 1, random: [0; 32], position: 0, proof: [0; 32] };

pub(crate) fn to_agent(stage: &mut AgentStage, message: &str) -> Vec<u8> {
    let world = stage.world.clone();
    let answer = world.answer(&stage.syn.syn);
    // Before there are keys, frames of some other session stand for the client's.
    let mut stranger = Peer::client(&world, &stage.syn.syn, &answer);
    let (pending, syn) = (stage.resume, stage.syn.clone());
    let peer = stage.peer.as_mut().unwrap_or(&mut stranger);
    let packet = match message {
        "Syn" => Packet::Syn(Box::new(syn)),
        "Syn other" => Packet::Syn(Box::new(World { user: Some("bob"), ..world }.syn())),
        "SynAck" => Packet::SynAck(Box::new(answer)),
        "SynAck forged" => {
            Packet::SynAck(Box::new(World { agent_key: crate::world::key(99), ..world }.answer(&syn.syn)))
        }
        "Data" if peer.number == 0 => return peer.checkpoint(),
        "Data" => return peer.data(Kind::Bytes, 0, b"id"),
        "DataAck" => return Peer::agent(&world, &syn.syn, &stage.ack.clone().unwrap_or(answer)).checkpoint(),
        "Control" => return peer.control(0, 0, &[]),
        "Resume" => Packet::Resume(peer.resume(2, [61; 32])),
        "Resume forged" => Packet::Resume(RESUME),
        "ResumeAck" => Packet::ResumeAck(pending.map_or(ACK, |(_, ack)| ack)),
        "ResumeAck forged" => Packet::ResumeAck(ACK),
        "ResumeDone" => {
            let (resume, ack) = pending.unwrap_or((RESUME, ACK));
            Packet::ResumeDone(peer.resume_done(&resume, &ack))
        }
        message if message.starts_with("Forgotten") => forgotten(message, &world, Digest::of(b"any"), [0; 32]),
        other => return odd(other),
    };
    packet.encode().unwrap()
}

/// An agent's word that it does not know a session: by somebody else, of another session, for another resumption.
fn forgotten(message: &str, world: &World, session: Digest, random: [u8; 32]) -> Packet {
    let key = if message == "Forgotten forged" { crate::world::key(99) } else { world.agent_key.clone() };
    let session = if message == "Forgotten other" { Digest::of(b"another") } else { session };
    let random = if message == "Forgotten stale" { [99; 32] } else { random };
    Packet::Forgotten(Box::new(Signed::seal(&Forgotten { session, random }, crate::world::ORG, &key).unwrap()))
}

pub(crate) fn to_client(stage: &mut ClientStage, message: &str) -> Vec<u8> {
    let world = stage.world.clone();
    let (syn, ack) = (stage.syn.clone(), stage.ack.clone());
    let mut forged = World { agent_key: crate::world::key(99), ..world.clone() };
    forged.agent_key = crate::world::key(99);
    let resume = stage.resume.unwrap_or(RESUME);
    let packet = match message {
        "Syn" => Packet::Syn(Box::new(world.syn())),
        "Syn other" => Packet::Syn(Box::new(World { user: Some("bob"), ..world }.syn())),
        "SynAck" => Packet::SynAck(Box::new(ack)),
        "SynAck forged" => Packet::SynAck(Box::new(forged.answer(&syn))),
        "Data" => return Peer::client(&world, &syn, &ack).checkpoint(),
        "DataAck" => return stage.peer.data(Kind::Bytes, 0, b"root"),
        "Control" => return stage.peer.control(0, 0, &[]),
        "Resume" => Packet::Resume(resume),
        "Resume forged" => Packet::Resume(RESUME),
        "ResumeAck" => Packet::ResumeAck(stage.peer.resume_ack(&resume, [52; 32])),
        "ResumeAck forged" => Packet::ResumeAck(ACK),
        "ResumeDone" => Packet::ResumeDone(ResumeDone { epoch: 1, proof: [0; 32] }),
        message if message.starts_with("Forgotten") => {
            forgotten(message, &world, session_id(&syn, &ack), resume.random)
        }
        other => return odd(other),
    };
    packet.encode().unwrap()
}

fn odd(message: &str) -> Vec<u8> {
    match message {
        "garbage" => vec![0xff; 64],
        "empty" => vec![],
        refusal => {
            let code = Code::ALL.into_iter().find(|code| refusal == format!("Refusal {code:?}")).expect("a message");
            Packet::Refusal(code).encode().unwrap()
        }
    }
}
