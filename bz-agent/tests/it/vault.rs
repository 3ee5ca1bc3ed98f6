//! The vault on a real file system: private, whole after a kill and on a full disk, held by one program.

use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bz_agent::FileError;
use bz_agent::agent::Identity;
use bz_agent::vault::{Registered, STATE, Vault, VaultError, peek};
use bz_core::id::TargetId;

use crate::gate_world::{ORG, World, key};
use crate::world::{is_root, left_out, run};

#[test]
fn what_is_kept_comes_back_and_shows_no_key() {
    let folder = Folder::new();
    let vault = Vault::open(folder.path()).unwrap();
    assert!(vault.read().unwrap().is_none());
    vault.replace(&registered(1)).unwrap();
    let back = vault.read().unwrap().unwrap();
    assert_eq!(whole(&back), 1);
    assert_eq!((back.bundle.clone(), back.server_ca.clone()), (World::new().bundle(), registered(1).server_ca));
    let shown = format!("{back:?} {vault:?}");
    for secret in [key(1), key(101)] {
        let secret: String = secret.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(std::fs::read_to_string(folder.file()).unwrap().contains(&secret));
        assert!(!shown.contains(&secret), "a key is shown: {shown}");
    }
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(folder.path()), mode(&folder.file())), (0o700, 0o600));
}

#[test]
fn one_program_holds_a_vault() {
    let folder = Folder::new();
    let vault = Vault::open(folder.path()).unwrap();
    assert!(matches!(Vault::open(folder.path()), Err(VaultError::Busy(_))));
    vault.replace(&registered(1)).unwrap();
    assert_eq!(whole(&peek(folder.path()).unwrap().unwrap()), 1);
    drop(vault);
    Vault::open(folder.path()).unwrap();
}

/// Each thing that is wrong is refused with a word about what to do, and nothing is changed.
#[test]
fn a_vault_that_others_touched_or_that_is_damaged_is_refused() {
    let check = |spoil: &dyn Fn(&Folder), advice: &str| {
        let folder = Folder::new();
        Vault::open(folder.path()).unwrap().replace(&registered(1)).unwrap();
        spoil(&folder);
        let error = peek(folder.path()).expect_err(advice).to_string();
        assert!(error.contains(advice), "{error:?} says nothing of {advice:?}");
        let all = key(1).to_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(!error.contains(&all[..16]), "the error shows a key: {error}");
    };
    let mode = |mode| move |folder: &Folder| set_mode(&folder.file(), mode);
    check(&mode(0o640), "chmod 600");
    check(&mode(0o602), "chmod 600");
    check(&|folder| set_mode(folder.path(), 0o750), "chmod 700");
    check(&|folder| edit(folder, |text| text[..text.len() / 2].to_owned()), "register again");
    check(&|folder| edit(folder, |text| text.replace("version = 1", "version = 2")), "version 2");
    check(&|folder| edit(folder, |text| text.replacen("identity_key = \"", "identity_key = \"0", 1)), "identity_key");
    check(&|folder| edit(folder, |text| text.replacen("version = 1", "version = 1\nidentity = 2", 1)), "line 3");
    // A key in the wrong place must not come back in the error's own words.
    check(&|folder| edit(folder, |text| text.replacen("identity_key =", "version =", 1)), "damaged");
    let whose = |folder: &Folder| {
        edit(folder, |text| text.replacen(&ORG.to_string(), &TargetId::from_bytes([9; 16]).to_string(), 1));
    };
    check(&whose, "different organizations");
    check(&|folder| std::fs::write(folder.file(), vec![b'#'; 2 << 20]).unwrap(), "larger");
    let link = |folder: &Folder| {
        std::fs::rename(folder.file(), folder.path().join("elsewhere")).unwrap();
        symlink("elsewhere", folder.file()).unwrap();
    };
    check(&link, "cannot be opened");
    let directory = |folder: &Folder| {
        std::fs::remove_file(folder.file()).unwrap();
        std::fs::create_dir(folder.file()).unwrap();
    };
    check(&directory, "not a regular file");
    if is_root() {
        check(&|folder| std::os::unix::fs::chown(folder.file(), Some(65534), None).unwrap(), "user id 65534");
    } else {
        left_out("a vault of another user", "this is not root");
    }
}

/// Whenever the program is killed, one whole identity is there, and the vault can be used.
#[test]
fn a_kill_in_the_middle_leaves_one_whole_identity() {
    let folder = Folder::new();
    Vault::open(folder.path()).unwrap().replace(&registered(1)).unwrap();
    let (mut seen, mut turns) = ([0; 2], 0);
    // Until both identities were found after kills: so the kills come at all sorts of moments.
    while turns < 25 || seen.contains(&0) {
        turns += 1;
        assert!(turns < 500, "all kills found the same identity: {seen:?}");
        kill_a_writer(folder.path(), turns % 7);
        let vault = Vault::open(folder.path()).unwrap();
        seen[usize::from(whole(&vault.read().unwrap().unwrap()) - 1)] += 1;
    }
    let vault = Vault::open(folder.path()).unwrap();
    vault.replace(&registered(1)).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [STATE, "lock"], "a killed program's file stays");
}

fn kill_a_writer(folder: &Path, lines: usize) {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "vault::a_writer", "--ignored", "--nocapture", "--test-threads=1"])
        .env("BZ_TEST_VAULT", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = std::io::BufReader::new(writer.stdout.take().unwrap()).lines();
    let written = told.map(|line| line.unwrap()).filter(|line| line.contains("WRITTEN")).take(lines + 1).count();
    assert_eq!(written, lines + 1, "the writer ended early");
    writer.kill().unwrap();
    writer.wait().unwrap();
}

/// Not a test: the process that the test above kills while it writes.
#[test]
#[ignore = "started by another test"]
fn a_writer() {
    let Some(folder) = std::env::var_os("BZ_TEST_VAULT") else { return };
    let vault = Vault::open(folder).unwrap();
    for which in [1, 2].into_iter().cycle() {
        vault.replace(&registered(which)).unwrap();
        // Whoever reads this may be gone.
        drop(writeln!(std::io::stdout(), "WRITTEN"));
    }
}

/// On a full disk nothing is lost, and once there is room the new identity is kept.
#[test]
fn a_full_disk_leaves_the_old_identity() {
    if !is_root() {
        return left_out("a vault on a full disk", "this is not root, who may mount one");
    }
    let disk = Disk::new();
    let Some(disk) = disk else { return left_out("a vault on a full disk", "nothing may be mounted here") };
    let folder = disk.0.path().join("vault");
    let vault = Vault::open(&folder).unwrap();
    vault.replace(&registered(1)).unwrap();
    let filler = disk.0.path().join("filler");
    let full = std::fs::File::create(&filler).and_then(|mut file| file.write_all(&vec![0; 1 << 20]));
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let error = vault.replace(&registered(2)).unwrap_err();
    assert!(
        matches!(&error, VaultError::File(FileError::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::StorageFull),
        "{error:?}"
    );
    assert_eq!(whole(&vault.read().unwrap().unwrap()), 1);
    std::fs::remove_file(filler).unwrap();
    vault.replace(&registered(2)).unwrap();
    assert_eq!(whole(&vault.read().unwrap().unwrap()), 2);
}

/// A file system of 256 KiB.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Option<Self> {
        let place = tempfile::tempdir().ok()?;
        let size = ["-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", place.path().to_str()?];
        let mounted = Command::new("mount").args(size).output().ok()?.status.success();
        mounted.then_some(Self(place))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.path().to_str().unwrap()]);
    }
}

/// A state folder that goes away with the test.
struct Folder {
    path: PathBuf,
    _around: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let around = tempfile::tempdir().unwrap();
        Self { path: around.path().join("state"), _around: around }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self) -> PathBuf {
        self.path().join(STATE)
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn edit(folder: &Folder, change: impl Fn(&str) -> String) {
    let text = std::fs::read_to_string(folder.file()).unwrap();
    std::fs::write(folder.file(), change(&text)).unwrap();
}

/// One of several identities, whose parts all say which.
fn registered(which: u8) -> Registered {
    let identity = Identity {
        organization: ORG,
        target: TargetId::from_bytes([which; 16]),
        identity_key: key(which),
        control_key: key(100 + which),
    };
    Registered {
        identity,
        server: "https://bz.example".to_owned(),
        name: format!("target-{which}"),
        local_policy_required: which == 2,
        bundle: World::new().bundle(),
        // Long enough that writing it takes a while.
        server_ca: Some(format!("-----BEGIN CERTIFICATE-----\n{}", format!("{which:064}\n").repeat(500))),
        issuer_ca: None,
    }
}

/// Which identity this is; all of its parts must be of the same.
fn whole(found: &Registered) -> u8 {
    let which = found.identity.target.as_bytes()[0];
    let expected = registered(which);
    assert_eq!(found.identity.identity_key.public(), expected.identity.identity_key.public());
    assert_eq!(found.identity.control_key.public(), expected.identity.control_key.public());
    assert_eq!((&found.name, &found.server_ca), (&expected.name, &expected.server_ca));
    assert_eq!(found.local_policy_required, expected.local_policy_required);
    which
}
