//! What is found by filters and texts, against a plain reading of all rows, and how SQLite goes about it.

use proptest::prelude::*;

use super::{Bench, command};
use crate::store::event::find;
use crate::store::event::*;
use bz_core::id::{ConnectionId, TargetId, UserId};

const WORDS: [&str; 6] = ["cat /etc/passwd", "ls -l /tmp", "SELECT 100% _x", "grep äöü x", "sudo -i", "ls"];

/// A filter and the same as a plain question to one row.
#[derive(Debug, Clone)]
struct Asked {
    filter: EventFilter,
    person: Option<u8>,
    users: Vec<String>,
}

impl Asked {
    fn fits(&self, number: u64, text: &str) -> bool {
        let EventFilter { connections, targets, conditions, search, from, to, .. } = &self.filter;
        let at = UnixTime::from_secs(1000 + number);
        let event = command(text, number);
        let one = |list: &[String], value: &str| list.is_empty() || list.iter().any(|one| one == value);
        self.person.is_none_or(|person| number % 3 == u64::from(person))
            && (connections.is_empty() || connections.contains(&event.connection_id))
            && (targets.is_empty() || targets.contains(&event.place.target_id))
            && one(&self.users, &event.place.target_user)
            && conditions
                .iter()
                .all(|c| c.field != "isAdmin" || c.values.contains(&u8::from(event.actor.is_admin).to_string()))
            && search.as_ref().is_none_or(|search| text.to_lowercase().contains(&search.to_lowercase()))
            && from.is_none_or(|from| at >= from)
            && to.is_none_or(|to| at <= to)
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let ids = prop::collection::vec(0_u8..8, 0..3);
    let texts = ["/etc/pass", "etc", "ETC", "ls", "0% _", "äöü", "\"", "l", "nothing of it", "sudo -i"];
    let search = prop::option::of(prop::sample::select(texts.to_vec()));
    let times = (prop::option::of(0_u64..60), prop::option::of(0_u64..60));
    let who = (prop::option::of(0_u8..4), prop::bool::ANY);
    let users = prop::option::of(prop::sample::select(vec!["root", "app", "nobody"]));
    (ids.clone(), ids, search, times, who, users, prop::option::of(prop::bool::ANY)).prop_map(
        |(connections, targets, search, (from, to), (person, by_name), user, admin)| {
            let time = |seconds: u64| UnixTime::from_secs(1000 + seconds);
            let mut filter = EventFilter {
                connections: connections.iter().map(|byte| ConnectionId::from_bytes([*byte; 16])).collect(),
                targets: targets.iter().map(|byte| TargetId::from_bytes([*byte; 16])).collect(),
                search: search.map(str::to_owned),
                from: from.map(time),
                to: to.map(time),
                ..EventFilter::default()
            };
            let condition = |field, value: String| Condition { field, values: vec![value] };
            match person {
                Some(byte) if by_name => {
                    filter.conditions.push(condition("subjectName", format!("person{byte}@example.com")));
                }
                Some(byte) => filter.subjects.push(UserId::from_bytes([byte; 16])),
                None => {}
            }
            filter.conditions.extend(user.map(|user| condition("targetUser", user.to_owned())));
            filter.conditions.extend(admin.map(|admin| condition("isAdmin", u8::from(admin).to_string())));
            Asked { filter, person, users: user.map(str::to_owned).into_iter().collect() }
        },
    )
}

/// F-155~: whatever is asked, pages of any size hold exactly what a plain reading of all rows finds, newest first, each
/// once.
#[test]
fn pages_are_what_a_plain_reading_finds() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = runtime.block_on(async {
        let bench = Bench::with(0).await;
        for number in 0..60_u64 {
            bench.command(WORDS[usize::try_from(number % 6).unwrap()], number).await;
        }
        bench
    });
    proptest!(ProptestConfig::with_cases(300), |(asked in asked(), limit in 1_u32..9)| {
        let texts = (0..60_u64).map(|number| (number, WORDS[usize::try_from(number % 6).unwrap()]));
        let mut want: Vec<u64> = texts.filter(|(number, text)| asked.fits(*number, text)).map(|(n, _)| n + 1).collect();
        want.reverse();
        let found = runtime.block_on(async {
            let (mut found, mut before) = (Vec::new(), None);
            loop {
                let filter = EventFilter { limit, before, ..asked.filter.clone() };
                let page = bench.store.events(Log::Commands, filter).await.unwrap();
                assert!(page.rows.len() <= limit as usize);
                found.extend(page.rows.iter().map(|row| row.seq));
                let Some(next) = page.next else { break found };
                before = Some(next.to_string().parse().unwrap());
            }
        });
        prop_assert_eq!(found, want);
    });
}

/// What is driven by which index (of a text's own: matched, from and to a rowid, in descending order): no question reads a whole log where an index helps, and none sorts more than a few
/// pages.
#[tokio::test]
async fn questions_go_by_an_index() {
    let bench = Bench::with(5).await;
    for (log, filter, index) in questions() {
        let plan = bench.plan(log, &filter).await;
        assert!(plan.contains(index), "{log:?} {filter:?} goes so:\n{plan}");
        assert!(!plan.contains("SCAN event"), "{log:?} {filter:?} goes so:\n{plan}");
        let sorts = plan.matches("USE TEMP B-TREE").count();
        assert!(sorts == 0, "{log:?} {filter:?} sorts:\n{plan}");
    }
}

/// A text that many rows have is looked for where the filter is narrow, and by its own index where it is rare.
#[tokio::test]
async fn a_common_text_goes_by_the_filter() {
    let bench = Bench::with(0).await;
    let at = UnixTime::from_secs(1000);
    let rows: Vec<_> = (0..3000_u64).map(|number| (command("sudo -i", number), at)).collect();
    bench.store.add_events(rows).await.unwrap();
    bench.command("sudo rare", 9).await;
    let subjects = vec![UserId::from_bytes([0; 16])];
    for (text, index) in [("sudo", "event_subject"), ("rare", "command_text"), ("do r", "command_text")] {
        let filter =
            EventFilter { search: Some(text.to_owned()), subjects: subjects.clone(), ..EventFilter::default() };
        let plan = bench.plan(Log::Commands, &filter).await;
        assert!(plan.contains(index), "{text} goes so:\n{plan}");
    }
}

/// Questions to logs, and the index that each goes by.
fn questions() -> Vec<(Log, EventFilter, &'static str)> {
    let condition = |field, value: &str| Condition { field, values: vec![value.to_owned()] };
    let filter = EventFilter::default;
    let person = UserId::from_bytes([0; 16]);
    vec![
        (Log::Commands, filter(), "event_log (log=? AND at>? AND at<?)"),
        (Log::Commands, EventFilter { from: Some(UnixTime::from_secs(9)), ..filter() }, "event_log (log=? AND at>"),
        (
            Log::Commands,
            EventFilter { subjects: vec![person], ..filter() },
            "event_subject (subject=? AND log=? AND at>",
        ),
        (
            Log::Commands,
            EventFilter { connections: vec![ConnectionId::from_bytes([0; 16])], subjects: vec![person], ..filter() },
            "event_connection (connection=? AND log=? AND at>",
        ),
        (
            Log::Commands,
            EventFilter { targets: vec![TargetId::from_bytes([0; 16])], ..filter() },
            "event_target (target=? AND log=? AND at>",
        ),
        (
            Log::Commands,
            EventFilter { conditions: vec![condition("subjectName", "person1@example.com")], ..filter() },
            "event_subject (subject=? AND log=? AND at>",
        ),
        (
            Log::Commands,
            EventFilter { conditions: vec![condition("targetName", "host1")], ..filter() },
            "event_target (target=? AND log=? AND at>",
        ),
        (
            Log::Calls,
            EventFilter { conditions: vec![condition("serviceAction", "userservice:delete")], ..filter() },
            "event_kind (kind=? AND log=? AND at>",
        ),
        (
            Log::Connections,
            EventFilter { conditions: vec![condition("connectionEventType", "Closed")], ..filter() },
            "event_kind (kind=? AND log=? AND at>",
        ),
        (Log::Calls, EventFilter { conditions: vec![condition("evaluation", "0")], ..filter() }, "event_denied (at>"),
        (
            Log::Commands,
            EventFilter { search: Some("/etc/pass".to_owned()), ..filter() },
            "SCAN command_text VIRTUAL TABLE INDEX 192:M1><",
        ),
        (
            Log::Queries,
            EventFilter { search: Some("/etc/pass".to_owned()), ..filter() },
            "SCAN query_text VIRTUAL TABLE INDEX 192:M1><",
        ),
        (Log::Commands, EventFilter { search: Some("ls".to_owned()), ..filter() }, "event_log (log=? AND at>"),
    ]
}

impl Bench {
    async fn plan(&self, log: Log, filter: &EventFilter) -> String {
        let filter = filter.clone();
        let plan = self.store.read(move |tx| {
            let sql = find::statement(tx, log, &filter)?.expect("something may fit");
            let text = format!("EXPLAIN QUERY PLAN {}", sql.text);
            let mut statement = tx.prepare(&text)?;
            let lines = statement.query_map(rusqlite::params_from_iter(sql.values), |row| row.get::<_, String>(3))?;
            Ok(lines.collect::<Result<Vec<_>, _>>()?.join("\n"))
        });
        plan.await.unwrap()
    }
}
