//! What an agent keeps of its sessions: in a folder, private and bounded, whatever happens to the session or the disk.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bz_agent::handler::Call;
use bz_agent::receipts::FolderReceipts;
use bz_core::access::Mode;
use bz_core::api::target::Route;
use bz_core::digest::Digest;
use bz_core::id::{ConnectionId, OrganizationId};
use bz_core::time::UnixTime;
use bz_protocol::client::Action;
use bz_protocol::frame::Fin;
use bz_protocol::receipt::{Bounds, Holder, Receipt, Receipts};
use bz_protocol::session::End;

use crate::server::{Ask, Stand, soon};

/// TR-RECEIPT-4: a session leaves a private receipt with both ends' signatures and the agent's last word; one that was
/// never confirmed leaves none; one that is cut leaves what was there.
#[tokio::test]
async fn each_session_leaves_its_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("receipts");
    let (running, mut server, _links) = echoing(Arc::new(FolderReceipts::new(&path, Bounds::AGENT))).start().await;
    assert_eq!(
        server.ask(Ask::route(1, "absent")).await.end().await,
        End::Refused(bz_protocol::refusal::Code::Unavailable)
    );
    let refused = kept(&path, |all| all.iter().any(|r| r.connection == connection(1))).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((refused.len(), mode(&path), mode(&files(&path)[0])), (1, 0o700, 0o600));

    let ask = Ask::route(2, "echo");
    let mut unfit = server.opening(&ask);
    unfit.grant = server.opening(&Ask::route(3, "echo")).grant;
    let mut session = server.session(ask.connection, unfit).await;
    assert!(matches!(session.end().await, End::Reported(_)));

    let mut session = server.open(Ask::route(4, "echo")).await;
    session.bytes(b"hello").await;
    session.act(Action::Eof { stream: 0 }).await;
    assert_eq!(session.end().await, End::Completed(Fin::Done));
    let ended = kept(&path, |all| all.iter().any(|r| r.connection == connection(4) && r.close.is_some())).await;
    let receipt = ended.iter().find(|r| r.connection == connection(4)).unwrap();
    assert_eq!((receipt.holder, &receipt.close), (Holder::Agent, &Some(Fin::Done)));
    assert!(receipt.client.is_some() && receipt.agent.is_some() && receipt.delivered > 0, "{receipt:?}");

    let session = server.open(Ask::route(5, "echo")).await;
    session.bytes(b"hello").await;
    drop(running);
    let all = kept(&path, |all| all.iter().any(|r| r.connection == connection(5))).await;
    assert!(all.iter().all(|r| r.connection != connection(2)), "a session that nobody confirmed left a receipt");
    let cut = all.iter().find(|r| r.connection == connection(5)).unwrap();
    assert_eq!(cut.close, None);
}

/// TR-RECEIPT-4: where no receipt can be written, sessions are as good as ever.
#[tokio::test]
async fn a_disk_that_takes_nothing_breaks_no_session() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("receipts");
    fs::write(&path, "a file where the folder should be").unwrap();
    let receipts = Arc::new(FolderReceipts::new(&path, Bounds::AGENT));
    let refused = receipts.keep(&receipt(1), UnixTime::from_secs(1)).unwrap_err().to_string();
    assert!(refused.contains("receipts"), "{refused}");
    let (_running, mut server, _links) = echoing(receipts).start().await;
    let mut session = server.open(Ask::route(1, "echo")).await;
    session.bytes(b"hello").await;
    session.act(Action::Eof { stream: 0 }).await;
    session.shows("hello").await;
    assert_eq!(session.end().await, End::Completed(Fin::Done));
}

/// TR-RECEIPT-5: no more than so many, none past its age, also after a start; what others put there stays.
#[test]
fn old_receipts_are_removed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("receipts");
    let bounds = Bounds { most: 3, age: Some(Duration::from_secs(100)) };
    let at = |seconds| UnixTime::from_secs(1_000_000 + seconds);
    let receipts = FolderReceipts::new(&path, bounds);
    for number in 0..5 {
        receipts.keep(&receipt(number), at(u64::from(number))).unwrap();
    }
    assert_eq!(numbers(&path), [2, 3, 4]);
    receipts.keep(&Receipt { delivered: 9, ..receipt(2) }, at(10)).unwrap();
    let changed = all(&path).into_iter().find(|r| r.connection == connection(2)).unwrap();
    assert_eq!(changed.delivered, 9);

    let foreign = path.join("notes.txt");
    fs::write(&foreign, "mine").unwrap();
    let unfinished = path.join(format!("{}.receipt.new", Digest::of(b"killed")));
    fs::write(&unfinished, "half").unwrap();
    let receipts = FolderReceipts::new(&path, bounds);
    receipts.keep(&receipt(6), at(11)).unwrap();
    assert_eq!(numbers(&path), [2, 4, 6], "a start forgot what was there");
    receipts.sweep(at(105)).unwrap();
    assert_eq!(numbers(&path), [2, 6]);
    FolderReceipts::new(&path, bounds).sweep(at(1000)).unwrap();
    assert_eq!((numbers(&path), foreign.exists(), unfinished.exists()), (vec![], true, false));
}

fn echoing(receipts: Arc<dyn Receipts>) -> Stand {
    let stand = Stand::new();
    let echo = |mut call: Call| async move {
        let (mut read, mut write) = tokio::io::split(&mut call.stream);
        tokio::io::copy(&mut read, &mut write).await.map(|_| ())
    };
    let route = Route { name: "echo".to_owned(), description: "a test's".to_owned(), mode: Mode::Sealed };
    Stand { agent: stand.agent.route(route, echo).receipts(receipts), ..stand }
}

fn connection(number: u8) -> ConnectionId {
    ConnectionId::from_bytes([number; 16])
}

fn receipt(number: u8) -> Receipt {
    Receipt {
        holder: Holder::Agent,
        organization: OrganizationId::from_bytes([1; 16]),
        connection: connection(number),
        session: Digest::of(&[number]),
        opening: Digest::of(b"opening"),
        client: None,
        agent: None,
        delivered: 0,
        close: None,
    }
}

fn files(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "receipt")).collect()
}

fn all(path: &Path) -> Vec<Receipt> {
    // One that is replaced meanwhile is read as it was or as it is.
    files(path).iter().map(|file| Receipt::decode(&fs::read(file).unwrap()).unwrap()).collect()
}

fn numbers(path: &Path) -> Vec<u8> {
    let mut numbers: Vec<u8> = all(path).iter().map(|r| r.connection.as_bytes()[0]).collect();
    numbers.sort_unstable();
    numbers
}

/// The receipts once it holds.
async fn kept(path: &Path, holds: impl Fn(&[Receipt]) -> bool) -> Vec<Receipt> {
    soon("the receipt", async {
        loop {
            let all = all(path);
            if holds(&all) {
                return all;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}
