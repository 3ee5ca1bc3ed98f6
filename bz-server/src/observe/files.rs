//! Which files a copy moved, read from what both ends say; never what is in them.
//!
//! What became of a file is the agent's word, on the manifest's stream. The content's stream is followed only to know
//! how much went over of a file whose end never came.

use bz_core::access::request::{CopyRequest, CopyWay};
use bz_core::api::record::{FileDirection, FileOutcome};
use bz_core::digest::Digest;
use bz_protocol::copy::{Copied, Decoder, MANIFEST, Malformed, Message, OutOfTurn, Problem, Walk};
use bz_protocol::keys::Direction;

/// A longer path is cut in the log.
const LONGEST: usize = 8 << 10;

/// One row for the log of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLine {
    /// Which way.
    pub direction: FileDirection,
    /// The full path on the target, safe to show.
    pub path: String,
    /// What became of it.
    pub outcome: FileOutcome,
    /// Bytes of it.
    pub size: u64,
    /// Of its content.
    pub digest: Option<Digest>,
    /// Why not, where it was not copied.
    pub problem: Option<Problem>,
}

/// Reads one copy.
#[derive(Debug)]
pub struct FilesLens {
    direction: FileDirection,
    /// The full path of the first entry, as the agent says it; until then, what was asked for.
    root: Vec<u8>,
    manifest: Decoder,
    /// `None` when it was not heard from its beginning.
    content: Option<Decoder>,
    walk: Walk,
    /// Nothing is read any more: it is no copy.
    lost: bool,
    /// The incomplete file that was told last; its bytes then.
    told: Option<(Vec<u8>, u64)>,
}

impl FilesLens {
    /// A lens on the copy that was asked for.
    #[must_use]
    pub fn new(request: &CopyRequest) -> Self {
        let direction = match request.way {
            CopyWay::ToTarget { .. } => FileDirection::ToTarget,
            CopyWay::FromTarget => FileDirection::FromTarget,
        };
        Self {
            direction,
            root: request.path.clone(),
            manifest: Decoder::default(),
            content: Some(Decoder::default()),
            walk: Walk::default(),
            lost: false,
            told: None,
        }
    }

    /// The same for one whose manifest alone is heard from its beginning.
    #[must_use]
    pub fn resumed(request: &CopyRequest) -> Self {
        Self { content: None, ..Self::new(request) }
    }

    /// Bytes of a stream.
    #[must_use]
    pub fn bytes(&mut self, way: Direction, stream: u32, bytes: &[u8]) -> Vec<FileLine> {
        if self.lost {
            return Vec::new();
        }
        let giver = match self.direction {
            FileDirection::ToTarget => Direction::ToAgent,
            FileDirection::FromTarget => Direction::ToClient,
        };
        let mut lines = Vec::new();
        if way == Direction::ToClient && stream == MANIFEST {
            self.lost = self.said(bytes, &mut lines).is_err();
            if self.lost {
                lines.push(self.line(&self.root, FileOutcome::Unparsed, 0));
            }
        } else if way == giver && stream == 0 && self.went(bytes).is_err() {
            // What becomes of files is still said beside it.
            (self.content, self.walk) = (None, Walk::default());
            lines.push(self.line(&self.root, FileOutcome::Unparsed, 0));
        }
        lines
    }

    /// What is to be said when nothing comes: a file that is not whole. If the session goes on all the same, so does this.
    #[must_use]
    pub fn finish(&mut self) -> Vec<FileLine> {
        let Some(size) = self.walk.given().filter(|_| !self.lost) else { return Vec::new() };
        let path = self.full(self.walk.path());
        let now = Some((path.clone(), size));
        if std::mem::replace(&mut self.told, now.clone()) == now {
            return Vec::new();
        }
        vec![self.line(&path, FileOutcome::Incomplete, size)]
    }

    fn said(&mut self, bytes: &[u8], lines: &mut Vec<FileLine>) -> Result<(), Malformed> {
        self.manifest.put(bytes);
        while let Some(message) = self.manifest.next_message()? {
            match message {
                Message::Root { path } => self.root = path,
                Message::Copied(Copied { path, size, digest }) => {
                    let line = self.line(&self.full(&path), FileOutcome::Copied, size);
                    lines.push(FileLine { digest: Some(digest), ..line });
                }
                Message::Failed { path, problem } => {
                    let full = self.full(&path);
                    // The manifest comes right behind what it speaks of, so that the walk may have left the file.
                    let given = if self.walk.path() == path { self.walk.given() } else { None };
                    let outcome = if given > Some(0) { FileOutcome::Incomplete } else { FileOutcome::Failed };
                    let line = self.line(&full, outcome, given.unwrap_or_default());
                    lines.push(FileLine { problem: Some(problem), ..line });
                }
                Message::Done(_) => {}
                Message::Directory { .. }
                | Message::Leave
                | Message::Symlink { .. }
                | Message::File { .. }
                | Message::Held { .. }
                | Message::Place { .. }
                | Message::Data(_)
                | Message::Zeros(_) => return Err(Malformed),
            }
        }
        Ok(())
    }

    /// Follows the giver. Only where it is matters.
    fn went(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let Some(content) = &mut self.content else { return Ok(()) };
        content.put(bytes);
        while let Some(message) = content.next_message().map_err(|_| ())? {
            self.walk.step(&message).map_err(|_: OutOfTurn| ())?;
        }
        Ok(())
    }

    fn full(&self, path: &[u8]) -> Vec<u8> {
        if path.is_empty() {
            return self.root.clone();
        }
        let root = self.root.strip_suffix(b"/").unwrap_or(&self.root);
        [root, b"/", path].concat()
    }

    fn line(&self, path: &[u8], outcome: FileOutcome, size: u64) -> FileLine {
        FileLine { direction: self.direction, path: shown(path), outcome, size, digest: None, problem: None }
    }
}

/// A path as the log shows it: one line, and every byte that is no plain text as `\xNN`.
pub(super) fn shown(path: &[u8]) -> String {
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                _ if super::command::text::is_plain(character) => text.push(character),
                _ => character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escape(&mut text, byte)),
            }
        }
        chunk.invalid().iter().for_each(|byte| escape(&mut text, *byte));
        if text.len() > LONGEST {
            text.push('…');
            break;
        }
    }
    text
}

fn escape(text: &mut String, byte: u8) {
    text.push_str(&format!("\\x{byte:02x}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use bz_protocol::copy::{Facts, Summary};

    fn lens(way: CopyWay) -> FilesLens {
        FilesLens::new(&CopyRequest { way, path: b"in".to_vec(), recursive: true, preserve: true })
    }

    fn bytes(messages: &[Message]) -> Vec<u8> {
        messages.iter().flat_map(|message| message.encode().unwrap()).collect()
    }

    fn file(name: &[u8], size: u64) -> Message {
        Message::File { name: name.to_vec(), facts: Facts { mode: 0o644, seconds: 0, nanos: 0 }, size }
    }

    fn told(lines: &[FileLine]) -> Vec<(String, FileOutcome, u64)> {
        lines.iter().map(|line| (line.path.clone(), line.outcome, line.size)).collect()
    }

    #[test]
    fn the_agent_s_word_is_a_row_however_it_is_cut() {
        let copied = Message::Copied(Copied { path: b"a\n\xff\\".to_vec(), size: 2, digest: Digest::of(b"xy") });
        let failed = Message::Failed { path: b"b".to_vec(), problem: Problem::Denied };
        let root = Message::Root { path: b"/home/in".to_vec() };
        let stream = bytes(&[root, copied, failed, Message::Done(Summary::default())]);
        for step in [1, 7, stream.len()] {
            let mut lens = lens(CopyWay::FromTarget);
            let read = |piece| lens.bytes(Direction::ToClient, MANIFEST, piece);
            let lines: Vec<FileLine> = stream.chunks(step).flat_map(read).collect();
            let want = [
                (r"/home/in/a\x0a\xff\\".to_owned(), FileOutcome::Copied, 2),
                ("/home/in/b".to_owned(), FileOutcome::Failed, 0),
            ];
            assert_eq!(told(&lines), want, "in pieces of {step}");
            assert_eq!((lines[0].digest, lines[1].problem), (Some(Digest::of(b"xy")), Some(Problem::Denied)));
            assert_eq!(lens.finish(), []);
        }
    }

    #[test]
    fn a_file_that_never_ended_is_a_row_with_what_went_over() {
        let mut lens = lens(CopyWay::FromTarget);
        let begun = bytes(&[file(b"", 10), Message::Data(vec![1; 4]), Message::Zeros(3)]);
        assert_eq!(lens.bytes(Direction::ToClient, 0, &begun), []);
        assert_eq!(told(&lens.finish()), [("in".to_owned(), FileOutcome::Incomplete, 7)]);
        assert_eq!(lens.finish(), []);
    }

    #[test]
    fn what_is_no_copy_is_said_once() {
        for (way, stream) in [(Direction::ToClient, MANIFEST), (Direction::ToAgent, 0)] {
            let mut lens = lens(CopyWay::ToTarget { name: vec![] });
            let lines = lens.bytes(way, stream, b"\xff\xff\xff\xff GET / HTTP/1.1");
            assert_eq!(told(&lines), [("in".to_owned(), FileOutcome::Unparsed, 0)]);
            assert_eq!((lens.bytes(way, stream, &[0; 9]), lens.finish()), (vec![], vec![]));
        }
    }
}
