//! Golden vectors: `tests/vectors/*.json`, for implementations in other languages and against changes by accident.
//!
//! Each test makes everything anew from fixed seeds and compares with the file, byte for byte; then it reads the file's
//! own hex, decodes, verifies and seals it again. `UPDATE_EXPECT=1` writes the files.

use std::fmt::Debug;
use std::time::Duration;

use bz_core::access::Mode;
use bz_core::access::request::Parameters;
use bz_core::api::Bytes;
use bz_core::api::proof::{Call, Proof};
use bz_core::api::register::RegisterAgent;
use bz_core::cert::{BzCert, CertCheck, CertRequest, DEFAULT_MAX_AGE};
use bz_core::digest::Digest;
use bz_core::id::LoginId;
use bz_core::key::{EphemeralKey, PrivateKey};
use bz_core::signed::{Object, Signed};
use bz_core::time::{Now, UnixTime};
use bz_core::trust::{DirectoryEntry, TrustBundle};
use bz_core::wire;
use bz_protocol::agent::{self, Agent};
use bz_protocol::checkpoint::{AgentCheckpoint, ClientCheckpoint, Statement};
use bz_protocol::client::{self, Client};
use bz_protocol::frame::{Fin, HEADER_BYTES, Header, Kind};
use bz_protocol::handshake::{Attached, Fact, Predecessor, Syn, SynAck, session_id};
use bz_protocol::packet::{Forgotten, Packet, Resume, ResumeAck, ResumeDone};
use bz_protocol::refusal::Code;
use bz_protocol::segment::SegmentOpening;
use bz_protocol::session::{CarrierId, Input};
use bz_protocol::stream::{Answer, Report, StreamRequest};
use expect_test::{ExpectFile, expect_file};
use serde_json::{Value, json};

use crate::peer::Peer;
use crate::stage::{Done, FIRST, SECOND, drain};
use crate::world::{AGENT_SEED, CLIENT_SEED, CONNECTION, ORG, START, TARGET, World, key, start};

/// Compares with the file, and gives what the file says.
fn golden(file: &ExpectFile, value: &Value) -> Value {
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    file.assert_eq(&text);
    serde_json::from_str(&text).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("hex")).expect("hex")
}

fn statement() -> Statement {
    Statement {
        session: Digest::of(b"session"),
        number: 5,
        head: Digest::of(b"head"),
        peer_number: 3,
        peer_head: Digest::of(b"peer head"),
        bytes: 4711,
        time: UnixTime::from_secs(START),
    }
}

fn entry() -> DirectoryEntry {
    DirectoryEntry {
        target: TARGET,
        name: "web-1".to_owned(),
        agent_key: key(13).public(),
        address: "10.0.0.1:22".to_owned(),
        serial: 7,
        expires_at: UnixTime::from_secs(START + 86400),
    }
}

fn attached_answer(world: &World) -> SynAck {
    let predecessor =
        Predecessor { session: Digest::of(b"a"), to_agent: Digest::of(b"b"), to_client: Digest::of(b"c") };
    SynAck {
        attached: Some(Attached { shell: bz_core::id::ShellId::from_bytes([6; 16]), predecessor: Some(predecessor) }),
        facts: vec![Fact { name: "host key".to_owned(), value: vec![1, 2, 3] }],
        ..world.answer_body(&world.syn().syn)
    }
}

const FORGOTTEN: Forgotten = Forgotten { session: Digest::from_bytes([7; 32]), random: [8; 32] };

fn segment() -> SegmentOpening {
    SegmentOpening {
        connection: CONNECTION,
        shell: bz_core::id::ShellId::from_bytes([6; 16]),
        held: Digest::of(b"held"),
        predecessor: None,
        offset: 4711,
        lost: 0,
        time: UnixTime::from_secs(START),
        random: [9; 32],
    }
}

fn report() -> Report {
    Report {
        session: Digest::of(b"session"),
        stream: 16,
        request: StreamRequest::Dial("db.internal:5432".parse().unwrap()),
        answer: Answer::Opened { at: "10.0.0.1:5432".to_owned() },
        time: UnixTime::from_secs(START),
    }
}

fn tunnel() -> World {
    let rules = ["db.internal:5432", "*.internal:443", "10.0.0.0/8:*", "[fd00::/8]:1-1024"];
    let destinations = rules.map(|rule| rule.parse().unwrap()).to_vec();
    World { mode: Mode::Sealed, user: None, parameters: Parameters::Tunnel { destinations }, ..World::new() }
}

fn object<T: Object + Debug>(name: &str, body: &T, seed: u8) -> Value {
    let signed = Signed::seal(body, ORG, &key(seed)).unwrap();
    json!({
        "name": name,
        "label": T::LABEL.as_str(),
        "seed": hex::encode([seed; 32]),
        "public": key(seed).public().to_string(),
        "signed": hex::encode(signed.bytes()),
        "signature": hex::encode(signed.signature().as_bytes()),
        "wire": hex::encode(wire::encode(&signed, 1 << 20).unwrap()),
        "digest": signed.digest().to_string(),
        "decoded": format!("{body:?}"),
    })
}

/// Opens the object that the file holds, and seals it again.
fn reseal<T: Object + Debug>(all: &Value, name: &str) {
    let value = all.as_array().unwrap().iter().find(|v| v["name"] == name).expect(name);
    let seed: [u8; 32] = bytes(&value["seed"]).try_into().unwrap();
    let key = PrivateKey::from_seed(&seed).unwrap();
    let signed: Signed<T> = wire::decode(&bytes(&value["wire"]), T::LIMIT + 128).unwrap();
    let body = signed.open(&value["public"].as_str().unwrap().parse().unwrap(), ORG).unwrap();
    assert_eq!(format!("{body:?}"), value["decoded"].as_str().unwrap(), "{name}");
    let again = Signed::seal(&body, ORG, &key).unwrap();
    assert_eq!(hex::encode(wire::encode(&again, 1 << 20).unwrap()), value["wire"].as_str().unwrap(), "{name}");
    assert_eq!(again.digest().to_string(), value["digest"].as_str().unwrap(), "{name}");
}

/// PR-VECTOR-1 (H7): every signed object.
#[test]
fn signed_objects() {
    let world = World::new();
    let syn = world.syn().syn.open(&world.client_key.public(), ORG).unwrap();
    let all = golden(
        &expect_file!["../vectors/objects.json"],
        &json!([
            object("ServerCert", &world.server_cert(), 10),
            object("Grant", &world.grant_body(), 11),
            object("DirectoryEntry", &entry(), 14),
            object("Syn", &syn, 12),
            object("SynAck", &world.answer_body(&world.syn().syn), 13),
            object("SynAck of an attach", &attached_answer(&world), 13),
            object("ClientCheckpoint", &ClientCheckpoint(statement()), 12),
            object("AgentCheckpoint", &AgentCheckpoint(statement()), 13),
            object("SegmentOpening", &segment(), 13),
            object("Forgotten", &FORGOTTEN, 13),
            object("Report", &report(), 13),
            object("Grant of a tunnel", &tunnel().grant_body(), 11),
        ]),
    );
    reseal::<bz_core::grant::ServerCert>(&all, "ServerCert");
    reseal::<bz_core::grant::GrantBody>(&all, "Grant");
    reseal::<DirectoryEntry>(&all, "DirectoryEntry");
    reseal::<Syn>(&all, "Syn");
    reseal::<SegmentOpening>(&all, "SegmentOpening");
    reseal::<Forgotten>(&all, "Forgotten");
    reseal::<Report>(&all, "Report");
    reseal::<bz_core::grant::GrantBody>(&all, "Grant of a tunnel");
    reseal::<SynAck>(&all, "SynAck");
    reseal::<SynAck>(&all, "SynAck of an attach");
    reseal::<ClientCheckpoint>(&all, "ClientCheckpoint");
    reseal::<AgentCheckpoint>(&all, "AgentCheckpoint");
}

/// PR-VECTOR-2: what is proved outside of sessions: certificate, bundle, registration, REST call.
#[test]
fn proofs() {
    let world = World::new();
    let request = CertRequest::new(ORG, &world.client_key, [7; 32]);
    let certificate = world.certificate(60);
    let mut registration = registration();
    registration.prove(&key(13), &key(15));
    let call = Call { method: "POST", target: "/api/v2/connections?x=1", body: b"{\"a\":1}" };
    let login = LoginId::from_bytes([8; 16]);
    let proof = Proof::sign(login, &call, UnixTime::from_secs(START), [9; 16], &world.client_key);
    let bundle = TrustBundle { directory_key: Some(key(14).public()), ..world.bundle() };
    let all = golden(
        &expect_file!["../vectors/proofs.json"],
        &json!({
            "certificate": {
                "organization": ORG.to_string(),
                "clientKeySeed": hex::encode([12; 32]),
                "random": hex::encode([7; 32]),
                "proof": hex::encode(request.parts().1.as_bytes()),
                "commitment": request.commitment(),
                "audience": request.audience(),
                "jwks": World::jwks().to_json(),
                "bytes": hex::encode(&certificate),
                "digest": Digest::of(&certificate).to_string(),
            },
            "bundle": { "text": bundle.to_text().unwrap(), "fingerprint": bundle.fingerprint().unwrap().to_string() },
            "registration": {
                "identitySeed": hex::encode([13; 32]),
                "controlSeed": hex::encode([15; 32]),
                "body": registration,
            },
            "call": {
                "clientKeySeed": hex::encode([12; 32]),
                "method": call.method,
                "target": call.target,
                "body": hex::encode(call.body),
                "header": proof.to_header(),
            },
        }),
    );
    let certificate = bytes(&all["certificate"]["bytes"]);
    let check = CertCheck {
        organization: ORG,
        provider: &world.bundle().providers[0],
        jwks: &bz_core::oidc::jwks::Jwks::parse(all["certificate"]["jwks"].as_str().unwrap().as_bytes()).unwrap(),
        max_age: DEFAULT_MAX_AGE,
        known_initial: None,
        not_older_than: None,
        now: UnixTime::from_secs(START + 60),
    };
    let verified = BzCert::verify(&certificate, &check).unwrap();
    assert_eq!(verified.client_key(), world.client_key.public());
    assert_eq!(verified.digest().to_string(), all["certificate"]["digest"].as_str().unwrap());
    assert_eq!(TrustBundle::parse(all["bundle"]["text"].as_str().unwrap()), Ok(bundle));
    let read: RegisterAgent = serde_json::from_value(all["registration"]["body"].clone()).unwrap();
    assert_eq!((read.check(), &read), (Ok(()), &registration));
    let read = Proof::parse(all["call"]["header"].as_str().unwrap()).unwrap();
    assert_eq!(read.verify(&call, &world.client_key.public()), Ok(()));
}

fn registration() -> RegisterAgent {
    RegisterAgent {
        public_key: key(13).public(),
        control_key: key(15).public(),
        identity_proof: Bytes(vec![]),
        control_proof: Bytes(vec![]),
        organization_id: ORG,
        time: UnixTime::from_secs(START),
        version: "0.1.0".to_owned(),
        target_name: "web-1".to_owned(),
        target_host_name: "web-1.example.com".to_owned(),
        environment_name: Some("production".to_owned()),
        local_policy: true,
        target_id: None,
        labels: Default::default(),
    }
}

/// PR-VECTOR-3: every kind of packet, in the smallest form that shows its layout.
#[test]
fn packets() {
    let world = World::new();
    let syn = world.syn();
    let bare = bz_protocol::packet::SynPacket { certificate: None, ..syn.clone() };
    let resume = Resume { session: Digest::of(b"s"), epoch: 2, random: [1; 32], position: 3, proof: [2; 32] };
    let named = [
        ("Syn with its certificate", Packet::Syn(Box::new(syn.clone()))),
        ("Syn", Packet::Syn(Box::new(bare))),
        ("SynAck", Packet::SynAck(Box::new(world.answer(&syn.syn)))),
        ("Data", Packet::Data(vec![1, 2, 3])),
        ("DataAck", Packet::DataAck(vec![1, 2, 3])),
        ("Control", Packet::Control(vec![1, 2, 3])),
        ("Resume", Packet::Resume(resume)),
        ("ResumeAck", Packet::ResumeAck(ResumeAck { epoch: 2, random: [3; 32], position: 4, proof: [5; 32] })),
        ("ResumeDone", Packet::ResumeDone(ResumeDone { epoch: 2, proof: [6; 32] })),
        ("Forgotten", Packet::Forgotten(Box::new(Signed::seal(&FORGOTTEN, ORG, &world.agent_key).unwrap()))),
    ];
    let refusals = Code::ALL.map(|code| ("Refusal", Packet::Refusal(code)));
    let rows: Vec<_> = named
        .iter()
        .chain(&refusals)
        .map(|(name, packet)| {
            json!({ "name": name, "wire": hex::encode(packet.encode().unwrap()), "decoded": format!("{packet:?}") })
        })
        .collect();
    let all = golden(&expect_file!["../vectors/packets.json"], &json!(rows));
    for value in all.as_array().unwrap() {
        let packet = Packet::decode(&bytes(&value["wire"])).unwrap();
        assert!(value["name"].as_str().unwrap().starts_with(packet.name()), "{value}");
        assert_eq!(format!("{packet:?}"), value["decoded"].as_str().unwrap());
        assert_eq!(packet.encode().unwrap(), bytes(&value["wire"]));
    }
}

/// PR-VECTOR-4: one whole session of each mode, as both machines speak it, and as another implementation does.
#[test]
fn sessions() {
    for (mode, file) in [
        (Mode::Inspected, expect_file!["../vectors/inspected.json"]),
        (Mode::Sealed, expect_file!["../vectors/sealed.json"]),
    ] {
        let mut world = World::new();
        world.mode = mode;
        let spoken = speak(&world);
        let (syn, ack) = handshake(&spoken);
        let agent_ephemeral = ack.open(&world.agent_key.public(), ORG).unwrap().ephemeral;
        let shared = EphemeralKey::from_seed(&CLIENT_SEED).unwrap().agree(&agent_ephemeral);
        let all = golden(
            &file,
            &json!({
                "mode": mode.to_string(),
                "clientKeySeed": hex::encode([12; 32]),
                "agentKeySeed": hex::encode([13; 32]),
                "clientPublic": world.client_key.public().to_string(),
                "agentPublic": world.agent_key.public().to_string(),
                "clientEphemeralSeed": hex::encode(CLIENT_SEED),
                "agentEphemeralSeed": hex::encode(AGENT_SEED),
                "shared": hex::encode(*shared),
                "session": session_id(&syn, &ack).to_string(),
                "packets": spoken.iter().map(|(from, packet)| row(from, packet)).collect::<Vec<_>>(),
            }),
        );
        let file: Vec<_> = all["packets"].as_array().unwrap().iter().map(|p| bytes(&p["wire"])).collect();
        assert_eq!(file, spoken.iter().map(|(_, packet)| packet.clone()).collect::<Vec<_>>());
        retell(&world, &file);
    }
}

fn row(from: &str, packet: &[u8]) -> Value {
    let decoded = Packet::decode(packet).unwrap();
    let header = match &decoded {
        Packet::Data(frame) | Packet::DataAck(frame) => Header::parse(frame).map(|header| format!("{header:?}")),
        _ => None,
    };
    json!({ "from": from, "packet": decoded.name(), "header": header, "wire": hex::encode(packet) })
}

fn handshake(spoken: &[(&str, Vec<u8>)]) -> (Signed<Syn>, Signed<SynAck>) {
    let mut packets = spoken.iter().map(|(_, packet)| Packet::decode(packet).unwrap());
    match (packets.next(), packets.next()) {
        (Some(Packet::Syn(syn)), Some(Packet::SynAck(ack))) => (syn.syn, *ack),
        other => panic!("no handshake: {other:?}"),
    }
}

/// Both machines speak: opening, a line each way, acknowledgement, a second carrier, both ends.
fn speak(world: &World) -> Vec<(&'static str, Vec<u8>)> {
    let mut now = start();
    let mut client = Client::new(world.opening(), now).unwrap();
    let mut agent = Agent::new(world.agent(), now);
    let mut gate = world.gate();
    let mut spoken = vec![];
    let connect = |client: &mut Client, agent: &mut Agent, carrier: CarrierId, now: Now| {
        agent.handle(now, Input::CarrierUp { carrier, random: [41; 32] });
        client.handle(now, Input::CarrierUp { carrier, random: [42; 32] });
    };
    connect(&mut client, &mut agent, FIRST, now);
    let mut exchange = |client: &mut Client, agent: &mut Agent, now: Now| {
        loop {
            let to_agent: Done<client::Event> = drain(|| client.poll(now));
            for (carrier, bytes) in &to_agent.packets {
                spoken.push(("client", bytes.clone()));
                agent.handle(now, Input::Packet { carrier: *carrier, bytes });
            }
            let mut to_client: Done<agent::Event> = drain(|| agent.poll(now));
            if let Some(agent::Event::Judge(opening)) = to_client.events.first() {
                let admission = Box::new(gate.admit(opening, Some(&World::jwks()), now).unwrap());
                agent.act(now, agent::Action::Admit { admission, attached: None, facts: vec![] }).unwrap();
                to_client = drain(|| agent.poll(now));
            }
            for (carrier, bytes) in &to_client.packets {
                spoken.push(("agent", bytes.clone()));
                client.handle(now, Input::Packet { carrier: *carrier, bytes });
            }
            if to_agent.packets.is_empty() && to_client.packets.is_empty() {
                return;
            }
        }
    };
    exchange(&mut client, &mut agent, now);
    client.act(now, client::Action::Bytes { stream: 0, bytes: b"echo hi\n".to_vec() }).unwrap();
    exchange(&mut client, &mut agent, now);
    agent.act(now, agent::Action::Bytes { stream: 0, bytes: b"hi\r\n".to_vec() }).unwrap();
    exchange(&mut client, &mut agent, now);
    now = now.after(Duration::from_secs(2));
    client.handle(now, Input::Tick);
    agent.handle(now, Input::Tick);
    exchange(&mut client, &mut agent, now);
    connect(&mut client, &mut agent, SECOND, now);
    exchange(&mut client, &mut agent, now);
    client.act(now, client::Action::Finish(Fin::Closed)).unwrap();
    exchange(&mut client, &mut agent, now);
    agent.act(now, agent::Action::Finish(Fin::Exited(0))).unwrap();
    exchange(&mut client, &mut agent, now);
    spoken
}

/// The session as [`Peer`] would have said it: the first frames of both ends, and what each saw of the other.
fn retell(world: &World, packets: &[Vec<u8>]) {
    let spoken: Vec<_> = packets.iter().map(|p| ("", p.clone())).collect();
    let (syn, ack) = handshake(&spoken);
    let (mut client, mut agent) = (Peer::client(world, &syn, &ack), Peer::agent(world, &syn, &ack));
    assert_eq!(agent.checkpoint(), packets[2]);
    assert_eq!(client.checkpoint(), packets[3], "sealed with the answer, before the agent's first frame");
    client.saw(&packets[2]);
    agent.saw(&packets[3]);
    assert_eq!(client.data(Kind::Bytes, 0, b"echo hi\n"), packets[4]);
    agent.saw(&packets[4]);
    assert_eq!(agent.data(Kind::Bytes, 0, b"hi\r\n"), packets[5]);
    client.saw(&packets[5]);
    assert_eq!(client.chain.head(), agent.seen_chain.head());
    assert_eq!(agent.chain.head(), client.seen_chain.head());
    let control = packets.iter().find(|p| p[0] == 5).expect("an acknowledgement");
    assert_eq!(&client.control(2, 1 << 20, &[(0, 256 << 10)]), control);
    let header = Header { number: 1, peer: 1, kind: Some(Kind::Bytes), stream: 0 }.to_bytes();
    assert_eq!((header.len(), world.mode == Mode::Sealed || packets[4][1..22] == header), (HEADER_BYTES, true));
}
