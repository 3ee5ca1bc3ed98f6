//! Which requests were made and what became of them, read from both directions of a session's streams.
//!
//! On each stream HTTP/1.1 is spoken; see `bz_protocol::hop`. A line is said when an answer is over, or when nothing
//! more comes of it. Where a stream is no HTTP, that is said once and the rest of it is let go.
//!
//! **Absent:** headers and bodies; values in queries, which are secrets too often.

mod reader;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bz_core::api::record::WebOutcome;
use bz_core::time::UnixTime;
use bz_protocol::keys::Direction;

use crate::observe::Line;
use crate::observe::kube::is_terminal;
use crate::observe::kube::typed::{Protocol, Typed};

use reader::{Framing, Head, Malformed, Reader, Step};

/// Requests that may wait on one stream for their answers: the ends make one at a time.
const MAX_PENDING: usize = 8;
/// Streams that are followed at once: more than a session has.
const MAX_STREAMS: usize = 512;
/// Terminals that are followed at once.
const MAX_TERMINALS: usize = 16;
/// A longer path is cut in the log.
const LONGEST: usize = 8 << 10;
/// A longer name in a query is none.
const LONGEST_NAME: usize = 64;

/// A request, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its method; empty where there was no request to read.
    pub method: String,
    /// Its target as it stood in the request.
    pub target: String,
    /// The value of the header that was asked for.
    pub wanted: Option<String>,
    /// The answer's status.
    pub status: Option<u16>,
    /// Bytes of its body.
    pub sent: u64,
    /// Bytes of the answer's.
    pub received: u64,
    /// When it came.
    pub began: UnixTime,
    /// When this was said.
    pub ended: UnixTime,
    /// What became of it.
    pub outcome: WebOutcome,
}

/// Reads one session.
#[derive(Debug, Default)]
pub struct HttpLens {
    streams: BTreeMap<u32, Streams>,
    wanted: Option<&'static str>,
    /// What was typed in terminals and is not told yet.
    typed: Vec<Line>,
}

/// Both directions of one stream.
#[derive(Debug)]
struct Streams {
    asks: Reader,
    answers: Reader,
    pending: VecDeque<Pending>,
    /// Which of all was asked last.
    count: u64,
    mode: Mode,
    /// Of a terminal in a container.
    terminal: Option<Box<Typed>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Messages,
    /// Another protocol took over.
    Raw,
    /// It is no HTTP.
    Lost,
}

/// A request whose answer is not over.
#[derive(Debug)]
struct Pending {
    number: u64,
    upgrade: Option<String>,
    so_far: Exchange,
    /// What was said of it when nothing more seemed to come.
    told: Option<(u64, u64)>,
}

impl HttpLens {
    /// The same, and the value of one header with each request.
    #[must_use]
    pub fn wanting(header: &'static str) -> Self {
        Self { wanted: Some(header), ..Self::default() }
    }

    /// Bytes of a stream.
    #[must_use]
    pub fn bytes(&mut self, at: UnixTime, (way, stream): (Direction, u32), bytes: &[u8]) -> Vec<Exchange> {
        let (full, wanted) = (self.streams.len() >= MAX_STREAMS, self.wanted);
        if full && !self.streams.contains_key(&stream) {
            return Vec::new();
        }
        let terminals = self.streams.values().filter(|streams| streams.terminal.is_some()).count();
        let streams = self.streams.entry(stream).or_insert_with(|| Streams::new(wanted));
        let mut lines = Vec::new();
        let read = match (streams.mode, way) {
            (Mode::Lost, _) => Ok(()),
            (Mode::Raw, _) => {
                self.typed.extend(streams.raw(way, bytes));
                Ok(())
            }
            (Mode::Messages, Direction::ToAgent) => streams.ask(at, bytes),
            (Mode::Messages, Direction::ToClient) => match streams.answer(at, bytes, &mut lines) {
                Ok(Some(rest)) => {
                    let wants = wanted.is_some() && terminals < MAX_TERMINALS;
                    streams.terminal = streams.terminal(wants);
                    self.typed.extend(streams.raw(way, rest));
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
        };
        if read.is_err() {
            lines.extend(streams.lose(at));
        }
        lines
    }

    /// The end of a stream in one direction.
    #[must_use]
    pub fn eof(&mut self, at: UnixTime, (way, stream): (Direction, u32)) -> Vec<Exchange> {
        let Some(streams) = self.streams.get_mut(&stream) else { return Vec::new() };
        if way == Direction::ToAgent {
            return Vec::new();
        }
        let whole = streams.mode == Mode::Messages && streams.answers.ends_with_stream();
        let first = if whole { streams.over(at, WebOutcome::Answered) } else { None };
        first.into_iter().chain(self.reset(at, stream)).collect()
    }

    /// The end of a stream.
    #[must_use]
    pub fn reset(&mut self, at: UnixTime, stream: u32) -> Vec<Exchange> {
        let Some(mut streams) = self.streams.remove(&stream) else { return Vec::new() };
        self.typed.extend(streams.terminal.take().map(|mut terminal| terminal.finish()).unwrap_or_default());
        std::iter::from_fn(|| streams.cut(at)).collect()
    }

    /// What was typed in terminals of containers, since it was last asked for.
    #[must_use]
    pub fn typed(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.typed)
    }

    /// What is to be said when nothing comes. If the session goes on all the same, so does this.
    #[must_use]
    pub fn finish(&mut self, at: UnixTime) -> Vec<Exchange> {
        let mut lines = Vec::new();
        for streams in self.streams.values_mut() {
            let outcome = streams.cut_outcome();
            for pending in &mut streams.pending {
                let now = Some((pending.so_far.sent, pending.so_far.received));
                if std::mem::replace(&mut pending.told, now) != now {
                    lines.push(Exchange { ended: at, outcome, ..pending.so_far.clone() });
                }
            }
        }
        lines
    }
}

impl Streams {
    fn new(wanted: Option<&'static str>) -> Self {
        let (asks, answers) = (Reader::new(wanted), Reader::new(None));
        Self { asks, answers, pending: VecDeque::new(), count: 0, mode: Mode::Messages, terminal: None }
    }

    fn ask(&mut self, at: UnixTime, mut bytes: &[u8]) -> Result<(), Malformed> {
        while let Some(step) = self.asks.next(&mut bytes)? {
            match step {
                Step::Head(mut head) => {
                    let framing = match (head.chunked, head.coded, head.length) {
                        (true, _, _) => Framing::Chunks,
                        (_, true, _) => return Err(Malformed),
                        (_, _, Some(length)) => Framing::Length(length),
                        (_, _, None) => Framing::None,
                    };
                    if self.pending.len() >= MAX_PENDING {
                        return Err(Malformed);
                    }
                    self.count = self.count.saturating_add(1);
                    let pending = Pending {
                        number: self.count,
                        upgrade: head.upgrade.take(),
                        so_far: request(at, head)?,
                        told: None,
                    };
                    self.pending.push_back(pending);
                    self.asks.begin(framing);
                }
                Step::Body(length) => {
                    // It may have been answered before all of it came.
                    if let Some(last) = self.pending.back_mut().filter(|last| last.number == self.count) {
                        last.so_far.sent = last.so_far.sent.saturating_add(length);
                    }
                }
                Step::End => {}
            }
        }
        Ok(())
    }

    /// Gives back what follows an answer after which another protocol takes over.
    fn answer<'a>(
        &mut self,
        at: UnixTime,
        mut bytes: &'a [u8],
        lines: &mut Vec<Exchange>,
    ) -> Result<Option<&'a [u8]>, Malformed> {
        while let Some(step) = self.answers.next(&mut bytes)? {
            match step {
                Step::Head(head) => {
                    let pending = self.pending.front_mut().ok_or(Malformed)?;
                    let status = status(&head.first)?;
                    if status == 101 && pending.upgrade.is_some() {
                        pending.so_far.status = Some(status);
                        self.mode = Mode::Raw;
                        return Ok(Some(bytes));
                    }
                    let interim = (100..200).contains(&status);
                    let bare = interim || matches!(status, 204 | 304) || pending.so_far.method == "HEAD";
                    let framing = match (bare, head.chunked, head.length) {
                        (true, _, _) => Framing::None,
                        (_, true, _) => Framing::Chunks,
                        (_, _, Some(length)) if !head.coded => Framing::Length(length),
                        (_, _, _) => Framing::Open,
                    };
                    self.answers.begin(framing);
                    if !interim {
                        pending.so_far.status = Some(status);
                        let over = matches!(framing, Framing::None | Framing::Length(0));
                        lines.extend(over.then(|| self.over(at, WebOutcome::Answered)).flatten());
                    }
                }
                Step::Body(length) => {
                    let pending = self.pending.front_mut().ok_or(Malformed)?;
                    pending.so_far.received = pending.so_far.received.saturating_add(length);
                }
                Step::End => lines.extend(self.over(at, WebOutcome::Answered)),
            }
        }
        Ok(None)
    }

    /// What reads the other protocol, where somebody types in it.
    fn terminal(&self, wants: bool) -> Option<Box<Typed>> {
        let pending = self.pending.front().filter(|pending| wants && is_terminal(&pending.so_far.target))?;
        let protocol = match pending.upgrade.as_deref() {
            Some("websocket") => Protocol::WebSocket,
            Some("spdy/3.1") => Protocol::Spdy,
            _ => return None,
        };
        Some(Box::new(Typed::new(protocol)))
    }

    /// Bytes of the other protocol; what was typed in it.
    fn raw(&mut self, way: Direction, bytes: &[u8]) -> Vec<Line> {
        self.count_raw(way, bytes.len());
        self.terminal.as_mut().map(|terminal| terminal.bytes(way, bytes)).unwrap_or_default()
    }

    fn count_raw(&mut self, way: Direction, length: usize) {
        let Some(pending) = self.pending.front_mut() else { return };
        let counted = match way {
            Direction::ToAgent => &mut pending.so_far.sent,
            Direction::ToClient => &mut pending.so_far.received,
        };
        *counted = counted.saturating_add(length as u64);
    }

    /// The oldest request is over.
    fn over(&mut self, at: UnixTime, outcome: WebOutcome) -> Option<Exchange> {
        let pending = self.pending.pop_front()?;
        Some(Exchange { ended: at, outcome, ..pending.so_far })
    }

    fn cut_outcome(&self) -> WebOutcome {
        if self.mode == Mode::Raw { WebOutcome::Upgraded } else { WebOutcome::Incomplete }
    }

    /// The oldest request was cut.
    fn cut(&mut self, at: UnixTime) -> Option<Exchange> {
        let outcome = self.cut_outcome();
        let told = self.pending.front()?.told;
        let line = self.over(at, outcome)?;
        // What was said already is not said again.
        if told == Some((line.sent, line.received)) { self.cut(at) } else { Some(line) }
    }

    /// It is no HTTP: what waits for an answer is said to, and the rest is let go.
    fn lose(&mut self, at: UnixTime) -> Vec<Exchange> {
        self.mode = Mode::Lost;
        let none = || Exchange {
            method: String::new(),
            target: String::new(),
            wanted: None,
            status: None,
            sent: 0,
            received: 0,
            began: at,
            ended: at,
            outcome: WebOutcome::Unparsed,
        };
        let first = self.over(at, WebOutcome::Unparsed).unwrap_or_else(none);
        let rest: Vec<Exchange> = std::iter::from_fn(|| self.over(at, WebOutcome::Incomplete)).collect();
        std::iter::once(first).chain(rest).collect()
    }
}

fn request(at: UnixTime, head: Head) -> Result<Exchange, Malformed> {
    let text = String::from_utf8_lossy(&head.first).into_owned();
    let mut words = text.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().ok_or(Malformed)?);
    let cut = head.first.len() >= LONGEST;
    if !cut {
        let line = [head.first.as_slice(), b"\r\n\r\n"].concat();
        let parsed = httparse::Request::new(&mut []).parse(&line).map_err(|_| Malformed)?;
        parsed.is_complete().then_some(()).ok_or(Malformed)?;
    }
    let method_is_one =
        !method.is_empty() && method.len() < LONGEST_NAME && method.bytes().all(|b| b.is_ascii_graphic());
    if !method_is_one || target.is_empty() {
        return Err(Malformed);
    }
    Ok(Exchange {
        method: method.to_owned(),
        target: target.to_owned(),
        wanted: head.wanted,
        status: None,
        sent: 0,
        received: 0,
        began: at,
        ended: at,
        outcome: WebOutcome::Incomplete,
    })
}

fn status(line: &[u8]) -> Result<u16, Malformed> {
    // What follows the status is for nobody to read.
    let line = [line.get(..line.len().min(1024)).unwrap_or_default(), b"\r\n\r\n"].concat();
    let mut response = httparse::Response { version: None, code: None, reason: None, headers: &mut [] };
    let parsed = response.parse(&line).map_err(|_| Malformed)?;
    response.code.filter(|code| parsed.is_complete() && *code >= 100).ok_or(Malformed)
}

impl Exchange {
    /// The path, and of a query its names: `/search?q=…&page=…`. One line, safe to show.
    #[must_use]
    pub fn path(&self) -> String {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target.as_str(), None),
        };
        let mut shown = escaped(path);
        if let Some(query) = query {
            let named = |pair: &str| match pair.split_once('=') {
                Some((name, _)) if name.len() <= LONGEST_NAME => format!("{}=…", escaped(name)),
                // Without a name it is a value.
                _ => "…".to_owned(),
            };
            let names: Vec<String> = query.split('&').map(named).collect();
            shown.push('?');
            shown.push_str(&names.join("&"));
        }
        if shown.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|end| shown.is_char_boundary(*end)).unwrap_or_default();
            shown.truncate(end);
            shown.push('…');
        }
        shown
    }
}

/// What is no plain text is `\xNN`.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if super::command::text::is_plain(character) {
            out.push(character);
        } else {
            character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
        }
    }
    out
}
