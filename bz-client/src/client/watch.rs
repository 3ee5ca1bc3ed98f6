//! A recording that is watched while its session runs: from its beginning, then as it grows, taken up again where its
//! stream ends before its time.

use std::time::Duration;

use bz_core::id::ConnectionId;

use crate::client::Client;
use crate::http::Incoming;
use crate::rest::RestError;

/// The most bytes of one line on its way: a frame of 64 KiB of which each byte is written as six.
const MOST: usize = 4 << 20;
/// How long to wait before a stream without anything in it is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// What came of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// How its asciicast begins; once.
    Header(String),
    /// A line of its asciicast.
    Line(String),
    /// Somebody deleted what was recorded so far.
    Deleted,
}

/// A recording that is watched.
#[derive(Debug)]
pub struct Watching {
    client: Client,
    connection: ConnectionId,
    after: Option<String>,
    come: Option<Incoming>,
    bytes: Vec<u8>,
    headed: bool,
    ended: bool,
    /// Whether the stream that is open gave anything.
    gave: bool,
}

impl Client {
    /// Watches a recording from its beginning to its session's end.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn watch_recording(&self, connection: ConnectionId) -> Result<Watching, RestError> {
        let mut watching = Watching {
            client: self.clone(),
            connection,
            after: None,
            come: None,
            bytes: Vec::new(),
            headed: false,
            ended: false,
            gave: true,
        };
        watching.open().await?;
        Ok(watching)
    }
}

impl Watching {
    /// What comes next; `None` when the session is over.
    ///
    /// # Errors
    /// [`RestError`] when a stream that broke off cannot be taken up again.
    pub async fn next(&mut self) -> Result<Option<Watched>, RestError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if let Some(text) = self.cut() {
                self.gave = true;
                match self.read(&text) {
                    Some(watched) => return Ok(Some(watched)),
                    None => continue,
                }
            }
            if self.bytes.len() > MOST {
                return Err(RestError::Answer("a line of a recording has more than 4 MiB".to_owned()));
            }
            let chunk = match &mut self.come {
                Some(come) => come.next().await.ok().flatten(),
                None => None,
            };
            match chunk {
                Some(chunk) => self.bytes.extend(chunk),
                None => self.open().await?,
            }
        }
    }

    async fn open(&mut self) -> Result<(), RestError> {
        if !std::mem::take(&mut self.gave) {
            let clock = &self.client.clock;
            clock.wait(clock.now().mono.after(PAUSE)).await;
        }
        self.bytes.clear();
        let path = format!("session-recordings/{}/stream", self.connection);
        let query: Vec<_> = self.after.iter().map(|after| ("after", after.as_str())).collect();
        let caller = self.client.caller().await;
        self.come = Some(self.client.rest.download(&caller, &path, &query).await?);
        Ok(())
    }

    /// The first event in what has come, if it is whole.
    fn cut(&mut self) -> Option<String> {
        let end = self.bytes.windows(2).position(|two| two == b"\n\n")?;
        let text: Vec<u8> = self.bytes.drain(..end + 2).collect();
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// What an event says; nothing for a sign of life, and for what was said before.
    fn read(&mut self, text: &str) -> Option<Watched> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let (kind, data) = (field("event: ")?, field("data: ")?);
        match kind.as_str() {
            "header" if !self.headed => {
                self.headed = true;
                Some(Watched::Header(data))
            }
            "line" => {
                self.after = field("id: ").or_else(|| self.after.take());
                Some(Watched::Line(data))
            }
            "deleted" => Some(Watched::Deleted),
            "end" => {
                self.ended = true;
                None
            }
            _ => None,
        }
    }
}
