//! What a person, or a program, sees of a copy while it runs.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use bz_client::copy::{Copying, End, Problem, Report, Summary, Way};
use serde_json::{Map, Value, json};

use crate::command::cp::counted;
use crate::output::Output;

/// The bar is drawn no more often.
const EVERY: Duration = Duration::from_millis(100);
/// Columns of the bar itself.
const BAR: u64 = 24;

/// How a copy is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A bar that moves, and one line at the end.
    Bar,
    /// One line at the end.
    Plain,
    /// An object for each file, and one at the end.
    Json,
}

/// A copy as it is shown.
#[derive(Debug)]
pub(super) struct Shown {
    output: Output,
    style: Style,
    /// What a path from the first entry on begins with, for who reads it.
    source: Vec<u8>,
    began: Instant,
    drawn: Option<Instant>,
    /// The present file.
    name: Vec<u8>,
    size: u64,
    here: u64,
    /// Bytes that went over in all, and those that did not have to.
    bytes: u64,
    resumed: u64,
}

impl Shown {
    pub(super) fn new(output: Output, style: Style, copying: &Copying) -> Self {
        let source = match copying.way {
            Way::ToTarget => std::os::unix::ffi::OsStrExt::as_bytes(copying.local.as_os_str()).to_vec(),
            Way::FromTarget => copying.remote.clone(),
        };
        Self {
            output,
            style,
            source,
            began: Instant::now(),
            drawn: None,
            name: Vec::new(),
            size: 0,
            here: 0,
            bytes: 0,
            resumed: 0,
        }
    }

    pub(super) fn take(&mut self, report: Report) {
        match report {
            Report::Root(_) => {}
            Report::Begun { path, size } => (self.name, self.size, self.here) = (path, size, 0),
            Report::Resumed(bytes) => {
                self.here = self.here.saturating_add(bytes);
                self.resumed = self.resumed.saturating_add(bytes);
            }
            Report::Bytes(bytes) => {
                self.here = self.here.saturating_add(bytes);
                self.bytes = self.bytes.saturating_add(bytes);
                self.draw();
            }
            Report::Copied(copied) => {
                let (size, digest) = (json!(copied.size), json!(copied.digest.to_string()));
                self.line(&copied.path, [("size", size), ("sha256", digest)]);
            }
            Report::Failed { path, problem, at } => self.failed(&path, problem, at),
        }
    }

    fn failed(&mut self, path: &[u8], problem: Problem, at: End) {
        if self.style == Style::Json {
            let at = if at == End::Here { "here" } else { "target" };
            return self.line(path, [("problem", json!(problem.to_string())), ("at", json!(at))]);
        }
        self.clear();
        let place = if at == End::Here { "" } else { " (on the target)" };
        self.output.warn(&format!("bz: {}: {problem}{place}", String::from_utf8_lossy(&self.full(path))));
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            // Where standard error is closed there is no bar either.
            drop(write!(io::stderr(), "\r\x1b[K"));
        }
    }

    pub(super) fn warn(&self, text: &str) {
        self.output.warn(text);
    }

    /// The last word.
    pub(super) fn summary(&self, summary: &Summary) -> io::Result<()> {
        if self.style == Style::Json {
            let Summary { files, directories, links, bytes, failed } = *summary;
            let all = json!({"files": files, "directories": directories, "links": links, "bytes": bytes,
                "resumed": self.resumed, "failed": failed});
            return self.output.line(&json!({ "summary": all }));
        }
        let (count, time) = (counted(summary), self.began.elapsed().as_secs_f64());
        let resumed = if self.resumed > 0 { format!(", {} of it before", size(self.resumed)) } else { String::new() };
        let failed = match summary.failed {
            0 => String::new(),
            1 => "; 1 entry could not be copied".to_owned(),
            failed => format!("; {failed} entries could not be copied"),
        };
        let bytes = size(summary.bytes);
        self.output.say(&format!("Copied {count}: {bytes}{resumed}, in {time:.1} s{failed}."));
        Ok(())
    }

    /// What became of a file, for programs.
    fn line(&self, path: &[u8], more: [(&str, Value); 2]) {
        if self.style != Style::Json {
            return;
        }
        let full = self.full(path);
        let mut row = Map::from_iter([("path".to_owned(), json!(String::from_utf8_lossy(&full)))]);
        if std::str::from_utf8(&full).is_err() {
            row.insert("pathHex".to_owned(), json!(hex::encode(&full)));
        }
        row.extend(more.map(|(name, value)| (name.to_owned(), value)));
        // Nobody reads it any more; the copy is none the worse for it.
        drop(self.output.line(&Value::Object(row)));
    }

    fn full(&self, path: &[u8]) -> Vec<u8> {
        if path.is_empty() {
            return self.source.clone();
        }
        [self.source.strip_suffix(b"/").unwrap_or(&self.source), b"/", path].concat()
    }

    fn draw(&mut self) {
        let now = Instant::now();
        let lately = self.drawn.is_some_and(|drawn| now.duration_since(drawn) < EVERY);
        if self.style != Style::Bar || lately {
            return;
        }
        self.drawn = Some(now);
        let filled = self.here.saturating_mul(BAR).checked_div(self.size).unwrap_or(BAR).min(BAR);
        let bar: String = (0..BAR).map(|at| if at < filled { '█' } else { '░' }).collect();
        let speed = self.bytes.checked_div(self.began.elapsed().as_secs()).unwrap_or(self.bytes);
        let tail = format!(" {bar} {} of {}, {}/s", size(self.here), size(self.size), size(speed));
        let width = usize::from(crossterm::terminal::size().map_or(80, |(columns, _)| columns));
        let name = String::from_utf8_lossy(&self.full(&self.name)).into_owned();
        let room = width.saturating_sub(tail.chars().count()).saturating_sub(1);
        let shown: String = name.chars().filter(|c| !c.is_control()).take(room).collect();
        drop(write!(io::stderr(), "\r{shown}{tail}\x1b[K"));
    }
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    let mut unit = 1_u64;
    let mut name = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if bytes < unit.saturating_mul(1024) {
            break;
        }
        unit = unit.saturating_mul(1024);
        name = larger;
    }
    let whole = bytes.checked_div(unit).unwrap_or_default();
    if unit == 1 || whole >= 100 {
        return format!("{whole} {name}");
    }
    let tenths = bytes.saturating_mul(10).checked_div(unit).unwrap_or_default() % 10;
    format!("{whole}.{tenths} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded_down_to_what_people_read() {
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (104_857_600, "100 MiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(size(bytes), want);
        }
    }
}
