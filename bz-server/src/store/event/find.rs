//! Questions to the logs: which rows, by what index, in which order, from where on.
//!
//! A question is driven by one index, chosen here and not by SQLite, which knows nothing of how many rows a person or a
//! text has; everything else is asked of each row on the way. Absent: anything about who may ask.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bz_core::id::{ConnectionId, TargetId, UserId};
use bz_core::time::UnixTime;
use rusqlite::types::Value;
use rusqlite::{Row as Found, Transaction, params, params_from_iter};

use crate::store::event::{Event, Log, Row, chain};
use crate::store::{StoreError, millis, rows, time};

/// The most rows one question answers.
pub const MOST: u32 = 1000;
/// Rows that one step of [`after`] looks at.
const STEP: u64 = 20_000;
/// More values than this are asked of each row, and are not looked up one by one.
const MOST_VALUES: usize = 16;
/// A text that more rows have is searched by another index where the filter gives one.
const RARE: usize = 2000;
/// Of a longer text these many runs of three characters are looked up, and the rest is asked of each row.
const MOST_RUNS: usize = 24;
/// What is left of a rowid in an index of texts below the time.
const PLACE: u32 = 20;

/// Which rows of a log; an empty list asks for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of these people or keys.
    pub subjects: Vec<UserId>,
    /// Of these connections; nothing in the log of calls.
    pub connections: Vec<ConnectionId>,
    /// On these targets; nothing in the log of calls.
    pub targets: Vec<TargetId>,
    /// What else must hold.
    pub conditions: Vec<Condition>,
    /// Texts that hold this; nothing in logs without texts.
    pub search: Option<String>,
    /// Not before.
    pub from: Option<UnixTime>,
    /// Not after.
    pub to: Option<UnixTime>,
    /// Only older ones than this row.
    pub before: Option<Cursor>,
    /// At most so many, newest first.
    pub limit: u32,
}

/// A field of the body that must have one of these values; `true` is `1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The field, as the API gives it.
    pub field: &'static str,
    /// Its values.
    pub values: Vec<String>,
}

/// A place in a log, newest first: the time of a row, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    at: i64,
    seq: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at, self.seq)
    }
}

/// Not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one that a page of this log gave")]
pub struct ParseCursorError;

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let (at, seq) = text.split_once('-').ok_or(ParseCursorError)?;
        let (at, seq) = (at.parse().map_err(|_| ParseCursorError)?, seq.parse().map_err(|_| ParseCursorError)?);
        Ok(Self { at, seq })
    }
}

/// A page of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Its rows, newest first.
    pub rows: Vec<Row>,
    /// Where the next one begins, if there is one.
    pub next: Option<Cursor>,
}

/// The index that drives a question.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Driver {
    /// All of the log by time.
    Time,
    /// These values of a column, each by time.
    Column(&'static str, Vec<String>),
    /// Denied calls by time.
    Denied,
    /// The index of texts, by time.
    Text { table: &'static str, runs: String },
}

/// A statement and its values.
#[derive(Debug, Default)]
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

impl Sql {
    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    fn bind_list(&mut self, values: &[String]) -> Result<String, StoreError> {
        let list = super::super::to_json(&values)?;
        Ok(format!("(SELECT value FROM json_each({}))", self.bind(list)))
    }
}

/// One page, newest first.
pub(super) fn page(tx: &Transaction<'_>, log: Log, filter: &EventFilter) -> Result<Page, StoreError> {
    let Some(sql) = statement(tx, log, filter)? else { return Ok(Page::default()) };
    let mut statement = tx.prepare_cached(&sql.text)?;
    let mut found = statement.query(params_from_iter(sql.values))?;
    let mut page = Page::default();
    while let Some(row) = found.next()? {
        let row = read(row, log)?;
        if page.rows.len() >= filter.limit() as usize {
            page.next = page.rows.last().map(|last| Cursor { at: millis(last.at), seq: last.seq });
            break;
        }
        page.rows.push(row);
    }
    Ok(page)
}

/// The rows after this one that fit, oldest first, and from where to go on.
pub(super) fn after(
    tx: &Transaction<'_>,
    (logs, filter): (&[Log], &EventFilter),
    after: u64,
) -> Result<(Vec<Row>, u64), StoreError> {
    let last = after.saturating_add(STEP).min(chain::head(tx)?.count);
    let mut sql = Sql::default();
    let numbers: Vec<_> = logs.iter().map(|log| log.number().to_string()).collect();
    let bounds = [after, last].map(|seq| sql.bind(i64::try_from(seq).unwrap_or(i64::MAX)));
    let [from, to] = bounds;
    let rest = rest(&mut sql, "coalesce(body ->> '$.command', body ->> '$.statement')", filter, &Driver::Time)?;
    sql.text = format!(
        "SELECT seq, log, at, body, hash FROM event
         WHERE seq > {from} AND seq <= {to} AND log IN ({}){rest} ORDER BY seq LIMIT {MOST}",
        numbers.join(", ")
    );
    let mut statement = tx.prepare_cached(&sql.text)?;
    let mut found = statement.query(params_from_iter(sql.values))?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        let log = Log::of(row.get("log")?).ok_or_else(|| StoreError::Unreadable("a log".to_owned()))?;
        all.push(read(row, log)?);
    }
    let full = all.len() >= MOST as usize;
    let next = all.last().filter(|_| full).map_or(last, |row| row.seq);
    Ok((all, next.max(after)))
}

/// The statement of a page; `None` when it is known before that nothing fits.
pub(super) fn statement(tx: &Transaction<'_>, log: Log, filter: &EventFilter) -> Result<Option<Sql>, StoreError> {
    if filter.search.is_some() && log.text().is_none() {
        return Ok(None);
    }
    let Some(driver) = driver(tx, log, filter)? else { return Ok(None) };
    let mut sql = Sql::default();
    let limit = sql.bind(i64::from(filter.limit()) + 1);
    let times = times(&mut sql, filter);
    let text = log.text().map(|(_, field)| format!("body ->> '$.{field}'")).unwrap_or_default();
    let rest = rest(&mut sql, &text, filter, &driver)?;
    let log = log.number();
    let order = format!("ORDER BY at DESC, seq DESC LIMIT {limit}");
    sql.text = match &driver {
        Driver::Time => {
            format!(
                "SELECT seq, at, body, hash FROM event INDEXED BY event_log WHERE log = {log} AND {times}{rest} {order}"
            )
        }
        Driver::Denied => {
            format!(
                "SELECT seq, at, body, hash FROM event INDEXED BY event_denied WHERE denied AND {times}{rest} {order}"
            )
        }
        Driver::Column(column, values) => {
            let one = |value: &String| {
                let value = sql.bind(value.clone());
                format!(
                    "SELECT * FROM (SELECT seq, at, body, hash FROM event INDEXED BY event_{column}
                     WHERE {column} = {value} AND log = {log} AND {times}{rest} {order})"
                )
            };
            let all: Vec<_> = values.iter().map(one).collect();
            format!("SELECT seq, at, body, hash FROM ({}) {order}", all.join(" UNION ALL "))
        }
        Driver::Text { table, runs } => {
            let (runs, [from, to]) = (sql.bind(runs.clone()), places(filter).map(|place| sql.bind(place)));
            format!(
                "SELECT seq, at, body, hash FROM {table} CROSS JOIN event INDEXED BY event_log
                 ON log = {log} AND at = {table}.rowid >> {PLACE}
                    AND (seq & {mask}) = ({table}.rowid & {mask})
                 WHERE {table} MATCH {runs} AND {table}.rowid BETWEEN {from} AND {to} AND {times}{rest}
                 ORDER BY {table}.rowid DESC LIMIT {limit}",
                mask = (1_i64 << PLACE) - 1
            )
        }
    };
    Ok(Some(sql))
}

/// Which index drives; `None` when a name that is asked for was never seen.
fn driver(tx: &Transaction<'_>, log: Log, filter: &EventFilter) -> Result<Option<Driver>, StoreError> {
    let other = other_driver(tx, filter)?;
    let Some(((table, _), text)) = log.text().zip(filter.search.as_deref()) else { return Ok(other) };
    let Some(runs) = runs(text) else { return Ok(other) };
    let is_rare = || -> Result<bool, StoreError> {
        let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {table} MATCH ?1 LIMIT {RARE})");
        let found: i64 = tx.prepare_cached(&sql)?.query_row([&runs], |row| row.get(0))?;
        Ok(usize::try_from(found).is_ok_and(|found| found < RARE))
    };
    Ok(match other {
        None => None,
        Some(Driver::Column(..) | Driver::Denied) if !is_rare()? => other,
        Some(_) => Some(Driver::Text { table, runs }),
    })
}

fn other_driver(tx: &Transaction<'_>, filter: &EventFilter) -> Result<Option<Driver>, StoreError> {
    for (column, values) in filter.ids() {
        if (1..=MOST_VALUES).contains(&values.len()) {
            return Ok(Some(Driver::Column(column, values)));
        }
    }
    for (field, column, kind) in [("subjectName", "subject", 1), ("targetName", "target", 2)] {
        let Some(names) = filter.values(field).filter(|names| names.iter().all(|name| !name.is_empty())) else {
            continue;
        };
        let sql = "SELECT DISTINCT id FROM event_name WHERE kind = ?1 AND name IN (SELECT value FROM json_each(?2))";
        let names = super::super::to_json(&names)?;
        let values: Vec<String> = rows(tx, sql, &[&kind, &names], |row| Ok(row.get("id")?))?;
        match values.len() {
            0 => return Ok(None),
            1..=MOST_VALUES => return Ok(Some(Driver::Column(column, values))),
            _ => {}
        }
    }
    let kinds = filter.values("serviceAction").or_else(|| filter.values("connectionEventType"));
    if let Some(kinds) = kinds.filter(|kinds| kinds.len() <= MOST_VALUES) {
        let kinds: BTreeSet<_> = kinds.iter().cloned().collect();
        return Ok(Some(Driver::Column("kind", kinds.into_iter().collect())));
    }
    let denied = filter.values("evaluation").is_some_and(|values| values == ["0"]);
    Ok(Some(if denied { Driver::Denied } else { Driver::Time }))
}

impl EventFilter {
    fn limit(&self) -> u32 {
        self.limit.clamp(1, MOST)
    }

    /// The ids that are asked for, each once, by their columns: the most telling first.
    fn ids(&self) -> [(&'static str, Vec<String>); 3] {
        fn texts<T: ToString>(ids: &[T]) -> Vec<String> {
            ids.iter().map(ToString::to_string).collect::<BTreeSet<_>>().into_iter().collect()
        }
        [("connection", texts(&self.connections)), ("subject", texts(&self.subjects)), ("target", texts(&self.targets))]
    }

    fn values(&self, field: &str) -> Option<&[String]> {
        self.conditions.iter().find(|condition| condition.field == field).map(|condition| condition.values.as_slice())
    }
}

fn times(sql: &mut Sql, filter: &EventFilter) -> String {
    let from = sql.bind(filter.from.map_or(0, millis));
    let to = filter.to.map_or(i64::MAX, millis);
    let Some(before) = filter.before else { return format!("at BETWEEN {from} AND {}", sql.bind(to)) };
    let (to, at) = (sql.bind(to.min(before.at)), sql.bind(before.at));
    let seq = sql.bind(i64::try_from(before.seq).unwrap_or(i64::MAX));
    format!("at BETWEEN {from} AND {to} AND (at, seq) < ({at}, {seq})")
}

/// What is asked of each row that the driver gives; `text` is where it is searched.
fn rest(sql: &mut Sql, text: &str, filter: &EventFilter, driver: &Driver) -> Result<String, StoreError> {
    let mut rest = String::new();
    for (column, values) in filter.ids() {
        let is_driver = matches!(driver, Driver::Column(by, of) if *by == column && *of == values);
        if !values.is_empty() && !is_driver {
            rest += &format!(" AND +{column} IN {}", sql.bind_list(&values)?);
        }
    }
    for Condition { field, values } in &filter.conditions {
        if *field == "ipAddress" {
            rest += &from_address(&sql.bind_list(values)?);
            continue;
        }
        rest += &format!(" AND CAST(body ->> '$.{field}' AS TEXT) IN {}", sql.bind_list(values)?);
    }
    if let Some(search) = &filter.search {
        let pattern = search.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        rest += &format!(" AND {text} LIKE {} ESCAPE '\\'", sql.bind(format!("%{pattern}%")));
    }
    Ok(rest)
}

/// Calls from these addresses, and what happened in connections that were opened or attached to from there: an event of
/// a connection says none, and the call that made it does.
fn from_address(addresses: &str) -> String {
    format!(
        " AND (body ->> '$.ipAddress' IN {addresses} OR connection IN (
             SELECT CASE calls.kind WHEN 'connectionservice:connect' THEN calls.body ->> '$.context' ->> '$.about'
                                    ELSE calls.body ->> '$.resource' END
             FROM event AS calls INDEXED BY event_kind
             WHERE calls.kind IN ('connectionservice:connect', 'connectionservice:attach') AND calls.log = 1
               AND calls.body ->> '$.ipAddress' IN {addresses}))"
    )
}

/// What an index of texts is asked for: all runs of three characters. `None` for a text that has none.
fn runs(text: &str) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let runs = chars.windows(3).take(MOST_RUNS).map(|run| {
        let run: String = run.iter().collect();
        format!("\"{}\"", run.replace('"', "\"\""))
    });
    let runs: Vec<_> = runs.collect();
    if runs.is_empty() { None } else { Some(runs.join(" AND ")) }
}

/// A row's rowid in an index of texts: by time, as pages are. [`index`] and [`forget`] say it in SQL.
const fn place(at: i64, seq: i64) -> i64 {
    (at << PLACE) | (seq & ((1 << PLACE) - 1))
}

/// The rowids that times and cursor leave.
fn places(filter: &EventFilter) -> [i64; 2] {
    let most = (1_i64 << (i64::BITS - 1 - PLACE)) - 1;
    let from = filter.from.map_or(0, millis).min(most);
    let to = filter.to.map_or(most, millis).min(filter.before.map_or(most, |before| before.at)).clamp(0, most);
    [place(from, 0), place(to, -1)]
}

/// A name, of which kind, and whose.
pub(super) type Name = (u8, String, String);

/// The names by which an event is found.
pub(super) fn names<E: Event>(event: &E) -> impl Iterator<Item = Name> {
    let subject = event.actor().and_then(|actor| Some((1, actor.subject_name.clone(), actor.subject_id?.to_string())));
    let target = event.place().map(|place| (2, place.target_name.clone(), place.target_id.to_string()));
    [subject, target].into_iter().flatten()
}

/// Makes events findable by their names.
pub(super) fn name(tx: &Transaction<'_>, names: impl IntoIterator<Item = Name>) -> Result<(), StoreError> {
    let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO event_name (kind, name, id) VALUES (?1, ?2, ?3)")?;
    names.into_iter().try_for_each(|(kind, name, id)| insert.execute(params![kind, name, id]).map(drop))?;
    Ok(())
}

/// Makes all rows findable by their names that a migration brought in.
pub(super) fn name_all(tx: &Transaction<'_>) -> Result<(), StoreError> {
    for (kind, name, id) in [(1, "subjectName", "subject"), (2, "targetName", "target")] {
        tx.execute_batch(&format!(
            "INSERT OR IGNORE INTO event_name (kind, name, id) SELECT DISTINCT {kind}, body ->> '$.{name}', {id}
             FROM event WHERE {id} IS NOT NULL AND body ->> '$.{name}' IS NOT NULL"
        ))?;
    }
    Ok(())
}

/// Makes rows findable by their texts that were added since this was last done: at the end of a transaction and not row
/// by row, because an index of texts is written anew at each savepoint.
pub(in crate::store) fn index(tx: &Transaction<'_>) -> Result<(), StoreError> {
    let mut open = tx.prepare_cached("SELECT indexed FROM event_head WHERE indexed < count")?;
    let Some(done) = open.query_map([], |row| row.get::<_, i64>(0))?.next().transpose()? else { return Ok(()) };
    for log in Log::ALL {
        if let Some((table, field)) = log.text() {
            let sql = format!(
                "INSERT INTO {table} (rowid, text) SELECT (at << {PLACE}) | (seq & {}), body ->> '$.{field}'
                 FROM event NOT INDEXED WHERE seq > ?1 AND log = {}",
                (1_i64 << PLACE) - 1,
                log.number()
            );
            tx.prepare_cached(&sql)?.execute([done])?;
        }
    }
    tx.prepare_cached("UPDATE event_head SET indexed = count")?.execute([])?;
    Ok(())
}

/// Takes rows up to this one out of the indexes of texts.
pub(super) fn forget(tx: &Transaction<'_>, last: i64) -> Result<(), StoreError> {
    for log in Log::ALL {
        if let Some((table, _)) = log.text() {
            tx.execute(
                &format!(
                    "DELETE FROM {table} WHERE rowid IN
                     (SELECT (at << {PLACE}) | (seq & {}) FROM event WHERE seq <= ?1 AND +log = {})",
                    (1_i64 << PLACE) - 1,
                    log.number()
                ),
                [last],
            )?;
        }
    }
    Ok(())
}

fn read(row: &Found<'_>, log: Log) -> Result<Row, StoreError> {
    let seq = chain::number(row, "seq")?;
    Ok(Row { seq, log, at: time(row, "at")?, body: row.get("body")?, hash: chain::hash(row)? })
}
