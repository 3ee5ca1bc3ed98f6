//! A disk that is full names the file and leaves nothing of it; what has room is copied.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bz_protocol::copy::Problem;
use bz_protocol::files::End;

use crate::files::stage::{content, copy, names};

/// A small disk of its own.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let mounted = rustix::process::geteuid().is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
                .arg(at)
                .status()
                .is_ok_and(|s| s.success());
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "a disk of a test stays mounted");
    }
}

#[test]
fn a_full_disk_is_named_and_has_nothing_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(&folder.path().join("disk")) else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root and the right to mount");
        return println!("LEFT OUT: needs root and the right to mount");
    };
    let from = folder.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("large"), content(8 << 20)).unwrap();
    fs::write(from.join("small"), content(1000)).unwrap();
    let done = copy(&from, &disk.0);
    assert_eq!(done.failed(), [("large".to_owned(), Problem::Full, End::Here)]);
    assert_eq!(names(&disk.0.join("from")), ["small"]);
    assert!(done.bytes() < 7 << 20, "the giver goes on though the file is given up: {}", done.bytes());
}
