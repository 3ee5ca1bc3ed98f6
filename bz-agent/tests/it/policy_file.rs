//! The local policy's file: believed only when nobody but root and the agent's user could have written it.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use bz_agent::policy_file::{PolicyFileError, read, rule};
use bz_protocol::gate::LocalRule;

use crate::world::{is_root, left_out, run};

const POLICY: &str =
    "version = 1\n[[allow]]\nissuer = \"https://idp.example\"\neveryone = true\nverbs = [{ type = \"Shell\" }]\n";

#[test]
fn a_file_that_only_its_owner_writes_is_believed() {
    check(|_| {}, "");
    check(|place| mode(&place.file, 0o444), "");
    check(|place| mode(&place.folder, 0o755), "");
}

#[test]
fn a_file_that_others_could_have_written_refuses_everything() {
    check(|place| mode(&place.file, 0o664), "others may write");
    check(|place| mode(&place.file, 0o646), "others may write");
    check(|place| mode(&place.folder, 0o775), "others may write");
    check(|place| mode(place.folder.parent().unwrap(), 0o757), "others may write");
    check(|place| write(&place.file, "version = 1\nallow_all = true\n"), "malformed");
    check(|place| write(&place.file, ""), "malformed");
    check(|place| std::fs::write(&place.file, b"version = 1 # \xff").unwrap(), "not text");
    check(|place| write(&place.file, &"#".repeat(300 << 10)), "larger");
    check(|place| replace(&place.file, |path| std::fs::create_dir(path).unwrap()), "not a regular file");
    check(|place| replace(&place.file, |path| drop(run("mkfifo", &[path.to_str().unwrap()]))), "not a regular file");
    if !is_root() {
        return left_out("a policy of another user", "this is not root");
    }
    check(|place| chown(&place.file, Some(65534), None).unwrap(), "belongs to user id 65534");
    check(|place| chown(&place.folder, Some(65534), None).unwrap(), "belongs to user id 65534");
}

/// A link is believed as far as the way it names is.
#[test]
fn a_link_is_followed_as_far_as_its_way_is_safe() {
    let to = |target: &'static str| move |place: &Place| move_aside(place, Path::new(target));
    check(to("real.toml"), "");
    check(|place| move_aside(place, &place.folder.join("real.toml")), "");
    check(|place| move_aside(place, Path::new("../folder/real.toml")), "");
    check(to("nothing.toml"), "does not lead to a file");
    check(to("policy.toml"), "does not lead to a file");
    check(
        |place| {
            move_aside(place, Path::new("real.toml"));
            mode(&place.folder.join("real.toml"), 0o666);
        },
        "others may write",
    );
    let through = |place: &Place| {
        let open = place.folder.parent().unwrap().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::rename(&place.file, open.join("real.toml")).unwrap();
        symlink(open.join("real.toml"), &place.file).unwrap();
        mode(&open, 0o777);
    };
    check(through, "others may write");
    if !is_root() {
        return left_out("a link of another user", "this is not root");
    }
    let foreign = |place: &Place| {
        move_aside(place, Path::new("real.toml"));
        std::os::unix::fs::lchown(&place.file, Some(65534), None).unwrap();
    };
    check(foreign, "belongs to user id 65534");
}

/// An absent file is no restriction, unless the agent was registered as one that has a file, or somebody could have
/// taken it away.
#[test]
fn an_absent_file_restricts_only_where_one_is_required() {
    let place = Place::new();
    assert!(matches!(rule(&place.file, true), LocalRule::Policy(_)));
    std::fs::remove_file(&place.file).unwrap();
    assert!(matches!(rule(&place.file, false), LocalRule::Unrestricted));
    assert!(matches!(rule(&place.file, true), LocalRule::RefuseAll(why) if why.contains("there is no local policy")));
    let below = place.folder.join("none/policy.toml");
    assert!(matches!(rule(&below, false), LocalRule::Unrestricted));
    mode(&place.folder, 0o777);
    assert!(matches!(rule(&place.file, false), LocalRule::RefuseAll(_)));
    mode(&place.folder, 0o700);
    // A folder reached by a link may lack the file; a link to nothing means something.
    let link = place.folder.parent().unwrap().join("link");
    symlink(&place.folder, &link).unwrap();
    assert!(matches!(rule(&link.join("policy.toml"), false), LocalRule::Unrestricted));
    assert!(matches!(read(&link.join("policy.toml")), Ok(None)));
    symlink("nowhere", place.folder.join("dangling.toml")).unwrap();
    assert!(matches!(read(&place.folder.join("dangling.toml")), Err(PolicyFileError::Link(_))));
}

/// Spoils a good file in one way; an empty answer means that it is still believed.
fn check(spoil: impl Fn(&Place), want: &str) {
    let place = Place::new();
    spoil(&place);
    match (rule(&place.file, false), want) {
        (LocalRule::Policy(policy), "") => assert_eq!(policy.allow.len(), 1),
        (LocalRule::RefuseAll(why), want) if !want.is_empty() => assert!(why.contains(want), "{why:?}, not {want:?}"),
        (rule, want) => panic!("{rule:?}, not {want:?}"),
    }
}

/// A policy in a folder in a folder of the test's own.
struct Place {
    _root: tempfile::TempDir,
    folder: PathBuf,
    file: PathBuf,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("policy.toml");
        write(&file, POLICY);
        mode(&file, 0o600);
        mode(&folder, 0o700);
        Self { _root: root, folder, file }
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn replace(path: &Path, with: impl Fn(&Path)) {
    std::fs::remove_file(path).unwrap();
    with(path);
}

/// Puts a link where the policy was, which is called `real.toml` now.
fn move_aside(place: &Place, link: &Path) {
    std::fs::rename(&place.file, place.folder.join("real.toml")).unwrap();
    symlink(link, &place.file).unwrap();
}
