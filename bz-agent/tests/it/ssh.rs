//! The authority of a host's own sshd: made once, private, and read again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bz_agent::ssh::{AUTHORITY, Authority, AuthorityError};

#[test]
fn an_authority_is_made_once_and_kept_private() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    // Whoever comes first makes it, and all have the same.
    let lines: Vec<String> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| Authority::open(&state).unwrap().line())).collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    assert!(lines.iter().all(|line| *line == lines[0] && line.starts_with("ecdsa-sha2-nistp256 ")), "{lines:?}");
    assert_eq!(std::fs::read_to_string(state.join(AUTHORITY)).unwrap(), lines[0]);
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join("ssh-ca.key")), 0o600);
    std::fs::remove_file(state.join(AUTHORITY)).unwrap();
    assert_eq!(Authority::open(&state).unwrap().line(), lines[0]);
    assert_eq!(std::fs::read_to_string(state.join(AUTHORITY)).unwrap(), lines[0], "made again from the key");
}

#[test]
fn a_damaged_or_open_key_is_not_used_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let line = Authority::open(&state).unwrap().line();
    let key = state.join("ssh-ca.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Authority::open(&state), Err(AuthorityError::File(_))));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let good = std::fs::read(&key).unwrap();
    for bad in [&good[1..], b"", &[b'0'; 64]] {
        std::fs::write(&key, bad).unwrap();
        assert!(matches!(Authority::open(&state), Err(AuthorityError::Damaged(_))), "{bad:?}");
        assert_eq!(std::fs::read(&key).unwrap(), bad);
    }
    std::fs::write(&key, good).unwrap();
    assert_eq!(Authority::open(&state).unwrap().line(), line);
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}
