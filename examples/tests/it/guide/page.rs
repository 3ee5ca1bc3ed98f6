//! A page of `docs/` as a list of commands, with what a reader puts in their place.

use std::collections::VecDeque;
use std::path::Path;

use bz_core::access::Access;

const GETTING_STARTED: &str = include_str!("../../../../docs/getting-started.md");
const CONNECTING: &str = include_str!("../../../../docs/connecting.md");

/// The commands of the page's code blocks that nobody has run yet, in order.
pub(crate) struct Page {
    commands: VecDeque<String>,
    put: Vec<(&'static str, String)>,
}

impl Page {
    /// The page that everybody begins with.
    pub(super) fn new() -> Self {
        Self::of(GETTING_STARTED)
    }

    /// The section of the page about ways in with this heading.
    pub(crate) fn connecting(heading: &str) -> Self {
        let (_, rest) = CONNECTING.split_once(&format!("\n## {heading}")).expect("a section of the page");
        Self::of(rest.split("\n## ").next().unwrap())
    }

    pub(crate) fn of(page: &str) -> Self {
        let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        let joined: Vec<String> = blocks.map(|block| block.replace("\\\n", " ")).collect();
        let lines = joined.iter().flat_map(|block| block.lines());
        let commands = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        Self { commands, put: vec![] }
    }

    /// From here on the reader writes `with` where the page says `word`.
    pub(crate) fn put(&mut self, word: &'static str, with: &impl ToString) {
        self.put.push((word, with.to_string()));
    }

    /// The next command, which the test believes to begin so, as the reader types it.
    #[track_caller]
    pub(crate) fn next(&mut self, begins: &str) -> String {
        let command = self.commands.pop_front().unwrap_or_default();
        assert!(command.starts_with(begins), "the page says {command:?} where this test expects {begins:?}");
        self.put.iter().fold(command, |command, (word, with)| command.replace(word, with))
    }

    /// Nothing on the page was left out.
    pub(crate) fn ends(&self) {
        assert!(self.commands.is_empty(), "commands of the page that this test does not run: {:?}", self.commands);
    }
}

/// F-232, F-250: each technology has its section on the page about ways in, with commands that the tests of that section
/// run, those of the programs that people have among them; what the page about the beginning has needs none there.
#[test]
fn every_technology_has_its_section() {
    let commands = |heading: &str| Page::connecting(heading).commands.len();
    for (heading, programs) in [
        ("SSH with your own tools", &["ssh", "scp", "sftp", "rsync", "git"][..]),
        ("Databases", &["psql"]),
        ("Web servers", &["curl"]),
        ("Kubernetes", &["kubectl"]),
    ] {
        let page = Page::connecting(heading);
        for program in programs {
            let runs = |command: &String| command.split(' ').next() == Some(program);
            assert!(page.commands.iter().any(runs), "{heading}: nobody runs {program}");
        }
    }
    for access in Access::ALL {
        let heading = match access {
            Access::Shell | Access::Exec => {
                assert!(GETTING_STARTED.contains("bz connect") && GETTING_STARTED.contains("bz exec"));
                continue;
            }
            // Its commands are its program's own.
            Access::Handler => continue,
            Access::Tunnel => "Tunnels",
            Access::Ssh => "SSH with your own tools",
            Access::SshServer => "SSH without an sshd",
            Access::Copy => "Files",
            Access::Database | Access::Tcp => "Databases",
            Access::Web => "Web servers",
            Access::Kube => "Kubernetes",
        };
        assert!(commands(heading) >= 3, "{access:?}: {heading}");
    }
}

/// Changes a setting in a file, which must be there as the page's reader finds it.
pub(super) fn edit(path: &Path, changes: &[(&str, String)]) {
    let mut text = std::fs::read_to_string(path).unwrap();
    for (old, new) in changes {
        assert_eq!(text.matches(old).count(), 1, "{old} stands not once in {text}");
        text = text.replace(old, new);
    }
    std::fs::write(path, text).unwrap();
}
