//! What both ends keep, against a server that loses or shortens what it recorded.

use std::fs;
use std::path::Path;

use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_client::receipts::{is_receipt, read};
use bz_core::access::request::Parameters;
use bz_core::id::ConnectionId;
use bz_examples::world::{AGENT_RECEIPTS, CLIENT_RECEIPTS, TARGET, Way, World};
use bz_protocol::client::Event;
use bz_protocol::frame::Fin;
use bz_protocol::receipt::{Comparison, Receipt, compare, missing};
use bz_protocol::session::End;
use bz_protocol::transcript::{Reader, Verdict};

use crate::session::until;

/// F-049~, TR-RECEIPT-1, TR-RECEIPT-4: both ends' receipts fit what the server recorded; a transcript whose end the server
/// drops is shortened, one that it deletes is missing, and both ends show it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drops_records_is_found_by_receipts() {
    let folder = tempfile::tempdir().unwrap();
    let user = User::current().unwrap().name;
    let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
    let world = World::start(folder.path(), helper, &user, Way::Ws).await.unwrap();
    let [first, second] = [exec(&world, &user, "seq 2000").await, exec(&world, &user, "exit 3").await];
    for connection in [first, second] {
        until(async || verdicts(&world, connection).await, |all| all.iter().any(|verdict| verdict.complete)).await;
    }
    let ends = [AGENT_RECEIPTS, CLIENT_RECEIPTS].map(|name| world.folder.join(name));
    for end in &ends {
        // The agent's is there when it has heard the client's last word, a moment after the client.
        let kept = until(async || receipts(end), |all| all.len() == 2 && all.iter().all(|r| r.close.is_some())).await;
        let mut closes: Vec<_> = kept.iter().map(|r| (r.connection == second, r.close.clone().unwrap())).collect();
        closes.sort_by_key(|(second, _)| *second);
        assert_eq!(closes, [(false, Fin::Exited(0)), (true, Fin::Exited(3))], "{}", end.display());
        for (connection, receipt) in pairs(&kept, [first, second]) {
            let verdict = verdicts(&world, connection).await.remove(0);
            let found = compare(receipt, &verdict);
            assert!(matches!(found, Comparison::Whole { .. }), "{}: {found:?}", end.display());
        }
    }

    let transcript = |connection: ConnectionId| world.folder.join(format!("server/transcripts/{connection}/1.bzt"));
    let whole = fs::read(transcript(first)).unwrap();
    let places: Vec<_> = Reader::new(&whole).unwrap().map(|next| next.unwrap().0.offset).collect();
    fs::write(transcript(first), &whole[..places[places.len() / 2]]).unwrap();
    fs::remove_file(transcript(second)).unwrap();
    let left = verdicts(&world, first).await;
    for end in &ends {
        let kept = receipts(end);
        let gone: Vec<_> = missing(&kept, &left).iter().map(|receipt| receipt.connection).collect();
        assert_eq!(gone, [second], "{}", end.display());
        let found = compare(pairs(&kept, [first, second])[0].1, &left[0]);
        assert!(matches!(found, Comparison::Shortened { .. }), "{}: {found:?}", end.display());
    }
    world.stop().await;
}

async fn exec(world: &World, user: &str, command: &str) -> ConnectionId {
    let target = format!("{user}@{TARGET}").parse().unwrap();
    let parameters = Parameters::Exec { command: command.to_owned() };
    let asked = world.client.ask(&target, parameters, None).await.unwrap();
    let mut session = world.client.session(asked).await.unwrap();
    let mut last = None;
    while let Some(event) = session.next().await {
        if let Event::Ended(end) = event {
            last = Some(end);
        }
    }
    assert!(matches!(last, Some(End::Completed(Fin::Exited(_)))), "{last:?}");
    session.connection()
}

async fn verdicts(world: &World, connection: ConnectionId) -> Vec<Verdict> {
    world.transcripts(connection).await.unwrap().into_iter().map(|(_, verdict)| verdict.unwrap()).collect()
}

fn receipts(folder: &Path) -> Vec<Receipt> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.filter(|path| is_receipt(path)).map(|path| read(&path).unwrap()).collect()
}

fn pairs(kept: &[Receipt], connections: [ConnectionId; 2]) -> Vec<(ConnectionId, &Receipt)> {
    let find = |connection| (connection, kept.iter().find(|receipt| receipt.connection == connection).unwrap());
    connections.map(find).into()
}
