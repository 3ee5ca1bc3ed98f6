//! JSON lines in a file, as an export has them. It is opened for each batch: who moves it away, as `logrotate` does, need
//! tell nobody.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;

use crate::sink::{Receiver, SinkError};
use crate::store::event::Row;

pub(super) struct Lines(PathBuf);

impl Lines {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Receiver for Lines {
    fn take<'a>(&'a mut self, rows: &'a [Row]) -> BoxFuture<'a, Result<(), SinkError>> {
        let (path, text) = (self.0.clone(), rows.iter().map(Row::line).collect::<String>());
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || append(&path, &text)).await;
            Ok(written.map_err(std::io::Error::other)??)
        })
    }
}

fn append(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    // After a crash or on a full disk the last line may be half there; what follows is no part of it.
    if file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    file.write_all(text.as_bytes())?;
    file.sync_data()
}
