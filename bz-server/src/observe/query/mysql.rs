//! MySQL's protocol, as MySQL and MariaDB speak it: the server greets, the client logs in, and then each command waits
//! for its answer: one packet, or a set of rows, or several of both.
//!
//! Where a row begins and ends is followed by first bytes alone; of what is in it nothing is kept.

use std::collections::VecDeque;

use bz_core::api::record::QueryOutcome;
use bz_protocol::keys::Direction;

use crate::observe::query::cut::{Cutter, Fields, Malformed, Plan};
use crate::observe::query::redact::{Dialect, Style};
use crate::observe::query::{Log, MOST_OF_A_MESSAGE, MOST_REQUESTS, MOST_WAITING, QueryLine, Statement, name};

mod answer;
mod command;
mod login;

use self::answer::Expect;
use self::command::{Command, Prepared};

/// A packet of this length is continued by the next one.
const CONTINUED: usize = 0xff_ffff;
/// A longer greeting, or answer to it, is none.
const LONGEST_FIRST: usize = MOST_OF_A_MESSAGE;
/// What of an answer's packet is kept: everything that is read of one is at its beginning.
const MOST_OF_AN_ANSWER: usize = 1024;

/// What both ends say they can, as the protocol numbers it.
pub(super) mod can {
    pub(in crate::observe::query) const LONG_PASSWORD: u64 = 1;
    pub(in crate::observe::query) const CONNECT_WITH_DB: u64 = 1 << 3;
    pub(in crate::observe::query) const COMPRESS: u64 = 1 << 5;
    pub(in crate::observe::query) const PROTOCOL_41: u64 = 1 << 9;
    pub(in crate::observe::query) const TLS: u64 = 1 << 11;
    pub(in crate::observe::query) const SECURE_CONNECTION: u64 = 1 << 15;
    pub(in crate::observe::query) const MULTI_STATEMENTS: u64 = 1 << 16;
    pub(in crate::observe::query) const AUTH_LENGTH_ENCODED: u64 = 1 << 21;
    pub(in crate::observe::query) const DEPRECATE_EOF: u64 = 1 << 24;
    pub(in crate::observe::query) const OPTIONAL_METADATA: u64 = 1 << 25;
    pub(in crate::observe::query) const ZSTD: u64 = 1 << 26;
    pub(in crate::observe::query) const QUERY_ATTRIBUTES: u64 = 1 << 27;
    pub(in crate::observe::query) const MARIADB_CACHED_METADATA: u64 = 1 << 36;
}

/// Reads one stream of MySQL's protocol.
#[derive(Debug, Clone)]
pub struct MySqlLens {
    log: Log,
    client: Cutter,
    server: Cutter,
    /// The number of the packet that the one under way continues.
    continued: [Option<u8>; 2],
    phase: Phase,
    /// What the server can; once the client has answered, what both can.
    can: u64,
    began: u64,
    waiting: VecDeque<Command>,
    /// About how many bytes of them.
    held: usize,
    expect: Expect,
    /// When the statement before in the same text ended.
    before: Option<u64>,
    /// Rows of the set that is under way.
    rows: u64,
    /// Rows that the statement gave or changed so far.
    total: Option<u64>,
    prepared: Prepared,
    /// A backslash in a string is one, as the server said last.
    plain_backslash: bool,
    /// The client sends the content of a file.
    sending_file: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The server has not greeted.
    Greeting,
    /// The client has not said who it is.
    First,
    /// The server has not let it in.
    Login,
    Open,
    /// Nothing that matters comes.
    Over,
}

impl MySqlLens {
    pub(super) fn new(redact: bool) -> Self {
        Self {
            log: Log::new(redact),
            client: Cutter::default(),
            server: Cutter::default(),
            continued: [None; 2],
            phase: Phase::Greeting,
            can: 0,
            began: 0,
            waiting: VecDeque::new(),
            held: 0,
            expect: Expect::First,
            before: None,
            rows: 0,
            total: None,
            prepared: Prepared::default(),
            plain_backslash: false,
            sending_file: false,
        }
    }

    pub(super) fn bytes(&mut self, now_millis: u64, way: Direction, mut bytes: &[u8]) -> Vec<QueryLine> {
        self.log.now = now_millis;
        while !bytes.is_empty() && !self.log.lost && self.phase != Phase::Over {
            if self.packet(way, &mut bytes) == Err(Malformed) {
                self.log.lose("these bytes are not MySQL's protocol");
            }
            if self.waiting.len() > MOST_REQUESTS || self.held > MOST_WAITING {
                self.log.lose("more requests wait for their answers than are kept");
            }
        }
        self.log.take()
    }

    pub(super) const fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    pub(super) fn finish(&mut self) -> Vec<QueryLine> {
        if self.log.lost {
            return Vec::new();
        }
        if self.phase == Phase::Login {
            self.log.add(&Statement::named("LOGIN", ""), QueryOutcome::Unanswered, self.began);
        }
        while let Some(command) = self.pop() {
            self.left(command, QueryOutcome::Unanswered);
        }
        self.phase = Phase::Over;
        self.log.take()
    }

    fn style(&self) -> Style {
        Style { dialect: Dialect::MySql, backslash: !self.plain_backslash, redact: self.log.redact }
    }

    fn packet(&mut self, way: Direction, bytes: &mut &[u8]) -> Result<(), Malformed> {
        let of_client = way == Direction::ToAgent;
        if of_client && self.phase == Phase::Greeting {
            return Err(Malformed);
        }
        let secret = of_client && self.phase == Phase::Login;
        let keep = match (of_client, secret || self.sending_file) {
            (true, true) => 0,
            (true, false) => MOST_OF_A_MESSAGE,
            (false, _) => MOST_OF_AN_ANSWER,
        };
        let (cutter, continued) = match (of_client, &mut self.continued) {
            (true, [continued, _]) => (&mut self.client, continued),
            (false, [_, continued]) => (&mut self.server, continued),
        };
        let begins = of_client && self.phase == Phase::Open && !self.sending_file && continued.is_none();
        let changes = matches!(self.waiting.front(), Some(Command::ChangeUser { .. }));
        let most = if self.phase < Phase::Login { LONGEST_FIRST } else { CONTINUED };
        let whole = cutter.cut(bytes, 4, |head| {
            let [a, b, c, number]: [u8; 4] = head.try_into().map_err(|_| Malformed)?;
            let length = usize::try_from(u32::from_le_bytes([a, b, c, 0])).map_err(|_| Malformed)?;
            // Only what is an answer within a change of user is no command.
            let out_of_turn = begins && number != 0 && !changes;
            if length > most || out_of_turn { Err(Malformed) } else { Ok(Plan { length, keep }) }
        })?;
        if !whole {
            return Ok(());
        }
        let goes_on = continued.is_some();
        let number = continued.take().or_else(|| cutter.head().get(3).copied()).unwrap_or_default();
        if cutter.length() == CONTINUED {
            *continued = Some(number);
            cutter.go_on();
            return Ok(());
        }
        // Only whether it is short matters.
        let length = if goes_on { CONTINUED } else { cutter.length() };
        let body = cutter.take_body();
        let done = if of_client { self.of_client(number, length, &body) } else { self.of_server(length, &body) };
        match way {
            Direction::ToAgent => self.client.next(body),
            Direction::ToClient => self.server.next(body),
        }
        done
    }

    fn of_client(&mut self, number: u8, length: usize, body: &[u8]) -> Result<(), Malformed> {
        match self.phase {
            Phase::Greeting | Phase::Over => Err(Malformed),
            Phase::First => self.client_says_who(length, body),
            Phase::Login => Ok(()),
            Phase::Open if self.sending_file => {
                self.sending_file = length > 0;
                Ok(())
            }
            Phase::Open if number == 0 => self.command(body),
            Phase::Open => Ok(()),
        }
    }

    fn of_server(&mut self, length: usize, body: &[u8]) -> Result<(), Malformed> {
        match self.phase {
            Phase::Greeting => self.greeting(body),
            Phase::First if body.first() == Some(&0xff) => {
                self.phase = Phase::Over;
                Ok(())
            }
            Phase::First | Phase::Over => Err(Malformed),
            Phase::Login => self.login_answer(body),
            Phase::Open => self.answer(length, body),
        }
    }

    fn push(&mut self, command: Command) {
        self.held = self.held.saturating_add(command.size());
        self.waiting.push_back(command);
    }

    fn pop(&mut self) -> Option<Command> {
        self.total = None;
        self.pop_keeping_total()
    }

    fn pop_keeping_total(&mut self) -> Option<Command> {
        let command = self.waiting.pop_front()?;
        self.held = self.held.saturating_sub(command.size());
        (self.before, self.rows, self.expect) = (None, 0, Expect::First);
        Some(command)
    }

    /// The database that statements are about from now on.
    fn uses(&mut self, database: &[u8]) {
        self.log.database = name(database);
    }
}

/// Whether bytes, from the second of an answer on, say that more than one follows; and what they say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Status(u16);

impl Status {
    const MORE: u16 = 0x0008;
    const CURSOR: u16 = 0x0040;
    const PLAIN_BACKSLASH: u16 = 0x0200;

    const fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.array().map(u16::from_le_bytes).map(Self)
    }
}
