//! What the server reads in a connection's streams for the logs, by the lens that the access table names.
//!
//! Lenses are pure: bytes in, lines out, the same whatever the bytes are cut into. They are an aid to reading what
//! happened and no control: whoever has the shell can deceive them, and what a transcript holds is the evidence.
//!
//! **Absent:** I/O, clocks, `async`; anything that could change or delay the streams.

pub mod command;
pub mod files;
pub mod query;
pub mod http;
pub mod kube;
pub mod ssh;

use bz_core::access::Lens;
use bz_core::access::request::CopyRequest;
use bz_core::access::upstream::DatabaseRequest;
use bz_core::api::record::CommandSource;
use bz_core::time::UnixTime;
use bz_protocol::frame::Kind;
use bz_protocol::keys::Direction;
use bz_protocol::transcript::Apart;

pub use self::command::CommandLens;
pub use self::files::{FileLine, FilesLens};
pub use self::http::{Exchange, HttpLens};
pub use self::query::{QueriesLens, QueryLine};
pub use self::ssh::SshLens;

/// One line for the command log. Control characters in it are escaped, and it is no longer than [`LONGEST_LINE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    pub source: CommandSource,
}

/// A longer line is cut: a log is read by people, and the recording has the rest.
pub const LONGEST_LINE: usize = 32 * 1024;

/// In which header a client says which command its requests to a cluster belong to.
const KUBE_COMMAND: &str = "bz-command";

/// What an agent says apart from the content that a lens is for.
#[must_use]
pub const fn apart(lens: Lens) -> Apart {
    match lens {
        Lens::Files => Apart::Files,
        Lens::Ssh => Apart::Ssh,
        Lens::Command | Lens::Request | Lens::Opaque | Lens::Query | Lens::Http | Lens::Kube => Apart::Nothing,
    }
}

/// The lens of one connection.
#[derive(Debug)]
pub enum Observer {
    Command(Box<CommandLens>),
    Request,
    Files(Box<FilesLens>),
    Queries(Box<QueriesLens>),
    Http(Box<HttpLens>),
    Ssh(Box<SshLens>),
    Opaque,
}

impl Observer {
    #[must_use]
    pub fn new(lens: Lens, rows: u16, columns: u16) -> Self {
        match lens {
            Lens::Command => Self::Command(Box::new(CommandLens::new(rows, columns))),
            Lens::Request => Self::Request,
            Lens::Ssh => Self::Ssh(Box::default()),
            Lens::Http => Self::Http(Box::default()),
            Lens::Kube => Self::Http(Box::new(HttpLens::wanting(KUBE_COMMAND))),
            // Without what was asked for there is nothing to read: see `copy` and `queries`.
            Lens::Files | Lens::Query | Lens::Opaque => Self::Opaque,
        }
    }

    /// What reads a copy.
    #[must_use]
    pub fn copy(request: &CopyRequest) -> Self {
        Self::Files(Box::new(FilesLens::new(request)))
    }

    /// What reads a database's statements, with or without what they say of values.
    #[must_use]
    pub fn queries(request: &DatabaseRequest, redact: bool) -> Self {
        Self::Queries(Box::new(QueriesLens::new(request, redact)))
    }

    /// The same for a terminal that is come back to.
    #[must_use]
    pub fn attached(self) -> Self {
        match self {
            Self::Command(lens) => Self::Command(Box::new(lens.attached())),
            Self::Request | Self::Files(_) | Self::Queries(_) | Self::Http(_) | Self::Ssh(_) | Self::Opaque => self,
        }
    }

    /// The command that opened the stream, where the request is the command.
    #[must_use]
    pub fn request(&self, command: &str) -> Option<Line> {
        match self {
            Self::Request => command::text::shown(command).map(|text| Line { text, source: CommandSource::Request }),
            Self::Command(_) | Self::Files(_) | Self::Queries(_) | Self::Http(_) | Self::Ssh(_) | Self::Opaque => None,
        }
    }

    /// What came from the target.
    #[must_use]
    pub fn output(&mut self, bytes: &[u8]) -> Vec<Line> {
        match self {
            Self::Command(lens) => lens.output(bytes),
            Self::Request | Self::Files(_) | Self::Queries(_) | Self::Http(_) | Self::Ssh(_) | Self::Opaque => {
                Vec::new()
            }
        }
    }

    /// What the person typed.
    pub fn input(&mut self, bytes: &[u8]) {
        if let Self::Command(lens) = self {
            lens.input(bytes);
        }
    }

    /// What is left to say when nothing more comes.
    #[must_use]
    pub fn finish(&mut self) -> Vec<Line> {
        match self {
            Self::Command(lens) => lens.finish(),
            Self::Ssh(lens) => lens.finish(),
            Self::Request | Self::Files(_) | Self::Queries(_) | Self::Http(_) | Self::Opaque => Vec::new(),
        }
    }

    /// What an agent says of the SSH that it ends; of the files among it see [`Self::files`].
    #[must_use]
    pub fn said(&mut self, way: Direction, stream: u32, bytes: &[u8]) -> Vec<Line> {
        if let Self::Ssh(lens) = self { lens.bytes(way, stream, bytes) } else { Vec::new() }
    }

    /// What a copy's stream says of files.
    #[must_use]
    pub fn files(&mut self, way: Direction, stream: u32, bytes: &[u8]) -> Vec<FileLine> {
        match self {
            Self::Files(lens) => lens.bytes(way, stream, bytes),
            Self::Ssh(lens) => lens.files(),
            Self::Command(_) | Self::Request | Self::Queries(_) | Self::Http(_) | Self::Opaque => Vec::new(),
        }
    }

    /// What an agent says that it refused.
    #[must_use]
    pub fn refused(&mut self) -> Vec<String> {
        if let Self::Ssh(lens) = self { lens.refused() } else { Vec::new() }
    }

    /// What is left to say of files when nothing more comes.
    #[must_use]
    pub fn finish_files(&mut self) -> Vec<FileLine> {
        match self {
            Self::Files(lens) => lens.finish(),
            Self::Ssh(lens) => lens.finish_files(),
            Self::Command(_) | Self::Request | Self::Queries(_) | Self::Http(_) | Self::Opaque => Vec::new(),
        }
    }

    /// What a frame of a database session says of statements, each with its stream.
    #[must_use]
    pub fn statements(
        &mut self,
        now_millis: u64,
        what: (Direction, Kind),
        content: (u32, &[u8]),
    ) -> Vec<(u32, QueryLine)> {
        if let Self::Queries(lens) = self { lens.frame(now_millis, what, content) } else { Vec::new() }
    }

    /// What is left to say of statements when nothing more comes.
    #[must_use]
    pub fn finish_statements(&mut self) -> Vec<(u32, QueryLine)> {
        if let Self::Queries(lens) = self { lens.finish() } else { Vec::new() }
    }

    /// What a stream says of requests.
    #[must_use]
    pub fn requests(&mut self, at: UnixTime, stream: (Direction, u32), bytes: &[u8]) -> Vec<Exchange> {
        if let Self::Http(lens) = self { lens.bytes(at, stream, bytes) } else { Vec::new() }
    }

    /// What the end of a stream in one direction says of them.
    #[must_use]
    pub fn request_eof(&mut self, at: UnixTime, stream: (Direction, u32)) -> Vec<Exchange> {
        if let Self::Http(lens) = self { lens.eof(at, stream) } else { Vec::new() }
    }

    /// What the end of a stream says of them.
    #[must_use]
    pub fn request_reset(&mut self, at: UnixTime, stream: u32) -> Vec<Exchange> {
        if let Self::Http(lens) = self { lens.reset(at, stream) } else { Vec::new() }
    }

    /// What was typed in terminals that requests opened, since it was last asked for.
    #[must_use]
    pub fn typed(&mut self) -> Vec<Line> {
        if let Self::Http(lens) = self { lens.typed() } else { Vec::new() }
    }

    /// What is left to say of requests when nothing more comes.
    #[must_use]
    pub fn finish_requests(&mut self, at: UnixTime) -> Vec<Exchange> {
        if let Self::Http(lens) = self { lens.finish(at) } else { Vec::new() }
    }

    pub fn resize(&mut self, rows: u16, columns: u16) {
        if let Self::Command(lens) = self {
            lens.resize(rows, columns);
        }
    }

    /// The terminal asks for a password, or no longer.
    pub fn password(&mut self, on: bool) {
        if let Self::Command(lens) = self {
            lens.password(on);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F-159~: each kind of access is read in its own way, or not at all.
    #[test]
    fn a_lens_reads_only_what_is_its_own() {
        let typed = |lens| {
            let mut observer = Observer::new(lens, 24, 80);
            let _none = observer.output(b"$ ");
            observer.input(b"ls\r");
            (observer.output(b"ls\r\n"), observer.request("uptime\n-p"))
        };
        let line = |text: &str, source| Line { text: text.into(), source };
        assert_eq!(typed(Lens::Command), (vec![line("ls", CommandSource::Screen)], None));
        assert_eq!(typed(Lens::Request), (vec![], Some(line("uptime\\x0a-p", CommandSource::Request))));
        assert_eq!(typed(Lens::Opaque), (vec![], None));
    }
}
