//! One direction of an HTTP/1.1 connection: where each message begins and ends. What is in bodies is counted only.

use std::mem;

/// The most bytes that are kept of a line; of a longer one the rest is passed over.
const MAX_LINE: usize = 8 << 10;

/// It is no HTTP, or none that both ends would take for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The beginning of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The request line or the status line.
    pub(super) first: Vec<u8>,
    /// How long its body is, if it says so.
    pub(super) length: Option<u64>,
    /// Whether the body comes in chunks.
    pub(super) chunked: bool,
    /// Whether a body's end is that of the connection, whatever else is said.
    pub(super) coded: bool,
    /// Whether the connection is to change to another protocol.
    pub(super) upgrade: Option<String>,
    /// The value of the header that is asked for.
    pub(super) wanted: Option<String>,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunks,
    /// With the stream.
    Open,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A message; its reader says how its body ends, with [`Reader::begin`].
    Head(Head),
    /// Bytes of its body.
    Body(u64),
    /// Its end.
    End,
}

/// Reads one direction.
#[derive(Debug)]
pub(super) struct Reader {
    state: State,
    line: Vec<u8>,
    head: Head,
    /// A header whose value matters, in lower case.
    wanted: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    First,
    Headers,
    Body(u64),
    Size,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    Open,
}

impl Reader {
    pub(super) fn new(wanted: Option<&'static str>) -> Self {
        Self { state: State::First, line: Vec::new(), head: Head::default(), wanted }
    }

    /// Says how the body ends of the message whose head came.
    pub(super) const fn begin(&mut self, framing: Framing) {
        self.state = match framing {
            Framing::None | Framing::Length(0) => State::First,
            Framing::Length(length) => State::Body(length),
            Framing::Chunks => State::Size,
            Framing::Open => State::Open,
        };
    }

    /// Whether the end of the stream is that of the message.
    pub(super) fn ends_with_stream(&self) -> bool {
        self.state == State::Open
    }

    /// The next step in these bytes, which are taken as far as it goes; `None` when they are all taken.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Step>, Malformed> {
        while !bytes.is_empty() {
            let step = match self.state {
                State::Open => Some(Step::Body(take(bytes, u64::MAX))),
                State::Body(left) => Some(self.body(bytes, left, State::Body)),
                State::Chunk(left) => Some(self.body(bytes, left, State::Chunk)),
                State::First | State::Headers | State::Size | State::ChunkEnd | State::Trailers => {
                    match self.take_line(bytes) {
                        Some(line) => self.read(&line)?,
                        None => None,
                    }
                }
            };
            if step.is_some() {
                return Ok(step);
            }
        }
        // A body that ends with the bytes before has its end told here.
        if self.state == State::Body(0) {
            self.state = State::First;
            return Ok(Some(Step::End));
        }
        Ok(None)
    }

    fn body(&mut self, bytes: &mut &[u8], left: u64, rest: fn(u64) -> State) -> Step {
        if left == 0 {
            self.state = State::First;
            return Step::End;
        }
        let taken = take(bytes, left);
        let left = left.saturating_sub(taken);
        self.state = if left == 0 && rest(0) == State::Chunk(0) { State::ChunkEnd } else { rest(left) };
        Step::Body(taken)
    }

    fn take_line(&mut self, bytes: &mut &[u8]) -> Option<Vec<u8>> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (now, rest) = bytes.split_at_checked(end.map_or(bytes.len(), |end| end.saturating_add(1)))?;
        let room = MAX_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(now.get(..room.min(now.len())).unwrap_or_default());
        *bytes = rest;
        end?;
        let mut line = mem::take(&mut self.line);
        while line.last().is_some_and(|last| matches!(last, b'\r' | b'\n')) {
            line.pop();
        }
        Some(line)
    }

    fn read(&mut self, line: &[u8]) -> Result<Option<Step>, Malformed> {
        match self.state {
            // Some say an empty line after a body.
            State::First if line.is_empty() => {}
            State::First => {
                self.head = Head { first: line.to_vec(), ..Head::default() };
                self.state = State::Headers;
            }
            State::Headers if line.is_empty() => return Ok(Some(Step::Head(mem::take(&mut self.head)))),
            State::Headers => self.header(line)?,
            State::Size => {
                let size = size(line)?;
                self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
            }
            State::ChunkEnd if line.is_empty() => self.state = State::Size,
            State::ChunkEnd => return Err(Malformed),
            State::Trailers if line.is_empty() => {
                self.state = State::First;
                return Ok(Some(Step::End));
            }
            State::Trailers | State::Body(_) | State::Chunk(_) | State::Open => {}
        }
        Ok(None)
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let cut = line.len() >= MAX_LINE;
        let mut slots = [httparse::EMPTY_HEADER; 1];
        let whole = [line, b"\r\n\r\n"].concat();
        let parsed = httparse::parse_headers(&whole, &mut slots).map_err(|_| Malformed)?;
        let httparse::Status::Complete((_, [header])) = parsed else { return Err(Malformed) };
        let name = header.name.to_ascii_lowercase();
        let value = String::from_utf8_lossy(header.value);
        match name.as_str() {
            "content-length" => {
                let length = value.trim().parse().map_err(|_| Malformed)?;
                if cut || self.head.length.is_some_and(|before| before != length) {
                    return Err(Malformed);
                }
                self.head.length = Some(length);
            }
            "transfer-encoding" => {
                let last = value.rsplit(',').next().unwrap_or_default();
                self.head.chunked = !cut && last.trim().eq_ignore_ascii_case("chunked");
                self.head.coded = !self.head.chunked;
            }
            "upgrade" => self.head.upgrade = Some(value.trim().to_ascii_lowercase()),
            _ if Some(name.as_str()) == self.wanted => self.head.wanted = Some(value.into_owned()),
            _ => {}
        }
        Ok(())
    }
}

fn take(bytes: &mut &[u8], most: u64) -> u64 {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    let (taken, rest) = bytes.split_at_checked(most).unwrap_or_default();
    *bytes = rest;
    taken.len() as u64
}

/// The size of a chunk; what may follow it in its line means nothing to anybody.
fn size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next().unwrap_or_default();
    let digits = std::str::from_utf8(digits).map_err(|_| Malformed)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain { u64::from_str_radix(digits, 16).map_err(|_| Malformed) } else { Err(Malformed) }
}
