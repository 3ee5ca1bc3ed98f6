//! The one loop that drives a machine: carriers, commands and time in, packets and events out.
//!
//! One task owns one machine. It decides nothing: every rule is the machine's.

mod carry;
mod keeping;
mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bz_core::time::{Mono, Now, UnixTime};
use futures::StreamExt as _;
use futures::stream::{FuturesUnordered, SelectAll};
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::carrier::{Boxed, Stream, read_message, write_message};
pub use crate::driver::carry::{Cut, carry};
use crate::driver::keeping::Keeping;
pub use crate::driver::streams::{
    OpenError, Opening, Openings, SessionStream, StreamAction, StreamEvent, StreamHub, Streams, streams,
};
use crate::flow::SendError;
use crate::limits::MAX_PACKET;
use crate::receipt::{Receipt, Receipts};
use crate::session::{CarrierId, End, Input, Output};
use crate::stream::FIRST_OPENED;
use crate::{agent, client};

/// Reads both clocks, and waits by the monotonic one.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Now;

    /// Ends when the monotonic clock reads `at`. A clock that can be moved must end it when it is moved so far.
    fn wait(&self, at: Mono) -> Boxed<'_, ()> {
        Box::pin(tokio::time::sleep(at.since(self.now().mono)))
    }
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl SystemClock {
    /// Counts from here.
    #[must_use]
    pub fn new() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam through which the wall clock comes in")]
    fn now(&self) -> Now {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Now { mono: Mono::at(self.start.elapsed()), wall: UnixTime::from_millis(millis) }
    }
}

/// Random bytes from the operating system.
///
/// # Errors
/// When it gives none; the caller must not go on.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| std::io::Error::other(e.to_string()))?;
    Ok(bytes)
}

/// Sleeps until the monotonic clock reads `at`; for ever when there is nothing to wait for.
pub async fn sleep_until(clock: &dyn Clock, at: Option<Mono>) {
    match at {
        Some(at) => clock.wait(at).await,
        None => std::future::pending().await,
    }
}

/// A machine as the loop sees it.
pub trait Machine: Send {
    /// What it tells.
    type Event: Send;
    /// What it is told.
    type Action: Send;

    /// One input.
    fn handle(&mut self, now: Now, input: Input<'_>);
    /// One action.
    ///
    /// # Errors
    /// [`SendError`].
    fn act(&mut self, now: Now, action: Self::Action) -> Result<(), SendError>;
    /// The next output.
    fn poll(&mut self, now: Now) -> Output<Self::Event>;
    /// How many bytes a stream takes now.
    fn writable(&self, stream: u32) -> usize;
    /// What to keep of the session, once there is one.
    fn receipt(&self) -> Option<Receipt>;
    /// An action apart: the stream and bytes it sends, or itself.
    ///
    /// # Errors
    /// The action, when it sends no bytes.
    fn into_bytes(action: Self::Action) -> Result<(u32, Vec<u8>), Self::Action>;
    /// The action that sends these bytes.
    fn bytes(stream: u32, bytes: Vec<u8>) -> Self::Action;
    /// The action that says an event's bytes were taken; and whether the event is the last.
    fn taken(event: &Self::Event) -> (Option<Self::Action>, Option<End>);
    /// The number of the next stream that this end may open.
    fn next_stream(&self) -> Option<u32> {
        None
    }
    /// The action on a stream that was opened; `None` when it is not this end's.
    fn stream_action(action: StreamAction) -> Option<Self::Action>;
    /// What an event tells of such a stream, or the event itself.
    ///
    /// # Errors
    /// The event, when it tells of none.
    fn stream_event(event: Self::Event) -> Result<StreamEvent, Self::Event>;
    /// No carrier will come any more. An agent waits all the same: its client may come back by another way.
    fn abandon(&mut self) {}
}

macro_rules! machine {
    ($module:ident, $machine:ident, $opened:ident { $what:ident } => $told:ident, $says:ident { $said:ident }, $never:ident $(, $more:item)*) => {
        impl Machine for $module::$machine {
            type Event = $module::Event;
            type Action = $module::Action;

            fn handle(&mut self, now: Now, input: Input<'_>) {
                $module::$machine::handle(self, now, input);
            }

            fn act(&mut self, now: Now, action: Self::Action) -> Result<(), SendError> {
                $module::$machine::act(self, now, action)
            }

            fn poll(&mut self, now: Now) -> Output<Self::Event> {
                $module::$machine::poll(self, now)
            }

            fn writable(&self, stream: u32) -> usize {
                $module::$machine::writable(self, stream)
            }

            fn receipt(&self) -> Option<Receipt> {
                $module::$machine::receipt(self)
            }

            fn into_bytes(action: Self::Action) -> Result<(u32, Vec<u8>), Self::Action> {
                if let $module::Action::Bytes { stream, bytes } = action { Ok((stream, bytes)) } else { Err(action) }
            }

            fn bytes(stream: u32, bytes: Vec<u8>) -> Self::Action {
                $module::Action::Bytes { stream, bytes }
            }

            fn taken(event: &Self::Event) -> (Option<Self::Action>, Option<End>) {
                if let $module::Event::Bytes { stream, bytes } = event {
                    return (Some($module::Action::Consumed { stream: *stream, bytes: bytes.len() }), None);
                }
                if let $module::Event::Ended(end) = event { (None, Some(end.clone())) } else { (None, None) }
            }

            fn stream_event(event: Self::Event) -> Result<StreamEvent, Self::Event> {
                use $module::Event;
                match event {
                    Event::Bytes { stream, bytes } if stream >= FIRST_OPENED => Ok(StreamEvent::Bytes(stream, bytes)),
                    Event::Eof { stream } if stream >= FIRST_OPENED => Ok(StreamEvent::Ended(stream)),
                    Event::Reset { stream } => Ok(StreamEvent::Reset(stream)),
                    Event::$opened { stream, $what } => Ok(StreamEvent::$told(stream, $what)),
                    event => Err(event),
                }
            }

            fn stream_action(action: StreamAction) -> Option<Self::Action> {
                use $module::Action;
                match action {
                    StreamAction::Bytes(stream, bytes) => Some(Action::Bytes { stream, bytes }),
                    StreamAction::End(stream) => Some(Action::Eof { stream }),
                    StreamAction::Reset(stream) => Some(Action::Reset { stream }),
                    StreamAction::Consumed(stream, bytes) => Some(Action::Consumed { stream, bytes }),
                    StreamAction::$says(stream, $said) => Some(Action::$says { stream, $said }),
                    StreamAction::$never(..) => None,
                }
            }

            $($more)*
        }
    };
}

machine!(
    client,
    Client,
    Answered { answer } => Answered,
    Open { request },
    Answer,
    fn next_stream(&self) -> Option<u32> {
        client::Client::next_stream(self)
    },
    fn abandon(&mut self) {
        client::Client::abandon(self);
    }
);
machine!(agent, Agent, Open { request } => Opened, Answer { answer }, Open);

/// How the application and the loop meet.
#[derive(Debug)]
pub struct Channels<M: Machine> {
    /// New carriers, as they are dialed or accepted. When nobody can send one any more and the last has broken, a
    /// client's session ends.
    pub carriers: mpsc::Receiver<Box<dyn Stream>>,
    /// What the application does. Bytes of any length: the loop sends them as the machine takes them.
    pub actions: mpsc::Receiver<M::Action>,
    /// What happened. Bytes count as taken when they are received here.
    pub events: mpsc::Sender<M::Event>,
    /// Streams opened later: what happens on them is told there and not here.
    pub streams: StreamHub,
}

impl std::fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

/// How long what is left may take to leave after the end.
const FLUSH: Duration = Duration::from_secs(2);
/// A packet of a carrier, or its end.
struct Incoming {
    carrier: CarrierId,
    packet: Option<Vec<u8>>,
}

/// What comes on a carrier. Carriers are read and written by the loop itself: a task for each would be woken, and would
/// wake the loop, once for every packet.
type Packets = futures::stream::BoxStream<'static, Incoming>;

struct Loop<M: Machine> {
    machine: M,
    clock: Arc<dyn Clock>,
    carriers: BTreeMap<CarrierId, mpsc::UnboundedSender<Vec<u8>>>,
    next: u64,
    packets: SelectAll<Packets>,
    writers: FuturesUnordered<Boxed<'static, ()>>,
    /// An action that the machine does not take yet.
    pending: Option<M::Action>,
    outbox: VecDeque<M::Event>,
    wake: Option<Mono>,
    end: Option<End>,
    /// Whether another carrier may come.
    supplied: bool,
    receipts: Option<Arc<dyn Receipts>>,
    keeping: Option<Keeping>,
}

/// Drives a machine to its end. Dropping the future ends everything at once.
pub fn drive<M>(machine: M, channels: Channels<M>, clock: Arc<dyn Clock>) -> impl Future<Output = End> + Send
where
    M: Machine + 'static,
{
    drive_keeping(machine, channels, clock, None)
}

/// Drives a machine to its end, its receipt kept there: when the session stands, at most every ten seconds, and at the
/// end, before anybody hears of it.
pub fn drive_keeping<M>(
    machine: M,
    channels: Channels<M>,
    clock: Arc<dyn Clock>,
    receipts: Option<Arc<dyn Receipts>>,
) -> impl Future<Output = End> + Send
where
    M: Machine + 'static,
{
    let state = Loop {
        machine,
        clock,
        carriers: BTreeMap::new(),
        next: 0,
        packets: SelectAll::new(),
        writers: FuturesUnordered::new(),
        pending: None,
        outbox: VecDeque::new(),
        wake: None,
        end: None,
        supplied: true,
        receipts,
        keeping: None,
    };
    state.run(channels)
}

impl<M: Machine> Loop<M> {
    async fn run(mut self, mut channels: Channels<M>) -> End {
        let keep = |receipts| Keeping::new(receipts, Arc::clone(&self.clock));
        self.keeping = self.receipts.take().map(keep);
        loop {
            if !self.supplied && self.carriers.is_empty() {
                self.machine.abandon();
            }
            self.advance(&channels.streams);
            // Before anybody hears of the end: who then drops the session cuts nothing short.
            if self.end.is_some() {
                self.flush().await;
            }
            let kept = self.keep();
            if self.outbox.is_empty()
                && let Some(end) = self.end.take()
            {
                return end;
            }
            let clock = Arc::clone(&self.clock);
            tokio::select! {
                biased;
                permit = channels.events.reserve(), if !self.outbox.is_empty() => match (permit, self.outbox.pop_front()) {
                    (Ok(permit), Some(event)) => self.hand_over(permit, event),
                    // The application is gone: nobody is left to hear.
                    (Err(_), _) | (_, None) => return self.end.take().unwrap_or(End::Lost),
                },
                Some(()) = self.writers.next() => {}
                stream = channels.carriers.recv(), if self.supplied => match stream {
                    Some(stream) => self.carrier(stream),
                    None => self.supplied = false,
                },
                // Before what comes: what is sent is bounded by credit, and what comes at full speed would leave it no turn.
                action = channels.actions.recv(), if self.pending.is_none() && self.end.is_none() => match action {
                    Some(action) => self.pending = Some(action),
                    None => return End::Lost,
                },
                () = channels.streams.work() => {}
                Some(incoming) = self.packets.next() => self.packet(incoming),
                () = sleep_until(clock.as_ref(), earlier(self.wake, kept)) => self.machine.handle(self.clock.now(), Input::Tick),
            }
        }
    }

    /// Sends what is pending as far as it goes, and drains the machine.
    fn advance(&mut self, streams: &StreamHub) {
        loop {
            let acted = self.act();
            let pumped = streams.pump(&mut self.machine, self.clock.now());
            self.drain(streams);
            if !acted && !pumped {
                break;
            }
        }
    }

    /// Whether the pending action got on.
    fn act(&mut self) -> bool {
        let Some(action) = self.pending.take() else { return false };
        let now = self.clock.now();
        match M::into_bytes(action) {
            Err(action) => {
                if let Err(error) = self.machine.act(now, action) {
                    tracing::debug!(%error, "an action came too late");
                }
                true
            }
            Ok((_, bytes)) if bytes.is_empty() => true,
            Ok((stream, mut bytes)) => {
                let room = self.machine.writable(stream).min(bytes.len());
                if room == 0 {
                    self.pending = self.end.is_none().then(|| M::bytes(stream, bytes));
                    return false;
                }
                let rest = bytes.split_off(room);
                let sent = self.machine.act(now, M::bytes(stream, bytes)).is_ok();
                self.pending = (sent && !rest.is_empty()).then(|| M::bytes(stream, rest));
                true
            }
        }
    }

    fn drain(&mut self, streams: &StreamHub) {
        loop {
            match self.machine.poll(self.clock.now()) {
                Output::Transmit { carrier, bytes } => {
                    let sent = self.carriers.get(&carrier).is_some_and(|writer| writer.send(bytes).is_ok());
                    if !sent {
                        tracing::trace!(?carrier, "a packet for a carrier that is gone");
                    }
                }
                Output::CloseCarrier(carrier) => {
                    self.carriers.remove(&carrier);
                }
                Output::Event(event) => match M::stream_event(event) {
                    Ok(event) => streams.take(event),
                    Err(event) => {
                        self.end = M::taken(&event).1.or_else(|| self.end.take());
                        self.outbox.push_back(event);
                    }
                },
                Output::Wait(wake) => {
                    self.wake = wake.map(|w| w.at);
                    return;
                }
            }
        }
    }

    fn hand_over(&mut self, permit: mpsc::Permit<'_, M::Event>, event: M::Event) {
        let (taken, _) = M::taken(&event);
        permit.send(event);
        if let Some(taken) = taken {
            // After the end there is nobody to credit.
            self.machine.act(self.clock.now(), taken).unwrap_or_default();
        }
    }

    fn packet(&mut self, Incoming { carrier, packet }: Incoming) {
        let now = self.clock.now();
        match packet {
            Some(bytes) => self.machine.handle(now, Input::Packet { carrier, bytes: &bytes }),
            None => {
                self.carriers.remove(&carrier);
                self.machine.handle(now, Input::CarrierDown { carrier });
            }
        }
    }

    fn carrier(&mut self, stream: Box<dyn Stream>) {
        let Ok(random) = random() else { return };
        self.next = self.next.saturating_add(1);
        let carrier = CarrierId(self.next);
        let (read, write) = tokio::io::split(stream);
        let (sender, outgoing) = mpsc::unbounded_channel();
        self.carriers.insert(carrier, sender);
        self.packets.push(read_packets(carrier, read));
        self.writers.push(Box::pin(write_packets(write, outgoing)));
        self.machine.handle(self.clock.now(), Input::CarrierUp { carrier, random });
    }

    /// Hands the receipt over when that is due; says when to look again.
    fn keep(&mut self) -> Option<Mono> {
        let keeping = self.keeping.as_mut()?;
        keeping.look(self.clock.now().mono, || self.machine.receipt())
    }

    /// Lets what is left leave, then the receipt be kept. The second time there is nothing.
    async fn flush(&mut self) {
        let keeping = self.keeping.take();
        if let Some(keeping) = &keeping {
            keeping.give(self.machine.receipt());
        }
        self.carriers.clear();
        self.packets.clear();
        let all = async { while self.writers.next().await.is_some() {} };
        if tokio::time::timeout(FLUSH, all).await.is_err() {
            tracing::debug!("the last packets could not be sent");
            self.writers.clear();
        }
        if let Some(keeping) = keeping {
            keeping.done().await;
        }
    }
}

impl<M: Machine> Drop for Loop<M> {
    /// A session that is cut leaves its receipt, too.
    fn drop(&mut self) {
        if let Some(keeping) = &self.keeping {
            keeping.give(self.machine.receipt());
        }
    }
}

fn earlier(one: Option<Mono>, other: Option<Mono>) -> Option<Mono> {
    one.into_iter().chain(other).min()
}

/// Ends after the carrier's end.
fn read_packets(carrier: CarrierId, stream: ReadHalf<Box<dyn Stream>>) -> Packets {
    let next = move |open: Option<ReadHalf<Box<dyn Stream>>>| async move {
        let mut stream = open?;
        let packet = read_message(&mut stream, MAX_PACKET).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "carrier broke");
            None
        });
        let more = packet.is_some().then_some(stream);
        Some((Incoming { carrier, packet }, more))
    };
    futures::stream::unfold(Some(stream), next).boxed()
}

/// Bounded by the machine's credit: what is queued here is what the peer may still be sent.
async fn write_packets(mut stream: WriteHalf<Box<dyn Stream>>, mut packets: mpsc::UnboundedReceiver<Vec<u8>>) {
    let write = async {
        while let Some(packet) = packets.recv().await {
            write_message(&mut stream, &packet).await?;
            if packets.is_empty() {
                stream.flush().await?;
            }
        }
        stream.shutdown().await
    };
    let written: std::io::Result<()> = write.await;
    if let Err(error) = written {
        tracing::debug!(%error, "carrier broke");
    }
}
