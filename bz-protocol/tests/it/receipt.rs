//! Receipts of both ends against transcripts, and how many are kept.

use std::collections::BTreeSet;
use std::time::Duration;

use bz_core::access::Mode;
use bz_core::digest::Digest;
use bz_core::signed::ObjectError;
use bz_core::time::UnixTime;
use bz_protocol::checkpoint::Signer;
use bz_protocol::frame::Fin;
use bz_protocol::keys::Direction;
use bz_protocol::receipt::{
    Bounds, Comparison, Holder, MemoryReceipts, Receipt, ReceiptError, Receipts as _, Shelf, compare, explains_end,
    missing,
};
use bz_protocol::transcript::{Anchors, Verdict, verify};

use crate::tap::archive;
use crate::transcript::recorded;
use crate::world::{ORG, World};

fn verdict(world: &World, file: &[u8]) -> Verdict {
    verify(file, &Anchors::Bundle(&world.bundle(), &archive())).unwrap()
}

/// TR-RECEIPT-1: whatever is cut off a transcript, either end's receipt shows it.
#[test]
fn receipts_find_shortened_and_missing_transcripts() {
    let world = World::new();
    let sim = recorded(&world, 30_000, 500);
    let file = &sim.tap.as_ref().unwrap().file;
    let whole = verdict(&world, file);
    let receipts = [sim.client.receipt().unwrap(), sim.agent.receipt().unwrap()];
    for receipt in &receipts {
        assert_eq!(Receipt::decode(&receipt.encode().unwrap()).as_ref(), Ok(receipt));
        assert_eq!(receipt.close, Some(Fin::Exited(0)), "{:?}", receipt.holder);
        assert!(matches!(compare(receipt, &whole), Comparison::Whole { .. }), "{:?}", compare(receipt, &whole));
    }
    // The client's end comes last, and only the agent knows that it arrived.
    let mut shown = 0;
    for (at, record) in crate::tap::records(file).iter().skip(2) {
        let cut = verdict(&world, &file[..at.offset]);
        let by = receipts.iter().filter(|r| matches!(compare(r, &cut), Comparison::Shortened { .. })).count();
        assert!(by >= 1, "cut before {record:?}: no receipt shows it");
        shown += by;
    }
    assert!(shown > 10, "{shown}");
    assert_eq!(missing(&receipts, std::slice::from_ref(&whole)), Vec::<&Receipt>::new());
    assert_eq!(missing(&receipts, &[]).len(), 2);
}

/// TR-RECEIPT-2, TR-RECEIPT-6: a receipt proves the frames of a sealed session, whose signatures the file cannot hold.
#[test]
fn a_receipt_proves_a_sealed_session() {
    let mut world = World::new();
    world.mode = Mode::Sealed;
    let sim = recorded(&world, 30_000, 500);
    let verdict = verdict(&world, &sim.tap.as_ref().unwrap().file);
    assert_eq!((verdict.to_agent.frames, verdict.to_client.frames), (0, 0));
    let receipt = sim.agent.receipt().unwrap();
    let Comparison::Whole { to_agent, to_client } = compare(&receipt, &verdict) else { panic!("{receipt:?}") };
    assert!(to_agent > 1 && to_client > 1, "{to_agent} {to_client}");
    assert!(explains_end(&receipt, &verdict) && explains_end(&sim.client.receipt().unwrap(), &verdict));
    let unsigned = Receipt { client: None, agent: None, ..sim.client.receipt().unwrap() };
    assert!(!explains_end(&unsigned, &verdict), "a note without signatures was enough");
    let open = Receipt { close: None, ..sim.client.receipt().unwrap() };
    assert!(!explains_end(&open, &verdict), "a client that left early knew the end");
}

/// TR-RECEIPT-3: checkpoints in a receipt count by their signatures.
#[test]
fn receipts_of_others_prove_nothing() {
    let world = World::new();
    let sim = recorded(&world, 3000, 50);
    let verdict = verdict(&world, &sim.tap.as_ref().unwrap().file);
    let check = |receipt: &Receipt, want: Comparison| assert_eq!(compare(receipt, &verdict), want);
    let good = sim.client.receipt().unwrap();

    let mut other_world = World::new();
    other_world.user = Some("bob");
    let other = recorded(&other_world, 3000, 50).client.receipt().unwrap();
    check(&other, Comparison::OtherSession);

    let mut forged = good.clone();
    forged.agent = good.client.clone();
    check(&forged, Comparison::Forged { of: Holder::Agent, error: ObjectError::Signature });
    forged = good.clone();
    forged.client = other.client;
    check(&forged, Comparison::Forged { of: Holder::Client, error: ObjectError::Label });
    forged = good.clone();
    forged.delivered = 1000;
    let held = verdict.to_agent.frames;
    check(&forged, Comparison::Shortened { direction: Direction::ToAgent, held, passed: 1000 });

    // The agent itself signed another history than the server tells.
    let signing = Signer { organization: ORG, direction: Direction::ToClient };
    let payload = good.agent.clone().unwrap();
    let statement = signing.verify(&payload, &world.agent_key.public()).unwrap();
    let after = |direction: Direction| match direction {
        Direction::ToClient => statement.number,
        Direction::ToAgent => statement.peer_number,
    };
    for direction in [Direction::ToClient, Direction::ToAgent] {
        let mut other = statement.clone();
        match direction {
            Direction::ToClient => other.head = Digest::of(b""),
            Direction::ToAgent => other.peer_head = Digest::of(b""),
        }
        forged = good.clone();
        forged.agent = Some(signing.sign(other, &world.agent_key).unwrap());
        check(&forged, Comparison::OtherHistory { direction, after: after(direction) });
    }

    let bytes = good.encode().unwrap();
    assert_eq!(
        Receipt::decode(&[b"x", bytes.as_slice()].concat()).err().map(|e| matches!(e, ReceiptError::Wire(_))),
        Some(true)
    );
    let mut relabelled = bytes;
    relabelled[8] ^= 1;
    assert_eq!(Receipt::decode(&relabelled), Err(ReceiptError::Label));
}

/// TR-RECEIPT-1: a receipt is there as soon as the session stands for its holder, which for an agent is when the client
/// has confirmed it, and says when its session was.
#[test]
fn a_receipt_begins_with_the_session_and_names_its_time() {
    let world = World::new();
    let mut sim = crate::sim::Sim::new(&world, 1);
    assert_eq!((sim.client.receipt(), sim.agent.receipt()), (None, None));
    sim.connect();
    let mut seen = Vec::new();
    for _ in 0..10_000 {
        seen.push((sim.client.receipt().is_some(), sim.agent.receipt().is_some()));
        if seen.last() == Some(&(true, true)) {
            break;
        }
        sim.pass(Duration::from_millis(1));
    }
    seen.dedup();
    assert_eq!(seen, [(false, false), (true, false), (true, true)], "the agent kept what nobody had confirmed");
    let noted = sim.agent.receipt().unwrap().noted_at().unwrap();
    assert!(noted <= sim.now.wall && sim.now.wall.since(noted) < Duration::from_secs(20), "{noted}");
    assert_eq!(Receipt { client: None, agent: Some(vec![1]), ..sim.agent.receipt().unwrap() }.noted_at(), None);
}

/// TR-RECEIPT-5: an agent keeps them for 90 days and no more than so many, a client the last hundred.
#[test]
fn the_oldest_receipts_go() {
    let session = |number: u64| Digest::of(&number.to_be_bytes());
    let at = |seconds| UnixTime::from_secs(1_000_000 + seconds);
    let mut shelf = Shelf::new(Bounds { most: 3, age: Some(Duration::from_secs(100)) }, [(session(0), at(0))]);
    for number in 1..3 {
        shelf.put(session(number), at(number));
    }
    assert_eq!(shelf.swept(at(100)), [], "the oldest is exactly as old as it may be");
    shelf.put(session(0), at(50));
    shelf.put(session(3), at(60));
    assert_eq!(shelf.swept(at(60)), [session(1)], "the one that changed last longest ago");
    assert_eq!(shelf.swept(at(151)), BTreeSet::from([session(2), session(0)]).into_iter().collect::<Vec<_>>());
    assert_eq!(shelf.swept(at(160)), []);
    assert_eq!(shelf.swept(at(161)), [session(3)]);

    assert_eq!(Bounds::AGENT.age, Some(Duration::from_secs(90 * 86_400)));
    let memory = MemoryReceipts::new(Bounds::CLIENT);
    let receipt = recorded(&World::new(), 3000, 50).client.receipt().unwrap();
    for number in 0..130 {
        memory.keep(&Receipt { session: session(number), ..receipt.clone() }, at(number)).unwrap();
        memory.keep(&Receipt { session: session(number), delivered: 7, ..receipt.clone() }, at(number)).unwrap();
    }
    let kept = memory.all();
    let last = (30..130).map(session).collect::<BTreeSet<_>>();
    assert_eq!(kept.iter().map(|r| r.session).collect::<BTreeSet<_>>(), last);
    assert!(kept.iter().all(|r| r.delivered == 7), "an older version stayed");
}
