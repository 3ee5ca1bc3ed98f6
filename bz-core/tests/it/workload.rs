//! Jobs of GitHub, CircleCI, Google and other issuers: which of them a row means, and which rows mean anyone.

use bz_core::oidc::provider::{Commitment, OrganizationClaim, Provider, ProviderError, ProviderKind};
use bz_core::oidc::workload::{Workload, WorkloadError};
use bz_core::oidc::{Audience, Expiry, TokenError, verify};
use bz_core::time::UnixTime;
use bz_core::trust::TrustBundle;
use serde_json::{Value, json};

use crate::idp::{Idp, provider};

const NOW: u64 = 100_000;
const GITHUB: &str = "https://token.actions.githubusercontent.com";
const CIRCLECI: &str = "https://oidc.circleci.com/org/7b0f4a0e-0000-4000-8000-000000000001";
const JOB: &str = "bz1:organization:commitment";

fn row(claims: &[(&str, &str)]) -> Workload {
    Workload(claims.iter().map(|(claim, value)| ((*claim).to_owned(), (*value).to_owned())).collect())
}

fn github(rows: &[Workload]) -> Provider {
    Provider {
        kind: ProviderKind::Github,
        issuer: GITHUB.to_owned(),
        audiences: vec![],
        organization: Some(OrganizationClaim { claim: "repository_owner_id".to_owned(), value: "65".to_owned() }),
        organization_is_issuer: false,
        domains: vec![],
        commitment: Commitment::Audience,
        groups_claim: None,
        workloads: rows.to_vec(),
    }
}

fn circleci(rows: &[Workload]) -> Provider {
    Provider { kind: ProviderKind::Circleci, issuer: CIRCLECI.to_owned(), organization: None, ..github(rows) }
}

/// The claims of a deployment by GitHub Actions, as its reference lists them.
fn deployment() -> Value {
    json!({
        "iss": GITHUB, "aud": JOB, "sub": "repo:octo-org/octo-repo:environment:production", "jti": "j",
        "iat": NOW, "nbf": NOW, "exp": NOW + 300, "ref": "refs/heads/main", "sha": "s", "ref_type": "branch",
        "repository": "octo-org/octo-repo", "repository_id": "74", "repository_owner": "octo-org",
        "repository_owner_id": "65", "repository_visibility": "private", "actor": "octocat", "actor_id": "12",
        "workflow": "deploy", "event_name": "push", "environment": "production", "run_id": "1", "run_number": "10",
        "run_attempt": "1", "runner_environment": "github-hosted", "head_ref": "", "base_ref": "",
        "job_workflow_ref": "octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main",
    })
}

fn subject(provider: &Provider, claims: &Value, changes: &Value) -> Result<String, TokenError> {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let idp = Idp::new(1, "k1");
    let keys = (&idp.jwks(), provider);
    let now = UnixTime::from_secs(NOW);
    verify(&idp.token(&claims), keys, Audience::Exactly(JOB), Expiry::Checked, now).map(|claims| claims.person.subject)
}

/// TRUST-14: a job of GitHub is the pinned row that it fits; owners and repositories are numbers, so that whoever takes
/// over a name is nobody, and what runs for a proposed change needs a row that says so.
#[test]
fn a_job_of_github_is_the_row_it_fits() {
    let production = row(&[("repository_id", "74"), ("environment", "production")]);
    let main = row(&[("repository_id", "74"), ("environment", "production"), ("ref", "refs/heads/main")]);
    let one = github(std::slice::from_ref(&production));
    let check = |provider: &Provider, changes: Value, want: Result<&str, TokenError>| {
        let got = subject(provider, &deployment(), &changes);
        assert_eq!(got.as_deref().map_err(|e| *e), want, "{changes}");
    };
    let named = "environment=production,repository_id=74,repository_owner_id=65";
    check(&one, json!({}), Ok(named));
    check(&one, json!({"ref": "refs/heads/x", "sub": "repo:new-name/octo-repo:environment:production"}), Ok(named));
    check(&one, json!({"repository_owner_id": "66"}), Err(TokenError::Organization));
    check(&one, json!({"repository_owner_id": 65}), Err(TokenError::Organization));
    check(&one, json!({"repository_id": "75"}), Err(TokenError::Workload));
    check(&one, json!({"environment": "staging"}), Err(TokenError::Workload));
    check(&one, json!({"environment": Value::Null}), Err(TokenError::Workload));
    check(&one, json!({"event_name": "pull_request"}), Err(TokenError::Workload));
    check(&one, json!({"event_name": "pull_request_target"}), Err(TokenError::Workload));
    let proposed = github(&[row(&[("repository_id", "74"), ("event_name", "pull_request")])]);
    let named_proposed = "event_name=pull_request,repository_id=74,repository_owner_id=65";
    check(&proposed, json!({"event_name": "pull_request"}), Ok(named_proposed));
    // The row that says most, in whichever order they stand.
    for rows in [[production.clone(), main.clone()], [main, production]] {
        let narrow = "environment=production,ref=refs/heads/main,repository_id=74,repository_owner_id=65";
        check(&github(&rows), json!({}), Ok(narrow));
        check(&github(&rows), json!({"ref": "refs/heads/x"}), Ok(named));
    }
}

/// TRUST-14: a project of CircleCI, without somebody logged in to its job; an account of Google by its number.
#[test]
fn a_job_elsewhere_is_the_row_it_fits() {
    let project = "oidc.circleci.com/project-id";
    let claims = json!({
        "iss": CIRCLECI, "aud": JOB, "sub": "org/o/project/p/user/u", "iat": NOW, "exp": NOW + 3600,
        "oidc.circleci.com/project-id": "p", "oidc.circleci.com/context-ids": ["c1", "c2"],
        "oidc.circleci.com/vcs-ref": "refs/heads/main", "oidc.circleci.com/ssh-rerun": false,
    });
    let one = circleci(&[row(&[(project, "p"), ("oidc.circleci.com/context-ids", "c2")])]);
    let named = "oidc.circleci.com/context-ids=c2,oidc.circleci.com/project-id=p";
    assert_eq!(subject(&one, &claims, &json!({"sub": "org/o/project/p/user/another"})).as_deref(), Ok(named));
    for changes in [
        json!({"oidc.circleci.com/ssh-rerun": true}),
        json!({"oidc.circleci.com/project-id": "q"}),
        json!({"oidc.circleci.com/context-ids": ["c1"]}),
        json!({"oidc.circleci.com/context-ids": {"c2": "c2"}}),
    ] {
        assert_eq!(subject(&one, &claims, &changes), Err(TokenError::Workload), "{changes}");
    }
    let other = json!({"iss": CIRCLECI.replace("0001", "0002")});
    assert_eq!(subject(&one, &claims, &other), Err(TokenError::Issuer));

    let google = Provider {
        kind: ProviderKind::Google,
        issuer: "https://accounts.google.com".to_owned(),
        organization: None,
        ..github(&[row(&[("sub", "1070")])])
    };
    google.check().unwrap();
    let claims = json!({
        "iss": "https://accounts.google.com", "aud": JOB, "sub": "1070", "azp": "1070", "iat": NOW, "exp": NOW + 3600,
        "email": "run@project.iam.gserviceaccount.com", "email_verified": true,
    });
    assert_eq!(subject(&google, &claims, &json!({})).as_deref(), Ok("sub=1070"));
    assert_eq!(subject(&google, &claims, &json!({"sub": "1071"})), Err(TokenError::Workload));
}

/// TRUST-1, TRUST-14: no row means anyone, or what a stranger can start.
#[test]
fn rows_that_mean_anyone_are_not_pinned() {
    let good = row(&[("repository_id", "74"), ("environment", "production")]);
    let check = |provider: Provider, want: &str| {
        let said = provider.check().map_err(|error| error.to_string());
        assert!(said.as_ref().is_err_and(|said| said.contains(want)), "{provider:?} {said:?}");
    };
    github(std::slice::from_ref(&good)).check().unwrap();
    check(github(&[]), "name 1 to 64 workloads");
    check(github(&vec![good.clone(); 65]), "name 1 to 64 workloads");
    check(github(&[row(&[])]), "1 to 8 claims");
    check(github(&[good.clone(), row(&[("environment", "production")])]), "needs repository_id");
    check(github(&[row(&[("repository_id", "74")])]), "needs one of environment, ref");
    check(github(&[row(&[("repository_id", "74"), ("ref", " ")])]), "1 to 8 claims");
    check(github(&[row(&[("repository_id", "74"), ("ref", "a,b=c")])]), "1 to 8 claims");
    check(github(&[row(&[("repository_id", "74"), ("ref=x", "a")])]), "1 to 8 claims");
    check(github(&[row(&[("repository_id", "74"), ("ref", &"x".repeat(512))])]), "1 to 8 claims");
    check(github(&[row(&[("repository_id", "74"), ("ref", "a"), ("repository_owner_id", "1")])]), "1 to 8 claims");
    let with = |change: fn(&mut Provider)| {
        let mut provider = github(&[row(&[("repository_id", "74"), ("environment", "production")])]);
        change(&mut provider);
        provider
    };
    check(with(|p| p.organization = None), "GitHub needs organization");
    check(
        with(|p| p.organization.as_mut().unwrap().claim = "repository_owner".to_owned()),
        "GitHub needs organization",
    );
    check(with(|p| p.organization.as_mut().unwrap().value = String::new()), "would mean anyone");
    check(with(|p| p.audiences = vec!["x".to_owned()]), "there are no `audiences`");
    check(with(|p| p.domains = vec!["example.com".to_owned()]), "there are no `audiences`");
    check(
        with(|p| (p.commitment, p.workloads, p.audiences) = (Commitment::Nonce, vec![], vec!["x".to_owned()])),
        "jobs log in there",
    );
    check(with(|p| p.kind = ProviderKind::Circleci), "needs oidc.circleci.com/project-id");
    check(with(|p| p.kind = ProviderKind::Google), "needs sub");
    check(with(|p| (p.kind, p.organization) = (ProviderKind::Oidc, None)), "give organization");
    check(Provider { workloads: vec![good], ..provider() }, "workloads need commitment");
    let error = github(&[row(&[])]).check().unwrap_err();
    assert_eq!(error, ProviderError::Workload(WorkloadError::Claims));
}

/// TRUST-14: rows stand in the bundle's file and in its fingerprint; of one issuer people and jobs are two providers.
#[test]
fn rows_stand_in_the_bundle() {
    let text = r#"
organization = "01010101-0101-0101-0101-010101010101"
roots = ["ROOT"]

[[provider]]
kind = "google"
issuer = "https://accounts.google.com"
audiences = ["client"]
organization = { claim = "hd", value = "example.com" }

[[provider]]
kind = "google"
issuer = "https://accounts.google.com"
commitment = "audience"
workloads = [{ sub = "1070" }]
"#;
    let root = bz_core::key::PrivateKey::from_seed(&[1; 32]).unwrap().public();
    let read = |text: &str| TrustBundle::parse(&text.replace("ROOT", &root.to_string())).unwrap();
    let bundle = read(text);
    assert_eq!(TrustBundle::parse(&bundle.to_text().unwrap()).unwrap(), bundle);
    let other = read(&text.replace("1070", "1071"));
    assert_ne!(bundle.fingerprint().unwrap(), other.fingerprint().unwrap());
    let key = bz_core::key::PrivateKey::from_seed(&[2; 32]).unwrap();
    let request = bz_core::cert::CertRequest::new(bundle.organization, &key, [7; 32]);
    for (audience, want) in [(request.audience(), Commitment::Audience), ("client".to_owned(), Commitment::Nonce)] {
        let claims = json!({"iss": "https://accounts.google.com", "aud": audience});
        let token = Idp::new(1, "k1").token(&claims);
        let certificate = request.certificate(&token, &token).unwrap();
        assert_eq!(bundle.provider_of(&certificate).unwrap().commitment, want, "{audience}");
    }
    assert_eq!(Workload::of_subject("a=b,c=d=e"), Some(row(&[("a", "b"), ("c", "d=e")])));
    assert_eq!(Workload::of_subject("alice"), None);
}
