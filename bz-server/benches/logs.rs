//! The logs under load: how many rows are taken each second with the chain on, and how long a first page takes.
//!
//! `cargo bench -p bz-server --bench logs -- [ROWS]`: 100,000 rows without a number. Rows are added as sessions do it: many
//! at once, a few each, and each batch waits until it would survive a power cut. Beside the time that passed stands the
//! time that processors took, which other work on the machine changes less.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "a benchmark stops where it goes wrong")]

use std::time::{Duration, Instant};

use bz_core::api::policy::SubjectType;
use bz_core::api::record::{Actor, CommandEvent, CommandSource, Place};
use bz_core::id::{ConnectionId, EnvironmentId, EventId, OrganizationId, TargetId, UserId};
use bz_core::time::UnixTime;
use bz_server::store::Store;
use bz_server::store::event::{Condition, EventFilter, Log};

/// Sessions that write at once, and rows of each of their batches.
const SESSIONS: u64 = 64;
const BATCH: u64 = 16;

#[tokio::main]
async fn main() {
    let rows = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(100_000);
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (began, before) = (Instant::now(), processors());
    let sessions = (0..SESSIONS).map(|session| tokio::spawn(write(store.clone(), session, rows / SESSIONS)));
    for session in sessions.collect::<Vec<_>>() {
        session.await.unwrap();
    }
    let (took, count) = (began.elapsed(), store.event_head().await.unwrap().count);
    let (rate, busy) = (|took: f64| count as f64 / took, processors() - before);
    println!("{count} rows in {took:.1?}: {:.0} rows/s", rate(took.as_secs_f64()));
    println!("{busy:.1} s of processors: {:.0} rows for each second of one", rate(busy));
    for (name, filter) in questions() {
        let (mut slowest, mut found) = (Duration::ZERO, 0);
        for _ in 0..5 {
            let began = Instant::now();
            found = store.events(Log::Commands, EventFilter { limit: 100, ..filter.clone() }).await.unwrap().rows.len();
            slowest = slowest.max(began.elapsed());
        }
        println!("{name:<32} {found:>4} rows in at most {slowest:.1?}");
    }
    let began = Instant::now();
    let audited = store.audit_events(None, (OrganizationId::from_bytes([1; 16]), Vec::new())).await.unwrap().unwrap();
    println!("the chain of {} rows walked in {:.1?}", audited.rows, began.elapsed());
}

async fn write(store: Store, session: u64, rows: u64) {
    for batch in 0..rows.div_ceil(BATCH) {
        let row = |number: u64| {
            let number = (batch * BATCH + number) * SESSIONS + session;
            (command(number), UnixTime::from_millis(1_800_000_000_000 + number))
        };
        store.add_events((0..BATCH).map(row).collect()).await.unwrap();
    }
}

/// The seconds that processors worked for this process: `proc_pid_stat(5)`, fields 14 and 15.
fn processors() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u32 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    f64::from(ticks) / 100.0
}

fn questions() -> Vec<(&'static str, EventFilter)> {
    let search = |text: &str| EventFilter { search: Some(text.to_owned()), ..EventFilter::default() };
    let person = |number: u64| vec![UserId::from_bytes(bytes(number))];
    let named = |field, value: &str| EventFilter {
        conditions: vec![Condition { field, values: vec![value.to_owned()] }],
        ..EventFilter::default()
    };
    vec![
        ("the newest", EventFilter::default()),
        ("a person", EventFilter { subjects: person(7), ..EventFilter::default() }),
        ("a person by name", named("subjectName", "person7@example.com")),
        ("a target by name", named("targetName", "host7")),
        ("a target user", named("targetUser", "root")),
        ("before a time", EventFilter { to: Some(UnixTime::from_millis(1_800_000_050_000)), ..EventFilter::default() }),
        ("a rare text", search("/etc/shadow-99999")),
        ("part of a common text", search("/etc/pass")),
        ("two letters", search("ls")),
        ("a common text of a person", EventFilter { subjects: person(7), ..search("journalctl") }),
        ("a rare text of a person", EventFilter { subjects: person(7), ..search("shadow-9") }),
        ("a text that nobody typed", search("nobody typed this")),
    ]
}

/// Of one of 1,000 people on one of 5,000 targets.
fn command(number: u64) -> CommandEvent {
    let text = match number % 5 {
        0 => "ls -l /var/log".to_owned(),
        1 => format!("sudo systemctl restart service-{}", number % 977),
        2 => "cat /etc/passwd | grep root".to_owned(),
        3 => format!("journalctl -u api --since '{number} seconds ago'"),
        _ => format!("vi /etc/shadow-{number}"),
    };
    CommandEvent {
        id: EventId::from_random(bytes(number)),
        connection_id: ConnectionId::from_bytes(bytes(number / 200)),
        organization_id: OrganizationId::from_bytes([1; 16]),
        actor: Actor {
            subject_id: Some(UserId::from_bytes(bytes(number % 1000))),
            subject_type: SubjectType::User,
            subject_name: format!("person{}@example.com", number % 1000),
            is_admin: false,
        },
        place: Place {
            target_id: TargetId::from_bytes(bytes(number % 5000)),
            target_name: format!("host{}", number % 5000),
            target_type: "Bzero".to_owned(),
            target_user: if number.is_multiple_of(10) { "root" } else { "app" }.to_owned(),
            target_groups: Vec::new(),
            environment_id: EnvironmentId::from_bytes([1; 16]),
            environment_name: "Production".to_owned(),
        },
        command: text,
        source: CommandSource::Screen,
        confirmed: true,
        timestamp: UnixTime::from_millis(1_800_000_000_000 + number).to_string(),
    }
}

fn bytes(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (_, end) = bytes.split_at_mut(8);
    end.copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes
}
