//! Streams over one ordered pipe, with credit per stream and two priority classes.
//!
//! For carriers without streams of their own. A message is `kind u8 | stream u32 | body`; interactive streams go before
//! bulk ones, and bulk ones take turns, so that a copy never delays a keystroke by more than one message.
//!
//! Pure: bytes in, bytes out. The pipe is [`crate::carrier::MuxLink`]'s.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::{MAX_LINK_STREAMS, MUX_CREDIT, MUX_MESSAGE};

/// Which streams go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Keystrokes, control.
    Interactive,
    /// Everything else.
    Bulk,
}

/// Which end this is: the dialing one opens odd streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The end that dialed.
    Dialer,
    /// The end that was dialed.
    Listener,
}

/// The rule the other end broke; the link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MuxError {
    /// Not a message.
    #[error("a malformed message on the link")]
    Malformed,
    /// More bytes than were credited.
    #[error("the other end of the link sent more than it may")]
    Credit,
    /// More streams than a link may have.
    #[error("too many streams on the link")]
    TooManyStreams,
    /// A stream id that is not the other end's to open, or was used.
    #[error("a stream that cannot be opened")]
    BadStream,
}

/// What happened to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MuxEvent {
    /// The other end opened it.
    Opened(u32, Class),
    /// Something can be read, or its end is known.
    Readable(u32),
    /// Something can be written, or never more.
    Writable(u32),
}

const OPEN: u8 = 1;
const DATA: u8 = 2;
const CREDIT: u8 = 3;
const FIN: u8 = 4;
/// The sender reads no more: what would still be sent to it is thrown away. Says nothing about the other direction.
const STOP: u8 = 5;

/// Bytes before a message's body.
const HEADER: usize = 5;

/// One end of the pipe.
#[derive(Debug)]
pub struct Mux {
    next: u32,
    theirs: u32,
    streams: BTreeMap<u32, Stream>,
    urgent: VecDeque<Vec<u8>>,
    turns: VecDeque<u32>,
    events: VecDeque<MuxEvent>,
}

#[derive(Debug)]
struct Stream {
    class: Class,
    incoming: VecDeque<u8>,
    outgoing: VecDeque<u8>,
    /// Bytes the other end lets us send.
    credit: usize,
    /// Bytes we still let the other end send.
    granted: usize,
    /// Bytes taken by the reader and not yet credited.
    taken: usize,
    peer_done: bool,
    done: Done,
    dropped: bool,
}

/// How far our own end of a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    No,
    Asked,
    Sent,
}

/// What a read gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Wait,
    /// Nothing ever again.
    End,
}

impl Mux {
    /// A pipe without streams.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        let (next, theirs) = match role {
            Role::Dialer => (1, 2),
            Role::Listener => (2, 1),
        };
        Self {
            next,
            theirs,
            streams: BTreeMap::new(),
            urgent: VecDeque::new(),
            turns: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// [`MuxError::TooManyStreams`].
    pub fn open(&mut self, class: Class) -> Result<u32, MuxError> {
        let id = self.next;
        self.next = id.checked_add(2).ok_or(MuxError::TooManyStreams)?;
        self.add(id, class)?;
        self.urgent.push_back(message(OPEN, id, &[u8::from(class == Class::Bulk)]));
        Ok(id)
    }

    /// Takes one message of the other end.
    ///
    /// # Errors
    /// [`MuxError`]; the link must end.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), MuxError> {
        let (&[kind], rest) = bytes.split_first_chunk::<1>().ok_or(MuxError::Malformed)?;
        let (id, body) = rest.split_first_chunk::<4>().ok_or(MuxError::Malformed)?;
        let id = u32::from_be_bytes(*id);
        if kind == OPEN {
            return self.opened(id, body);
        }
        // A stream that is gone here may still be spoken of there.
        let Some(stream) = self.streams.get_mut(&id) else {
            let used = if id % 2 == self.next % 2 { id < self.next } else { id < self.theirs };
            return if used { Ok(()) } else { Err(MuxError::BadStream) };
        };
        match (kind, body) {
            (DATA, body) if !stream.peer_done => {
                stream.granted = stream.granted.checked_sub(body.len()).ok_or(MuxError::Credit)?;
                if !stream.dropped {
                    stream.incoming.extend(body);
                }
                self.events.push_back(MuxEvent::Readable(id));
            }
            (CREDIT, body) => {
                let more = u32::from_be_bytes(*body.first_chunk::<4>().ok_or(MuxError::Malformed)?);
                let credit = stream.credit.saturating_add(more as usize);
                if credit > MUX_CREDIT {
                    return Err(MuxError::Credit);
                }
                stream.credit = credit;
                self.events.push_back(MuxEvent::Writable(id));
            }
            (FIN, []) => {
                stream.peer_done = true;
                self.events.push_back(MuxEvent::Readable(id));
            }
            (STOP, []) => {
                stream.done = Done::Sent;
                stream.outgoing.clear();
                self.events.push_back(MuxEvent::Writable(id));
            }
            _ => return Err(MuxError::Malformed),
        }
        self.forget(id);
        Ok(())
    }

    /// Reads at most this much from a stream, into what takes it slice by slice.
    pub fn read(&mut self, id: u32, most: usize, into: impl FnMut(&[u8])) -> Read {
        let Some(stream) = self.streams.get_mut(&id) else { return Read::End };
        let length = move_front(&mut stream.incoming, most, into);
        if length > 0 {
            stream.taken = stream.taken.saturating_add(length);
            if stream.taken >= MUX_CREDIT / 2 && !stream.peer_done {
                stream.granted = stream.granted.saturating_add(stream.taken);
                let more = u32::try_from(stream.taken).unwrap_or(u32::MAX);
                stream.taken = 0;
                self.urgent.push_back(message(CREDIT, id, &more.to_be_bytes()));
            }
            return Read::Bytes(length);
        }
        if stream.peer_done { Read::End } else { Read::Wait }
    }

    /// Whether [`Self::poll`] has something that goes before all else: what lets the other end go on.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        !self.urgent.is_empty()
    }

    /// Takes bytes to write, as many as fit; `None` when the stream takes no more at all.
    pub fn write(&mut self, id: u32, bytes: &[u8]) -> Option<usize> {
        let stream = self.streams.get_mut(&id).filter(|s| s.done == Done::No)?;
        let room = MUX_CREDIT.saturating_sub(stream.outgoing.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        stream.outgoing.extend(taken);
        self.turn(id);
        Some(taken.len())
    }

    /// Whether everything written has left.
    #[must_use]
    pub fn is_flushed(&self, id: u32) -> bool {
        self.streams.get(&id).is_none_or(|s| s.outgoing.is_empty() && s.done != Done::Asked)
    }

    /// Ends our direction of a stream.
    pub fn finish(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.done == Done::No
        {
            stream.done = Done::Asked;
            self.turn(id);
        }
    }

    /// The application dropped the stream: what was written still goes out, what comes is thrown away.
    pub fn drop_stream(&mut self, id: u32) {
        self.finish(id);
        if let Some(stream) = self.streams.get_mut(&id) {
            // What the other end sent before it hears of this comes all the same, and is thrown away.
            if !stream.peer_done && !stream.dropped {
                self.urgent.push_back(message(STOP, id, &[]));
            }
            stream.dropped = true;
            stream.incoming.clear();
        }
        self.forget(id);
    }

    /// The next event.
    pub fn event(&mut self) -> Option<MuxEvent> {
        self.events.pop_front()
    }

    /// The next message for the pipe.
    pub fn poll(&mut self) -> Option<Vec<u8>> {
        if let Some(message) = self.urgent.pop_front() {
            return Some(message);
        }
        let ready = |id: &u32| self.streams.get(id).is_some_and(Stream::is_ready);
        let class = |id: &u32| self.streams.get(id).map_or(Class::Bulk, |s| s.class);
        let at = (0..self.turns.len())
            .filter(|at| self.turns.get(*at).is_some_and(ready))
            .min_by_key(|at| self.turns.get(*at).map(class))?;
        let id = self.turns.remove(at)?;
        let stream = self.streams.get_mut(&id)?;
        let length = stream.outgoing.len().min(stream.credit).min(MUX_MESSAGE);
        if length == 0 {
            stream.done = Done::Sent;
            self.events.push_back(MuxEvent::Writable(id));
            self.forget(id);
            return Some(message(FIN, id, &[]));
        }
        let message = data(id, &mut stream.outgoing, length);
        stream.credit = stream.credit.saturating_sub(length);
        if stream.wants_turn() {
            self.turns.push_back(id);
        }
        self.events.push_back(MuxEvent::Writable(id));
        Some(message)
    }

    fn opened(&mut self, id: u32, body: &[u8]) -> Result<(), MuxError> {
        let class = match body {
            [0] => Class::Interactive,
            [1] => Class::Bulk,
            _ => return Err(MuxError::Malformed),
        };
        if id != self.theirs {
            return Err(MuxError::BadStream);
        }
        self.theirs = id.checked_add(2).ok_or(MuxError::TooManyStreams)?;
        self.add(id, class)?;
        self.events.push_back(MuxEvent::Opened(id, class));
        Ok(())
    }

    fn add(&mut self, id: u32, class: Class) -> Result<(), MuxError> {
        if self.streams.len() >= MAX_LINK_STREAMS {
            return Err(MuxError::TooManyStreams);
        }
        let stream = Stream {
            class,
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
            credit: MUX_CREDIT,
            granted: MUX_CREDIT,
            taken: 0,
            peer_done: false,
            done: Done::No,
            dropped: false,
        };
        self.streams.insert(id, stream);
        Ok(())
    }

    fn turn(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(Stream::wants_turn) && !self.turns.contains(&id) {
            self.turns.push_back(id);
        }
    }

    fn forget(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(|s| s.dropped && s.done == Done::Sent) {
            self.streams.remove(&id);
        }
    }
}

impl Stream {
    fn wants_turn(&self) -> bool {
        !self.outgoing.is_empty() || self.done == Done::Asked
    }

    fn is_ready(&self) -> bool {
        let bytes = !self.outgoing.is_empty();
        (bytes && self.credit > 0) || (!bytes && self.done == Done::Asked)
    }
}

/// A message with the first bytes of a queue.
fn data(id: u32, from: &mut VecDeque<u8>, length: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER.saturating_add(length));
    message.push(DATA);
    message.extend_from_slice(&id.to_be_bytes());
    move_front(from, length, |slice| message.extend_from_slice(slice));
    message
}

/// Moves the first bytes of a queue in whole slices, and says how many there were: byte by byte, this would be the
/// largest cost of a bulk transfer.
pub(crate) fn move_front(from: &mut VecDeque<u8>, most: usize, mut into: impl FnMut(&[u8])) -> usize {
    let length = most.min(from.len());
    let (first, second) = from.as_slices();
    for slice in
        [first.get(..length).unwrap_or(first), second.get(..length.saturating_sub(first.len())).unwrap_or_default()]
    {
        into(slice);
    }
    from.drain(..length);
    length
}

fn message(kind: u8, id: u32, body: &[u8]) -> Vec<u8> {
    [&[kind], id.to_be_bytes().as_slice(), body].concat()
}

#[cfg(test)]
mod tests;
