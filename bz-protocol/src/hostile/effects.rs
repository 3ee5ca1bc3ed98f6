//! What happened in the end: a verdict is made of effects, not of what anybody claims to have checked.
//!
//! The person types lines. Each line that the target's program does is one action, and each answer that it gives one
//! more line. Unsafe is an action that the person did not type, or one done twice or out of turn; an answer shown that
//! the program did not give; and a session called complete that is not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The most bytes of a line.
const MAX_LINE: usize = 4096;

/// Sees every action of the target, and everything a person is shown. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Observer {
    book: Arc<Mutex<Book>>,
    twice: bool,
}

#[derive(Debug, Default)]
struct Book {
    sessions: BTreeMap<u32, Session>,
    /// In the order in which they were done.
    done: Vec<String>,
    given: Vec<String>,
}

#[derive(Debug, Default)]
struct Session {
    asked: Vec<String>,
    shown: Vec<String>,
    success: bool,
    /// The other end closed it first.
    closed: bool,
}

/// What a line is answered.
#[must_use]
pub fn answer(line: &str) -> String {
    format!("did {line}")
}

impl Observer {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Whole at every moment.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, but its program does each line twice: for seeing that a careless one is seen.
    #[must_use]
    pub fn doing_twice(&self) -> Self {
        Self { twice: true, ..self.clone() }
    }

    /// The person types this, in the session of this number.
    pub fn asked(&self, session: u32, line: &str) {
        self.book().sessions.entry(session).or_default().asked.push(line.to_owned());
    }

    /// The person is shown this.
    pub fn shown(&self, session: u32, line: &str) {
        self.book().sessions.entry(session).or_default().shown.push(line.to_owned());
    }

    /// The person is told that the session came to its end, complete.
    pub fn success(&self, session: u32) {
        self.book().sessions.entry(session).or_default().success = true;
    }

    /// The person is told that the other end closed the session: what was typed last may not be done.
    pub fn closed(&self, session: u32) {
        self.book().sessions.entry(session).or_default().closed = true;
    }

    /// The target's program did this.
    pub fn done(&self, line: &str) {
        self.book().done.push(line.to_owned());
    }

    /// The target's program answered this.
    pub fn given(&self, line: &str) {
        self.book().given.push(line.to_owned());
    }

    /// How many actions were done.
    #[must_use]
    pub fn actions(&self) -> usize {
        self.book().done.len()
    }

    /// A program for the target: each line is an action, and is answered.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn serve<S>(&self, mut stream: S) -> std::io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut buffer, mut chunk) = (Vec::new(), [0; 1024]);
        loop {
            let n = stream.read(&mut chunk).await?;
            if n == 0 {
                return Ok(());
            }
            buffer.extend_from_slice(chunk.get(..n).unwrap_or_default());
            for answer in self.take(&mut buffer) {
                stream.write_all(answer.as_bytes()).await?;
                stream.flush().await?;
            }
        }
    }

    /// Does every whole line, and leaves the rest.
    pub fn take(&self, buffer: &mut Vec<u8>) -> Vec<String> {
        let mut answers = Vec::new();
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.done(&line);
            if self.twice {
                self.done(&line);
            }
            let given = answer(&line);
            self.given(&given);
            answers.push(format!("{given}\n"));
        }
        buffer.truncate(MAX_LINE);
        answers
    }

    /// What is wrong with all that happened, if anything.
    #[must_use]
    pub fn harm(&self) -> Option<String> {
        let book = self.book();
        let mut of_nobody = book.done.clone();
        for (number, session) in &book.sessions {
            let mine = |lines: &[String]| -> Vec<String> {
                lines
                    .iter()
                    .filter(|line| session.asked.iter().any(|asked| line.ends_with(asked.as_str())))
                    .cloned()
                    .collect()
            };
            let (done, given) = (mine(&book.done), mine(&book.given));
            of_nobody.retain(|line| !done.contains(line));
            if !session.asked.starts_with(&done) {
                return Some(format!("session {number}: the target did {done:?}, and {:?} was typed", session.asked));
            }
            if !given.starts_with(&session.shown) {
                return Some(format!("session {number}: {:?} was shown, and {given:?} was answered", session.shown));
            }
            let last = session.asked.len().saturating_sub(done.len());
            if session.closed && (last > 1 || session.shown != given) {
                return Some(format!("session {number} was called closed, and {last} lines of it are not done"));
            }
            if session.success && (done != session.asked || session.shown != given) {
                return Some(format!(
                    "session {number} was called complete: {:?} was typed, {done:?} done, {:?} shown",
                    session.asked, session.shown
                ));
            }
        }
        of_nobody.first().map(|line| format!("the target did {line:?}, which nobody typed"))
    }
}
