//! A transcript as a list: who did what, and when that was signed.

use bz_core::access::request::{CopyWay, Parameters, Size};
use bz_core::id::OrganizationId;
use bz_core::time::UnixTime;
use bz_core::wire;

use crate::frame::{Fin, Kind, Notice};
use crate::keys::Direction;
use crate::refusal::Code;
use crate::stream::{Answer, Report, StreamRequest};
use crate::transcript::anchors::Anchors;
use crate::transcript::evidence::unverified;
use crate::transcript::file::{Position, Reader};
use crate::transcript::record::{Content, Frame, Opening, Record};
use crate::transcript::verdict::Refused;
use crate::transcript::verify::{Session, Walk};

/// The most characters of a payload that a line repeats.
const SHOWN: usize = 60;
/// Payloads that are one small value.
const SMALL: usize = 64;

/// Who did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The client.
    Client,
    /// The agent.
    Agent,
    /// The server, by its own word.
    Server,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Agent => "agent",
            Self::Server => "server",
        })
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The record.
    pub at: Position,
    /// Who.
    pub who: Who,
    /// The frame's number in its direction.
    pub frame: Option<u64>,
    /// The first signed time not before it; `None` when no end signed it.
    pub signed: Option<UnixTime>,
    /// What, for people: control characters escaped.
    pub what: String,
}

/// Lists a transcript. It is checked against itself alone on the way: for trust, [`verify`](super::verify()) it.
///
/// # Errors
/// As [`verify`](super::verify()).
pub fn explain(bytes: &[u8]) -> Result<Vec<Line>, Refused> {
    let mut walk = Walk::new(Anchors::FromTranscript);
    let mut reader = Reader::new(bytes)?;
    let mut lines = Lines::default();
    while let Some(next) = reader.next() {
        let (at, record) = next?;
        let size = reader.position().offset.saturating_sub(at.offset);
        walk.step(&record, size).map_err(|reason| Refused { reason, at })?;
        if let Some(session) = walk.session() {
            lines.record(at, &record, session);
        }
    }
    Ok(lines.all)
}

#[derive(Default)]
struct Lines {
    all: Vec<Line>,
    /// Lines of frames that no checkpoint covers yet.
    open: Vec<usize>,
}

impl Lines {
    fn push(&mut self, at: Position, who: Who, signed: Option<UnixTime>, what: String) {
        self.all.push(Line { at, who, frame: None, signed, what });
    }

    fn record(&mut self, at: Position, record: &Record, session: &Session) {
        match record {
            Record::Anchors(_) => {}
            Record::Opening(opening) => self.opening(at, opening, session),
            Record::Directory(_) => {
                self.push(at, Who::Server, None, "the directory's entry for the agent's key".to_owned());
            }
            Record::Predecessor(predecessor) => {
                let signed = Some(session.evidence.answer.verified_at);
                self.push(at, Who::Agent, signed, format!("goes on after session {}", predecessor.session));
            }
            Record::Segment(_) => {
                let signed = session.segment.map(|segment| segment.time);
                self.push(at, Who::Agent, signed, "goes on with the shell while nobody is attached".to_owned());
            }
            Record::Frame { direction, frame } => {
                self.open.push(self.all.len());
                let (number, what) = (Some(frame.header.number), action(frame, session.evidence.ends.organization));
                self.all.push(Line { at, who: sender(*direction), frame: number, signed: None, what });
                if frame.header.kind == Some(Kind::Checkpoint) {
                    self.covered(*direction, session);
                }
            }
            Record::Checkpoint { direction, .. } => {
                let time = session.history.way(*direction).last().map(|s| s.time);
                self.push(at, sender(*direction), time, "hands out its signature over a sealed session".to_owned());
                self.covered(*direction, session);
            }
            Record::Conflict { direction, frame } => {
                let number = frame.header.number;
                let what = format!("says that the {} sent frame {number} in two versions", sender(*direction));
                self.push(at, Who::Server, None, what);
            }
            Record::Server(server) => {
                // Its signature was checked a moment ago; the organization is the transcript's.
                let claim = unverified(&server.claim, session.evidence.ends.organization);
                if let Ok(claim) = claim {
                    let ended =
                        if claim.reason.is_empty() { String::new() } else { format!(": {}", shown(&claim.reason)) };
                    self.push(at, Who::Server, Some(claim.time), format!("claims everything before{ended}"));
                }
            }
        }
    }

    fn opening(&mut self, at: Position, opening: &Opening, session: &Session) {
        let evidence = &session.evidence;
        let (request, time) = (&evidence.request, evidence.answer.verified_at);
        let user = request.user.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
        let asked = match &request.parameters {
            Parameters::Shell { .. } => "a shell".to_owned(),
            Parameters::Attach { shell, .. } => format!("shell {shell}"),
            Parameters::Exec { command } => format!("the command {}", shown(command)),
            Parameters::Handler { route } => format!("the route {}", shown(route)),
            Parameters::Tunnel { destinations } => {
                let rules: Vec<_> = destinations.iter().map(ToString::to_string).collect();
                format!("a tunnel to {}", shown(&rules.join(", ")))
            }
            Parameters::Ssh { .. } => "its SSH server".to_owned(),
            Parameters::SshServer { .. } => "SSH that the agent ends".to_owned(),
            Parameters::Copy(copy) => {
                let path = shown(&String::from_utf8_lossy(&copy.path));
                match copy.way {
                    CopyWay::ToTarget { .. } => format!("a copy to {path}"),
                    CopyWay::FromTarget => format!("a copy of {path}"),
                }
            }
            Parameters::Database(database) => format!("the database at {}", database.destination),
            Parameters::Web(web) => format!("the web server at {}", web.destination),
            Parameters::Kube(cluster) => {
                let groups: Vec<_> = cluster.groups.iter().map(|group| shown(group)).collect();
                let within = if groups.is_empty() { String::new() } else { format!(" in {}", groups.join(", ")) };
                format!("its cluster as {}{within}", shown(&cluster.user))
            }
        };
        let person = &evidence.person;
        let who = format!("{} of {}", shown(&person.subject), shown(&person.issuer));
        let asks = format!("{who} asks for {asked}{user} on target {}, {}", request.target, request.mode);
        self.push(at, Who::Client, Some(time), asks);
        let checked = if opening.certificate.is_some() { "" } else { " (tokens taken out: this is the agent's word)" };
        self.push(at, Who::Agent, Some(time), format!("has verified login and grant, and accepts{checked}"));
    }

    /// Puts the time of a new checkpoint on everything that it is the first to cover.
    fn covered(&mut self, by: Direction, session: &Session) {
        let time = session.history.way(by).last().map(|statement| statement.time);
        let all = &mut self.all;
        self.open.retain(|index| {
            let Some(line) = all.get_mut(*index) else { return false };
            let way = match line.who {
                Who::Client => Direction::ToAgent,
                Who::Agent | Who::Server => Direction::ToClient,
            };
            let covered = line.frame.is_some_and(|number| number < session.history.way(way).coverage().either());
            if covered {
                line.signed = time;
            }
            !covered
        });
    }
}

const fn sender(direction: Direction) -> Who {
    match direction {
        Direction::ToAgent => Who::Client,
        Direction::ToClient => Who::Agent,
    }
}

fn action(frame: &Frame, organization: OrganizationId) -> String {
    let stream = frame.header.stream;
    match (frame.header.kind, &frame.content) {
        (None, _) => "sends a sealed frame".to_owned(),
        (Some(Kind::Bytes), Content::Full { payload, .. }) => {
            format!("sends {} bytes on stream {stream}: {}", payload.len(), shown(&String::from_utf8_lossy(payload)))
        }
        (Some(Kind::Bytes), Content::Withheld(_)) => format!("sends bytes on stream {stream}, content withheld"),
        (Some(Kind::Eof), _) => format!("ends stream {stream}"),
        (Some(Kind::Checkpoint), _) => "signs everything so far".to_owned(),
        (Some(Kind::Resize), content) => match value::<Size>(content) {
            Some(Size { rows, columns }) => format!("resizes the terminal to {columns} × {rows}"),
            None => "resizes the terminal, unreadably".to_owned(),
        },
        (Some(Kind::Reauthenticate), _) => "presents a newer token of the login".to_owned(),
        (Some(Kind::Notice), content) => match value::<Notice>(content) {
            Some(Notice::Password(true)) => "asks for a password: what is typed is not shown".to_owned(),
            Some(Notice::Password(false)) => "asks for a password no longer".to_owned(),
            Some(Notice::TakenOver) => "says that another client took the shell over".to_owned(),
            Some(Notice::LoginEnds) => "says that the login ends soon".to_owned(),
            Some(Notice::Repaint) => "repaints the screen".to_owned(),
            None => "gives an unreadable notice".to_owned(),
        },
        (Some(Kind::Refuse), content) => match value::<Code>(content) {
            Some(code) => format!("goes no further: {code}"),
            None => "goes no further".to_owned(),
        },
        (Some(Kind::Fin), content) => match value::<Fin>(content) {
            Some(Fin::Exited(code)) => format!("ends the session: exited with {code}"),
            Some(Fin::Signaled(signal)) => format!("ends the session: ended by signal {signal}"),
            Some(Fin::Detached) => "leaves; what runs goes on".to_owned(),
            Some(Fin::Closed) => "asks for the end".to_owned(),
            Some(Fin::Done) | None => "ends the session".to_owned(),
        },
        (Some(Kind::Open), content) => match small(content).and_then(|bytes| StreamRequest::decode(bytes).ok()) {
            Some(request) => format!("opens stream {stream} to {}", shown(&request.to_string())),
            None => format!("opens stream {stream}"),
        },
        (Some(Kind::Answer), content) => match small(content).and_then(|bytes| Answer::decode(bytes).ok()) {
            Some(answer) => format!("says of stream {stream} that {}", told(&answer)),
            None => format!("answers stream {stream}"),
        },
        (Some(Kind::Reset), _) => format!("resets stream {stream}"),
        // Its signature was checked a moment ago, and the organization is the transcript's.
        (Some(Kind::Report), content) => match small(content).and_then(|bytes| Report::decode(bytes).ok()) {
            Some(signed) => match unverified(&signed, organization) {
                Ok(Report { request, answer, .. }) => {
                    format!("reports of stream {stream} to {} that {}", shown(&request.to_string()), told(&answer))
                }
                Err(_) => format!("reports stream {stream}"),
            },
            None => format!("reports stream {stream}"),
        },
    }
}

fn told(answer: &Answer) -> String {
    match answer {
        Answer::Opened { at } => format!("it leads to {}", shown(at)),
        Answer::Refused(why) => format!("it was not opened: {why}"),
    }
}

fn small(content: &Content) -> Option<&[u8]> {
    match content {
        Content::Full { payload, .. } => Some(payload),
        Content::Withheld(_) => None,
    }
}

fn value<T: bincode::Decode<()>>(content: &Content) -> Option<T> {
    wire::decode(small(content)?, SMALL).ok()
}

/// Text of strangers, safe on a terminal.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}
