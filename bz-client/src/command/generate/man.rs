//! `bz generate man`: the manual pages, of what the help is made of.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::Resettable;
use clap::{Args, Command};
use clap_mangen::Man;
use serde_json::json;

use crate::cli::Cli;
use crate::context::Context;
use crate::exit::Exit;

/// What `bz generate man` takes.
#[derive(Debug, Args)]
pub(crate) struct GenerateMan {
    /// The folder that they are written to, such as ~/.local/share/man/man1
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl GenerateMan {
    pub(super) fn run(&self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let folder = self.folder.display().to_string();
        let mut described = Cli::described().disable_help_subcommand(true);
        described.build();
        fs::create_dir_all(&self.folder)
            .and_then(|()| write(&described, &self.folder))
            .with_context(|| format!("the manual pages cannot be written to {folder}"))?;
        context.output.result(&json!({"folder": folder}), &format!("The manual pages are in {folder}."))?;
        Ok(Exit::Fine)
    }
}

/// The page of a command, and those of all below it.
fn write(command: &Command, folder: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write(below, folder)?;
    }
    let remarks = command.get_after_help().map(ToString::to_string);
    let man = Man::new(command.clone().after_help(Resettable::Reset));
    let mut page = Vec::new();
    man.render(&mut page)?;
    // Examples are lines, which a paragraph would run together.
    if let Some(remarks) = remarks {
        writeln!(page, ".SH REMARKS\n.nf\n{}\n.fi", escaped(&remarks))?;
    }
    fs::write(folder.join(man.get_filename()), page)
}

/// Text of which `man` takes nothing for a command of its own.
fn escaped(text: &str) -> String {
    let line = |line: &str| {
        let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
        if line.starts_with('.') { format!("\\&{line}") } else { line }
    };
    text.trim_end().lines().map(line).collect::<Vec<_>>().join("\n")
}
