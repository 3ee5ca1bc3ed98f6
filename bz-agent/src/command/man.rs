//! `bz-agent man`: the manual pages, of what the help is made of.

use std::path::Path;

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::cli::Cli;

/// Writes the page of the program and those of its commands.
pub(crate) fn write(folder: &Path) -> anyhow::Result<()> {
    let mut described = Cli::command().disable_help_subcommand(true);
    described.build();
    std::fs::create_dir_all(folder)
        .and_then(|()| pages(&described, folder))
        .with_context(|| format!("the manual pages cannot be written to {}", folder.display()))
}

fn pages(command: &Command, folder: &Path) -> std::io::Result<()> {
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| pages(below, folder))?;
    // The section of programs that administrators run.
    Man::new(command.clone()).section("8").generate_to(folder).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F-252: commands, arguments and flags all say what they are for.
    #[test]
    fn every_command_and_every_flag_has_help() {
        let mut described = Cli::command();
        described.build();
        assert_eq!(silent(&described), [""; 0], "these have no help");
    }

    fn silent(command: &Command) -> Vec<String> {
        let name = command.get_bin_name().unwrap_or_default();
        let arguments = command.get_arguments().filter(|argument| argument.get_help().is_none());
        let mut silent: Vec<_> = arguments.map(|argument| format!("{name} {argument}")).collect();
        silent.extend(command.get_about().is_none().then(|| name.to_owned()));
        silent.extend(command.get_subcommands().flat_map(silent_below));
        silent
    }

    fn silent_below(command: &Command) -> Vec<String> {
        if command.get_name() == "help" { vec![] } else { silent(command) }
    }
}
