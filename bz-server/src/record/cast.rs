//! The asciicast v2 of what frames carry: made when it is asked for, so that content is stored once.
//!
//! Times are the agent's: a frame's is that of the agent's first checkpoint behind it, the only ones that somebody
//! signed. What no checkpoint follows yet waits for one; what none ever follows has the last one's.

use std::collections::BTreeMap;

use bz_core::access::request::Size;
use bz_core::time::UnixTime;
use bz_protocol::keys::Direction;
use bz_protocol::ssh::{self, Decoder, Said};
use serde_json::json;

pub(super) const SIZE: Size = Size { rows: 24, columns: 80 };
/// The most bytes that wait for a checkpoint: an agent signs at least each second, and one that does not must not fill
/// anybody's memory.
const MOST_WAITING: usize = 1 << 20;

/// An asciicast in the making.
#[derive(Debug, Default)]
pub struct Cast {
    began: Option<(UnixTime, Size)>,
    now: Option<UnixTime>,
    /// Bytes of a character that the next frame ends, by direction and stream.
    halves: BTreeMap<(bool, u32), Vec<u8>>,
    /// Events whose time the next checkpoint says, and their bytes.
    waiting: Vec<(char, String)>,
    bytes: usize,
    events: Vec<(UnixTime, char, String)>,
    /// What an agent says of the SSH that it ends.
    pub(super) said: Option<Decoder>,
}

impl Cast {
    /// A session begins; the first one's size and time are the whole cast's.
    pub fn begins(&mut self, at: UnixTime, size: Size) {
        if self.began.is_none() {
            self.began = Some((at, size));
        } else {
            self.resized(size);
        }
        self.now = self.now.max(Some(at));
    }

    /// Bytes of a stream.
    pub fn bytes(&mut self, direction: Direction, stream: u32, bytes: &[u8]) {
        let input = direction == Direction::ToAgent;
        let half = self.halves.entry((input, stream)).or_default();
        half.extend_from_slice(bytes);
        let text = whole_text(half);
        if !text.is_empty() {
            self.bytes = self.bytes.saturating_add(text.len());
            self.waiting.push((if input { 'i' } else { 'o' }, text));
        }
        if self.bytes > MOST_WAITING {
            self.time(self.now.unwrap_or(UnixTime::from_millis(0)));
        }
    }

    /// Bytes of a stream beside SSH.
    pub(super) fn ssh(&mut self, stream: u32, bytes: &[u8]) {
        match stream {
            ssh::SCREEN | ssh::OUTPUT => self.bytes(Direction::ToClient, stream, bytes),
            ssh::KEYS | ssh::INPUT => self.bytes(Direction::ToAgent, stream, bytes),
            ssh::SAID => {
                let Some(mut said) = self.said.take() else { return };
                said.put(bytes);
                while let Ok(Some(message)) = said.next_message() {
                    if let Said::Terminal { size } | Said::Resize { size } = message {
                        self.resized(size.clamped());
                    }
                }
                self.said = Some(said);
            }
            _ => {}
        }
    }

    /// The terminal has another size.
    pub fn resized(&mut self, size: Size) {
        self.waiting.push(('r', format!("{}x{}", size.columns, size.rows)));
    }

    /// The agent's clock, after everything so far.
    pub fn time(&mut self, now: UnixTime) {
        // A clock that was set back does not turn a recording back.
        let now = self.now.map_or(now, |before| before.max(now));
        (self.now, self.bytes) = (Some(now), 0);
        self.events.extend(self.waiting.drain(..).map(|(kind, text)| (now, kind, text)));
    }

    /// Nothing more comes of a session: a half character is none.
    pub fn part_ends(&mut self) {
        for ((input, _), half) in std::mem::take(&mut self.halves) {
            if !half.is_empty() {
                self.waiting.push((if input { 'i' } else { 'o' }, char::REPLACEMENT_CHARACTER.to_string()));
            }
        }
        self.time(self.now.unwrap_or(UnixTime::from_millis(0)));
    }

    /// A word of the server's own, for players that show marks.
    pub fn mark(&mut self, text: &str) {
        self.waiting.push(('m', text.to_owned()));
        self.time(self.now.unwrap_or(UnixTime::from_millis(0)));
    }

    /// The header, as soon as a session began or something was shown.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        let (began, size) = self.began.or_else(|| self.events.first().map(|(at, ..)| (*at, SIZE)))?;
        let header = json!({ "version": 2, "width": size.columns, "height": size.rows, "timestamp": began.as_secs() });
        Some(header.to_string())
    }

    /// The events so far, each as a line, and none of them a second time.
    pub fn drain(&mut self) -> Vec<String> {
        let events = std::mem::take(&mut self.events);
        if let Some((at, ..)) = events.first() {
            self.began.get_or_insert((*at, SIZE));
        }
        let began = self.began.map_or(0, |(began, _)| began.as_millis());
        let line = |(at, kind, data): (UnixTime, char, String)| {
            let millis = at.as_millis().saturating_sub(began);
            let data = serde_json::Value::from(data);
            format!("[{}.{:03}, \"{kind}\", {data}]", millis / 1000, millis % 1000)
        };
        events.into_iter().map(line).collect()
    }

    /// The text: a header, and one line for each event.
    #[must_use]
    pub fn into_text(mut self) -> String {
        let empty = || json!({ "version": 2, "width": SIZE.columns, "height": SIZE.rows, "timestamp": 0 }).to_string();
        let mut text = self.header().unwrap_or_else(empty);
        text.push('\n');
        for line in self.drain() {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// Takes all whole characters out of `bytes`; what is none becomes a replacement, and a cut one stays.
fn whole_text(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut rest = Vec::new();
    let last = bytes.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
    let cut = std::str::from_utf8(bytes.get(bytes.len().saturating_sub(last)..).unwrap_or_default())
        .is_err_and(|error| error.error_len().is_none());
    if cut {
        rest = bytes.split_off(bytes.len().saturating_sub(last));
    }
    text.push_str(&String::from_utf8_lossy(bytes));
    *bytes = rest;
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const OUT: Direction = Direction::ToClient;

    /// F-113: header and events are asciicast v2, with times as signed.
    #[test]
    fn a_cast_is_asciicast_v2() {
        let mut cast = Cast::default();
        cast.begins(UnixTime::from_millis(10_000_500), Size { rows: 50, columns: 132 });
        cast.bytes(OUT, 0, b"$ ");
        cast.bytes(Direction::ToAgent, 0, b"ls\r");
        cast.time(UnixTime::from_millis(10_001_750));
        cast.resized(Size { rows: 24, columns: 80 });
        cast.bytes(OUT, 0, b"\x1b[1m\"x\"\r\n");
        cast.time(UnixTime::from_millis(10_001_000));
        cast.part_ends();
        let lines: Vec<Value> = cast.into_text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let header = json!({"version": 2, "width": 132, "height": 50, "timestamp": 10_000});
        let events = [
            json!([1.25, "o", "$ "]),
            json!([1.25, "i", "ls\r"]),
            json!([1.25, "r", "80x24"]),
            json!([1.25, "o", "\u{1b}[1m\"x\"\r\n"]),
        ];
        assert_eq!(lines[0], header);
        assert_eq!(lines[1..], events, "a clock set back must not turn the times back");
    }

    /// A character cut by frames arrives whole, in its own stream; what is none is replaced.
    #[test]
    fn characters_cut_by_frames_are_whole() {
        let check = |frames: &[(u32, &[u8])], want: &[&str]| {
            let mut cast = Cast::default();
            cast.begins(UnixTime::from_secs(1), SIZE);
            for (stream, bytes) in frames {
                cast.bytes(OUT, *stream, bytes);
            }
            cast.part_ends();
            let got: Vec<String> = cast.events.into_iter().map(|(_, _, text)| text).collect();
            assert_eq!(got, want, "{frames:?}");
        };
        check(&[(0, b"a\xe2"), (0, b"\x82"), (0, b"\xacb")], &["a", "\u{20ac}b"]);
        check(&[(0, b"\xf0\x9f"), (1, b"err"), (0, b"\x98\x80")], &["err", "\u{1f600}"]);
        check(&[(0, b"a\xffb"), (0, b"\xc3")], &["a\u{fffd}b", "\u{fffd}"]);
        check(&[(0, b"\xff\xe2\x82")], &["\u{fffd}", "\u{fffd}"]);
        check(&[(0, b"")], &[]);
    }
}
