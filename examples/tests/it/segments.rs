//! Shells that nobody is attached to: the record goes on, in segments that the agent alone signs.

use std::path::Path;

use bz_core::access::request::Size;
use bz_core::api::record::ConnectionEventType;
use bz_core::id::ConnectionId;
use bz_examples::world::World;
use bz_protocol::client::Action;
use bz_protocol::frame::Fin;
use bz_protocol::transcript::{Following, Reader, Record, Trust, Verdict};

use crate::session::{Place, act, ended, expect, place, type_in, until};

/// A pipe that a shell waits at.
fn fifo(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("gate");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
    assert!(made.success());
    path
}

async fn open(gate: &Path) {
    let gate = gate.to_owned();
    tokio::task::spawn_blocking(move || std::fs::write(gate, "go\n").expect("somebody reads")).await.unwrap();
}

/// The transcripts of a connection, once as many as wanted are there and verify, the last one holding `shown`.
async fn verdicts(world: &World, connection: ConnectionId, wanted: usize, shown: &str) -> Vec<Verdict> {
    let look = async || world.transcripts(connection).await.unwrap();
    let holds = |found: &Vec<(std::path::PathBuf, Result<Verdict, String>)>| {
        let last = found.last().map(|(path, _)| output(path)).unwrap_or_default();
        found.len() == wanted && found.iter().all(|(_, v)| v.is_ok()) && last.contains(shown)
    };
    until(look, holds).await.into_iter().map(|(_, verdict)| verdict.unwrap()).collect()
}

/// All output that a transcript holds.
fn output(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let mut output = Vec::new();
    for next in Reader::new(&bytes).unwrap() {
        let Ok((_, record)) = next else { break };
        if let Record::Frame { direction: bz_protocol::keys::Direction::ToClient, frame } = record
            && frame.header.kind == Some(bz_protocol::frame::Kind::Bytes)
        {
            output.extend_from_slice(frame.payload().unwrap_or_default());
        }
    }
    String::from_utf8_lossy(&output).into_owned()
}

async fn detach(place: &Place, session: &mut bz_client::session::Session) {
    act(session, Action::Finish(Fin::Detached)).await;
    ended(session).await;
    place.log(session, ConnectionEventType::ClientDisconnect).await;
}

/// F-007, PR-SEGMENT-2: what a shell shows while nobody is attached is in the record, signed by its agent, and an attach
/// goes on from there: the three transcripts hang together without a gap.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_has_no_gap_while_nobody_is_attached() {
    let place = place().await;
    let gate = fifo(&place.world.folder);
    let mut session = place.shell().await;
    let id = session.connection();
    type_in(&session, &format!("read x < {}; echo alone-$((40+2))\r", gate.display())).await;
    expect(&mut session, "alone-$((40+2))\r\n").await;
    detach(&place, &mut session).await;
    verdicts(&place.world, id, 2, "").await;
    open(&gate).await;
    verdicts(&place.world, id, 2, "alone-42\r\n").await;

    let found = async || place.client().connections().await.unwrap().into_iter().find(|c| c.id == id).unwrap();
    let connection = until(found, |c| c.shell_id.is_some()).await;
    let asked = place.client().attach_grant(&connection, Size { rows: 24, columns: 80 }).await.unwrap();
    let mut again = place.client().session(asked).await.unwrap();
    expect(&mut again, "alone-42").await;
    type_in(&again, "exit 3\r").await;
    assert_eq!(ended(&mut again).await.1, bz_protocol::session::End::Completed(Fin::Exited(3)));

    let all = verdicts(&place.world, id, 3, "exit 3").await;
    let [first, segment, last] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!([first.trust, segment.trust, last.trust], [Trust::Proved; 3]);
    assert_eq!(segment.segment.map(|s| (s.held, s.lost)), Some((first.session, 0)));
    assert_eq!((segment.person.subject.as_str(), segment.to_agent.frames), (first.person.subject.as_str(), 0));
    assert_eq!((segment.follows(first), last.follows(segment)), (Following::Whole, Following::Whole));
    assert!(last.segment.is_none() && last.follows(first) == Following::Other);
    place.world.stop().await;
}

/// F-010~: a shell that ends while nobody is attached ends its connection, and the record and the log say how.
#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_ends_alone_is_recorded_to_its_end() {
    let place = place().await;
    let gate = fifo(&place.world.folder);
    let mut session = place.shell().await;
    type_in(&session, &format!("read x < {}; echo last-$((40+2)); exit 5\r", gate.display())).await;
    expect(&mut session, "exit 5\r\n").await;
    detach(&place, &mut session).await;
    open(&gate).await;
    let log = place.log(&session, ConnectionEventType::Closed).await;
    assert!(log.last().unwrap().reason.contains("it exited with 5"), "{log:?}");
    let all = verdicts(&place.world, session.connection(), 2, "last-42\r\n").await;
    assert_eq!((all[1].status.clone(), all[1].complete), (Some(Fin::Exited(5)), true));
    place.world.stop().await;
}

/// PR-SEGMENT-2: a client that vanished had not acknowledged everything; who attaches is told that again, and the
/// recording shows it once, however much was under way.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_vanished_client_never_saw_is_told_again() {
    let place = place().await;
    let mut session = place.shell().await;
    let id = session.connection();
    let done = place.world.folder.join("done");
    let line = "stty -onlcr; echo begin-$((40+2)); seq 1000000 1200000; echo end-$((40+2)); touch";
    type_in(&session, &format!("{line} {}\r", done.display())).await;
    expect(&mut session, "begin-42").await;
    // In the middle of it, with more under way than anybody took.
    drop(session);
    until(async || done.exists(), |done| *done).await;
    let found = async || place.client().connections().await.unwrap().into_iter().find(|c| c.id == id).unwrap();
    let connection = until(found, |c| c.shell_id.is_some() && !c.attached).await;
    let asked = place.client().attach_grant(&connection, Size { rows: 24, columns: 80 }).await.unwrap();
    let mut again = place.client().session(asked).await.unwrap();
    expect(&mut again, "end-42\n").await;
    type_in(&again, "exit\r").await;
    ended(&mut again).await;
    let all = verdicts(&place.world, id, 2, "exit").await;
    assert_eq!(all[1].follows(&all[0]), Following::Whole);
    let files = place.world.transcripts(id).await.unwrap();
    let files: Vec<_> = files.iter().map(|(path, _)| std::fs::read(path).unwrap()).collect();
    let cast = bz_server::record::asciicast(files.iter().map(Vec::as_slice), true);
    let events = cast.lines().skip(1).map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let shown: String = events.filter(|e| e[1] == "o").map(|e| e[2].as_str().unwrap().to_owned()).collect();
    let numbers: String = (1_000_000..=1_200_000).map(|n| format!("{n}\n")).collect();
    assert!(shown.contains(&numbers), "of {} bytes {} are shown", numbers.len(), shown.len());
    place.world.stop().await;
}
