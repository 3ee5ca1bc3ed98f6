//! The one loop of a holder: terminal, agent and time come in as events, one at a time, and each is
//! handled by one call.

use super::door::Link;
use super::kept::Kept;
use super::message::{ShellSignal, ToHolder};
use super::terminal::{Control, Terminal};
use crate::frame;
use crate::helper::ExitStatus;
use pty_process::{OwnedReadPty, OwnedWritePty};
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::time::{Instant, sleep_until};

/// Input that a program has not read yet. An agent counts what it sent and stays far below.
const INPUT_LIMIT: usize = 2 << 20;

/// How long an exit waits to be heard of.
const LINGER: Duration = Duration::from_secs(600);

/// A shell's terminal hangs up when the shell ends; output that still comes later than this is a
/// stranger's.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A line editor that is just about to read can miss a signal until the next one; its shell is told twice.
const TOLD_AGAIN: Duration = Duration::from_secs(1);

/// From the hang-up of an idle shell to the end of its patience.
const GRACE: Duration = Duration::from_secs(5);

/// Programs switch the echo off without a word. After each sign of life the terminal is looked at
/// again a few times, and then left in peace.
const LOOKS: [Duration; 5] = [
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(2),
];

pub(super) struct Keeper {
    kept: Kept,
    reader: Option<OwnedReadPty>,
    writer: OwnedWritePty,
    shell: Child,
    control: Control,
    buffer: Vec<u8>,
    input: VecDeque<u8>,
    admitted: mpsc::Receiver<UnixStream>,
    link: Option<Link>,
    /// The next frame for the agent, waiting for room.
    staged: Option<Vec<u8>>,
    status: Option<ExitStatus>,
    idle: Duration,
    timers: Timers,
}

#[derive(Default)]
struct Timers {
    /// The next look at the terminal's modes, and how many were taken since the last sign of life.
    look: Option<Instant>,
    looks: usize,
    /// Without a person: when the shell has been alone for too long.
    abandon: Option<Instant>,
    /// After a hang-up that the shell may have missed.
    again: Option<Instant>,
    /// After the hang-up of an abandoned shell.
    kill: Option<Instant>,
    /// After the shell's exit, while its terminal is still open.
    last_words: Option<Instant>,
    /// After everything: when to end unheard.
    end: Option<Instant>,
}

enum Event {
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    Agent(UnixStream),
    Message(Option<ToHolder>),
    Room(Option<OwnedPermit<Vec<u8>>>),
    Ended(io::Result<std::process::ExitStatus>),
    Time,
}

/// What an event makes of the holder.
#[derive(PartialEq, Eq)]
enum Next {
    Stay,
    End,
}

impl Keeper {
    pub(super) fn new(terminal: Terminal, kept: Kept, admitted: mpsc::Receiver<UnixStream>, idle: Duration) -> Self {
        let Terminal { reader, writer, shell, control } = terminal;
        let abandon = Instant::now().checked_add(idle);
        Self {
            kept,
            reader: Some(reader),
            writer,
            shell,
            control,
            buffer: vec![0; 16 << 10],
            input: VecDeque::new(),
            admitted,
            link: None,
            staged: None,
            status: None,
            idle,
            timers: Timers { abandon, ..Timers::default() },
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.stage();
            let event = self.event().await;
            if self.handle(event) == Next::End {
                break;
            }
        }
        self.control.signal(ShellSignal::Hangup);
    }

    fn stage(&mut self) {
        while self.link.is_some() && self.staged.is_none() {
            let Some(message) = self.kept.next() else {
                break;
            };
            // Every message is built below the limit of a frame; one that is not would be lost here.
            self.staged = frame::encode(&message).ok();
        }
    }

    async fn event(&mut self) -> Event {
        let may_read = self.link.is_none() || !(self.kept.ring.is_full() || self.kept.repaint_waits());
        let room = self.link.as_ref().filter(|_| self.staged.is_some()).map(|link| link.outgoing.clone());
        let alarm = self.timers.next();
        let (to_write, _) = self.input.as_slices();
        tokio::select! {
            read = read(self.reader.as_mut(), &mut self.buffer), if may_read => Event::Read(read),
            wrote = self.writer.write(to_write), if !to_write.is_empty() => Event::Wrote(wrote),
            Some(stream) = self.admitted.recv() => Event::Agent(stream),
            message = receive(self.link.as_mut()) => Event::Message(message),
            permit = reserve(room) => Event::Room(permit),
            status = self.shell.wait(), if self.status.is_none() => Event::Ended(status),
            () = wait_for(alarm) => Event::Time,
        }
    }

    fn handle(&mut self, event: Event) -> Next {
        match event {
            Event::Read(read) => self.read(read),
            Event::Wrote(wrote) => self.wrote(&wrote),
            Event::Agent(stream) => self.connected(stream),
            Event::Message(None) => self.disconnected(),
            Event::Message(Some(message)) => return self.message(message),
            Event::Room(Some(permit)) => {
                if let Some(frame) = self.staged.take() {
                    permit.send(frame);
                }
            }
            Event::Room(None) => self.disconnected(),
            Event::Ended(status) => self.ended(&status),
            Event::Time => return self.time(Instant::now()),
        }
        Next::Stay
    }

    fn read(&mut self, read: io::Result<usize>) {
        match read {
            Ok(count) if count > 0 => {
                if let Some(bytes) = self.buffer.get(..count) {
                    self.kept.output(bytes);
                }
                if self.link.is_none() {
                    self.kept.ring.shed();
                }
                if self.timers.last_words.is_some() {
                    self.timers.last_words = after(LAST_WORDS);
                }
                self.sign_of_life();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The kernel reports a terminal that nobody has open as an input/output error.
            Ok(_) | Err(_) => {
                self.reader = None;
                self.finish();
            }
        }
    }

    fn wrote(&mut self, wrote: &io::Result<usize>) {
        // Into a dead terminal everything is written, and nothing of it arrives.
        let count = wrote.as_ref().map_or(self.input.len(), |count| *count).min(self.input.len());
        self.input.drain(..count);
        self.kept.wrote(count as u64);
        self.sign_of_life();
    }

    fn connected(&mut self, stream: UnixStream) {
        self.link = Some(Link::new(stream));
        self.staged = None;
        // Until it says otherwise it came without a person; who was here before is gone.
        self.left();
        self.kept.connected();
    }

    fn disconnected(&mut self) {
        self.link = None;
        self.staged = None;
        self.left();
        self.kept.disconnected();
    }

    /// An agent that came only for the output leaves the shell as idle as it was.
    fn left(&mut self) {
        self.timers.abandon = self.timers.abandon.or_else(|| after(self.idle));
    }

    fn message(&mut self, message: ToHolder) -> Next {
        match message {
            ToHolder::Hello { .. } => self.disconnected(),
            ToHolder::Input(bytes) => self.input(&bytes),
            ToHolder::Resize(size) => {
                let size = size.checked();
                if self.control.resize(size).is_ok() {
                    self.kept.resize(size);
                }
            }
            ToHolder::Signal(ShellSignal::Hangup) => self.hang_up(),
            ToHolder::Signal(ShellSignal::Kill) => self.control.signal(ShellSignal::Kill),
            ToHolder::Take { from } => self.kept.take(from),
            ToHolder::Ack { offset } => self.kept.ring.release(offset),
            ToHolder::Repaint => self.kept.repaint(),
            ToHolder::Release if self.timers.end.is_some() => return Next::End,
            ToHolder::Release => {}
            ToHolder::Attended => self.timers.abandon = None,
        }
        Next::Stay
    }

    fn input(&mut self, bytes: &[u8]) {
        if self.input.len().saturating_add(bytes.len()) > INPUT_LIMIT {
            return self.disconnected();
        }
        // Before the bytes, so that the agent learns of the mode that they are read in.
        self.kept.password(self.control.asks_for_secret());
        self.input.extend(bytes);
        self.kept.input = self.kept.input.saturating_add(bytes.len() as u64);
    }

    fn hang_up(&mut self) {
        self.timers.again = after(TOLD_AGAIN);
        self.control.signal(ShellSignal::Hangup);
    }

    fn ended(&mut self, status: &io::Result<std::process::ExitStatus>) {
        let signal = status.as_ref().ok().and_then(ExitStatusExt::signal);
        let code = status.as_ref().ok().and_then(std::process::ExitStatus::code);
        self.status = Some(signal.map_or_else(|| ExitStatus::Code(code.unwrap_or(-1)), ExitStatus::Signal));
        self.control.forget_shell();
        self.timers.last_words = after(LAST_WORDS);
        self.finish();
    }

    /// The exit is told only when the last output is in.
    fn finish(&mut self) {
        if let Some(status) = self.status.filter(|_| self.reader.is_none() && self.timers.end.is_none()) {
            self.kept.password(false);
            self.kept.exited(status);
            // An abandoned shell that took the hang-up leaves nobody to tell.
            let abandoned = self.timers.kill.take().is_some() && self.link.is_none();
            self.timers.end = after(if abandoned { Duration::ZERO } else { LINGER });
            self.timers.last_words = None;
        }
    }

    fn sign_of_life(&mut self) {
        self.timers.looks = 0;
        self.look();
    }

    fn look(&mut self) {
        let secret = self.control.asks_for_secret();
        // Output that waits to be read may be older than the question; who has read it looks again.
        if self.timers.end.is_none() && (!secret || !self.control.output_waits()) {
            self.kept.password(secret);
        }
        self.timers.look = LOOKS.get(self.timers.looks).and_then(|pause| after(*pause));
        self.timers.looks = self.timers.looks.saturating_add(1);
    }

    fn time(&mut self, now: Instant) -> Next {
        let timers = &mut self.timers;
        let due = |timer: &mut Option<Instant>| timer.take_if(|at| *at <= now).is_some();
        if due(&mut timers.end) || due(&mut timers.kill) {
            self.control.signal(ShellSignal::Kill);
            return Next::End;
        }
        if due(&mut timers.abandon) {
            timers.kill = after(GRACE).filter(|_| self.status.is_none());
            timers.again = after(TOLD_AGAIN);
            self.control.signal(ShellSignal::Hangup);
        }
        if due(&mut timers.again) {
            self.control.hang_up_shell();
        }
        if due(&mut timers.last_words) {
            if self.link.is_some() && self.kept.ring.is_full() {
                timers.last_words = after(LAST_WORDS);
            } else {
                self.reader = None;
                self.finish();
            }
        }
        if due(&mut self.timers.look) {
            self.look();
        }
        Next::Stay
    }
}

impl Timers {
    fn next(&self) -> Option<Instant> {
        [self.look, self.abandon, self.again, self.kill, self.last_words, self.end].into_iter().flatten().min()
    }
}

fn after(pause: Duration) -> Option<Instant> {
    Instant::now().checked_add(pause)
}

async fn read(reader: Option<&mut OwnedReadPty>, buffer: &mut [u8]) -> io::Result<usize> {
    match reader {
        Some(reader) => reader.read(buffer).await,
        None => pending().await,
    }
}

async fn receive(link: Option<&mut Link>) -> Option<ToHolder> {
    match link {
        Some(link) => link.incoming.recv().await,
        None => pending().await,
    }
}

async fn reserve(room: Option<mpsc::Sender<Vec<u8>>>) -> Option<OwnedPermit<Vec<u8>>> {
    match room {
        Some(room) => room.reserve_owned().await.ok(),
        None => pending().await,
    }
}

async fn wait_for(alarm: Option<Instant>) {
    match alarm {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
