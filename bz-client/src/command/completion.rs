//! `bz completion`.

use std::io;

use clap::Args;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::Exit;

/// What `bz completion` takes.
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        // Made whole first: the generator ends the program when a pipe is closed on it.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::described(), "bz", &mut script);
        io::Write::write_all(&mut io::stdout(), &script)?;
        Ok(Exit::Fine)
    }
}
