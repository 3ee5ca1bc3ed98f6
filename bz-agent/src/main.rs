//! `bz-agent`: a thin program over the library of that name.

mod cli;
mod command;
mod tls;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use bz_agent::helper::{self, Helper};
use clap::Parser as _;

use cli::Cli;

fn main() -> ExitCode {
    // First of all: a process that was started as a helper never comes back from here.
    let helper = helper::enter();
    match run(Cli::parse(), &helper) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody hears, the exit code still speaks.
            drop(writeln!(std::io::stderr(), "bz-agent: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, helper: &Helper) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BZ_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ran = runtime.block_on(command::run(cli, helper));
    // A look-up of a user may still wait for a directory that does not answer.
    runtime.shutdown_background();
    ran
}

/// Writes to standard output what a person or a script asked for.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
