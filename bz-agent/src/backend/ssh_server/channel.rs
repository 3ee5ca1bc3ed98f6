//! One channel of a session, as the task behind it sees it.

use std::sync::Arc;

use russh::server::{Handle, Msg};
use russh::{ChannelId, ChannelWriteHalf, Sig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::{CHUNK, Served};
use crate::helper::ExitStatus;
use crate::holders::Size;
use crate::user::Environment;

/// The number of the stream that errors go on.
pub(super) const STDERR: u32 = 1;

/// What comes on a channel.
#[derive(Debug)]
pub(super) enum Word {
    Bytes(Vec<u8>),
    Eof,
    Resize(Size),
}

impl Word {
    /// What it counts for while it waits.
    pub(super) const fn weight(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Eof | Self::Resize(_) => 64,
        }
    }
}

/// What comes on a channel, in order; `None` when it is closed.
pub(super) struct Words {
    words: mpsc::UnboundedReceiver<Word>,
    served: Arc<Served>,
}

/// The way out of a channel.
#[derive(Clone)]
pub(super) struct Out {
    id: ChannelId,
    handle: Handle,
    write: Arc<ChannelWriteHalf<Msg>>,
    served: Arc<Served>,
}

/// A channel and what was asked of it before it began.
pub(super) struct Channel {
    pub(super) served: Arc<Served>,
    pub(super) words: Words,
    pub(super) out: Out,
    pub(super) environment: Environment,
}

impl Words {
    pub(super) const fn new(words: mpsc::UnboundedReceiver<Word>, served: Arc<Served>) -> Self {
        Self { words, served }
    }

    pub(super) async fn next(&mut self) -> Option<Word> {
        let word = self.words.recv().await?;
        if !matches!(word, Word::Bytes(_)) {
            self.taken(word.weight());
        }
        Some(word)
    }

    /// So many bytes have reached their program.
    pub(super) fn taken(&self, bytes: usize) {
        self.served.throttle.taken(bytes);
    }

    /// Gives a program what comes, until the channel is closed. Where it is recorded, `stream` says it first.
    pub(super) async fn feed(&mut self, mut program: Option<impl AsyncWrite + Unpin>, stream: Option<u32>) {
        while let Some(word) = self.next().await {
            match (word, &mut program) {
                (Word::Bytes(bytes), Some(to)) => {
                    let said = match stream {
                        Some(stream) => self.served.told.bytes(stream, &bytes).await,
                        None => true,
                    };
                    let written = said && to.write_all(&bytes).await.is_ok();
                    self.taken(bytes.len());
                    if !written {
                        program = None;
                    }
                }
                (Word::Bytes(bytes), None) => self.taken(bytes.len()),
                (Word::Eof, _) => {
                    if let Some(mut to) = program.take() {
                        // A program that is gone needs no end of its input.
                        to.shutdown().await.unwrap_or_default();
                    }
                }
                (Word::Resize(_), _) => {}
            }
        }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        self.words.close();
        while let Ok(word) = self.words.try_recv() {
            self.taken(word.weight());
        }
    }
}

impl Out {
    pub(super) fn new(id: ChannelId, handle: Handle, write: ChannelWriteHalf<Msg>, served: Arc<Served>) -> Self {
        Self { id, handle, write: Arc::new(write), served }
    }

    /// A way to the person for one stream.
    pub(super) fn writer(&self, error: bool) -> impl AsyncWrite + Unpin + Send {
        Box::pin(self.write.make_writer_ext(error.then_some(STDERR)))
    }

    /// Writes, and lets more come in while that waits.
    pub(super) async fn write(&self, to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> bool {
        let _writing = self.served.throttle.writing();
        to.write_all(bytes).await.is_ok()
    }

    /// Passes on all that a program says. Where it is recorded, `stream` says it first.
    pub(super) async fn copy(&self, from: Option<impl AsyncRead + Unpin>, (error, stream): (bool, Option<u32>)) {
        let Some(mut from) = from else { return };
        let (mut to, mut buffer) = (self.writer(error), vec![0; CHUNK]);
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let bytes = buffer.get(..n).unwrap_or_default();
            if let Some(stream) = stream
                && !self.served.told.bytes(stream, bytes).await
            {
                return;
            }
            if !self.write(&mut to, bytes).await {
                return;
            }
        }
    }

    /// A line for the person, on the stream of errors.
    pub(super) async fn complain(&self, what: &str) {
        let line = format!("bz: {what}\r\n");
        self.write(&mut self.writer(true), line.as_bytes()).await;
    }

    /// The last words of the channel. A person who is gone needs none.
    pub(super) async fn end(&self, status: ExitStatus) {
        let (id, handle) = (self.id, &self.handle);
        let said = match status {
            ExitStatus::Code(code) => handle.exit_status_request(id, u32::try_from(code).unwrap_or(255)).await,
            ExitStatus::Signal(signal) => {
                handle.exit_signal_request(id, named(signal), false, String::new(), String::new()).await
            }
        };
        if said.is_ok() && handle.eof(id).await.is_ok() {
            handle.close(id).await.unwrap_or_default();
        }
    }
}

/// A signal as SSH names it.
fn named(signal: i32) -> Sig {
    use nix::sys::signal::Signal;
    match Signal::try_from(signal) {
        Ok(Signal::SIGABRT) => Sig::ABRT,
        Ok(Signal::SIGALRM) => Sig::ALRM,
        Ok(Signal::SIGFPE) => Sig::FPE,
        Ok(Signal::SIGHUP) => Sig::HUP,
        Ok(Signal::SIGILL) => Sig::ILL,
        Ok(Signal::SIGINT) => Sig::INT,
        Ok(Signal::SIGKILL) => Sig::KILL,
        Ok(Signal::SIGPIPE) => Sig::PIPE,
        Ok(Signal::SIGQUIT) => Sig::QUIT,
        Ok(Signal::SIGSEGV) => Sig::SEGV,
        Ok(Signal::SIGTERM) => Sig::TERM,
        Ok(Signal::SIGUSR1) => Sig::USR1,
        Ok(_) | Err(_) => Sig::Custom(format!("{signal}@bz")),
    }
}
