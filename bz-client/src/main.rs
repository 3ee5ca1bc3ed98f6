//! `bz`: a thin program over the `bz-client` library. Everything it does is a library call.

mod cli;
mod command;
mod context;
mod exit;
mod kept;
mod output;
mod page;

use std::process::ExitCode;

use cli::Cli;
use exit::Exit;
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::read();
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
    // One thread for all that is spawned, so that what a session's bytes pass through follows without waking another;
    // this one may wait for a terminal that stands still, and sessions and links live on.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
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
