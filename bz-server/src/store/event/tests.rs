//! The logs' one table: its chain against every way of tampering, its pages against a plain reading, its plans.

mod found;

use bz_core::api::policy::SubjectType;
use bz_core::api::record::{Actor, CommandEvent, CommandSource, Place, UserEvent};
use bz_core::grant::{Purpose, ServerCert};
use bz_core::id::{ConnectionId, EnvironmentId, EventId, OrganizationId, TargetId, UserId};
use bz_core::key::PrivateKey;
use bz_core::signed::Signed;
use rusqlite::Connection;

use super::anchor::Signer;
use super::*;
use crate::keys::OnlineKey;
use crate::store::FILE;

const ORGANIZATION: OrganizationId = OrganizationId::from_bytes([1; 16]);

/// Whatever is done to one row is found, and where; what is done to the end and its note, by who wrote an end down.
#[tokio::test]
async fn every_change_of_the_logs_is_found() {
    let swap = "UPDATE event SET seq = -1 WHERE seq = 4; UPDATE event SET seq = 4 WHERE seq = 5;
                UPDATE event SET seq = 5 WHERE seq = -1";
    let squeeze = "UPDATE event SET seq = -seq WHERE seq >= 5; UPDATE event SET seq = -seq + 1 WHERE seq < 0;
                   INSERT INTO event (seq, log, at, body, hash) SELECT 5, log, at, body, hash FROM event WHERE seq = 4";
    let close = "DELETE FROM event WHERE seq = 4; UPDATE event SET seq = seq - 1 WHERE seq > 4";
    let more = "INSERT INTO event (seq, log, at, body, hash) SELECT 10, log, at, body, hash FROM event WHERE seq = 9";
    let end = "DELETE FROM event WHERE seq = 9";
    let cut = "DELETE FROM event WHERE seq = 9;
               UPDATE event_head SET count = 8, hash = (SELECT hash FROM event WHERE seq = 8)";
    for (what, sql, found) in [
        ("nothing", "", None),
        ("a body", "UPDATE event SET body = replace(body, 'uptime 4', 'uptime 5') WHERE seq = 5", Some(Broken::Row(5))),
        ("a time", "UPDATE event SET at = at + 1 WHERE seq = 5", Some(Broken::Row(5))),
        ("a log", "UPDATE event SET log = 4 WHERE seq = 5", Some(Broken::Row(5))),
        ("a hash", "UPDATE event SET hash = zeroblob(32) WHERE seq = 5", Some(Broken::Row(5))),
        ("a hash that is none", "UPDATE event SET hash = x'00' WHERE seq = 5", Some(Broken::Row(5))),
        ("one taken out", "DELETE FROM event WHERE seq = 4", Some(Broken::Missing { expected: 4, found: 5 })),
        ("the first taken out", "DELETE FROM event WHERE seq = 1", Some(Broken::Missing { expected: 1, found: 2 })),
        ("one taken out, the gap closed", close, Some(Broken::Row(4))),
        ("one put in", squeeze, Some(Broken::Row(5))),
        ("one put in at the end", more, Some(Broken::Row(10))),
        ("two in each other's place", swap, Some(Broken::Row(4))),
        ("the last taken out", end, Some(Broken::Truncated { expected: 9, found: 8 })),
        ("the note of the end", "UPDATE event_head SET hash = zeroblob(32)", Some(Broken::End(9))),
        ("the last and the note", cut, None),
    ] {
        let bench = Bench::with(9).await;
        let head = bench.store.event_head().await.unwrap();
        bench.edit(sql);
        let audited = bench.audit(None).await;
        assert_eq!(audited.clone().err(), found, "{what}: {audited:?}");
        // An auditor who wrote the end down finds that, too.
        let found =
            if what == "the last and the note" { Some(Broken::Truncated { expected: 9, found: 8 }) } else { found };
        assert_eq!(bench.audit(Some(head)).await.err(), found, "{what}, against a head");
    }
}

/// Who can write the file can make another chain that holds; only a head that is written down elsewhere shows it.
#[tokio::test]
async fn a_rewritten_chain_is_not_the_one_that_an_auditor_saw() {
    let (first, second) = (Bench::with(5).await, Bench::with(0).await);
    let head = first.store.event_head().await.unwrap();
    assert_eq!(head.to_string().parse(), Ok(head), "a head is written down as text");
    for number in 0..7 {
        second.command(if number == 2 { "harmless" } else { "uptime" }, number).await;
    }
    assert_eq!(second.audit(None).await.unwrap().rows, 7);
    assert_eq!(second.audit(Some(head)).await, Err(Broken::Head(5)));
    for text in ["", "5", "5:", ":00", "x:00", "5:00", "-1:00"] {
        assert!(text.parse::<Head>().is_err(), "{text} is no head");
    }
}

/// Retention cuts from the beginning and signs for it; what is left proves itself under the server's root alone.
#[tokio::test]
async fn what_retention_cuts_is_signed_for() {
    let bench = Bench::with(9).await;
    let (early, middle) = (bench.head_at(3), bench.head_at(6));
    let gone = bench.store.cut_events(UnixTime::from_secs(1005).into(), signer(1)).await.unwrap();
    assert_eq!(gone, 5, "rows of the seconds 1000 to 1004");
    let audited = bench.audit(Some(middle)).await.unwrap();
    assert_eq!((audited.rows, audited.head.count, audited.cut.unwrap().head.count), (4, 9, 5));
    assert_eq!(bench.audit(Some(early)).await, Err(Broken::Cut { head: 3, cut: 5 }));
    assert_eq!(
        bench.store.cut_events(UnixTime::from_secs(1005).into(), signer(1)).await,
        Ok(0),
        "nothing is left to cut"
    );
    assert!(bench.search("uptime 4").await.is_empty(), "what was cut is found no more");
    assert_eq!(bench.search("uptime 5").await.len(), 1);
    // By another server's key, for another row, or not at all.
    let stranger = Bench::with(9).await;
    stranger.store.cut_events(UnixTime::from_secs(1005).into(), signer(2)).await.unwrap();
    let found = stranger.audit(None).await.unwrap_err();
    assert!(matches!(&found, Broken::Anchor(5, why) if why.contains("no pinned root")), "{found:?}");
    bench.edit("DELETE FROM event WHERE seq = 6");
    bench.edit("UPDATE event_anchor SET count = 6, hash = (SELECT hash FROM event WHERE seq = 7)");
    let found = bench.audit(None).await.unwrap_err();
    assert!(matches!(&found, Broken::Anchor(6, why) if why.contains("another row")), "{found:?}");
    bench.edit("DELETE FROM event_anchor");
    assert_eq!(bench.audit(None).await, Err(Broken::Missing { expected: 1, found: 7 }));
    bench.command("and on", 20).await;
    // All of it may go; the chain goes on from what is left of it.
    let all = Bench::with(3).await;
    assert_eq!(all.store.cut_events(UnixTime::from_secs(5000).into(), signer(1)).await, Ok(3));
    all.command("after", 1).await;
    let audited = all.audit(None).await.unwrap();
    assert_eq!((audited.rows, audited.head.count), (1, 4));
}

/// An older database's logs become one chain, in the order of time, and it is noted whether the old chain held.
#[tokio::test]
async fn logs_of_an_older_database_are_chained() {
    for (change, held) in [("", true), ("UPDATE user_event SET allowed = 1, body = replace(body, '1', '2')", false)] {
        let folder = tempfile::tempdir().unwrap();
        let old = older(&folder);
        old.execute_batch(change).unwrap();
        drop(old);
        let store = Store::open(folder.path()).unwrap();
        let bench = Bench { folder, store };
        let audited = bench.audit(None).await.unwrap();
        assert_eq!((audited.rows, audited.cut), (4, None));
        let all = bench.store.events_after((Log::ALL.to_vec(), EventFilter::default()), 0).await.unwrap().0;
        let order: Vec<_> = all.iter().map(|row| (row.seq, row.log)).collect();
        assert_eq!(order, [(1, Log::Commands), (2, Log::Calls), (3, Log::Commands), (4, Log::Calls)]);
        let note: UserEvent = serde_json::from_str(&all.last().unwrap().body).unwrap();
        assert_eq!(note.service_action, "auditservice:chain");
        assert!(note.context.contains(&format!("\"callsHeld\":{held}")), "{}", note.context);
        assert_eq!(bench.search("uptime 1").await.len(), 1, "old commands are found by their text");
        let filter = EventFilter { subjects: vec![UserId::from_bytes([1; 16])], limit: 9, ..EventFilter::default() };
        assert_eq!(bench.store.command_events(filter).await.unwrap().len(), 1, "and by person");
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%\\_event' ESCAPE '\\'";
        let left: i64 = bench.connection().query_row(tables, [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "the old tables are gone");
    }
}

/// A store with commands in it, one each second.
pub(super) struct Bench {
    pub(super) folder: tempfile::TempDir,
    pub(super) store: Store,
}

impl Bench {
    pub(super) async fn with(rows: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let bench = Self { folder, store };
        for number in 0..rows {
            bench.command(&format!("uptime {number}"), number).await;
        }
        bench
    }

    async fn command(&self, text: &str, number: u64) {
        let at = UnixTime::from_secs(1000 + number);
        self.store.add_events(vec![(command(text, number), at)]).await.unwrap();
    }

    fn connection(&self) -> Connection {
        Connection::open(self.folder.path().join(FILE)).unwrap()
    }

    /// As somebody does who can write the file.
    fn edit(&self, sql: &str) {
        self.connection().execute_batch(sql).unwrap();
    }

    async fn audit(&self, known: Option<Head>) -> Result<Audited, Broken> {
        let root = PrivateKey::from_seed(&[1; 32]).unwrap().public();
        self.store.audit_events(known, (ORGANIZATION, vec![root])).await.unwrap()
    }

    fn head_at(&self, row: i64) -> Head {
        let sql = "SELECT lower(hex(hash)) FROM event WHERE seq = ?1";
        let hash: String = self.connection().query_row(sql, [row], |row| row.get(0)).unwrap();
        format!("{row}:{hash}").parse().unwrap()
    }

    async fn search(&self, text: &str) -> Vec<CommandEvent> {
        let filter = EventFilter { search: Some(text.to_owned()), limit: 100, ..EventFilter::default() };
        self.store.command_events(filter).await.unwrap()
    }
}

/// A command of the person, target and connection of this number, modulo a few.
pub(super) fn command(text: &str, number: u64) -> CommandEvent {
    let byte = |of: u64| u8::try_from(number % of).unwrap();
    let mut random = [0; 16];
    random[..8].copy_from_slice(&number.to_be_bytes());
    CommandEvent {
        id: EventId::from_random(random),
        connection_id: ConnectionId::from_bytes([byte(7); 16]),
        organization_id: ORGANIZATION,
        actor: Actor {
            subject_id: Some(UserId::from_bytes([byte(3); 16])),
            subject_type: SubjectType::User,
            subject_name: format!("person{}@example.com", byte(3)),
            is_admin: number.is_multiple_of(2),
        },
        place: Place {
            target_id: TargetId::from_bytes([byte(5); 16]),
            target_name: format!("host{}", byte(5)),
            target_type: "Bzero".to_owned(),
            target_user: if number.is_multiple_of(4) { "root" } else { "app" }.to_owned(),
            target_groups: Vec::new(),
            environment_id: EnvironmentId::from_bytes([byte(2); 16]),
            environment_name: "prod".to_owned(),
        },
        command: text.to_owned(),
        source: CommandSource::Screen,
        confirmed: true,
        timestamp: UnixTime::from_secs(1000 + number).to_string(),
    }
}

/// A record key that the root of this seed certifies.
fn signer(seed: u8) -> Signer {
    let (root, key) = (PrivateKey::from_seed(&[seed; 32]).unwrap(), PrivateKey::from_seed(&[9; 32]).unwrap());
    let now = UnixTime::from_secs(2000);
    let body = ServerCert {
        key: key.public(),
        purpose: Purpose::Record,
        node: "main".to_owned(),
        not_before: now,
        not_after: UnixTime::from_secs(3000),
    };
    let certificate = Signed::seal(&body, ORGANIZATION, &root).unwrap();
    Signer { key: OnlineKey { key, certificate }, organization: ORGANIZATION, now }
}

/// A database as it was when each log had its table, with two commands and one call between them.
fn older(folder: &tempfile::TempDir) -> Connection {
    use sha2::{Digest as _, Sha256};
    let old = Connection::open(folder.path().join(FILE)).unwrap();
    for (step, version) in crate::store::MIGRATIONS.iter().take(5).zip(1_u32..) {
        old.execute_batch(step).unwrap();
        old.pragma_update(None, "user_version", version).unwrap();
    }
    for number in [2_u64, 1] {
        let event = command(&format!("uptime {number}"), number);
        let sql = "INSERT INTO command_event (at, subject, connection, target, body) VALUES (?1, 'x', 'x', 'x', ?2)";
        old.execute(sql, (1000 * i64::try_from(number).unwrap(), serde_json::to_string(&event).unwrap())).unwrap();
    }
    let call = UserEvent {
        id: EventId::from_random([9; 16]),
        organization_id: ORGANIZATION,
        actor: Actor {
            subject_id: Some(UserId::from_bytes([0; 16])),
            subject_type: SubjectType::User,
            subject_name: "ops".to_owned(),
            is_admin: true,
        },
        service_action: "userservice:me".to_owned(),
        resource: String::new(),
        evaluation: true,
        timestamp: UnixTime::from_secs(1).to_string(),
        ip_address: "127.0.0.1".to_owned(),
        context: String::new(),
    };
    let body = serde_json::to_string(&call).unwrap();
    let hash = hex::encode(Sha256::new().chain_update([0; 32]).chain_update(body.as_bytes()).finalize());
    let sql = "INSERT INTO user_event (at, subject, action, allowed, body, hash) VALUES (1500, 'x', 'x', 1, ?1, ?2)";
    old.execute(sql, (body, hash)).unwrap();
    old
}
