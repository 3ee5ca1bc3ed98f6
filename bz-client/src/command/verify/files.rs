//! Files named one by one, or by a folder that holds them at any depth.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How deep folders are searched: a server's own layout has two.
const DEEPEST: usize = 8;

/// The file itself, whatever it is called; or every file in the folder that `is` takes, in order. Links are not followed.
pub(super) fn files(path: &Path, is: fn(&Path) -> bool) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![(path.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() && depth < DEEPEST {
                folders.push((path, depth + 1));
            } else if kind.is_file() && is(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
