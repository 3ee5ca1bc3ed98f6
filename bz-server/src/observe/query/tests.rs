//! What holds for both readers: every statement is a line with its answer, however the bytes are cut, and whatever they
//! are.

mod mysql;
mod postgres;

use bz_core::api::record::QueryOutcome::Done;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Bytes one way.
pub(super) type Said = (Direction, Vec<u8>);

pub(super) fn client(bytes: impl AsRef<[u8]>) -> Said {
    (Direction::ToAgent, bytes.as_ref().to_vec())
}

pub(super) fn server(bytes: impl AsRef<[u8]>) -> Said {
    (Direction::ToClient, bytes.as_ref().to_vec())
}

/// Reads a conversation in pieces of at most so many bytes, one millisecond for each thing that is said.
pub(super) fn read(wire: Wire, redact: bool, said: &[Said], piece: usize) -> Vec<QueryLine> {
    let mut lens = QueryLens::new(wire, redact).unwrap();
    let mut lines = Vec::new();
    for (now, (way, bytes)) in (1000..).zip(said) {
        bytes.chunks(piece).for_each(|bytes| lines.extend(lens.bytes(now, *way, bytes)));
    }
    lines.extend(lens.finish());
    assert_eq!(lens.finish(), [], "what was said is not said again");
    lines
}

/// A line in short: outcome, kind, statement, parameters, rows, error.
pub(super) fn short(line: &QueryLine) -> String {
    let outcome = if line.outcome == Done { String::new() } else { format!("{:?} ", line.outcome).to_lowercase() };
    let parameters = if line.parameters.is_empty() {
        String::new()
    } else {
        let shown = line.parameters.iter().map(|p| p.as_deref().unwrap_or("NULL"));
        format!(" [{}]", shown.collect::<Vec<_>>().join(", "))
    };
    let rows = line.rows.map(|rows| format!(" {rows} rows")).unwrap_or_default();
    let error = line.error.as_ref().map(|e| format!(" {} {}", e.code, e.message)).unwrap_or_default();
    format!("{outcome}{}: {}{parameters}{rows}{error}", line.kind, line.statement)
}

/// The lines of a conversation, however it is cut.
#[track_caller]
pub(super) fn check(wire: Wire, said: &[Said], want: &[&str]) {
    let whole = read(wire, false, said, usize::MAX);
    assert_eq!(whole.iter().map(short).collect::<Vec<_>>(), want);
    for piece in [1, 3, 7] {
        assert_eq!(read(wire, false, said, piece), whole, "in pieces of {piece}");
    }
}

fn bytes() -> impl Strategy<Value = Vec<Said>> {
    let way = prop_oneof![Just(Direction::ToAgent), Just(Direction::ToClient)];
    // Small numbers make lengths that are short enough to be believed.
    let byte = prop_oneof![Just(0_u8), 1..9_u8, any::<u8>(), prop::sample::select(b"QPBESDCZTIsN123".to_vec())];
    vec((way, vec(byte, 0..40)), 0..20)
}

/// A real beginning, so that what follows is read as more than a beginning.
fn begun(wire: Wire) -> Vec<Said> {
    match wire {
        Wire::Postgres => postgres::login(),
        Wire::Mysql => mysql::login(),
        Wire::Plain => Vec::new(),
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(rest in bytes(), begin: bool, mysql: bool, piece in 1..50_usize) {
        let wire = if mysql { Wire::Mysql } else { Wire::Postgres };
        let mut said = if begin { begun(wire) } else { Vec::new() };
        said.extend(rest);
        let lines = read(wire, false, &said, usize::MAX);
        prop_assert_eq!(&read(wire, false, &said, piece), &lines);
        let lost = lines.iter().filter(|line| line.outcome == QueryOutcome::Unparsed).count();
        prop_assert!(lost <= 1, "it is said once");
        for line in &lines {
            prop_assert!(line.statement.chars().all(text::is_plain), "{:?}", line.statement);
            prop_assert!(line.statement.len() <= crate::observe::LONGEST_LINE);
        }
    }

    /// A real conversation in which one byte was changed, or some are missing.
    #[test]
    fn damaged_bytes_are_read_without_harm(at: prop::sample::Index, to: u8, cut: bool, mysql: bool) {
        let (wire, mut said) = if mysql {
            (Wire::Mysql, mysql::conversation())
        } else {
            (Wire::Postgres, postgres::conversation())
        };
        let place = at.index(said.iter().map(|(_, bytes)| bytes.len()).sum());
        let mut before = 0;
        for (_, bytes) in &mut said {
            if let Some(inside) = place.checked_sub(before).filter(|inside| *inside < bytes.len()) {
                before += bytes.len();
                if cut { bytes.truncate(inside) } else { bytes[inside] = to }
                continue;
            }
            before += bytes.len();
        }
        let lines = read(wire, true, &said, usize::MAX);
        prop_assert_eq!(read(wire, true, &said, 5), lines);
    }
}

#[test]
fn a_stream_that_is_something_else_is_said_once() {
    for wire in [Wire::Postgres, Wire::Mysql] {
        for way in [Direction::ToAgent, Direction::ToClient] {
            let said = [(way, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(9)), (way, vec![0xff; 99])];
            let lines = read(wire, false, &said, usize::MAX);
            assert_eq!(lines.len(), 1, "{wire:?}, {way:?}: {lines:?}");
            assert_eq!(lines[0].outcome, QueryOutcome::Unparsed);
        }
    }
}
