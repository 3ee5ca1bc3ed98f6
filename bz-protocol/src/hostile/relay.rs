//! What the server does to packets that it forwards. It reads all of them; of the sessions' keys it has none.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bz_core::id::OrganizationId;
use bz_core::key::PrivateKey;
use bz_core::signed::Signed;

use crate::frame::{HEADER_BYTES, Kind};
use crate::hostile::organization::Dice;
use crate::keys::Direction;
use crate::packet::Packet;
use crate::refusal::Code;

/// The first byte of a refusal.
const REFUSAL: u8 = 6;

/// Kinds of packets, by their first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// The client's opening.
    Syn,
    /// The agent's answer.
    SynAck,
    /// A frame of data, of whichever end.
    Data,
    /// A frame of data whose header says that it is of this kind.
    Frame(Kind),
    /// A frame of control.
    Control,
    /// The client on a new carrier.
    Resume,
    /// The agent's answer to it.
    ResumeAck,
    /// The client's answer to that.
    ResumeDone,
    /// Any.
    Any,
}

impl Sort {
    fn fits(self, packet: &[u8]) -> bool {
        let first = packet.first().copied();
        match self {
            Self::Syn => first == Some(1),
            Self::SynAck => first == Some(2),
            Self::Data => matches!(first, Some(3 | 4)),
            Self::Frame(kind) => matches!(first, Some(3 | 4)) && packet.get(17) == Some(&kind.byte()),
            Self::Control => first == Some(5),
            Self::Resume => first == Some(7),
            Self::ResumeAck => first == Some(8),
            Self::ResumeDone => first == Some(9),
            Self::Any => true,
        }
    }
}

/// Which of the packets that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// This one alone, counted from 0.
    At(usize),
    /// This one and all after it.
    From(usize),
    /// One of the first so many: the seed says which.
    Below(usize),
}

/// What is done with it.
#[derive(Debug, Clone, Copy)]
pub enum How {
    /// One bit of it is another; the seed says which.
    Flip,
    /// Its end is missing; the seed says from where.
    Truncate,
    /// It is withheld.
    Drop,
    /// It passes twice.
    Twice,
    /// It passes after the next one of its numbering.
    Later,
    /// It passes, and once more after so many others.
    Again(usize),
    /// The packet in its place in an earlier session passes instead.
    OfEarlier,
    /// What its receiver said last is said back to it, before it.
    Mirror,
    /// A frame of the server's own passes before it, with this content.
    Invent(&'static str),
    /// A refusal in the agent's name passes instead.
    Refuse(Code),
    /// These bytes pass instead.
    Bytes(&'static [u8]),
    /// So many zero bytes pass instead.
    Zeros(usize),
    /// An answer signed by a key of the server's own passes instead.
    OtherAgent,
    /// The list of versions is emptied of the newest.
    Downgrade,
    /// The carrier is cut instead.
    Cut,
    /// The packet passes and then the carrier is cut.
    PassAndCut,
}

/// One thing that the server does.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// To packets for this end.
    pub to: Direction,
    /// Of this kind.
    pub sort: Sort,
    /// Which of them.
    pub which: Which,
    /// What it does.
    pub how: How,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Passed {
    /// These go on.
    pub packets: Vec<Vec<u8>>,
    /// Then the carrier is cut, both ways.
    pub cut: bool,
}

/// The server as it forwards. Clones are one.
#[derive(Debug, Clone)]
pub struct Relay(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    organization: OrganizationId,
    key: PrivateKey,
    dice: Dice,
    rules: Vec<Armed>,
    /// Packets of this session, and of the one before.
    seen: Vec<(Direction, Vec<u8>)>,
    earlier: Vec<(Direction, Vec<u8>)>,
    late: VecDeque<Late>,
    /// Rules of before that were never obeyed.
    undone: Vec<Rule>,
    /// Whether the agent left a session's carrier first, or refused on it.
    agent_left: bool,
}

#[derive(Debug)]
struct Armed {
    rule: Rule,
    from: usize,
    last: bool,
    count: usize,
    done: bool,
}

/// A packet that passes after some others.
#[derive(Debug)]
struct Late {
    to: Direction,
    wait: usize,
    packet: Vec<u8>,
    /// Which rule is done when it passes.
    rule: usize,
}

impl Relay {
    /// A relay that forwards. Its own key is nobody's.
    #[must_use]
    pub fn new(organization: OrganizationId, key: PrivateKey, seed: u64) -> Self {
        let (dice, rules) = (Dice::new(seed), vec![]);
        Self(Arc::new(Mutex::new(State {
            organization,
            key,
            dice,
            rules,
            seen: vec![],
            earlier: vec![],
            late: VecDeque::new(),
            undone: vec![],
            agent_left: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it does this.
    pub fn obey(&self, rules: &[Rule]) {
        let mut state = self.state();
        let mut arm = |rule: &Rule| {
            let (from, last) = match rule.which {
                Which::At(at) => (at, true),
                Which::From(at) => (at, false),
                Which::Below(bound) => (state.dice.below(bound), true),
            };
            Armed { rule: *rule, from, last, count: 0, done: false }
        };
        let rules = rules.iter().map(&mut arm).collect();
        state.late.clear();
        let before = std::mem::replace(&mut state.rules, rules);
        state.undone.extend(before.iter().filter(|armed| !armed.done).map(|armed| armed.rule));
    }

    /// A session begins: what was seen so far was an earlier one.
    pub fn session_begins(&self) {
        let mut state = self.state();
        state.late.clear();
        state.agent_left = false;
        state.earlier = std::mem::take(&mut state.seen);
    }

    /// The rules of which nothing came: no packet fitted, or what fitted passed as it was.
    #[must_use]
    pub fn undone(&self) -> Vec<Rule> {
        let state = self.state();
        let idle = state.rules.iter().filter(|armed| !armed.done).map(|armed| armed.rule);
        state.undone.iter().copied().chain(idle).collect()
    }

    /// The agent ended a carrier that the client still held, or refused on it.
    pub fn agent_leaves(&self) {
        self.state().agent_left = true;
    }

    /// Whether it did, in this session.
    #[must_use]
    pub fn agent_left(&self) -> bool {
        self.state().agent_left
    }

    /// What it saw go one way in this session.
    #[must_use]
    pub fn seen(&self, to: Direction) -> Vec<Vec<u8>> {
        self.state().seen.iter().filter(|(way, _)| *way == to).map(|(_, packet)| packet.clone()).collect()
    }

    /// What becomes of a packet on its way.
    #[must_use]
    pub fn pass(&self, to: Direction, packet: &[u8]) -> Passed {
        let mut state = self.state();
        state.seen.push((to, packet.to_vec()));
        // Only an agent's own word comes this way.
        state.agent_left |= to == Direction::ToClient && packet.first() == Some(&REFUSAL);
        let mut passed = match state.due(to, packet) {
            Some((rule, how)) => {
                let passed = state.apply((rule, how), to, packet);
                // What waits is done when something overtook it.
                let waits = matches!(how, How::Later | How::Again(_));
                if !waits && (passed.cut || passed.packets != [packet]) {
                    state.did(rule);
                }
                passed
            }
            None => Passed { packets: vec![packet.to_vec()], cut: false },
        };
        passed.packets.extend(state.overdue(to, packet));
        passed
    }
}

impl State {
    fn did(&mut self, rule: usize) {
        if let Some(armed) = self.rules.get_mut(rule) {
            armed.done = true;
        }
    }

    fn due(&mut self, to: Direction, packet: &[u8]) -> Option<(usize, How)> {
        let mut due = None;
        let fits = |armed: &Armed| armed.rule.to == to && armed.rule.sort.fits(packet);
        for (rule, armed) in self.rules.iter_mut().enumerate().filter(|(_, armed)| fits(armed)) {
            let at = armed.count;
            armed.count = armed.count.saturating_add(1);
            if at == armed.from || (!armed.last && at > armed.from) {
                due = due.or(Some((rule, armed.rule.how)));
            }
        }
        due
    }

    /// What waits is overtaken by packets of its own numbering alone: data by data, control by control.
    fn overdue(&mut self, to: Direction, by: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let overtaken = |late: &&mut Late| late.to == to && late.packet.first() == by.first();
        for late in self.late.iter_mut().filter(overtaken) {
            if late.wait == 0 {
                out.push((late.rule, std::mem::take(&mut late.packet)));
            }
            late.wait = late.wait.saturating_sub(1);
        }
        self.late.retain(|late| !late.packet.is_empty());
        let done = out.into_iter().map(|(rule, packet)| {
            self.did(rule);
            packet
        });
        done.collect()
    }

    fn apply(&mut self, (rule, how): (usize, How), to: Direction, packet: &[u8]) -> Passed {
        let one = |bytes: Vec<u8>| Passed { packets: vec![bytes], cut: false };
        let own = packet.to_vec();
        match how {
            How::Flip => one(self.flip(own)),
            How::Truncate => one(own.get(..self.dice.below(own.len())).unwrap_or_default().to_vec()),
            How::Drop => Passed::default(),
            How::Twice => Passed { packets: vec![own.clone(), own], cut: false },
            How::Later => {
                self.late.push_back(Late { to, wait: 1, packet: own, rule });
                Passed::default()
            }
            How::Again(after) => {
                self.late.push_back(Late { to, wait: after, packet: own.clone(), rule });
                one(own)
            }
            How::OfEarlier => one(self.of_earlier(to, packet).unwrap_or(own)),
            How::Mirror => {
                let said = self.seen.iter().rev().find(|(way, p)| *way != to && matches!(p.first(), Some(3 | 4)));
                let Some((_, said)) = said else { return one(own) };
                let mut back = said.clone();
                if let (Some(kind), Some(first)) = (own.first(), back.first_mut()) {
                    *first = *kind;
                }
                Passed { packets: vec![back, own], cut: false }
            }
            How::Invent(text) => {
                let header = own.get(..=HEADER_BYTES).unwrap_or_default();
                let made = [header, &[0; 16], text.as_bytes(), b"\n", &[0; 16]].concat();
                Passed { packets: vec![made, own], cut: false }
            }
            How::Refuse(code) => one(Packet::Refusal(code).encode().unwrap_or_default()),
            How::Bytes(bytes) => one(bytes.to_vec()),
            How::Zeros(count) => one(vec![0; count]),
            How::OtherAgent => one(self.other_agent(own)),
            How::Downgrade => one(downgraded(own)),
            How::Cut => Passed { packets: vec![], cut: true },
            How::PassAndCut => Passed { packets: vec![own], cut: true },
        }
    }

    fn flip(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let (at, bit) = (self.dice.below(bytes.len()), self.dice.below(8));
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
        bytes
    }

    fn of_earlier(&self, to: Direction, packet: &[u8]) -> Option<Vec<u8>> {
        let same = |other: &[u8]| other.first() == packet.first() && other.get(1..9) == packet.get(1..9);
        let framed = matches!(packet.first(), Some(3..=5));
        let mut before = self.earlier.iter().filter(|(way, _)| *way == to).map(|(_, p)| p);
        before.find(|p| if framed { same(p) } else { p.first() == packet.first() }).cloned()
    }

    /// The agent's own answer, signed by somebody else.
    fn other_agent(&self, packet: Vec<u8>) -> Vec<u8> {
        let Ok(Packet::SynAck(ack)) = Packet::decode(&packet) else { return packet };
        let mut body = None;
        // Nobody checks who signed it: it is read, to be signed anew.
        let unverified = ack.open_by(self.organization, |found: &crate::handshake::SynAck| {
            body = Some(found.clone());
            None
        });
        let forged = body.and_then(|body| Signed::seal(&body, self.organization, &self.key).ok());
        match (forged, unverified) {
            (Some(forged), _) => Packet::SynAck(Box::new(forged)).encode().unwrap_or_default(),
            (None, _) => packet,
        }
    }
}

/// A `Syn` whose one version is an older one.
fn downgraded(mut packet: Vec<u8>) -> Vec<u8> {
    let list = [0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    let at = packet.windows(list.len()).position(|window| window == list);
    if let Some(version) = at.and_then(|at| packet.get_mut(at.saturating_add(9))) {
        *version = 0;
    }
    packet
}
