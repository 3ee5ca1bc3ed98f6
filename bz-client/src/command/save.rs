//! Where a download goes: a private file that is whole or not there, or standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bz_client::client::Download;

/// Writes the download to a new file, which nobody else can read and which is there only when it is whole.
pub(super) async fn to_file(mut download: Download, path: &Path) -> anyhow::Result<u64> {
    if path.exists() {
        bail!("{} is there already: evidence is not overwritten", path.display());
    }
    let part = PathBuf::from(format!("{}.part", path.display()));
    let cannot = || format!("{} cannot be written", path.display());
    let file = create(&part).with_context(cannot)?;
    let saved = write(&mut download, file).await;
    let whole = saved.and_then(|size| fs::rename(&part, path).map(|()| size).with_context(cannot));
    if whole.is_err() {
        // What is left of it helps nobody; that it stays is no second error.
        drop(fs::remove_file(&part));
    }
    whole
}

async fn write(download: &mut Download, mut file: File) -> anyhow::Result<u64> {
    let mut size = 0;
    while let Some(bytes) = download.next().await? {
        file.write_all(&bytes)?;
        size += bytes.len() as u64;
    }
    file.sync_all()?;
    Ok(size)
}

/// Writes the download to standard output.
pub(super) async fn to_stdout(mut download: Download, binary: bool) -> anyhow::Result<()> {
    let mut out = io::stdout();
    if binary && out.is_terminal() {
        bail!("this is no text: name a file with --out, or redirect standard output");
    }
    while let Some(bytes) = download.next().await? {
        out.write_all(&bytes)?;
    }
    Ok(out.flush()?)
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
