//! Playing a recording (asciicast v2), with time as an argument: what is shown when, and what keys do to it.
//!
//! Pauses are shortened to a limit, so that hours in which nothing happened pass in a moment. A player holds one event at
//! a time: a recording of any length is played as it is read.
//!
//! **Absent:** clocks, files and terminals, which are in `terminal` and in the program.

mod tame;

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

pub use tame::Tame;

/// The longest recording: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// How fast a recording is played: from a tenth of its speed to a hundred times.
pub const SPEEDS: std::ops::RangeInclusive<f64> = 0.1..=100.0;

/// Why a line is none of an asciicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CastError {
    /// The first line.
    #[error("it does not begin as an asciicast v2 does")]
    Header,
    /// Any other.
    #[error("a line of it is none of an asciicast v2")]
    Event,
}

/// How an asciicast begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Header {
    version: u8,
    /// Columns of the terminal.
    pub width: u16,
    /// Its rows.
    pub height: u16,
}

impl Header {
    /// The first line of an asciicast.
    ///
    /// # Errors
    /// [`CastError::Header`].
    pub fn parse(line: &str) -> Result<Self, CastError> {
        let header: Self = serde_json::from_str(line).map_err(|_| CastError::Header)?;
        if header.version == 2 { Ok(header) } else { Err(CastError::Header) }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, from the beginning on.
    pub at: Duration,
    /// What.
    pub kind: Kind,
    /// Its text.
    pub text: String,
}

/// The kinds of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The terminal showed something.
    Output,
    /// Somebody typed something.
    Input,
    /// The terminal has another size.
    Resize,
    /// A word of who recorded it.
    Mark,
    /// Something that this program does not know.
    Other,
}

impl Event {
    /// A line of an asciicast behind the first.
    ///
    /// # Errors
    /// [`CastError::Event`].
    pub fn parse(line: &str) -> Result<Self, CastError> {
        let (at, kind, text): (f64, String, Value) = serde_json::from_str(line).map_err(|_| CastError::Event)?;
        let at = Duration::try_from_secs_f64(at).ok().filter(|at| *at <= LONGEST).ok_or(CastError::Event)?;
        let kind = match kind.as_str() {
            "o" => Kind::Output,
            "i" => Kind::Input,
            "r" => Kind::Resize,
            "m" => Kind::Mark,
            _ => Kind::Other,
        };
        let text = match (text, kind) {
            (Value::String(text), _) => text,
            (_, Kind::Other) => String::new(),
            (_, Kind::Output | Kind::Input | Kind::Resize | Kind::Mark) => return Err(CastError::Event),
        };
        Ok(Self { at, kind, text })
    }
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// How many seconds of the recording pass in one.
    pub speed: f64,
    /// The longest pause of it, in its own time.
    pub idle: Duration,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Give the player the next event, or say that there is none.
    Feed,
    /// Show this, and ask again.
    Show(Event),
    /// Nothing is to be done before this time.
    Wait(Duration),
    /// Nothing is to be done before a key.
    Paused,
    /// It is over.
    Over,
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Stops, or goes on.
    Pause,
    /// The next event, while it is stopped.
    Next,
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
    /// The end.
    Quit,
}

impl Key {
    /// What these bytes of a keyboard mean, which arrived together. What begins with an escape is no single key.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Vec<Self> {
        let plain = bytes.split(|byte| *byte == 0x1b).next().unwrap_or_default();
        let key = |byte: &u8| match byte {
            b' ' => Some(Self::Pause),
            b'.' => Some(Self::Next),
            b'+' | b'=' | b'>' => Some(Self::Faster),
            b'-' | b'<' => Some(Self::Slower),
            b'q' | 0x03 | 0x04 => Some(Self::Quit),
            _ => None,
        };
        plain.iter().filter_map(key).collect()
    }
}

/// A recording that is being played.
#[derive(Debug)]
pub struct Player {
    pace: Pace,
    next: Option<Event>,
    /// Where in the recording, pauses shortened.
    position: Duration,
    /// When the position was that.
    at: Option<Duration>,
    /// Where the next event is, pauses shortened.
    due: Duration,
    /// The time of the event that was fed last.
    last: Duration,
    paused: bool,
    over: bool,
}

impl Player {
    /// A player of nothing yet.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        let speed = if SPEEDS.contains(&pace.speed) { pace.speed } else { 1.0 };
        Self {
            pace: Pace { speed, ..pace },
            next: None,
            position: Duration::ZERO,
            at: None,
            due: Duration::ZERO,
            last: Duration::ZERO,
            paused: false,
            over: false,
        }
    }

    /// What [`Step::Feed`] asked for; `None` when there is no more.
    pub fn feed(&mut self, event: Option<Event>) {
        let Some(event) = event else {
            self.over = true;
            return;
        };
        // A time that goes back is no pause.
        let pause = event.at.saturating_sub(self.last).min(self.pace.idle);
        self.last = self.last.max(event.at);
        self.due = self.due.saturating_add(pause);
        self.next = Some(event);
    }

    /// What to do at this time.
    pub fn poll(&mut self, now: Duration) -> Step {
        self.advance(now);
        if self.over {
            return Step::Over;
        }
        if self.next.is_none() {
            return Step::Feed;
        }
        if self.position >= self.due {
            return self.next.take().map_or(Step::Feed, Step::Show);
        }
        if self.paused {
            return Step::Paused;
        }
        let left = self.due.saturating_sub(self.position).as_secs_f64() / self.pace.speed;
        let left = Duration::try_from_secs_f64(left).unwrap_or(LONGEST);
        // Never a wait of nothing, which would be asked for again and again.
        Step::Wait(now.saturating_add(left.max(Duration::from_micros(1))))
    }

    /// Somebody pressed a key at this time.
    pub fn press(&mut self, now: Duration, key: Key) {
        self.advance(now);
        match key {
            Key::Pause => self.paused = !self.paused,
            Key::Next if self.paused => self.position = self.position.max(self.due),
            Key::Next => {}
            Key::Faster => self.pace.speed = (self.pace.speed * 2.0).min(*SPEEDS.end()),
            Key::Slower => self.pace.speed = (self.pace.speed / 2.0).max(*SPEEDS.start()),
            Key::Quit => self.over = true,
        }
    }

    fn advance(&mut self, now: Duration) {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_sub(at));
        self.at = Some(now);
        if !self.paused {
            let moved = Duration::try_from_secs_f64(since.as_secs_f64() * self.pace.speed).unwrap_or(LONGEST);
            self.position = self.position.saturating_add(moved);
        }
        if self.next.is_some() || self.over {
            return;
        }
        // Between events no time passes: what is read slowly is not made up for.
        self.position = self.position.min(self.due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn event(at: u64, text: &str) -> Event {
        Event { at: ms(at), kind: Kind::Output, text: text.to_owned() }
    }

    /// Plays by a clock of its own, with keys at their times: what was shown when, in milliseconds.
    fn play(pace: Pace, events: &[(u64, &str)], keys: &[(u64, Key)]) -> Vec<(u64, String)> {
        let mut player = Player::new(pace);
        let (mut now, mut shown) = (Duration::ZERO, Vec::new());
        let (mut events, mut keys) = (events.iter(), keys.iter().peekable());
        loop {
            match player.poll(now) {
                Step::Feed => player.feed(events.next().map(|(at, text)| event(*at, text))),
                Step::Show(event) => shown.push((u64::try_from(now.as_millis()).unwrap(), event.text)),
                Step::Wait(until) => match keys.next_if(|(at, _)| ms(*at) <= until) {
                    Some((at, key)) => {
                        now = ms(*at);
                        player.press(now, *key);
                    }
                    None => now = until,
                },
                Step::Paused => {
                    let (at, key) = keys.next().expect("a key goes on");
                    now = ms(*at);
                    player.press(now, *key);
                }
                Step::Over => return shown,
            }
        }
    }

    /// F-115: pauses are shortened to the limit, and what is quick stays as it was.
    #[test]
    fn idle_time_is_compressed() {
        let check = |speed: f64, idle: u64, want: &[u64]| {
            let events =
                [(0, "a"), (300, "b"), (3_600_300, "c"), (3_600_400, "d"), (3_600_350, "e"), (90_000_000, "f")];
            let shown = play(Pace { speed, idle: ms(idle) }, &events, &[]);
            let times: Vec<_> = shown.iter().map(|(at, _)| *at).collect();
            assert_eq!(times, want, "speed {speed}, limit {idle}");
            assert_eq!(shown.iter().map(|(_, text)| text.as_str()).collect::<String>(), "abcdef");
        };
        check(1.0, 2000, &[0, 300, 2300, 2400, 2400, 4400]);
        check(2.0, 2000, &[0, 150, 1150, 1200, 1200, 2200]);
        check(0.5, 100, &[0, 200, 400, 600, 600, 800]);
        check(1.0, 0, &[0; 6]);
        check(1.0, 1_000_000_000, &[0, 300, 3_600_300, 3_600_400, 3_600_400, 90_000_000]);
    }

    /// Keys stop, step, hasten and end it.
    #[test]
    fn keys_do_what_they_say() {
        let pace = Pace { speed: 1.0, idle: ms(10_000) };
        let events = [(1000, "a"), (2000, "b"), (3000, "c"), (4000, "d")];
        let check = |keys: &[(u64, Key)], want: &[(u64, &str)]| {
            let shown = play(pace, &events, keys);
            let shown: Vec<_> = shown.iter().map(|(at, text)| (*at, text.as_str())).collect();
            assert_eq!(shown, want, "{keys:?}");
        };
        check(&[], &[(1000, "a"), (2000, "b"), (3000, "c"), (4000, "d")]);
        let pauses = [(1500, Key::Pause), (9000, Key::Pause)];
        check(&pauses, &[(1000, "a"), (9500, "b"), (10_500, "c"), (11_500, "d")]);
        let steps = [(1500, Key::Pause), (5000, Key::Next), (6000, Key::Next), (7000, Key::Pause)];
        check(&steps, &[(1000, "a"), (5000, "b"), (6000, "c"), (8000, "d")]);
        check(&[(1500, Key::Next)], &[(1000, "a"), (2000, "b"), (3000, "c"), (4000, "d")]);
        check(&[(1000, Key::Faster)], &[(1000, "a"), (1500, "b"), (2000, "c"), (2500, "d")]);
        check(&[(1500, Key::Slower)], &[(1000, "a"), (2500, "b"), (4500, "c"), (6500, "d")]);
        check(&[(2500, Key::Quit)], &[(1000, "a"), (2000, "b")]);
        check(&[(500, Key::Pause), (600, Key::Quit)], &[]);
        assert_eq!(Key::of(b" .+x-q\x03"), { [Key::Pause, Key::Next, Key::Faster, Key::Slower, Key::Quit, Key::Quit] });
        assert_eq!(Key::of(b"\x1b[24;80R q"), [], "what a terminal says of itself is no key");
    }

    #[test]
    fn lines_are_those_of_asciicast_v2_or_none() {
        let header = Header::parse(r#"{"version": 2, "width": 132, "height": 50, "timestamp": 1}"#).unwrap();
        assert_eq!((header.width, header.height), (132, 50));
        for bad in ["", "[]", r#"{"version": 1, "width": 1, "height": 1}"#, r#"{"version": 2}"#] {
            assert_eq!(Header::parse(bad), Err(CastError::Header), "{bad}");
        }
        assert_eq!(Event::parse(r#"[1.5, "o", "x"]"#), Ok(event(1500, "x")));
        assert_eq!(Event::parse(r#"[0, "z", {}]"#).map(|event| event.kind), Ok(Kind::Other));
        let bad = ["", "{}", "[]", "[1]", r#"[1,"o"]"#, r#"[1,"o",2]"#, r#"["1","o","x"]"#, r#"[1,"o","x",3]"#];
        let bad = bad.iter().chain(&[r#"[-1,"o","x"]"#, r#"[1e999,"o","x"]"#, r#"[1e18,"o","x"]"#, r#"[1,"o","x"#]);
        for bad in bad {
            assert_eq!(Event::parse(bad), Err(CastError::Event), "{bad}");
        }
        let strange = Player::new(Pace { speed: f64::NAN, idle: ms(1) });
        assert_eq!(strange.pace.speed.to_string(), "1");
    }
}
