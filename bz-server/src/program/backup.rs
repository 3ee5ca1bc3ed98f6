//! `bz-server backup` and `bz-server restore`.

use std::io::{Read as _, stdin};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bz_server::backup::{restore, save};
use bz_server::config::Config;
use bz_server::seam::{Clock as _, SystemClock, SystemEntropy};
use zeroize::Zeroizing;

use crate::print;

/// The most bytes of a passphrase's file.
const MOST: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// Where to: a file that is not there yet.
    file: PathBuf,
    #[command(flatten)]
    secret: Secret,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The backup.
    file: PathBuf,
    /// The data folder to be: empty, or not there yet.
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/bz-server")]
    data: PathBuf,
    #[command(flatten)]
    secret: Secret,
}

#[derive(Debug, clap::Args)]
struct Secret {
    /// A file with the passphrase in its first line, or - for the standard input.
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
}

impl Secret {
    fn read(&self) -> anyhow::Result<Zeroizing<String>> {
        let path = &self.passphrase_file;
        let mut text = Zeroizing::new(String::new());
        if path == Path::new("-") {
            stdin().take(MOST).read_to_string(&mut text)?;
        } else {
            let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
            file.take(MOST).read_to_string(&mut text).with_context(|| path.display().to_string())?;
        }
        Ok(Zeroizing::new(text.lines().next().unwrap_or_default().trim_end().to_owned()))
    }
}

impl Backup {
    pub(crate) async fn run(self, (config, settings): (&Config, &Path)) -> anyhow::Result<()> {
        let (passphrase, now) = (self.secret.read()?, SystemClock::new().now().wall);
        let saved = save((config, settings), &self.file, passphrase.as_bytes(), (&SystemEntropy, now)).await?;
        print(&format!("Saved {} files of {} bytes in {}.\n", saved.files, saved.bytes, self.file.display()))?;
        if let Some(head) = saved.head {
            print(&format!("Head of the logs in it: {head}\n"))?;
        }
        for path in saved.left_out {
            print(&format!("Left out, being no plain file of a short name: {}\n", path.display()))?;
        }
        not_in_it(&saved.elsewhere)
    }
}

impl Restore {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (passphrase, now) = (self.secret.read()?, SystemClock::new().now().wall);
        let restored = restore(&self.file, &self.data, passphrase.as_bytes(), (&SystemEntropy, now)).await?;
        let settings = restored.settings.display();
        print(&format!(
            "Restored {}, as it was at {}: {} files.\n",
            restored.organization, restored.made, restored.files
        ))?;
        not_in_it(&restored.elsewhere)?;
        print(&format!("Start it:  bz-server --config {settings} serve\n"))
    }
}

fn not_in_it(elsewhere: &[PathBuf]) -> anyhow::Result<()> {
    for path in elsewhere {
        print(&format!("Not in it, lying elsewhere: {}\n", path.display()))?;
    }
    Ok(())
}
