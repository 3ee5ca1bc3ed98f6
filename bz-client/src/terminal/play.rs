//! A recording on the person's own terminal: shown, steered by keys, and tidied up after.

use std::io::{self, IsTerminal as _, Write as _};

use bz_core::time::Mono;
use bz_protocol::driver::Clock;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

use crate::player::{Event, Key, Kind, Player, Step, Tame};
use crate::terminal::Raw;

/// The terminal while a recording is on it: raw, so that keys come one by one, and as it was when this is dropped.
#[derive(Debug)]
pub struct Screen {
    tame: Tame,
    raw: Option<Raw>,
    keys: mpsc::Receiver<Key>,
    reader: Option<tokio::task::JoinHandle<()>>,
    ends: Option<tokio::task::JoinHandle<()>>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn take() -> io::Result<Self> {
        let (pressed, keys) = mpsc::channel(64);
        let raw = if io::stdin().is_terminal() { Some(Raw::enter()?) } else { None };
        let reader = raw.is_some().then(|| tokio::spawn(read(pressed.clone())));
        Ok(Self { tame: Tame::default(), raw, keys, reader, ends: Some(tokio::spawn(ends(pressed))) })
    }

    /// Shows what a program wrote.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn show(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout();
        out.write_all(self.tame.take(text).as_bytes())?;
        out.flush()
    }

    /// The next key.
    pub async fn key(&mut self) -> Key {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        for task in self.reader.take().into_iter().chain(self.ends.take()) {
            task.abort();
        }
        let mut out = io::stdout();
        let restored = out.write_all(self.tame.restore().as_bytes()).and_then(|()| out.flush());
        if let Err(error) = restored {
            tracing::debug!(%error, "the terminal is gone");
        }
        drop(self.raw.take());
    }
}

async fn read(pressed: mpsc::Sender<Key>) {
    let mut input = tokio::io::stdin();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = input.read(&mut buffer).await {
        for key in Key::of(buffer.get(..count).unwrap_or_default()) {
            if pressed.send(key).await.is_err() {
                return;
            }
        }
    }
}

/// Whoever ends this program from outside gets the terminal back, too.
async fn ends(pressed: mpsc::Sender<Key>) {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut over), Ok(mut gone)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) else {
            return;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = over.recv() => {}
            _ = gone.recv() => {}
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        return;
    }
    // Nobody listens any more when it is over anyway.
    pressed.send(Key::Quit).await.unwrap_or_default();
}

/// Plays a recording to its end, or until somebody has enough. `next` gives its events.
///
/// # Errors
/// Those of `next`, and of a terminal that is gone.
pub async fn play<E: From<io::Error>>(
    (mut player, mut screen): (Player, Screen),
    clock: &dyn Clock,
    mut next: impl AsyncFnMut() -> Result<Option<Event>, E>,
) -> Result<(), E> {
    let began = clock.now().mono;
    let now = |mono: Mono| mono.since(began);
    loop {
        let until = match player.poll(now(clock.now().mono)) {
            Step::Feed => {
                player.feed(next().await?);
                continue;
            }
            Step::Show(event) => {
                if matches!(event.kind, Kind::Output) {
                    screen.show(&event.text)?;
                }
                // Keys count also while there is much to show.
                while let Ok(key) = screen.keys.try_recv() {
                    player.press(now(clock.now().mono), key);
                }
                continue;
            }
            Step::Wait(until) => Some(until),
            Step::Paused => None,
            Step::Over => return Ok(()),
        };
        let waited = async {
            match until {
                Some(until) => clock.wait(began.after(until)).await,
                None => std::future::pending::<()>().await,
            }
        };
        tokio::select! {
            () = waited => {}
            key = screen.key() => player.press(now(clock.now().mono), key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use bz_core::time::{Now, UnixTime};
    use bz_protocol::carrier::Boxed;

    use super::*;
    use crate::player::Pace;

    /// A clock on which whoever waits has waited.
    struct Quick(Mutex<Mono>);

    impl Clock for Quick {
        fn now(&self) -> Now {
            let mono = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Now { wall: UnixTime::from_secs(1), mono }
        }

        fn wait(&self, at: Mono) -> Boxed<'_, ()> {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
            Box::pin(std::future::ready(()))
        }
    }

    /// A terminal that is nobody's: only what is asked for is looked at.
    #[tokio::test]
    async fn a_player_asks_for_events_and_hands_on_their_errors() {
        let (_keys, keys) = mpsc::channel(1);
        let screen = Screen { tame: Tame::default(), raw: None, keys, reader: None, ends: None };
        let player = Player::new(Pace { speed: 1.0, idle: Duration::from_secs(2) });
        let mut given = 0;
        let event = |at| Event { at: Duration::from_secs(at), kind: Kind::Input, text: String::new() };
        let next = async || {
            given += 1;
            match given {
                1 => Ok(Some(event(1))),
                2 => Ok(Some(event(3600))),
                _ => Err(io::Error::other("cut off")),
            }
        };
        let clock = Quick(Mutex::new(Mono::at(Duration::from_secs(100))));
        let played: Result<(), io::Error> = play((player, screen), &clock, next).await;
        assert_eq!(played.unwrap_err().to_string(), "cut off");
        assert_eq!(clock.now().mono.since(Mono::at(Duration::from_secs(100))).as_secs(), 3);
    }
}
