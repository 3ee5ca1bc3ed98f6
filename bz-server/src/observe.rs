//! What the server reads in a connection's streams for the logs, by the lens that the access table names.
//!
//! Lenses are pure: bytes in, lines out, the same whatever the bytes are cut into. They are an aid to reading what
//! happened and no control: whoever has the shell can deceive them, and what a transcript holds is the evidence.
//!
//! **Absent:** I/O, clocks, `async`; anything that could change or delay the streams.

pub mod command;
pub mod files;
pub mod ssh;

use bz_core::access::Lens;
use bz_core::access::request::CopyRequest;
use bz_core::api::record::CommandSource;
use bz_protocol::keys::Direction;
use bz_protocol::transcript::Apart;

pub use self::command::CommandLens;
pub use self::files::{FileLine, FilesLens};
pub use self::ssh::SshLens;

/// One line for the command log. Control characters in it are escaped, and it is no longer than [`LONGEST_LINE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    pub source: CommandSource,
}

/// A longer line is cut: a log is read by people, and the recording has the rest.
pub const LONGEST_LINE: usize = 32 * 1024;

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
    Ssh(Box<SshLens>),
    Opaque,
}

impl Observer {
    #[must_use]
    pub fn new(lens: Lens, rows: u16, columns: u16) -> Self {
        match lens {
            Lens::Command => Self::Command(Box::new(CommandLens::new(rows, columns))),
            Lens::Request => Self::Request,
            // Without what was asked for there is nothing to read: see `copy`.
            Lens::Files | Lens::Query | Lens::Http | Lens::Kube | Lens::Opaque => Self::Opaque,
            Lens::Ssh => Self::Ssh(Box::default()),
        }
    }

    /// What reads a copy.
    #[must_use]
    pub fn copy(request: &CopyRequest) -> Self {
        Self::Files(Box::new(FilesLens::new(request)))
    }

    /// The same for a terminal that is come back to.
    #[must_use]
    pub fn attached(self) -> Self {
        match self {
            Self::Command(lens) => Self::Command(Box::new(lens.attached())),
            Self::Request | Self::Files(_) | Self::Ssh(_) | Self::Opaque => self,
        }
    }

    /// The command that opened the stream, where the request is the command.
    #[must_use]
    pub fn request(&self, command: &str) -> Option<Line> {
        match self {
            Self::Request => command::text::shown(command).map(|text| Line { text, source: CommandSource::Request }),
            Self::Command(_) | Self::Files(_) | Self::Ssh(_) | Self::Opaque => None,
        }
    }

    /// What came from the target.
    #[must_use]
    pub fn output(&mut self, bytes: &[u8]) -> Vec<Line> {
        match self {
            Self::Command(lens) => lens.output(bytes),
            Self::Request | Self::Files(_) | Self::Ssh(_) | Self::Opaque => Vec::new(),
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
            Self::Request | Self::Files(_) | Self::Opaque => Vec::new(),
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
            Self::Command(_) | Self::Request | Self::Opaque => Vec::new(),
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
            Self::Command(_) | Self::Request | Self::Opaque => Vec::new(),
        }
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
