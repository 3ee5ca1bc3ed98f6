//! Users are found whole and by exact name, or not at all.

use crate::world::{Person, is_root, left_out, run};
use bz_agent::user::{User, UserError};

fn refused(name: &str) -> String {
    match User::resolve(name) {
        Ok(user) => format!("{user:?}"),
        Err(UserError::NotFound { .. }) => "not found".into(),
        Err(UserError::NoShell { shell, .. }) => format!("no shell {}", shell.display()),
        Err(UserError::NotPermitted { .. }) => "not permitted".into(),
        Err(error @ UserError::Lookup { .. }) => error.to_string(),
    }
}

#[test]
fn a_name_is_never_a_prefix_a_number_or_another_spelling() {
    let person = Person::new();
    let name = &person.user.name;
    assert_eq!(User::resolve(name).unwrap().uid, person.user.uid);
    let upper = name.to_uppercase();
    let uid = person.user.uid.to_string();
    for other in
        [&name[..name.len() - 1], &format!("{name}x"), &upper, &uid, "", "a\0b", "a:b", "../root", "no such user"]
    {
        assert_eq!(refused(other), "not found", "for {other:?}");
    }
}

#[test]
fn an_agent_of_root_serves_nobody_without_a_login_shell() {
    if !is_root() {
        return left_out("users without a login shell", "this is not root");
    }
    assert_eq!(refused("daemon"), "no shell /usr/sbin/nologin");
    let person = Person::new();
    for shell in ["/bin/false", "/no/such/shell", "/etc/passwd", "bash", "/tmp"] {
        run("sed", &["-i", &format!("s#^\\({}:.*\\):[^:]*$#\\1:{shell}#", person.user.name), "/etc/passwd"]);
        assert_eq!(refused(&person.user.name), format!("no shell {shell}"));
    }
}

#[test]
fn an_agent_that_is_not_root_serves_its_own_user_only() {
    if is_root() {
        // the same test once more, as somebody else
        let person = Person::new();
        let place = tempfile::tempdir().unwrap();
        let copy = place.path().join("it");
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        run("chmod", &["755", place.path().to_str().unwrap(), copy.to_str().unwrap()]);
        let this = "user::an_agent_that_is_not_root_serves_its_own_user_only";
        let told =
            run("setpriv", &["--reuid", &person.user.name, "--clear-groups", copy.to_str().unwrap(), "--exact", this]);
        assert!(told.contains("1 passed"), "{told}");
        return;
    }
    assert_eq!(refused("root"), "not permitted");
    assert_eq!(User::current().unwrap().uid, nix::unistd::geteuid().as_raw());
}

#[test]
fn groups_are_exactly_those_that_the_system_names() {
    let person = Person::in_groups(if is_root() { &["audio", "cdrom"] } else { &[] });
    let mut listed: Vec<u32> =
        run("id", &["-G", &person.user.name]).split_whitespace().map(|id| id.parse().unwrap()).collect();
    listed.sort_unstable();
    assert_eq!(person.user.groups, listed);
}
