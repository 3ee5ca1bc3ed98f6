//! One shell as the agent sees it: events come out in order, everything else goes in through a
//! writer that any number of tasks may hold.

use crate::frame::{self, CHUNK, FrameError};
use crate::helper::ExitStatus;
use crate::holder::message::{FromHolder, ShellId, ShellSignal, ShellState, Size, ToHolder, VERSION};
use nix::unistd::geteuid;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(10);

/// Input that may be on its way to a program that does not read.
const WINDOW: u64 = 256 << 10;

/// A dump of the largest screen stays below this.
const LARGEST_DUMP: usize = 64 << 20;

/// What a shell does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HolderEvent {
    /// Bytes as the terminal gave them; `offset` is the number of the first. A gap before it is
    /// output that was dropped while no agent was connected.
    Output { offset: u64, bytes: Vec<u8> },
    /// Escape sequences that draw the screen as it is after all output before `offset`.
    Repaint { offset: u64, bytes: Vec<u8> },
    /// Whether the foreground program reads a secret, known when output had come to `offset`.
    PasswordMode { offset: u64, on: bool },
    /// The shell has ended and this was all its output.
    Exited { offset: u64, status: ExitStatus },
}

#[derive(Debug, Error)]
pub enum LinkError {
    /// The holder ended, or another agent took over.
    #[error("the holder closed the connection")]
    Closed,
    #[error("the holder speaks version {theirs} of its protocol, this agent {VERSION}")]
    Version { theirs: u16 },
    #[error("the holder's socket is answered by another user")]
    Stranger,
    #[error("the holder did not keep to its protocol")]
    Malformed,
    #[error("the holder did not answer in time")]
    Silent,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A connection to one shell. Dropping it leaves the shell running, detached.
#[derive(Debug)]
pub struct Shell {
    state: ShellState,
    holder: u32,
    events: mpsc::Receiver<Result<HolderEvent, LinkError>>,
    writer: ShellWriter,
    _reader: JoinSet<()>,
}

/// The way in. Clones share one order; what is sent stays in the order of the calls.
#[derive(Debug, Clone)]
pub struct ShellWriter {
    frames: mpsc::Sender<Vec<u8>>,
    /// All input ever given to this shell, counted like [`ShellState::input`].
    sent: Arc<Mutex<u64>>,
    written: watch::Receiver<u64>,
}

impl Shell {
    pub(super) async fn connect(socket: &Path) -> Result<Self, LinkError> {
        Self::connect_as(socket, VERSION).await
    }

    /// Whether somebody keeps the shell of this socket, which a holder that was killed leaves behind. An agent of no
    /// version is answered and not let in, so whoever has the shell keeps it.
    pub(super) async fn is_kept(socket: &Path) -> bool {
        matches!(Self::connect_as(socket, 0).await, Err(LinkError::Version { .. } | LinkError::Silent))
    }

    async fn connect_as(socket: &Path, version: u16) -> Result<Self, LinkError> {
        let opening = async {
            let mut stream = UnixStream::connect(socket).await?;
            let peer = stream.peer_cred()?;
            if peer.uid() != geteuid().as_raw() {
                return Err(LinkError::Stranger);
            }
            let holder = peer.pid().and_then(|pid| u32::try_from(pid).ok()).ok_or(LinkError::Stranger)?;
            frame::write(&mut stream, &ToHolder::Hello { version }).await?;
            match frame::read(&mut stream).await? {
                Some(FromHolder::State(state)) => Ok(Self::new(stream, holder, state)),
                Some(FromHolder::Refused { version }) => Err(LinkError::Version { theirs: version }),
                Some(_) => Err(LinkError::Malformed),
                None => Err(LinkError::Closed),
            }
        };
        tokio::time::timeout(PATIENCE, opening).await.map_err(|_| LinkError::Silent)?
    }

    fn new(stream: UnixStream, holder: u32, state: ShellState) -> Self {
        let (reader, writer) = stream.into_split();
        let (to_caller, events) = mpsc::channel(16);
        let (frames, queue) = mpsc::channel(16);
        let (written, watched) = watch::channel(state.input);
        let mut reading = JoinSet::new();
        reading.spawn(receive(reader, to_caller, written));
        // Ends by itself with the last writer, after everything that was said has been sent.
        tokio::spawn(send(writer, queue));
        let sent = Arc::new(Mutex::new(state.input));
        Self { state, holder, events, writer: ShellWriter { frames, sent, written: watched }, _reader: reading }
    }

    /// How the shell stood when this connection was made.
    pub const fn state(&self) -> &ShellState {
        &self.state
    }

    pub const fn id(&self) -> ShellId {
        self.state.id
    }

    /// The process that keeps the shell.
    pub(crate) const fn holder(&self) -> u32 {
        self.holder
    }

    /// The next thing that happened. After an error there is nothing more. Cancel-safe.
    ///
    /// Must be called all the time, also while input waits: what is not taken here holds up the shell.
    pub async fn next(&mut self) -> Result<HolderEvent, LinkError> {
        self.events.recv().await.unwrap_or(Err(LinkError::Closed))
    }

    pub fn writer(&self) -> ShellWriter {
        self.writer.clone()
    }

    /// Starts the output at byte `from`, or at the first one still kept.
    pub async fn take(&self, from: u64) -> Result<(), LinkError> {
        self.writer.say(&ToHolder::Take { from }).await
    }

    /// Everything before `offset` is safe; the holder may forget it. A shell whose output is not
    /// confirmed comes to a halt after 4 MiB.
    pub async fn ack(&self, offset: u64) -> Result<(), LinkError> {
        self.writer.ack(offset).await
    }

    /// Asks for one [`HolderEvent::Repaint`].
    pub async fn repaint(&self) -> Result<(), LinkError> {
        self.writer.say(&ToHolder::Repaint).await
    }

    /// Leaves, and waits until the holder has read everything that was said: an agent that comes sooner would cut it off.
    /// Writers elsewhere must be gone.
    pub async fn leave(mut self) {
        drop(self.writer);
        let gone = async { while matches!(self.events.recv().await, Some(Ok(_))) {} };
        if tokio::time::timeout(PATIENCE, gone).await.is_err() {
            tracing::warn!(id = %self.state.id, "a shell's holder does not let go");
        }
    }

    /// The exit and all output are safe: lets the holder of an ended shell go. Does nothing before
    /// the exit. A holder that is not released goes by itself ten minutes after its shell.
    pub async fn release(self) -> Result<(), LinkError> {
        self.writer.say(&ToHolder::Release).await
    }

    /// A person is there as long as this connection is: the shell's idle limit does not run.
    pub async fn attended(&self) -> Result<(), LinkError> {
        self.writer.say(&ToHolder::Attended).await
    }

    pub async fn input(&self, bytes: &[u8]) -> Result<(), LinkError> {
        self.writer.input(bytes).await
    }

    pub async fn resize(&self, size: Size) -> Result<(), LinkError> {
        self.writer.resize(size).await
    }

    pub async fn hangup(&self) -> Result<(), LinkError> {
        self.writer.hangup().await
    }

    pub async fn kill(&self) -> Result<(), LinkError> {
        self.writer.kill().await
    }
}

impl ShellWriter {
    /// Waits while the program in the foreground does not read what was sent before.
    pub async fn input(&self, bytes: &[u8]) -> Result<(), LinkError> {
        let mut written = self.written.clone();
        let mut sent = self.sent.lock().await;
        for chunk in bytes.chunks(CHUNK) {
            written.wait_for(|written| sent.saturating_sub(*written) < WINDOW).await.map_err(|_| LinkError::Closed)?;
            self.say(&ToHolder::Input(chunk.to_vec())).await?;
            *sent = sent.saturating_add(chunk.len() as u64);
        }
        Ok(())
    }

    /// See [`Shell::ack`].
    pub async fn ack(&self, offset: u64) -> Result<(), LinkError> {
        self.say(&ToHolder::Ack { offset }).await
    }

    pub async fn resize(&self, size: Size) -> Result<(), LinkError> {
        self.say(&ToHolder::Resize(size)).await
    }

    /// Tells the shell and the program in its foreground that the terminal is gone; the shell again after a second, when
    /// it is still there.
    pub async fn hangup(&self) -> Result<(), LinkError> {
        self.say(&ToHolder::Signal(ShellSignal::Hangup)).await
    }

    /// For a shell that does not listen to a hang-up. Kills it and the program in its foreground;
    /// background jobs live on, as they do when a shell is killed on any terminal.
    pub async fn kill(&self) -> Result<(), LinkError> {
        self.say(&ToHolder::Signal(ShellSignal::Kill)).await
    }

    async fn say(&self, message: &ToHolder) -> Result<(), LinkError> {
        let frame = frame::encode(message)?;
        self.frames.send(frame).await.map_err(|_| LinkError::Closed)
    }
}

async fn send(mut stream: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if stream.write_all(&frame).await.is_err() {
            break;
        }
    }
}

async fn receive(
    mut stream: OwnedReadHalf,
    to_caller: mpsc::Sender<Result<HolderEvent, LinkError>>,
    written: watch::Sender<u64>,
) {
    let mut dump = Vec::new();
    loop {
        let event = match frame::read(&mut stream).await {
            Ok(Some(message)) => event(message, &mut dump, &written).transpose(),
            Ok(None) => Some(Err(LinkError::Closed)),
            Err(error) => Some(Err(error.into())),
        };
        let Some(event) = event else { continue };
        let last = event.is_err();
        if to_caller.send(event).await.is_err() || last {
            break;
        }
    }
}

fn event(
    message: FromHolder,
    dump: &mut Vec<u8>,
    written: &watch::Sender<u64>,
) -> Result<Option<HolderEvent>, LinkError> {
    Ok(Some(match message {
        FromHolder::Output { offset, bytes } => HolderEvent::Output { offset, bytes },
        FromHolder::PasswordMode { offset, on } => HolderEvent::PasswordMode { offset, on },
        FromHolder::Exited { offset, status } => HolderEvent::Exited { offset, status },
        FromHolder::Repaint { offset, part, last } => {
            dump.extend(part);
            if dump.len() > LARGEST_DUMP {
                return Err(LinkError::Malformed);
            }
            if !last {
                return Ok(None);
            }
            HolderEvent::Repaint { offset, bytes: std::mem::take(dump) }
        }
        FromHolder::Written { total } => {
            written.send_replace(total);
            return Ok(None);
        }
        FromHolder::State(_) | FromHolder::Refused { .. } => return Err(LinkError::Malformed),
    }))
}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLarge(_) | FrameError::Malformed | FrameError::Truncated => Self::Malformed,
            FrameError::Io(error) => Self::Io(error),
        }
    }
}
