//! The command line: what every command takes. The commands themselves are in [`crate::command`].

mod examples;
#[cfg(test)]
mod reference;

use std::path::PathBuf;

use bz_protocol::link::Choice;
use clap::{Args, Command as Description, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};

use crate::command::Command;
use crate::exit;

/// Reach servers without an open port, and without trusting the service alone.
#[derive(Debug, Parser)]
#[command(name = "bz", version, after_help = exit::HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print JSON, times in UTC
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The profile: one server and one login
    #[arg(
        long,
        global = true,
        env = "BZ_PROFILE",
        hide_env_values = true,
        value_name = "NAME",
        default_value = "default"
    )]
    pub(crate) profile: String,
    /// The folder that holds the profiles
    #[arg(long, global = true, env = "BZ_CONFIG_DIR", hide_env_values = true, value_name = "DIR")]
    pub(crate) config_dir: Option<PathBuf>,
    /// Say nothing but results, warnings and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// What carries sessions.
    #[arg(
        long,
        global = true,
        env = "BZ_CARRIER",
        hide_env_values = true,
        value_enum,
        default_value_t = Carrier::Auto,
        value_name = "WAY",
        help = "What carries sessions: quic, ws (WebSocket), or auto: who answers first, remembered per network. Where HTTPS_PROXY leads to the server, auto is ws"
    )]
    pub(crate) carrier: Carrier,
    /// Whether to color.
    #[arg(long, global = true, help = "Use color; auto: on a terminal, unless NO_COLOR is set", value_enum, default_value_t = ColorWhen::Auto, value_name = "WHEN")]
    pub(crate) color: ColorWhen,
}

impl Cli {
    /// The command line as it is described: what the types say, and examples.
    pub(crate) fn described() -> Description {
        examples::add(Self::command())
    }

    /// What this program was started with; ends it when that is help, or wrong usage.
    pub(crate) fn read() -> Self {
        let mut described = Self::described();
        let matches = described.clone().get_matches();
        Self::from_arg_matches(&matches)
            .map_err(|error| error.format(&mut described))
            .unwrap_or_else(|error| error.exit())
    }
}

// When to color: `auto` is on a terminal, unless NO_COLOR is set. Doc comments would make every help text twice as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    Auto,
    Always,
    Never,
}

// What carries sessions: the help of the option says what each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Carrier {
    Auto,
    Ws,
    Quic,
}

impl From<Carrier> for Choice {
    fn from(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Auto => Self::Auto,
            Carrier::Ws => Self::Ws,
            Carrier::Quic => Self::Quic,
        }
    }
}
