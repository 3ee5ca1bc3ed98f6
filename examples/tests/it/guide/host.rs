//! Hosts that are not there yet: root file systems of Debian, made by `mmdebstrap`, each in mounts and processes of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bz_examples::needs;

use super::desk::text;

/// A host whose root file system is a folder.
pub(super) struct Host {
    root: PathBuf,
    name: String,
}

/// As whom, and on what, a script runs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    Root,
    /// A user without rights, with a home.
    Person,
    /// Root of a file system that cannot be written but for `/srv`.
    ReadOnlyRoot,
}

impl Host {
    /// A new one of this name; `None` where none can be made.
    pub(super) fn new(folder: &Path, name: &str) -> Option<Self> {
        if !["mmdebstrap", "unshare", "tar"].map(needs::program).into_iter().all(|here| here) {
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            // Mounts and changes of root.
            let line = "hosts are made as root alone";
            assert!(!needs::in_ci(), "{line}, and CI=true leaves nothing out");
            eprintln!("left out: {line}");
            return None;
        }
        let root = folder.join(name);
        std::fs::create_dir(&root).unwrap();
        done(Command::new("tar").arg("--extract").arg("--file").arg(archive()).arg("--directory").arg(&root));
        std::fs::create_dir_all(root.join("home/person")).unwrap();
        std::os::unix::fs::chown(root.join("home/person"), Some(1000), Some(1000)).unwrap();
        Some(Self { root, name: name.to_owned() })
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Puts a file there that everybody may read.
    pub(super) fn put(&self, path: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(self.at(path), text).unwrap();
        std::fs::set_permissions(self.at(path), std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// The line that runs a command there; what it starts ends with it.
    pub(super) fn line(&self, who: As, command: &str) -> String {
        let root = self.root.display();
        let (before, user, home) = match who {
            As::Root => (String::new(), "0:0", "/root"),
            As::Person => (String::new(), "1000:1000", "/home/person"),
            As::ReadOnlyRoot => {
                let only = format!("mount --bind {root} {root} && mount -o remount,bind,ro {root} && ");
                (format!("{only}mount -t tmpfs tmpfs {root}/srv && "), "0:0", "/root")
            }
        };
        let inside = format!(
            "hostname {} && {before}mount -t proc proc {root}/proc && \
             chroot --userspec={user} {root} env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME={home} \
             BZ_LOG=info BZ_AGENT_CARRIER=ws {command}; exit $?",
            self.name
        );
        format!("unshare --mount --uts --pid --fork --kill-child bash -c '{inside}'")
    }
}

/// Debian with bash and curl, as an archive that is made once. That of this machine's release, so that programs built here
/// run there.
fn archive() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let release = std::fs::read_to_string("/etc/os-release").unwrap();
        let name =
            release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).expect("a release of Debian");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("debian-{name}.tar"));
        if !path.exists() {
            let new = path.with_extension(format!("new-{}", std::process::id()));
            let mut mmdebstrap = Command::new("mmdebstrap");
            mmdebstrap.args(["--variant=minbase", "--include=curl", "--quiet", "--format=tar", name]);
            done(mmdebstrap.arg(&new));
            std::fs::rename(new, &path).unwrap();
        }
        path
    })
}

pub(super) fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
