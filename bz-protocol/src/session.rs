//! What both machines share: inputs, outputs, ends, and the carriers of one session.

use std::collections::VecDeque;
use std::time::Duration;

use bz_core::time::{Mono, Now};
use bz_core::wire;

use crate::flow::{Flow, Misbehavior, Outgoing, SendError};
use crate::frame::Fin;
use crate::keys::Direction;
use crate::packet::{Packet, PacketRef};
use crate::refusal::Code;

/// Payloads that are one small value.
const SMALL: usize = 64;

/// Numbers a session's carriers, strictly rising at each end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CarrierId(pub u64);

/// What the world tells a machine. After each, poll until [`Output::Wait`].
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A new carrier stands.
    CarrierUp {
        /// Which.
        carrier: CarrierId,
        /// 32 random bytes for a resumption on it.
        random: [u8; 32],
    },
    /// A carrier is gone.
    CarrierDown {
        /// Which.
        carrier: CarrierId,
    },
    /// A packet's bytes.
    Packet {
        /// On which carrier.
        carrier: CarrierId,
        /// The packet, without its length.
        bytes: &'a [u8],
    },
    /// Time passed.
    Tick,
}

/// What a machine wants. `Wait` is the last of each drain.
#[derive(Debug)]
pub enum Output<E> {
    /// Put these bytes on a carrier.
    Transmit {
        /// Which.
        carrier: CarrierId,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// Close a carrier: it was replaced, or what came on it proves nothing.
    CloseCarrier(CarrierId),
    /// Something the application should know.
    Event(E),
    /// Nothing until an input, or this time.
    Wait(Option<Wake>),
}

/// When to come back, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wake {
    /// When.
    pub at: Mono,
    /// Why, for logs.
    pub why: &'static str,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// Both ends signed it off; this is what the agent said last.
    #[error("the session ended")]
    Completed(Fin),
    /// Somebody on the way says the agent refused. Nothing proves it.
    #[error("reported, not proved: {0}")]
    Reported(Code),
    /// The agent refused, authenticated.
    #[error("{0}")]
    Refused(Code),
    /// The other end, or somebody on the way, broke the protocol.
    #[error("the session was tampered with or the other end is faulty: {0}")]
    Misbehavior(#[from] Misbehavior),
    /// The other end did not answer in time.
    #[error("the other end did not answer in time")]
    Timeout,
    /// No carrier for too long, or no hope of one.
    #[error("the connection was lost")]
    Lost,
    /// The agent proved that it does not know the session any more.
    #[error("the target's agent was started anew, or ended the session before its end could be told")]
    Forgotten,
    /// The login or the session's cap ran out.
    #[error("the login has expired; log in again with `bz login`")]
    Expired,
    /// The other end closed without its last word: what came may be cut short.
    #[error("the session was cut short: its end is not signed")]
    Truncated,
}

/// An open session's flow and the carrier it is on.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) flow: Flow,
    pub(crate) active: Option<CarrierId>,
    /// Packets that go before any frame.
    ahead: VecDeque<(CarrierId, Packet)>,
    /// Since when there is no carrier.
    lost_since: Option<Mono>,
    direction: Direction,
}

impl Line {
    pub(crate) const fn new(flow: Flow, active: Option<CarrierId>, direction: Direction) -> Self {
        Self { flow, active, ahead: VecDeque::new(), lost_since: None, direction }
    }

    pub(crate) fn ahead(&mut self, carrier: CarrierId, packet: Packet) {
        self.ahead.push_back((carrier, packet));
    }

    /// Takes no more from and puts no more on the present carrier.
    pub(crate) fn freeze(&mut self, now: Now) {
        self.active = None;
        self.lost_since.get_or_insert(now.mono);
    }

    pub(crate) const fn activate(&mut self, carrier: CarrierId) {
        self.active = Some(carrier);
        self.lost_since = None;
    }

    pub(crate) fn down(&mut self, carrier: CarrierId, now: Now) {
        self.ahead.retain(|(on, _)| *on != carrier);
        if self.active == Some(carrier) {
            self.freeze(now);
        }
    }

    /// When patience ends.
    pub(crate) fn gives_up(&self, patience: Duration) -> Option<Mono> {
        self.lost_since.map(|since| since.after(patience))
    }

    pub(crate) fn poll(&mut self, now: Now) -> Option<(CarrierId, Vec<u8>)> {
        while let Some((carrier, packet)) = self.ahead.pop_front() {
            if let Ok(bytes) = packet.encode() {
                return Some((carrier, bytes));
            }
        }
        let carrier = self.active?;
        let packet = match (self.flow.poll(now)?, self.direction) {
            (Outgoing::Control(frame), _) => Packet::Control(frame).encode(),
            (Outgoing::Data(frame), Direction::ToAgent) => PacketRef::Data(frame).encode(),
            (Outgoing::Data(frame), Direction::ToClient) => PacketRef::DataAck(frame).encode(),
        };
        packet.ok().map(|bytes| (carrier, bytes))
    }
}

/// The bytes of a small payload.
pub(crate) fn encode<T: bincode::Encode>(value: &T) -> Result<Vec<u8>, SendError> {
    wire::encode(value, SMALL).map_err(|_| SendError::NoRoom)
}

/// The value in a small payload.
pub(crate) fn decode<T: bincode::Decode<()>>(payload: &[u8]) -> Result<T, Misbehavior> {
    wire::decode(payload, SMALL).map_err(|_| Misbehavior::Malformed)
}

/// The earliest of several wakes.
pub(crate) fn earliest(wakes: impl IntoIterator<Item = Option<(Mono, &'static str)>>) -> Option<Wake> {
    wakes.into_iter().flatten().min().map(|(at, why)| Wake { at, why })
}
