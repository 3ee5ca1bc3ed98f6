//! What the server says to an agent on streams of its own: a whole session, or packets that it kept.

use bz_core::time::Now;

use crate::client::{Action, Client, Event, Opening};
use crate::hostile::organization::KitError;
use crate::packet::Packet;
use crate::refusal::Code;
use crate::session::{CarrierId, Input, Output};

/// What came of something that the server, or a client that keeps no rule, tried on a stream of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempt {
    /// The refusal that the agent answered with.
    pub refused: Option<Code>,
    /// Whether the agent answered as if both roots agreed.
    pub answered: bool,
    /// Whether the agent ended the last stream.
    pub ended: bool,
}

/// Who speaks on such streams. One after the other: the next begins when the one before is gone.
pub trait Talker: Send {
    /// What it says first on a new stream; nothing when it wants no more streams.
    fn begin(&mut self, now: Now) -> Vec<Vec<u8>>;

    /// What it says to a packet of the agent's.
    fn hear(&mut self, now: Now, packet: &[u8]) -> Vec<Vec<u8>>;

    /// Whether it leaves this stream by itself.
    fn leaves(&mut self) -> bool {
        false
    }

    /// Whether the agent owes it a word, or the stream's end.
    fn waits(&self) -> bool {
        true
    }
}

impl Attempt {
    /// Whether the agent said no, or left.
    #[must_use]
    pub const fn noticed(&self) -> bool {
        self.refused.is_some() || self.ended
    }

    /// What the agent said, in words.
    #[must_use]
    pub fn words(&self) -> String {
        match (self.refused, self.answered, self.ended) {
            (Some(code), ..) => code.to_string(),
            (None, true, true) => "an answer, and the stream's end".to_owned(),
            (None, true, false) => "an answer".to_owned(),
            (None, false, true) => "the stream's end".to_owned(),
            (None, false, false) => "nothing".to_owned(),
        }
    }

    /// Takes note of what the agent said.
    pub fn note(&mut self, packet: &[u8]) {
        match Packet::decode(packet) {
            Ok(Packet::Refusal(code)) => self.refused = Some(code),
            Ok(Packet::SynAck(_)) => self.answered = true,
            _ => {}
        }
    }
}

/// Says packets that were kept, on one stream.
#[derive(Debug)]
pub struct Kept {
    packets: Vec<Vec<u8>>,
    heard: bool,
}

impl Kept {
    /// Nothing of it is said yet.
    #[must_use]
    pub const fn new(packets: Vec<Vec<u8>>) -> Self {
        Self { packets, heard: false }
    }
}

impl Talker for Kept {
    fn begin(&mut self, _now: Now) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.packets)
    }

    fn hear(&mut self, _now: Now, _packet: &[u8]) -> Vec<Vec<u8>> {
        self.heard = true;
        vec![]
    }

    // After an answer the agent waits for what only the client can say.
    fn waits(&self) -> bool {
        !self.heard
    }
}

/// A client machine of the server's own, that types one line when it is let in.
#[derive(Debug)]
pub struct Own {
    machine: Client,
    line: Option<String>,
    carriers: u64,
    over: bool,
}

impl Own {
    /// A session that is not asked for yet.
    ///
    /// # Errors
    /// When the opening is none.
    pub fn new(opening: Opening, line: String, now: Now) -> Result<Self, KitError> {
        Ok(Self { machine: Client::new(opening, now)?, line: Some(line), carriers: 0, over: false })
    }

    fn drain(&mut self, now: Now) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        loop {
            match self.machine.poll(now) {
                Output::Transmit { bytes, .. } => packets.push(bytes),
                Output::CloseCarrier(_) => {}
                Output::Event(Event::Opened(_)) => {
                    let line = self.line.take().unwrap_or_default();
                    let typed = Action::Bytes { stream: 0, bytes: format!("{line}\n").into_bytes() };
                    // A session that ended at once takes nothing.
                    self.machine.act(now, typed).unwrap_or_default();
                }
                Output::Event(Event::Ended(_)) => self.over = true,
                Output::Event(_) => {}
                Output::Wait(_) => return packets,
            }
        }
    }
}

impl Talker for Own {
    fn begin(&mut self, now: Now) -> Vec<Vec<u8>> {
        self.carriers = self.carriers.saturating_add(1);
        if self.carriers > 1 {
            return vec![];
        }
        self.machine.handle(now, Input::CarrierUp { carrier: CarrierId(1), random: [1; 32] });
        self.drain(now)
    }

    fn hear(&mut self, now: Now, packet: &[u8]) -> Vec<Vec<u8>> {
        self.machine.handle(now, Input::Packet { carrier: CarrierId(1), bytes: packet });
        self.drain(now)
    }

    fn leaves(&mut self) -> bool {
        self.over
    }

    fn waits(&self) -> bool {
        !self.over
    }
}
