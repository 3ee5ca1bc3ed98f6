//! A page of `docs` as a list of commands, with what a reader puts in their place.

use std::collections::VecDeque;
use std::path::Path;

const PAGE: &str = include_str!("../../../../docs/getting-started.md");

/// The commands of the page's code blocks that nobody has run yet, in order.
pub(crate) struct Page {
    commands: VecDeque<String>,
    put: Vec<(&'static str, String)>,
}

impl Page {
    pub(super) fn new() -> Self {
        Self::of(PAGE)
    }

    pub(crate) fn of(text: &str) -> Self {
        let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
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

/// Changes a setting in a file, which must be there as the page's reader finds it.
pub(super) fn edit(path: &Path, changes: &[(&str, String)]) {
    let mut text = std::fs::read_to_string(path).unwrap();
    for (old, new) in changes {
        assert_eq!(text.matches(old).count(), 1, "{old} stands not once in {text}");
        text = text.replace(old, new);
    }
    std::fs::write(path, text).unwrap();
}
