//! Where a giver is in its tree: what it may say next, and the path of what it speaks of.

use bz_core::access::request::MAX_PATH;

use super::{Copied, MAX_DEPTH, Message, RESUME_FROM};

/// A message that has no place here: the giver is faulty or hostile, and the copy ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfTurn {
    /// Of a kind that does not follow what came before.
    #[error("the other end of the copy spoke out of turn")]
    Kind,
    /// A first entry with a name, or a later one without.
    #[error("the other end of the copy named something else than was asked for")]
    Name,
    /// Deeper than [`MAX_DEPTH`], or a path longer than may be.
    #[error("the other end of the copy went too deep")]
    Deep,
    /// More or fewer bytes than announced.
    #[error("the other end of the copy sent another number of bytes than it said")]
    Bytes,
}

/// The walk of a giver through its tree, as the other end and a reader on the way follow it.
#[derive(Debug, Default)]
pub struct Walk {
    path: Vec<u8>,
    /// Where the path of each directory above ends.
    marks: Vec<usize>,
    file: Option<File>,
    begun: bool,
    over: bool,
}

#[derive(Debug, Clone, Copy)]
struct File {
    /// Where the path of its directory ends.
    above: usize,
    size: u64,
    /// Bytes by now; `None` while it is not settled where they begin.
    given: Option<u64>,
}

impl Walk {
    /// The path of the present file or directory, from the first entry on.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// How many bytes of the present file came so far; `None` between files.
    #[must_use]
    pub fn given(&self) -> Option<u64> {
        self.file.map(|file| file.given.unwrap_or_default())
    }

    /// Takes the giver's next message.
    ///
    /// # Errors
    /// [`OutOfTurn`].
    pub fn step(&mut self, message: &Message) -> Result<(), OutOfTurn> {
        if self.over {
            return Err(OutOfTurn::Kind);
        }
        match (message, self.file) {
            (Message::Root { .. }, None) if !self.begun => Ok(()),
            (Message::Directory { name, .. }, None) => self.enter(name),
            (Message::Leave, None) => self.leave(),
            (Message::Symlink { name, .. }, None) => {
                // A link is never what a copy begins with: it would not be what was asked for.
                let above = self.entry(name)?;
                self.path.truncate(above);
                if self.marks.is_empty() { Err(OutOfTurn::Kind) } else { Ok(()) }
            }
            (Message::File { name, size, .. }, None) => self.begin(name, *size),
            (Message::Place { offset }, Some(file)) => self.settle(file, *offset),
            (Message::Data(bytes), Some(file)) => self.give(file, bytes.len() as u64),
            (Message::Zeros(count), Some(file)) => self.give(file, u64::from(*count)),
            (Message::Copied(copied), Some(file)) => self.whole(file, copied),
            (Message::Failed { path, .. }, file) => self.failed(path, file),
            (Message::Done(_), None) if self.marks.is_empty() => {
                self.over = true;
                Ok(())
            }
            _ => Err(OutOfTurn::Kind),
        }
    }

    fn enter(&mut self, name: &[u8]) -> Result<(), OutOfTurn> {
        if self.marks.len() >= MAX_DEPTH {
            return Err(OutOfTurn::Deep);
        }
        let above = self.entry(name)?;
        self.marks.push(above);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), OutOfTurn> {
        let above = self.marks.pop().ok_or(OutOfTurn::Kind)?;
        self.path.truncate(above);
        Ok(())
    }

    fn begin(&mut self, name: &[u8], size: u64) -> Result<(), OutOfTurn> {
        let above = self.entry(name)?;
        self.file = Some(File { above, size, given: (size < RESUME_FROM).then_some(0) });
        Ok(())
    }

    /// Puts a name behind the path; where the path ended before.
    fn entry(&mut self, name: &[u8]) -> Result<usize, OutOfTurn> {
        let first = !std::mem::replace(&mut self.begun, true);
        if first != name.is_empty() || (!first && self.marks.is_empty()) {
            return Err(OutOfTurn::Name);
        }
        let above = self.path.len();
        if above > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        if self.path.len() > MAX_PATH { Err(OutOfTurn::Deep) } else { Ok(above) }
    }

    fn settle(&mut self, file: File, offset: u64) -> Result<(), OutOfTurn> {
        if file.given.is_some() {
            return Err(OutOfTurn::Kind);
        }
        if offset > file.size {
            return Err(OutOfTurn::Bytes);
        }
        self.file = Some(File { given: Some(offset), ..file });
        Ok(())
    }

    fn give(&mut self, file: File, more: u64) -> Result<(), OutOfTurn> {
        let given = file.given.ok_or(OutOfTurn::Kind)?.saturating_add(more);
        if given > file.size {
            return Err(OutOfTurn::Bytes);
        }
        self.file = Some(File { given: Some(given), ..file });
        Ok(())
    }

    fn whole(&mut self, file: File, copied: &Copied) -> Result<(), OutOfTurn> {
        if copied.path != self.path {
            return Err(OutOfTurn::Name);
        }
        if file.given != Some(file.size) || copied.size != file.size {
            return Err(OutOfTurn::Bytes);
        }
        self.end(file);
        Ok(())
    }

    fn failed(&mut self, path: &[u8], file: Option<File>) -> Result<(), OutOfTurn> {
        if let Some(file) = file {
            if path != self.path {
                return Err(OutOfTurn::Name);
            }
            self.end(file);
        }
        // Where the first entry failed, no other comes.
        self.begun = true;
        Ok(())
    }

    fn end(&mut self, file: File) {
        self.path.truncate(file.above);
        self.file = None;
    }
}
