//! What the agent says of the SSH that it ends: commands, the lines typed into terminals, and files.

use bz_core::api::record::{CommandSource, FileDirection, FileOutcome};
use bz_protocol::keys::Direction;
use bz_protocol::ssh::{Decoder, Fate, FileWay, KEYS, Malformed, SAID, SCREEN, Said, SshFile};

use super::command::text;
use super::files::shown;
use super::{CommandLens, FileLine, Line};

/// Reads one session.
#[derive(Debug, Default)]
pub struct SshLens {
    said: Decoder,
    terminal: Option<Box<CommandLens>>,
    files: Vec<FileLine>,
    refused: Vec<String>,
    /// Files that are open.
    begun: Vec<(FileWay, Vec<u8>)>,
    /// Begun within a terminal whose beginning was not heard.
    resumed: bool,
}

impl SshLens {
    /// The same for a session that is gone on with.
    #[must_use]
    pub fn resumed() -> Self {
        Self { resumed: true, ..Self::default() }
    }

    /// Bytes of a stream, and the lines that they complete.
    #[must_use]
    pub fn bytes(&mut self, way: Direction, stream: u32, bytes: &[u8]) -> Vec<Line> {
        match (way, stream) {
            (Direction::ToClient, SAID) => self.said(bytes),
            (Direction::ToClient, SCREEN) => self.terminal().map(|lens| lens.output(bytes)).unwrap_or_default(),
            (Direction::ToClient, KEYS) => {
                if let Some(lens) = self.terminal() {
                    lens.input(bytes);
                }
                Vec::new()
            }
            (Direction::ToClient | Direction::ToAgent, _) => Vec::new(),
        }
    }

    /// The files that were spoken of since this was last asked.
    #[must_use]
    pub fn files(&mut self) -> Vec<FileLine> {
        std::mem::take(&mut self.files)
    }

    /// What was refused since this was last asked.
    #[must_use]
    pub fn refused(&mut self) -> Vec<String> {
        std::mem::take(&mut self.refused)
    }

    /// The lines that waited for a word that does not come any more.
    #[must_use]
    pub fn finish(&mut self) -> Vec<Line> {
        self.terminal.as_mut().map(|lens| lens.finish()).unwrap_or_default()
    }

    /// The files that are open when nothing more comes: a part of each may have gone over.
    #[must_use]
    pub fn finish_files(&mut self) -> Vec<FileLine> {
        let begun = std::mem::take(&mut self.begun);
        let cut = |(way, path)| row(&SshFile { way, path, fate: Fate::Part, size: 0 });
        begun.into_iter().map(cut).collect()
    }

    fn file(&mut self, file: &SshFile) {
        let is = |(way, path): &(FileWay, Vec<u8>)| *way == file.way && *path == file.path;
        if file.fate == Fate::Begun {
            if self.begun.len() < MAX_BEGUN {
                self.begun.push((file.way, file.path.clone()));
            }
            return;
        }
        // One that is open stays so under another name, and without any.
        let of_name = matches!(file.fate, Fate::Removed | Fate::MovedFrom | Fate::MovedTo);
        if !of_name && let Some(at) = self.begun.iter().position(is) {
            self.begun.swap_remove(at);
        }
        self.files.push(row(file));
    }

    fn terminal(&mut self) -> Option<&mut CommandLens> {
        if self.terminal.is_none() && self.resumed {
            self.terminal = Some(Box::new(CommandLens::new(24, 80).attached()));
        }
        self.terminal.as_deref_mut()
    }

    fn said(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        self.said.put(bytes);
        loop {
            match self.said.next_message() {
                Ok(Some(message)) => self.message(message, &mut lines),
                Ok(None) => return lines,
                Err(Malformed) => {
                    lines.push(Line { text: "(what the agent says cannot be read)".into(), source: REQUEST });
                    return lines;
                }
            }
        }
    }

    fn message(&mut self, message: Said, lines: &mut Vec<Line>) {
        match message {
            Said::Command { command } => {
                let text = text::shown(&String::from_utf8_lossy(&command));
                lines.extend(text.map(|text| Line { text, source: REQUEST }));
            }
            Said::Terminal { size } => {
                let size = size.clamped();
                self.resumed = false;
                self.terminal = Some(Box::new(CommandLens::new(size.rows, size.columns)));
            }
            Said::Resize { size } => {
                let size = size.clamped();
                if let Some(lens) = self.terminal() {
                    lens.resize(size.rows, size.columns);
                }
            }
            Said::Password(on) => {
                if let Some(lens) = self.terminal() {
                    lens.password(on);
                }
            }
            Said::TerminalEnded => {
                lines.extend(self.finish());
                (self.terminal, self.resumed) = (None, false);
            }
            Said::File(file) => self.file(&file),
            Said::Refused { what } => self.refused.extend(text::shown(&what)),
        }
    }
}

const REQUEST: CommandSource = CommandSource::Request;
/// More than an agent has open for one session.
const MAX_BEGUN: usize = 2048;

fn row(file: &SshFile) -> FileLine {
    let direction = match file.way {
        FileWay::ToTarget => FileDirection::ToTarget,
        FileWay::FromTarget => FileDirection::FromTarget,
    };
    let (outcome, digest, problem) = match file.fate {
        Fate::Whole { digest } => (FileOutcome::Copied, digest, None),
        Fate::Part | Fate::Begun => (FileOutcome::Incomplete, None, None),
        Fate::Failed(problem) => (FileOutcome::Failed, None, Some(problem)),
        Fate::Removed => (FileOutcome::Removed, None, None),
        Fate::MovedFrom => (FileOutcome::MovedFrom, None, None),
        Fate::MovedTo => (FileOutcome::MovedTo, None, None),
    };
    FileLine { direction, path: shown(&file.path), outcome, size: file.size, digest, problem }
}

#[cfg(test)]
mod tests {
    use bz_core::access::request::Size;
    use bz_core::digest::Digest;

    use super::*;

    const OUT: Direction = Direction::ToClient;

    fn say(lens: &mut SshLens, said: &Said) -> Vec<String> {
        lens.bytes(OUT, SAID, &said.encode().unwrap()).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn commands_terminals_and_files_are_read_from_what_the_agent_says() {
        let mut lens = SshLens::default();
        assert_eq!(say(&mut lens, &Said::Command { command: b"uptime\n-p".to_vec() }), ["uptime\\x0a-p"]);
        assert_eq!(lens.bytes(OUT, SCREEN, b"$ "), [], "no terminal is open");
        assert_eq!(say(&mut lens, &Said::Terminal { size: Size { rows: 24, columns: 80 } }), [""; 0]);
        let mut typed = lens.bytes(OUT, SCREEN, b"$ ");
        typed.extend(lens.bytes(OUT, KEYS, b"ls\r"));
        typed.extend(lens.bytes(OUT, SCREEN, b"ls\r\n"));
        assert_eq!(typed.into_iter().map(|line| line.text).collect::<Vec<_>>(), ["ls"]);
        assert_eq!(say(&mut lens, &Said::TerminalEnded), [""; 0]);
        let fate = Fate::Whole { digest: Some(Digest::of(b"x")) };
        let file = SshFile { way: FileWay::FromTarget, path: b"/a\n".to_vec(), fate, size: 1 };
        assert_eq!(say(&mut lens, &Said::File(file)), [""; 0]);
        let [row] = lens.files().try_into().unwrap();
        assert_eq!((row.path.as_str(), row.digest, row.size), ("/a\\x0a", Some(Digest::of(b"x")), 1));
        assert_eq!(lens.files(), []);
        for (name, fate) in [(b"/a", Fate::Begun), (b"/b", Fate::Begun), (b"/a", Fate::Whole { digest: None })] {
            let file = SshFile { way: FileWay::ToTarget, path: name.to_vec(), fate, size: 2 };
            assert_eq!(say(&mut lens, &Said::File(file)), [""; 0]);
        }
        assert_eq!(lens.files().len(), 1);
        let [cut] = lens.finish_files().try_into().unwrap();
        assert_eq!((cut.path.as_str(), cut.outcome), ("/b", FileOutcome::Incomplete), "it was never closed");
        assert_eq!(lens.finish_files(), []);
        assert_eq!(say(&mut lens, &Said::Refused { what: "forwarding to\na".to_owned() }), [""; 0]);
        assert_eq!(lens.refused(), ["forwarding to\\x0aa"]);
    }

    #[test]
    fn nothing_of_the_protocol_itself_is_read_and_nonsense_is_said_once() {
        let mut lens = SshLens::default();
        assert_eq!(lens.bytes(OUT, 0, b"SSH-2.0-bz\r\n"), []);
        assert_eq!(lens.bytes(Direction::ToAgent, SAID, &[0xff; 9]), []);
        assert_eq!(lens.bytes(OUT, SAID, &[0xff; 9]).len(), 1);
        assert_eq!(lens.bytes(OUT, SAID, &[0xff; 9]), []);
    }
}
