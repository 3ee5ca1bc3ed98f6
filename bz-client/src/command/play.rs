//! `bz play`: a recording on this terminal, in the time that it takes without its pauses.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bz_client::client::Download;
use bz_client::player::{Event, Header, Pace, Player, SPEEDS};
use bz_client::terminal::{self, Screen};
use bz_core::id::ConnectionId;
use bz_protocol::driver::SystemClock;
use clap::Args;

use crate::command::recording::plain;
use crate::context::Context;
use crate::exit::Exit;

/// The longest line: a frame of 64 KiB of which each byte is written as six, and room.
const MOST: usize = 4 << 20;

/// What `bz play` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys: space stops and goes on, . shows the next event while it is stopped, + and - change the speed, q ends it.

What is shown was written by programs on the target. Colors and movements are shown; what would make this terminal \
answer, or do something beside its screen, is left out.")]
pub(crate) struct Play {
    /// A file, as `bz recording get --out` writes it, or a connection whose recording the server has
    #[arg(value_name = "FILE|CONNECTION")]
    what: String,
    /// How fast: 0.1 to 100 times
    #[arg(long, short, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Shorten pauses to so many seconds
    #[arg(long, short, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    idle_limit: f64,
    /// Write what was shown, just as it was and at once, to standard output that is no terminal
    #[arg(long)]
    raw: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|speed| SPEEDS.contains(speed)).ok_or_else(|| "must be 0.1 to 100".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let fits = |seconds: &f64| Duration::try_from_secs_f64(*seconds).is_ok();
    text.parse().ok().filter(fits).ok_or_else(|| "must be a number of seconds".to_owned())
}

impl Play {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        if !self.raw && !io::stdout().is_terminal() {
            bail!("standard output is no terminal: --raw writes what was shown, all at once");
        }
        let mut lines = match self.what.parse::<ConnectionId>() {
            Ok(connection) => Lines::of(context.client()?.recording(connection).await?),
            Err(_) => Lines::Read {
                file: BufReader::new(File::open(&self.what).with_context(|| format!("{} cannot be read", self.what))?),
            },
        };
        let header = Header::parse(&lines.next().await?.unwrap_or_default()).with_context(|| self.what.clone())?;
        if self.raw {
            while let Some(line) = lines.next().await? {
                plain(&line)?;
            }
            return Ok(Exit::Fine);
        }
        let size = terminal::size();
        if size.columns < header.width || size.rows < header.height {
            context.output.warn(&format!(
                "The recorded terminal had {} columns and {} rows: this one is smaller, and lines will break elsewhere.",
                header.width, header.height
            ));
        }
        let idle = Duration::try_from_secs_f64(self.idle_limit)?;
        let player = Player::new(Pace { speed: self.speed, idle });
        let next = async || match lines.next().await? {
            Some(line) => Ok(Some(Event::parse(&line)?)),
            None => Ok(None),
        };
        let played: anyhow::Result<()> = terminal::play((player, Screen::take()?), &SystemClock::new(), next).await;
        played?;
        context.output.say("");
        Ok(Exit::Fine)
    }
}

/// The lines of an asciicast, as they are needed.
enum Lines {
    Read { file: BufReader<File> },
    Come { download: Box<Download>, bytes: Vec<u8>, at: usize },
}

impl Lines {
    fn of(download: Download) -> Self {
        Self::Come { download: Box::new(download), bytes: Vec::new(), at: 0 }
    }

    /// The next; `None` at the end. Empty ones are none.
    async fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            let line = match self {
                Self::Read { file } => {
                    let mut line = Vec::new();
                    file.by_ref().take(MOST as u64 + 1).read_until(b'\n', &mut line)?;
                    if line.is_empty() {
                        return Ok(None);
                    }
                    line
                }
                Self::Come { download, bytes, at } => {
                    let rest = bytes.get(*at..).unwrap_or_default();
                    if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                        let line = rest.get(..end).unwrap_or_default().to_vec();
                        *at += end + 1;
                        line
                    } else {
                        bytes.drain(..std::mem::take(at));
                        if bytes.len() > MOST {
                            bail!("a line of the recording is longer than any");
                        }
                        match download.next().await? {
                            Some(more) => bytes.extend(more),
                            None if bytes.is_empty() => return Ok(None),
                            None => bytes.push(b'\n'),
                        }
                        continue;
                    }
                }
            };
            if line.len() > MOST {
                bail!("a line of the recording is longer than any");
            }
            let line = String::from_utf8(line).context("a line of the recording is no text")?;
            if !line.trim().is_empty() {
                return Ok(Some(line.trim_end().to_owned()));
            }
        }
    }
}
