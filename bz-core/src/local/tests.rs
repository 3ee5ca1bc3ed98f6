//! What holds for `local`, and each way it must not.

use super::*;
use crate::digest::Digest;
use crate::oidc::Person;
use crate::time::UnixTime;

const POLICY: &str = r#"
version = 1

[[allow]]
issuer = "https://idp.example"
subjects = ["alice"]
verbs = [{ type = "Shell" }]
target_users = ["deploy"]
modes = ["inspected"]
require_recording = true
session_minutes = 30

[[allow]]
issuer = "https://idp.example"
groups = ["dba"]
verbs = [{ type = "Handler", name = "debug" }]
"#;

fn claims(subject: &str, groups: &[&str]) -> Claims {
    Claims {
        person: Person { issuer: "https://idp.example".to_owned(), subject: subject.to_owned() },
        nonce: None,
        issued_at: UnixTime::from_secs(0),
        expires_at: UnixTime::from_secs(1),
        address: None,
        name: None,
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        directory_id: None,
        key: Digest::of(b""),
        digest: Digest::of(b""),
    }
}

/// TRUST-4: the local policy narrows by person, verb, user, mode and recording.
#[test]
fn a_rule_allows_all_of_it_or_nothing() {
    let policy = LocalPolicy::parse(POLICY).unwrap();
    let (deploy, root): (TargetUser, TargetUser) = ("deploy".parse().unwrap(), "root".parse().unwrap());
    let debug = Verb::Handler { name: "debug".to_owned() };
    let check = |claims: &Claims, (verb, user): (&Verb, Option<&TargetUser>), mode, recorded, want| {
        let question = Question { claims, verb, user, cluster: None, mode, recorded, mfa: None, opens_at: None };
        assert_eq!(policy.decide(&question), want, "{question:?}");
    };
    let allowed = Ok(Allowed { session_cap: Some(Duration::from_secs(1800)) });
    let (alice, bob, dba) = (claims("alice", &[]), claims("bob", &[]), claims("bob", &["x", "dba"]));
    check(&alice, (&Verb::Shell, Some(&deploy)), Mode::Inspected, true, allowed);
    check(&bob, (&Verb::Shell, Some(&deploy)), Mode::Inspected, true, Err(LocalDenial::Person));
    check(&alice, (&Verb::Tunnel, Some(&deploy)), Mode::Inspected, true, Err(LocalDenial::Verb));
    check(&alice, (&Verb::Shell, Some(&root)), Mode::Inspected, true, Err(LocalDenial::User));
    check(&alice, (&Verb::Shell, Some(&deploy)), Mode::Sealed, true, Err(LocalDenial::Mode));
    check(&alice, (&Verb::Shell, Some(&deploy)), Mode::Inspected, false, Err(LocalDenial::Recording));
    check(&dba, (&debug, None), Mode::Sealed, false, Ok(Allowed { session_cap: None }));
    let mut foreign = alice;
    foreign.person.issuer = "https://other.example".to_owned();
    check(&foreign, (&Verb::Shell, Some(&deploy)), Mode::Inspected, true, Err(LocalDenial::Person));
}

/// F-047, TRUST-12: a rule that asks for a second factor, or for a new one, is not met by a grant without, or with an old
/// one; of a session that is open the age is not looked at again.
#[test]
fn a_rule_asks_for_a_second_factor() {
    let (claims, deploy): (_, TargetUser) = (claims("alice", &[]), "deploy".parse().unwrap());
    let now = UnixTime::from_secs(100_000);
    let check = |rule: &str, passed: Option<u64>, opens_at, allowed: bool| {
        let policy = LocalPolicy::parse(&POLICY.replace("session_minutes = 30", rule)).unwrap();
        let mfa = passed.map(|secs| Mfa { method: "totp".to_owned(), at: UnixTime::from_secs(secs) });
        let question = Question {
            claims: &claims,
            verb: &Verb::Shell,
            user: Some(&deploy),
            cluster: None,
            mode: Mode::Inspected,
            recorded: true,
            mfa: mfa.as_ref(),
            opens_at,
        };
        let want = if allowed { Ok(()) } else { Err(LocalDenial::Mfa) };
        assert_eq!(policy.decide(&question).map(drop), want, "{rule}: {question:?}");
    };
    check("", None, Some(now), true);
    check("require_mfa = true", None, Some(now), false);
    check("require_mfa = true", Some(1), Some(now), true);
    check("mfa_minutes = 10", None, Some(now), false);
    check("mfa_minutes = 10", None, None, false);
    check("mfa_minutes = 10", Some(99_400), Some(now), true);
    check("mfa_minutes = 10", Some(99_399), Some(now), false);
    check("mfa_minutes = 10", Some(99_399), None, true);
    check("mfa_minutes = 10", Some(100_060), Some(now), true);
    check("mfa_minutes = 10", Some(110_000), Some(now), false);
}

/// TRUST-4: what is behind a target is narrowed by account, cluster user and cluster group.
#[test]
fn a_rule_narrows_what_is_behind_the_target() {
    let policy = LocalPolicy::parse(
        r#"
version = 1

[[allow]]
issuer = "https://idp.example"
subjects = ["alice"]
verbs = [{ type = "Database" }]
destinations = ["db:5432"]
target_users = ["reader"]

[[allow]]
issuer = "https://idp.example"
subjects = ["bob"]
verbs = [{ type = "Database" }, { type = "Web" }]
destinations = ["*:*"]

[[allow]]
issuer = "https://idp.example"
subjects = ["carol"]
verbs = [{ type = "Kubernetes" }]
cluster_users = ["*"]
cluster_groups = ["dev"]
"#,
    )
    .unwrap();
    let (reader, root): (TargetUser, TargetUser) = ("reader".parse().unwrap(), "root".parse().unwrap());
    let check = |who: &str, verb: &Verb, user, cluster: Option<KubeRequest>, want: Result<(), LocalDenial>| {
        let (claims, cluster) = (claims(who, &[]), cluster.as_ref());
        let question = Question {
            claims: &claims,
            verb,
            user,
            cluster,
            mode: Mode::Inspected,
            recorded: false,
            mfa: None,
            opens_at: None,
        };
        assert_eq!(policy.decide(&question).map(drop), want, "{question:?}");
    };
    check("alice", &Verb::Database, Some(&reader), None, Ok(()));
    check("alice", &Verb::Database, Some(&root), None, Err(LocalDenial::User));
    check("alice", &Verb::Database, None, None, Err(LocalDenial::User));
    check("alice", &Verb::Web, None, None, Err(LocalDenial::Verb));
    check("bob", &Verb::Database, None, None, Ok(()));
    check("bob", &Verb::Web, None, None, Ok(()));
    let cluster = |groups: &[&str]| KubeRequest {
        user: "system:serviceaccount:web:deploy".to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    check("carol", &Verb::Kubernetes, None, Some(cluster(&[])), Ok(()));
    check("carol", &Verb::Kubernetes, None, Some(cluster(&["dev"])), Ok(()));
    check("carol", &Verb::Kubernetes, None, Some(cluster(&["dev", "system:masters"])), Err(LocalDenial::User));
    check("bob", &Verb::Kubernetes, None, Some(cluster(&[])), Err(LocalDenial::Verb));
}

#[test]
fn what_is_malformed_refuses_everything() {
    let check = |from: &str, to: &str, want: &str| {
        let error = LocalPolicy::parse(&POLICY.replace(from, to)).expect_err(to).to_string();
        assert!(error.contains(want), "{error}");
    };
    check("version = 1", "version = 2", "version is not 1");
    check("version = 1", "version = 1\nallow_all = true", "unknown field");
    check("subjects = [\"alice\"]", "", "rule 1 of the local policy names nobody");
    check("\"deploy\"", "\"$(id)\"", "not a target user");
    check("\"Shell\"", "\"Web\"", "rule 1 of the local policy allows Web and no destination");
    check("\"Shell\"", "\"Kubernetes\"", "rule 1 of the local policy allows Kubernetes and no user");
    assert_eq!(LocalPolicy::parse(&" ".repeat(MAX_POLICY + 1)), Err(LocalPolicyError::TooLarge));
    let empty = LocalPolicy::parse("version = 1").unwrap();
    let question = Question {
        claims: &claims("alice", &[]),
        verb: &Verb::Shell,
        user: None,
        cluster: None,
        mode: Mode::Inspected,
        recorded: true,
        mfa: None,
        opens_at: None,
    };
    assert_eq!(empty.decide(&question), Err(LocalDenial::Person));
}

#[test]
fn metadata_services_are_guarded() {
    for (address, guarded) in [
        ("169.254.169.254", true),
        ("::ffff:169.254.169.254", true),
        ("fd00:ec2::254", true),
        ("fe80::1", true),
        ("0.0.0.0", true),
        ("10.0.0.1", false),
        ("127.0.0.1", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(is_guarded(address.parse().unwrap()), guarded, "{address}");
    }
}
