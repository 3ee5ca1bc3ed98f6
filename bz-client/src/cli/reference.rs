//! The reference manual of the program, made of what its help is made of, and what is demanded of that.

use std::fmt::Write as _;

use clap::error::ErrorKind;
use clap::{Arg, Command, CommandFactory as _, Parser as _};
use expect_test::expect_file;

use super::{Cli, Description};

/// F-252: `docs/cli.md` has every command and flag; `UPDATE_EXPECT=1` writes it.
#[test]
fn the_manual_is_what_the_program_says_of_itself() {
    expect_file!["../../../docs/cli.md"].assert_eq(&manual());
}

/// F-252: commands, arguments and flags all say what they are for.
#[test]
fn every_command_and_every_flag_has_help() {
    Cli::command().debug_assert();
    let mut silent = Vec::new();
    each(&built(), &mut |path, command| {
        if command.get_about().is_none() {
            silent.push(path.to_owned());
        }
        let arguments = command.get_arguments().filter(|argument| argument.get_help().is_none());
        silent.extend(arguments.map(|argument| format!("{path} {argument}")));
    });
    assert_eq!(silent, [""; 0], "these have no help");
}

/// Each command has an example, its own or one of a command below it, and whatever looks like one is understood.
#[test]
fn every_command_has_an_example_that_is_understood() {
    let mut without = Vec::new();
    for command in built().get_subcommands().filter(|command| !command.is_hide_set()) {
        let mut lines = Vec::new();
        each(command, &mut |_, command| lines.extend(examples(command)));
        if lines.is_empty() {
            without.push(command.get_name().to_owned());
        }
        for line in lines {
            understood(&line);
        }
    }
    assert_eq!(without, ["help"], "these have no example; see cli/examples.rs");
}

/// Every line of the cheat sheet is understood; that it does what it says is shown where servers and agents are.
#[test]
fn the_cheat_sheet_is_understood() {
    let page = include_str!("../../../docs/cheat-sheet.md");
    let page = page.replace("CONNECTION", "019a0000-0000-7000-8000-000000000001");
    let lines: Vec<_> = page.lines().filter(|line| line.starts_with("bz ")).collect();
    assert!(lines.len() > 20, "{} lines", lines.len());
    lines.into_iter().for_each(understood);
}

fn built() -> Command {
    let mut described = Cli::described();
    described.build();
    described
}

/// Calls `see` for a command and all below it, by its whole name.
fn each(command: &Command, see: &mut impl FnMut(&str, &Command)) {
    see(command.get_bin_name().unwrap_or("bz"), command);
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        each(below, see);
    }
}

fn examples(command: &Command) -> Vec<String> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with("  ") && line.split(' ').any(|word| word.ends_with("bz")));
    lines.map(|line| line.trim().to_owned()).collect()
}

/// The line is a command that the program takes, up to a remark, a pipe or a redirection.
#[track_caller]
fn understood(line: &str) {
    let command = line.split("   ").next().unwrap().split(" # ").next().unwrap();
    if command.starts_with("ssh ") {
        return;
    }
    let words = shlex::split(command).unwrap_or_else(|| panic!("no words: {line}"));
    let words = words.iter().take_while(|word| ![">", "|", "&&"].contains(&word.as_str()));
    match Cli::try_parse_from(words) {
        Err(error) if error.kind() != ErrorKind::DisplayHelp => panic!("{line}: {error}"),
        _ => {}
    }
}

fn manual() -> String {
    let described = built();
    let mut text = String::from(
        "# Commands of `bz`\n\n<!-- Made by a test of bz-client: UPDATE_EXPECT=1 writes it. -->\n\nEvery command and flag, as \
         `bz help` says them too.\nPages for `man` are written by `bz generate man DIR`; completions for shells by `bz \
         completion`.\nWhat one types most is on the [cheat sheet](cheat-sheet.md).\n\n## Of every command\n\n",
    );
    let everywhere = |argument: &&Arg| argument.is_global_set() && !argument.is_hide_set();
    list(&mut text, described.get_arguments().filter(everywhere));
    let statuses = described.get_after_help().expect("the exit statuses").to_string();
    writeln!(text, "\n## Exit status\n\n```text\n{}\n```", statuses.trim_end()).unwrap();
    for command in described.get_subcommands() {
        if !command.is_hide_set() && command.get_name() != "help" {
            each(command, &mut |path, command| section(&mut text, path, command));
        }
    }
    text
}

fn section(text: &mut String, path: &str, command: &Description) {
    let level = path.matches(' ').count() + 1;
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(text, "\n{} {path}\n\n{about}.", "#".repeat(level.min(4))).unwrap();
    let aliases: Vec<_> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
    if !aliases.is_empty() {
        writeln!(text, "Also: {}.", aliases.join(", ")).unwrap();
    }
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    writeln!(text, "\n```text\n{}\n```\n", usage.trim()).unwrap();
    let own = |argument: &&Arg| !argument.is_global_set() && !argument.is_hide_set() && argument.get_id() != "help";
    let places = command.get_arguments().filter(own).filter(|argument| argument.is_positional());
    let options = command.get_arguments().filter(own).filter(|argument| !argument.is_positional());
    list(text, places.chain(options));
    if let Some(after) = command.get_after_help().map(ToString::to_string).filter(|after| !after.is_empty()) {
        if !text.ends_with("\n\n") {
            text.push('\n');
        }
        writeln!(text, "```text\n{}\n```", after.trim_end()).unwrap();
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
}

fn list<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    for argument in arguments {
        let short = argument.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
        let also: Vec<_> = argument.get_visible_aliases().unwrap_or_default();
        let also: String = also.iter().map(|alias| format!(", `--{alias}`")).collect();
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let mut more: Vec<String> = Vec::new();
        if argument.get_action().takes_values() {
            let named: Vec<_> =
                argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
            let defaults: Vec<_> =
                argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
            more.extend((!named.is_empty()).then(|| format!("one of {}", named.join(", "))));
            more.extend((!defaults.is_empty()).then(|| format!("{} unless said", defaults.join(", "))));
        }
        more.extend(argument.get_env().map(|name| format!("variable `{}`", name.to_string_lossy())));
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join("; ")) };
        let name = format!("{argument}");
        let name = name.strip_prefix(&format!("-{}, ", argument.get_short().unwrap_or(' '))).unwrap_or(&name);
        writeln!(text, "- {short}`{name}`{also}: {}{more}", help.replace('\n', " ")).unwrap();
    }
}
