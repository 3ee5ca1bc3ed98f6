//! `bz`: a thin program over the `bz-client` library. Everything it does is a library call.

mod cli;
mod command;
mod context;
mod exit;
mod kept;
mod output;
mod page;

use std::process::ExitCode;

use clap::Parser as _;

use cli::Cli;
use exit::Exit;
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(&cli.global);
    let exit = match run(cli, &output) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = exit::of(&error);
            output.error(&error, exit);
            exit
        }
    };
    exit.into()
}

fn run(cli: Cli, output: &Output) -> anyhow::Result<Exit> {
    // One thread: what a session's bytes pass through then follows without waking another one. Files and terminals are
    // read by threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ran = runtime.block_on(async {
        let context = context::Context::new(&cli.global, output)?;
        let ran = command::run(cli.command, &context).await;
        for complaint in context.kept.complaints() {
            output.warn(&complaint);
        }
        ran
    });
    // A thread may still wait for a line that nobody will type.
    runtime.shutdown_background();
    ran
}
