//! A recording as it grows, for somebody who watches: read from its files as fast as the other end takes it.
//!
//! Nothing waits in memory but the step that it is at. A file that is deleted meanwhile is not read on: the reader stays
//! at the old one, and whoever drives it is told and begins anew.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::str::FromStr;
use std::sync::Arc;

use bz_core::id::ConnectionId;
use bz_protocol::transcript::{Reader, Record};

use crate::record::view::View;
use crate::record::{HEAD, Part, RecordError, Records, blocking};

/// Bytes that are read at once.
const CHUNK: usize = 128 << 10;

/// Where in a recording a line is: the transcript's number, the record that gave the line its time, and which of that
/// record's lines it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    part: u32,
    record: u64,
    line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.part, self.record, self.line)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split('.');
        let mut next = || numbers.next().ok_or(());
        let (part, record, line) = (next()?, next()?, next()?);
        let fail = |_| ();
        let place = Self {
            part: part.parse().map_err(fail)?,
            record: record.parse().map_err(fail)?,
            line: line.parse().map_err(fail)?,
        };
        if numbers.next().is_none() { Ok(place) } else { Err(()) }
    }
}

/// How far somebody has read a recording.
pub(crate) struct Watcher {
    connection: ConnectionId,
    view: View,
    /// The last transcript that was begun.
    last: u32,
    /// The last one whose first records were looked at.
    known: u32,
    open: Option<Open>,
}

/// The transcript that is being read.
struct Open {
    file: Arc<File>,
    /// What is read so far.
    offset: u64,
    /// How every transcript begins, and what of it could not be taken yet.
    bytes: Vec<u8>,
    record: u64,
    /// Its last record is the server's own word: nothing comes, unless its session goes on.
    closed: bool,
    /// It cannot be read any further.
    damaged: bool,
}

impl Watcher {
    pub(crate) fn new(connection: ConnectionId) -> Self {
        Self { connection, view: View::default(), last: 0, known: 0, open: None }
    }

    /// The recording's header, as soon as there is one.
    pub(crate) fn header(&self) -> Option<String> {
        self.view.cast.header()
    }

    /// The next lines; `None` when there are none yet. `over` when no session of the connection is recorded any more.
    ///
    /// # Errors
    /// [`RecordError`].
    pub(crate) async fn next(
        &mut self,
        records: &Records,
        over: bool,
    ) -> Result<Option<Vec<(Place, String)>>, RecordError> {
        loop {
            if self.open.is_none() && !self.begin(records).await? {
                return Ok(None);
            }
            let Some(open) = &mut self.open else { return Ok(None) };
            let more = open.read().await?;
            let mut lines = self.take();
            let Some(open) = &self.open else { return Ok(None) };
            if lines.is_empty() && !more {
                if !open.damaged && !over && !self.is_left(records, open.closed).await? {
                    return Ok(None);
                }
                self.view.end();
                lines = self.lines();
                self.open = None;
            }
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
        }
    }

    /// Opens the transcript behind the last one.
    async fn begin(&mut self, records: &Records) -> Result<bool, RecordError> {
        let parts = records.parts(self.connection).await?;
        let Some(next) = parts.iter().find(|part| part.number > self.last).cloned() else { return Ok(false) };
        let known = self.known;
        for part in parts.into_iter().filter(|part| part.number > known) {
            self.known = part.number;
            self.view.knows(&records.head(part).await?);
        }
        self.view.begin(&records.head(next.clone()).await?);
        let Part { number, path, .. } = next;
        let file = blocking(move || File::open(&path).map_err(|error| RecordError::File { path, error })).await?;
        self.last = number;
        self.open =
            Some(Open { file: Arc::new(file), offset: 0, bytes: Vec::new(), record: 0, closed: false, damaged: false });
        Ok(true)
    }

    /// Whether another session of the connection took over, and nobody writes this transcript any more.
    async fn is_left(&self, records: &Records, closed: bool) -> Result<bool, RecordError> {
        let later = records.parts(self.connection).await?.iter().any(|part| part.number > self.last);
        Ok(later && (closed || records.running(self.connection) <= 1))
    }

    /// Takes the whole records of what was read.
    fn take(&mut self) -> Vec<(Place, String)> {
        let mut lines = Vec::new();
        let Some(mut open) = self.open.take() else { return lines };
        let bytes = std::mem::take(&mut open.bytes);
        let mut taken = 0;
        if let (Ok(mut reader), false) = (Reader::new(&bytes), open.damaged) {
            loop {
                let next = reader.next();
                taken = reader.position().offset;
                match next {
                    None => break,
                    Some(Ok((_, record))) => {
                        open.closed = matches!(record, Record::Server(_));
                        self.view.take(record);
                    }
                    Some(Err(_)) => {
                        open.damaged = true;
                        self.view.damaged();
                        taken = bytes.len();
                    }
                }
                lines.extend(places(self.last, open.record, self.view.cast.drain()));
                open.record = open.record.saturating_add(1);
                if open.damaged {
                    break;
                }
            }
        } else if bytes.len() as u64 >= HEAD && !open.damaged {
            open.damaged = true;
            self.view.damaged();
            lines.extend(places(self.last, 0, self.view.cast.drain()));
        }
        // The head stays, so that the rest can be read as a transcript again.
        let head = usize::try_from(HEAD).unwrap_or_default().min(bytes.len());
        open.bytes =
            [bytes.get(..head), bytes.get(taken.max(head)..)].into_iter().flatten().flatten().copied().collect();
        self.open = Some(open);
        lines
    }

    fn lines(&mut self) -> Vec<(Place, String)> {
        let record = self.open.as_ref().map_or(0, |open| open.record);
        places(self.last, record, self.view.cast.drain()).collect()
    }
}

fn places(part: u32, record: u64, lines: Vec<String>) -> impl Iterator<Item = (Place, String)> {
    (0_u32..).zip(lines).map(move |(line, text)| (Place { part, record, line }, text))
}

impl Open {
    /// Reads on; whether there was anything.
    async fn read(&mut self) -> Result<bool, RecordError> {
        if self.damaged {
            return Ok(false);
        }
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        let read = blocking(move || {
            let mut bytes = vec![0; CHUNK];
            let count = file.read_at(&mut bytes, offset).map_err(failed)?;
            bytes.truncate(count);
            Ok(bytes)
        })
        .await?;
        self.offset = self.offset.saturating_add(read.len() as u64);
        self.bytes.extend_from_slice(&read);
        Ok(!read.is_empty())
    }
}

fn failed(error: io::Error) -> RecordError {
    RecordError::File { path: super::FOLDER.into(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place = Place { part: 3, record: 70, line: 2 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for bad in ["", "1.2", "1.2.3.4", "1.2.x", "-1.2.3", "1..3", "99999999999.1.1"] {
            assert_eq!(bad.parse::<Place>(), Err(()), "{bad}");
        }
        assert!(place < Place { part: 4, record: 0, line: 0 } && place > Place { part: 3, record: 69, line: 9 });
    }
}
