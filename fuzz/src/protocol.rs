//! What is fuzzed of the two lower floors: each target is a function of bytes that panics when something is wrong. The
//! fuzzer and `cargo test`, which replays the corpora, call the same ones.

use bz_core::access::request::Request;
use bz_core::cert::{BzCert, CertCheck, DEFAULT_MAX_AGE};
use bz_core::grant::{Grant, Pins, SignedGrant};
use bz_core::local::LocalPolicy;
use bz_core::oidc::jwks::Jwks;
use bz_core::trust::TrustBundle;
use bz_core::wire;
use bz_protocol::control::{self, FromServer, Preamble, ToServer};
use bz_protocol::frame::Header;
use bz_protocol::packet::Packet;
use bz_protocol::segment::{FromAgent, FromServer as Segment};
use bz_protocol::stream::Report;
use bz_protocol::transcript::{Anchors, Frame, JwksArchive, explain, redact, verify, withhold};
use bz_protocol::{copy, ssh};

use crate::idp::provider;
use crate::world::{ORG, World, key, start};

/// A target's name, as its corpus and its program are called.
pub(crate) type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: &[Target] = &[
    ("frames", frames),
    ("messages", messages),
    ("agent", crate::machines::agent),
    ("client", crate::machines::client),
    ("certificate", certificate),
    ("grant", grant),
    ("transcript", transcript),
    ("control", control),
    ("streams", streams),
    ("trust", trust),
    ("entry_ws", entry_ws),
    ("entry_quic", entry_quic),
];

/// Headers, and what is kept of frames.
pub(crate) fn frames(bytes: &[u8]) {
    if let Some(header) = Header::parse(bytes) {
        assert_eq!(header.to_bytes(), bytes[..21], "a header has one form");
    }
    for frame in [Frame::of_packet(bytes), Frame::of_segment(bytes)].into_iter().flatten() {
        assert_eq!(frame.commitment(), frame.withheld().commitment(), "what is withheld commits to the same");
    }
    if let Ok(report) = Report::decode(bytes) {
        assert_eq!(Report::encode(&report).unwrap(), bytes);
    }
}

/// Packets, requests, and what is said on segments: one value has one encoding.
pub(crate) fn messages(bytes: &[u8]) {
    if let Ok(packet) = Packet::decode(bytes) {
        assert_eq!(packet.encode().unwrap(), bytes);
    }
    if let Ok(request) = Request::decode(bytes) {
        assert_eq!(request.encode().unwrap(), bytes);
    }
    if let Ok(said) = FromAgent::decode(bytes) {
        assert_eq!(said.encode().unwrap(), bytes);
    }
    if let Ok(said) = wire::decode::<Segment>(bytes, 64) {
        assert_eq!(wire::encode(&said, 64).unwrap(), bytes);
    }
}

/// Bytes as they are, or, after a 1, changes of something right: pairs of an offset as u16 and what is xored there.
fn of(bytes: &[u8], right: &[u8]) -> Vec<u8> {
    let Some((1, changes)) = bytes.split_first().map(|(first, rest)| (*first, rest)) else { return bytes.to_vec() };
    let mut all = right.to_vec();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
        if let Some(byte) = all.get_mut(at) {
            *byte ^= change[2];
        }
    }
    all
}

/// A certificate: the right one verifies, and no change of it does.
pub(crate) fn certificate(bytes: &[u8]) {
    let changes = bytes.first() == Some(&1);
    let (provider, keys, world) = (provider(), World::jwks(), World::new());
    let right = world.certificate(0);
    let bytes = of(bytes, &right);
    let check = CertCheck {
        organization: ORG,
        provider: &provider,
        jwks: &keys,
        max_age: DEFAULT_MAX_AGE,
        known_initial: None,
        not_older_than: None,
        now: start().wall,
    };
    let verified = BzCert::verify(&bytes, &check).is_ok();
    assert!(if changes { verified == (bytes == right) } else { verified || bytes != right }, "exactly the right one");
    let claims = (BzCert::claimed_issuer(&bytes), BzCert::claimed_commitment(&bytes), BzCert::claimed_end(&bytes));
    let more = (BzCert::claimed_provider(&bytes, "alice"), BzCert::signed_by(&bytes, &keys));
    let rest = (Jwks::parse(&bytes), world.bundle().provider_of(&bytes).is_some());
    drop((claims, more, rest));
}

/// A grant: the right one verifies, and no change of it does.
pub(crate) fn grant(bytes: &[u8]) {
    let changes = bytes.first() == Some(&1);
    let world = World::new();
    let right = world.opening().grant;
    let bytes = of(bytes, &right);
    let roots = [world.root.public()];
    let pins = Pins { organization: ORG, roots: &roots, now: start().wall };
    let verified = wire::decode::<SignedGrant>(&bytes, bz_core::grant::MAX_GRANT)
        .is_ok_and(|signed| Grant::verify(&signed, &pins).is_ok());
    assert!(if changes { verified == (bytes == right) } else { verified || bytes != right }, "exactly the right one");
}

/// A transcript: whatever is accepted can be listed, thinned out, and is accepted after it.
pub(crate) fn transcript(bytes: &[u8]) {
    let world = World::new();
    let frozen: serde_json::Value =
        serde_json::from_str(include_str!("../../bz-protocol/tests/vectors/transcripts.json")).unwrap();
    let files = frozen["transcripts"].as_array().unwrap();
    let which = usize::from(bytes.last().copied().unwrap_or_default()) % files.len();
    let right = hex::decode(files[which]["file"].as_str().unwrap()).unwrap();
    let bytes = of(bytes, &right);
    let mut bundle = world.bundle();
    bundle.directory_key = Some(key(50).public());
    let archive = JwksArchive::parse(frozen["keys"].as_str().unwrap()).unwrap();
    let anchors = Anchors::Bundle(&bundle, &archive);
    let (thin, listed) = (withhold(&bytes), explain(&bytes));
    let alone = verify(&bytes, &Anchors::FromTranscript).is_ok();
    if let Ok(verdict) = verify(&bytes, &anchors) {
        assert!(listed.is_ok() || !alone, "what is accepted by itself can be listed");
        assert_eq!(verify(&thin.unwrap(), &anchors).unwrap().session, verdict.session);
        assert_eq!(verify(&redact(&bytes).unwrap(), &anchors).unwrap().session, verdict.session);
        assert_eq!(verdict.session.to_string(), files[which]["verdict"]["session"].as_str().unwrap());
    }
}

/// What is said on a link's control stream, and how streams begin.
pub(crate) fn control(bytes: &[u8]) {
    if let Ok(said) = control::decode::<FromServer>(bytes) {
        assert_eq!(control::encode(&said).unwrap(), bytes);
        if let FromServer::Order(order) = said {
            let world = World::new();
            let pins = Pins { organization: ORG, roots: &[world.root.public()], now: start().wall };
            let mut orders = control::Orders::new(world.agent_key.public(), crate::world::BOOT);
            assert!(orders.hear(&order, &pins).is_err(), "nobody signed an order");
        }
    }
    if let Ok(said) = control::decode::<ToServer>(bytes) {
        assert_eq!(control::encode(&said).unwrap(), bytes);
    }
    if let Ok(said) = control::decode::<Preamble>(bytes) {
        assert_eq!(control::encode(&said).unwrap(), bytes);
    }
}

/// Messages of copies and of SSH that the agent ends, cut into pieces anyhow: the same as in one piece.
pub(crate) fn streams(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let cut = usize::from(*cut).max(1);
    let pieces = || bytes.chunks(cut);
    let copied = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut reader, mut said) = (copy::Decoder::default(), vec![]);
        for piece in pieces {
            reader.put(piece);
            loop {
                match reader.next_message() {
                    Ok(Some(message)) => said.push(message),
                    Ok(None) => break,
                    Err(_) => return (said, true),
                }
            }
        }
        (said, false)
    };
    assert_eq!(copied(&mut pieces()), copied(&mut std::iter::once(bytes)));
    let told = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut reader, mut said) = (ssh::Decoder::default(), vec![]);
        for piece in pieces {
            reader.put(piece);
            loop {
                match reader.next_message() {
                    Ok(Some(message)) => said.push(message),
                    Ok(None) => break,
                    Err(_) => return (said, true),
                }
            }
        }
        (said, false)
    };
    assert_eq!(told(&mut pieces()), told(&mut std::iter::once(bytes)));
}

/// Files that owners write: local policies, trust bundles, archives of keys.
pub(crate) fn trust(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    drop(LocalPolicy::parse(&text));
    if let Ok(bundle) = TrustBundle::parse(&text) {
        let again = TrustBundle::parse(&bundle.to_text().unwrap()).unwrap();
        assert_eq!(again.fingerprint().unwrap(), bundle.fingerprint().unwrap());
    }
    if let Ok(archive) = JwksArchive::parse(&text) {
        assert!(JwksArchive::parse(&archive.to_text()).is_ok());
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What a stranger's WebSocket may carry, from its first frame on: as it came, or, after a 1, put into binary messages.
pub(crate) fn entry_ws(bytes: &[u8]) {
    use bz_protocol::carrier::{Link as _, MuxLink, Role, read_message, ws_pipe};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_tungstenite::WebSocketStream;

    let bytes = match bytes.split_first() {
        Some((1, rest)) => masked(rest),
        _ => bytes.to_vec(),
    };
    let run = async move {
        let (mut near, far) = tokio::io::duplex(64 << 10);
        let writer = tokio::spawn(async move {
            let written = near.write_all(&bytes).await.is_ok() && near.shutdown().await.is_ok();
            let mut sink = vec![];
            near.read_to_end(&mut sink).await.map_or(0, |read| read + usize::from(written))
        });
        let role = tokio_tungstenite::tungstenite::protocol::Role::Server;
        let socket = WebSocketStream::from_raw_socket(far, role, None).await;
        let link = MuxLink::new(Role::Listener, ws_pipe(socket));
        while let Ok(mut stream) = link.accept().await {
            while let Ok(Some(message)) = read_message(&mut stream, control::MAX_MESSAGE).await {
                control(&message);
            }
        }
        drop(link);
        writer.await.unwrap();
    };
    runtime().block_on(async { tokio::time::timeout(PATIENCE, run).await }).expect("it ends with its bytes");
}

/// Pieces, each after its length as one byte, as a client's binary messages.
fn masked(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![];
    while let Some((length, rest)) = bytes.split_first() {
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(*length) % 125));
        // The mask of zeros is a mask, too.
        all.extend([0x82, 0x80 | piece.len() as u8, 0, 0, 0, 0]);
        all.extend(piece);
        bytes = rest;
    }
    all
}

/// A stream of a QUIC link, from its first byte on; what is below it is quinn's.
pub(crate) fn entry_quic(bytes: &[u8]) {
    let run = async {
        let mut stream: &[u8] = bytes;
        while let Ok(Some(message)) = bz_protocol::carrier::read_message(&mut stream, control::MAX_MESSAGE).await {
            control(&message);
            messages(&message);
        }
    };
    runtime().block_on(run);
}
