//! The record of shells that nobody is attached to: one segment for each, as long as there is a link.
//!
//! A segment lets go of its shell as soon as a session wants it; its signed end follows. What the server did not say
//! that it recorded stays with the shell's holder, and the next session or segment tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bz_core::id::ShellId;
use bz_core::time::Mono;
use bz_protocol::carrier::{Class, Link, LinkError as StreamError, Stream, write_message};
use bz_protocol::control::Preamble;
use bz_protocol::driver::{random, sleep_until};
use bz_protocol::frame::{Fin, Notice};
use bz_protocol::limits::MAX_PAYLOAD;
use bz_protocol::link::{receive, send};
use bz_protocol::segment::{Author, AuthorError, FromAgent, FromServer, SegmentOpening};
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::agent::Context;
use crate::backend::shell::table::{Holding, Left, LetGo};
use crate::backend::shell::{Shells, ended};
use crate::holders::{HolderEvent, HoldersError, LinkError, Shell};

/// How long the end of a segment may take to be recorded.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// The longest wait before a segment that failed is tried again.
const SLOWEST: Duration = Duration::from_secs(60);

/// Why a segment ended before its time.
#[derive(Debug, thiserror::Error)]
enum SegmentError {
    #[error("the shell's holder: {0}")]
    Connect(#[from] HoldersError),
    #[error("the shell's holder: {0}")]
    Holder(#[from] LinkError),
    #[error("the server: {0}")]
    Server(#[from] StreamError),
    #[error(transparent)]
    Author(#[from] AuthorError),
    #[error("the operating system gives no random bytes: {0}")]
    Random(std::io::Error),
    #[error("its end was not recorded in time")]
    Unheard,
}

/// Segments that failed, and when to try again.
#[derive(Default)]
struct Failures(BTreeMap<ShellId, (u32, Mono)>);

impl Failures {
    fn note(&mut self, shell: ShellId, now: Mono) {
        let (count, at) = self.0.entry(shell).or_insert((0, now));
        let wait = Duration::from_secs(1).saturating_mul(1 << (*count).min(6)).min(SLOWEST);
        (*count, *at) = (count.saturating_add(1), now.after(wait));
    }

    fn may_try(&self, shell: ShellId, now: Mono) -> bool {
        self.0.get(&shell).is_none_or(|(_, at)| *at <= now)
    }

    fn next(&self, now: Mono) -> Option<Mono> {
        self.0.values().map(|(_, at)| *at).filter(|at| *at > now).min()
    }
}

/// Keeps a segment of each shell that was left, for ever.
pub(crate) async fn keep(context: Arc<Context>, shells: Arc<Shells>) {
    let (mut changes, mut link) = (shells.table.changes(), context.link.subscribe());
    let (mut running, mut tasks) = (BTreeSet::new(), JoinSet::new());
    let mut failures = Failures::default();
    loop {
        changes.mark_unchanged();
        let present = link.borrow_and_update().clone();
        let now = context.clock.now().mono;
        for shell in shells.table.left() {
            let Some(link) = present.clone().filter(|_| !running.contains(&shell) && failures.may_try(shell, now))
            else {
                continue;
            };
            let Some((holding, let_go, left)) = shells.table.hold_for_segment(shell) else { continue };
            running.insert(shell);
            let segment = Segment { context: Arc::clone(&context), shells: Arc::clone(&shells), shell, left };
            tasks.spawn(async move { (shell, segment.run(link, holding, let_go).await) });
        }
        tokio::select! {
            Some(ended) = tasks.join_next() => match ended {
                Ok((shell, ended)) => {
                    running.remove(&shell);
                    match ended {
                        Ok(()) => drop(failures.0.remove(&shell)),
                        Err(error) => {
                            tracing::debug!(%shell, %error, "a segment was cut off");
                            failures.note(shell, context.clock.now().mono);
                        }
                    }
                }
                Err(error) => {
                    // A panic names no shell: all may be tried again.
                    tracing::error!(%error, "a segment broke");
                    running.clear();
                    tasks = JoinSet::new();
                }
            },
            Ok(()) = changes.changed() => {}
            Ok(()) = link.changed() => {}
            () = sleep_until(context.clock.as_ref(), failures.next(now)) => {}
        }
    }
}

struct Segment {
    context: Arc<Context>,
    shells: Arc<Shells>,
    shell: ShellId,
    left: Left,
}

/// What a segment has in hand.
struct Work {
    author: Author,
    out: WriteHalf<Box<dyn Stream>>,
    /// How many frames the server recorded.
    recorded: watch::Receiver<u64>,
    /// The number of the first byte.
    offset: u64,
}

impl Segment {
    async fn run(self, link: Arc<dyn Link>, holding: Holding, let_go: LetGo) -> Result<(), SegmentError> {
        let off = let_go.done.drop_guard();
        let shell = match self.shells.holders.connect(self.shell).await {
            Err(HoldersError::Connect(LinkError::Io(error))) if is_gone(&error) => {
                tracing::warn!(shell = %self.shell, "a shell is gone, and with it what it showed last");
                self.shells.table.forget(self.shell);
                return Ok(());
            }
            connected => connected?,
        };
        let (reader, mut work) = self.begin(link.as_ref(), &shell).await?;
        let (told, recorded) = watch::channel(0);
        work.recorded = recorded;
        let hear = async {
            let error = hear(reader, &told).await;
            // Whoever waits for the count learns of it there.
            drop(told);
            error
        };
        let write = async {
            let (fin, shell) = self.follow(&mut work, shell, &holding, &let_go.wanted).await?;
            let exited = shell.is_some();
            if !exited {
                drop(off);
            }
            work.author.finish(&fin, self.context.clock.now())?;
            self.last_words(&mut work, &holding).await?;
            if let Some(shell) = shell {
                shell.ack(u64::MAX).await?;
                self.shells.table.forget(self.shell);
                shell.release().await?;
            }
            Ok(())
        };
        tokio::select! {
            biased;
            written = write => written,
            error = hear => Err(error.into()),
        }
    }

    /// Opens the stream and says whose segment it is.
    async fn begin(&self, link: &dyn Link, shell: &Shell) -> Result<(ReadHalf<Box<dyn Stream>>, Work), SegmentError> {
        let (identity, now) = (&self.context.identity, self.context.clock.now());
        let Left { connection, held, delivered } = self.left;
        let opening = SegmentOpening {
            connection,
            shell: self.shell,
            held,
            predecessor: delivered.map(|delivered| delivered.upto),
            offset: shell.state().base,
            lost: shell.state().dropped,
            time: now.wall,
            random: random().map_err(SegmentError::Random)?,
        };
        let secret = random().map_err(SegmentError::Random)?;
        let (author, signed) =
            Author::new(&opening, identity.organization, identity.identity_key.clone(), secret, now)?;
        let mut stream = link.open(Class::Bulk).await?;
        send(&mut stream, &Preamble::Segment { connection }).await?;
        let (reader, out) = tokio::io::split(stream);
        let mut work = Work { author, out, recorded: watch::channel(0).1, offset: opening.offset };
        say(&mut work.out, &FromAgent::Opening(signed)).await?;
        shell.take(0).await?;
        Ok((reader, work))
    }

    /// Tells what the shell shows until it ends (then the shell comes back) or somebody wants it.
    async fn follow(
        &self,
        work: &mut Work,
        mut shell: Shell,
        holding: &Holding,
        wanted: &tokio_util::sync::CancellationToken,
    ) -> Result<(Fin, Option<Shell>), SegmentError> {
        let clock = self.context.clock.as_ref();
        loop {
            flush(work).await?;
            // One event holds up to one frame.
            let room = work.author.room() == MAX_PAYLOAD;
            let event = tokio::select! {
                biased;
                () = wanted.cancelled() => return Ok((Fin::Done, None)),
                heard = work.recorded.changed() => {
                    heard.map_err(|_| StreamError("the stream ended".to_owned()))?;
                    self.confirm(work, holding)?;
                    shell.ack(work.offset.saturating_add(work.author.delivered().bytes)).await?;
                    continue;
                }
                () = sleep_until(clock, work.author.wake()) => {
                    work.author.tick(clock.now())?;
                    continue;
                }
                event = shell.next(), if room => event,
            };
            let now = clock.now();
            match event {
                Ok(HolderEvent::Output { bytes, .. }) => work.author.bytes(&bytes, now)?,
                Ok(HolderEvent::PasswordMode { on, .. }) => work.author.notice(Notice::Password(on), now)?,
                Ok(HolderEvent::Exited { status, .. }) => return Ok((ended(status), Some(shell))),
                Ok(HolderEvent::Repaint { .. }) => {}
                // Somebody who did not ask has it.
                Err(LinkError::Closed) => return Ok((Fin::Done, None)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until the end is recorded.
    async fn last_words(&self, work: &mut Work, holding: &Holding) -> Result<(), SegmentError> {
        flush(work).await?;
        let heard = async {
            while !work.author.is_done() {
                work.recorded.changed().await.map_err(|_| StreamError("the stream ended".to_owned()))?;
                self.confirm(work, holding)?;
            }
            Ok(())
        };
        tokio::time::timeout(LAST_WORDS, heard).await.map_err(|_| SegmentError::Unheard)?
    }

    fn confirm(&self, work: &mut Work, holding: &Holding) -> Result<(), SegmentError> {
        let recorded = *work.recorded.borrow_and_update();
        work.author.recorded(recorded)?;
        holding.delivered(work.author.delivered());
        Ok(())
    }
}

/// Whether nobody answers any more where a holder was.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound)
}

async fn hear(mut reader: ReadHalf<Box<dyn Stream>>, told: &watch::Sender<u64>) -> StreamError {
    loop {
        match receive(&mut reader).await {
            Ok(FromServer::Recorded(frames)) => drop(told.send_replace(frames)),
            Err(error) => return error,
        }
    }
}

async fn flush(work: &mut Work) -> Result<(), SegmentError> {
    while let Some(frame) = work.author.poll() {
        say(&mut work.out, &FromAgent::Frame(frame)).await?;
    }
    Ok(())
}

async fn say(out: &mut WriteHalf<Box<dyn Stream>>, message: &FromAgent) -> Result<(), SegmentError> {
    let bytes = message.encode().map_err(AuthorError::from)?;
    let said = async {
        write_message(out, &bytes).await?;
        out.flush().await
    };
    Ok(said.await.map_err(|error| StreamError(error.to_string()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_failed_is_tried_again_ever_later() {
        let shell = ShellId::from_bytes([1; 16]);
        let (mut failures, start) = (Failures::default(), Mono::at(Duration::from_secs(9)));
        assert!(failures.may_try(shell, start));
        let mut now = start;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            failures.note(shell, now);
            let at = now.after(Duration::from_secs(seconds));
            assert_eq!((failures.next(now), failures.may_try(shell, now)), (Some(at), false), "{seconds}");
            now = at;
            assert!(failures.may_try(shell, now), "{seconds}");
        }
    }
}
