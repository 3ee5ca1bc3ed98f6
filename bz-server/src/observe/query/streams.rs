//! The streams of a database session: a reader for each.

use std::collections::BTreeMap;

use bz_core::access::upstream::{DatabaseRequest, Wire};
use bz_protocol::frame::Kind;
use bz_protocol::keys::Direction;
use bz_protocol::stream::FIRST_OPENED;

use crate::observe::query::{QueryLens, QueryLine};

/// Streams at once; a session has fewer.
const MOST_STREAMS: usize = 1024;

/// Reads one session.
#[derive(Debug)]
pub struct QueriesLens {
    wire: Wire,
    redact: bool,
    streams: BTreeMap<u32, Stream>,
    /// The first number that no stream seen had.
    next: u32,
    /// What was said last of statements that were not answered.
    told: Vec<(u32, QueryLine)>,
}

#[derive(Debug)]
struct Stream {
    lens: QueryLens,
    /// Which directions have ended.
    ended: [bool; 2],
}

impl QueriesLens {
    /// A lens on a session with this database; whether literals are kept out of its lines.
    #[must_use]
    pub const fn new(database: &DatabaseRequest, redact: bool) -> Self {
        Self { wire: database.wire, redact, streams: BTreeMap::new(), next: FIRST_OPENED, told: Vec::new() }
    }

    /// A frame of the session; lines with their streams.
    #[must_use]
    pub fn frame(
        &mut self,
        now_millis: u64,
        (way, kind): (Direction, Kind),
        (stream, payload): (u32, &[u8]),
    ) -> Vec<(u32, QueryLine)> {
        let lines = match kind {
            Kind::Open => {
                self.open(stream, QueryLens::new(self.wire, self.redact));
                Vec::new()
            }
            Kind::Bytes if stream >= FIRST_OPENED => self.bytes(now_millis, way, (stream, payload)),
            Kind::Eof => self.ended(way, stream),
            Kind::Reset => self.close(stream),
            Kind::Bytes
            | Kind::Checkpoint
            | Kind::Resize
            | Kind::Reauthenticate
            | Kind::Notice
            | Kind::Refuse
            | Kind::Fin
            | Kind::Answer
            | Kind::Report => Vec::new(),
        };
        lines.into_iter().map(|line| (stream, line)).collect()
    }

    /// What is to be said when nothing comes: statements that are not answered. If the session goes on all the same, so
    /// does this.
    #[must_use]
    pub fn finish(&mut self) -> Vec<(u32, QueryLine)> {
        let left = |(number, stream): (&u32, &Stream)| {
            let number = *number;
            stream.lens.clone().finish().into_iter().map(move |line| (number, line)).collect::<Vec<_>>()
        };
        let left: Vec<_> = self.streams.iter().flat_map(left).collect();
        let told = std::mem::replace(&mut self.told, left.clone());
        left.into_iter().filter(|line| !told.contains(line)).collect()
    }

    fn open(&mut self, stream: u32, lens: Option<QueryLens>) {
        self.next = self.next.max(stream.saturating_add(1));
        if let Some(lens) = lens.filter(|_| self.streams.len() < MOST_STREAMS) {
            self.streams.insert(stream, Stream { lens, ended: [false; 2] });
        }
    }

    fn bytes(&mut self, now_millis: u64, way: Direction, (stream, bytes): (u32, &[u8])) -> Vec<QueryLine> {
        if let Some(stream) = self.streams.get_mut(&stream) {
            return stream.lens.bytes(now_millis, way, bytes);
        }
        if stream < self.next {
            return Vec::new();
        }
        let mut lens = QueryLens::new(self.wire, self.redact);
        let lines = lens.as_mut().map(|lens| lens.lost(now_millis, "the stream was not seen from its beginning"));
        self.open(stream, lens);
        lines.unwrap_or_default()
    }

    fn ended(&mut self, way: Direction, stream: u32) -> Vec<QueryLine> {
        let Some(one) = self.streams.get_mut(&stream) else { return Vec::new() };
        let [to_agent, to_client] = &mut one.ended;
        *(if way == Direction::ToAgent { to_agent } else { to_client }) = true;
        if one.ended == [true; 2] { self.close(stream) } else { Vec::new() }
    }

    fn close(&mut self, stream: u32) -> Vec<QueryLine> {
        self.streams.remove(&stream).map(|mut one| one.lens.finish()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use bz_core::api::record::QueryOutcome;

    use super::*;

    fn lens() -> QueriesLens {
        let destination = "db:5432".parse().unwrap();
        QueriesLens::new(&DatabaseRequest { destination, wire: Wire::Postgres, tls: false }, false)
    }

    const TO_AGENT: Direction = Direction::ToAgent;
    const START: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0bob\0\0\0";

    #[test]
    fn each_stream_has_a_reader_of_its_own() {
        let mut lens = lens();
        let mut frame = |kind, stream, bytes: &[u8]| lens.frame(5, (TO_AGENT, kind), (stream, bytes));
        for stream in [16, 17] {
            assert_eq!(frame(Kind::Open, stream, b""), []);
        }
        assert_eq!(frame(Kind::Bytes, 16, &START[..9]), []);
        let odd = frame(Kind::Bytes, 17, b"GET / HTTP/1.1");
        assert_eq!(
            odd.iter().map(|(at, line)| (*at, line.outcome)).collect::<Vec<_>>(),
            [(17, QueryOutcome::Unparsed)]
        );
        assert_eq!(frame(Kind::Bytes, 16, &START[9..]), []);
        let left = frame(Kind::Reset, 16, b"");
        assert_eq!((left[0].0, left[0].1.user.as_str(), left[0].1.outcome), (16, "bob", QueryOutcome::Unanswered));
        // What was under way when it ended says nothing new.
        assert_eq!(frame(Kind::Bytes, 16, b"late"), []);
    }

    #[test]
    fn a_stream_that_began_out_of_sight_is_said_once() {
        let mut lens = lens();
        let first = lens.frame(5, (TO_AGENT, Kind::Bytes), (20, b"x"));
        assert_eq!((first.len(), first[0].1.outcome), (1, QueryOutcome::Unparsed));
        assert_eq!(lens.frame(5, (TO_AGENT, Kind::Bytes), (20, b"x")), []);
        assert_eq!(lens.finish(), []);
    }

    /// A session that lost its carrier may find another.
    #[test]
    fn what_is_not_answered_is_told_once_and_read_on() {
        let mut lens = lens();
        for (kind, bytes) in [(Kind::Open, b"".as_slice()), (Kind::Bytes, START)] {
            assert_eq!(lens.frame(5, (TO_AGENT, kind), (16, bytes)), []);
        }
        assert_eq!((lens.finish().len(), lens.finish().len()), (1, 0));
        let done = lens.frame(5, (Direction::ToClient, Kind::Bytes), (16, b"Z\0\0\0\x05I"));
        assert_eq!((done[0].1.kind.as_str(), done[0].1.outcome), ("LOGIN", QueryOutcome::Done));
    }

    #[test]
    fn an_end_both_ways_is_one() {
        let mut lens = lens();
        for (kind, bytes) in [(Kind::Open, b"".as_slice()), (Kind::Bytes, START), (Kind::Eof, b"")] {
            assert_eq!(lens.frame(5, (TO_AGENT, kind), (16, bytes)), []);
        }
        assert_eq!(lens.frame(5, (Direction::ToClient, Kind::Eof), (16, b"")).len(), 1);
        assert_eq!(lens.finish(), []);
    }
}
