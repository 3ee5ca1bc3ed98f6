//! Issuers of tokens for jobs, by the contracts that GitHub Actions, CircleCI and Google's cloud publish: discovery and
//! keys, and the place where a job asks for a token of an audience that it chooses.
//!
//! What one of them would never sign, a test has signed by asking: the claims are the test's to change.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use bz_core::oidc::provider::{Commitment, OrganizationClaim, Provider, ProviderKind};
use bz_core::oidc::workload::Workload;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::state::Keyring;
use super::{Clock, OldKey};

/// The account that owns the repository, by number.
pub const OWNER: &str = "65";
/// The repository, by number.
pub const REPOSITORY: &str = "74";
/// CircleCI's organization.
pub const CIRCLECI_ORGANIZATION: &str = "5b1f0b3c-0000-4000-8000-000000000065";
/// Its project.
pub const CIRCLECI_PROJECT: &str = "5b1f0b3c-0000-4000-8000-000000000074";
/// Google's number of the account that a service runs as.
pub const GOOGLE_ACCOUNT: &str = "107000000000000000074";
/// The token by which a job of GitHub asks for others.
pub const REQUEST_TOKEN: &str = "the-job-alone-knows-this";

const GITHUB_LIFE: Duration = Duration::from_secs(300);
const LIFE: Duration = Duration::from_secs(3600);

/// The three issuers, running.
#[derive(Debug)]
pub struct Jobs {
    address: SocketAddr,
    state: Arc<State>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    address: SocketAddr,
    clock: Clock,
    keys: Mutex<Keyring>,
    /// What of the next tokens is otherwise.
    changed: Mutex<Value>,
}

type Asked = std::collections::BTreeMap<String, String>;

impl Jobs {
    /// Starts them on loopback.
    ///
    /// # Errors
    /// When nothing can listen.
    pub async fn start(clock: Clock) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (keys, changed) = (Mutex::new(Keyring::generate()), Mutex::new(json!({})));
        let state = Arc::new(State { address, clock, keys, changed });
        let app = Router::new()
            .route("/{issuer}/.well-known/openid-configuration", get(discovery))
            .route("/circleci/org/{organization}/.well-known/openid-configuration", get(circleci_discovery))
            .route("/jwks", get(jwks))
            .route("/github/actions/idtoken", get(github))
            .route("/circleci/token", post(circleci))
            .route("/computeMetadata/v1/instance/service-accounts/default/identity", get(google))
            .with_state(Arc::clone(&state));
        let server = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Ok(Self { address, state, server })
    }

    /// What a step of a GitHub job has as `ACTIONS_ID_TOKEN_REQUEST_URL`.
    #[must_use]
    pub fn github_request_url(&self) -> String {
        format!("{}/actions/idtoken?api-version=2.0", self.issuer("github"))
    }

    /// Where the stand-in for CircleCI's program has its tokens.
    #[must_use]
    pub fn circleci_token_url(&self) -> String {
        format!("{}/token", self.issuer("circleci"))
    }

    /// What a container in Google's cloud may have as `GCE_METADATA_HOST`.
    #[must_use]
    pub fn google_metadata_host(&self) -> String {
        self.address.to_string()
    }

    /// GitHub, pinned for this owner and these rows.
    #[must_use]
    pub fn github(&self, rows: &[&[(&str, &str)]]) -> Provider {
        Provider {
            kind: ProviderKind::Github,
            issuer: self.issuer("github"),
            audiences: vec![],
            organization: Some(OrganizationClaim { claim: "repository_owner_id".to_owned(), value: OWNER.to_owned() }),
            organization_is_issuer: false,
            domains: vec![],
            commitment: Commitment::Audience,
            groups_claim: None,
            workloads: rows.iter().map(|row| workload(row)).collect(),
        }
    }

    /// CircleCI's issuer of one organization, pinned for its one project.
    #[must_use]
    pub fn circleci(&self) -> Provider {
        let issuer = format!("{}/org/{CIRCLECI_ORGANIZATION}", self.issuer("circleci"));
        let row: &[_] = &[("oidc.circleci.com/project-id", CIRCLECI_PROJECT)];
        Provider { kind: ProviderKind::Circleci, issuer, organization: None, ..self.github(&[row]) }
    }

    /// Google, pinned for one account.
    #[must_use]
    pub fn google(&self) -> Provider {
        let row: &[_] = &[("sub", GOOGLE_ACCOUNT)];
        let issuer = self.issuer("google");
        Provider { kind: ProviderKind::Google, issuer, organization: None, ..self.github(&[row]) }
    }

    /// From now on tokens have these claims, too, or instead; with `null` not at all.
    pub fn change(&self, claims: Value) {
        *self.state.changed.lock().unwrap_or_else(PoisonError::into_inner) = claims;
    }

    /// From now on another key signs.
    pub fn rotate(&self, old: OldKey) {
        self.state.keys.lock().unwrap_or_else(PoisonError::into_inner).rotate(old);
    }

    fn issuer(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    fn sign(&self, claims: &Value, audience: &str, life: Duration) -> String {
        let now = self.clock.unix();
        let mut claims = claims.as_object().cloned().unwrap_or_default();
        let times = [("aud", json!(audience)), ("iat", json!(now)), ("exp", json!(now + life.as_secs()))];
        claims.extend(times.map(|(name, value)| (name.to_owned(), value)));
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        claims.extend(changed.as_object().cloned().unwrap_or_default());
        claims.retain(|_, value| !value.is_null());
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).sign(&Value::Object(claims))
    }

    fn document(&self, issuer: &str) -> Json<Value> {
        let at = |path: &str| format!("http://{}/{path}", self.address);
        // As GitHub's: nobody logs in there.
        Json(json!({
            "issuer": at(issuer), "jwks_uri": at("jwks"), "subject_types_supported": ["public"],
            "response_types_supported": ["id_token"], "id_token_signing_alg_values_supported": ["ES256"],
            "scopes_supported": ["openid"],
        }))
    }
}

fn workload(row: &[(&str, &str)]) -> Workload {
    Workload(row.iter().map(|(claim, value)| ((*claim).to_owned(), (*value).to_owned())).collect())
}

async fn discovery(Shared(state): Shared<Arc<State>>, Path(issuer): Path<String>) -> Json<Value> {
    state.document(&issuer)
}

async fn circleci_discovery(Shared(state): Shared<Arc<State>>, Path(organization): Path<String>) -> Json<Value> {
    state.document(&format!("circleci/org/{organization}"))
}

async fn jwks(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    Json(state.keys.lock().unwrap_or_else(PoisonError::into_inner).jwks())
}

/// `GET $ACTIONS_ID_TOKEN_REQUEST_URL&audience=…` with the job's bearer token.
async fn github(
    Shared(state): Shared<Arc<State>>,
    Query(mut asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, token) = bearer.split_once(' ').unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") || token != REQUEST_TOKEN {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let claims = json!({
        "iss": format!("http://{}/github", state.address), "jti": "6c2e", "nbf": state.clock.unix(),
        "sub": "repo:octo-org/octo-repo:environment:production", "environment": "production",
        "repository": "octo-org/octo-repo", "repository_id": REPOSITORY, "repository_owner": "octo-org",
        "repository_owner_id": OWNER, "repository_visibility": "private", "ref": "refs/heads/main",
        "ref_type": "branch", "sha": "0".repeat(40), "actor": "octocat", "actor_id": "12", "workflow": "deploy",
        "event_name": "push", "head_ref": "", "base_ref": "", "run_id": "1", "run_number": "1", "run_attempt": "1",
        "runner_environment": "github-hosted",
        "job_workflow_ref": "octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main",
    });
    let audience = asked.remove("audience").unwrap_or_else(|| "https://github.com/octo-org".to_owned());
    Ok(Json(json!({"count": 1, "value": state.sign(&claims, &audience, GITHUB_LIFE)})))
}

/// What CircleCI's program is answered when it asks for `circleci run oidc get --claims '{"aud": …}'`.
async fn circleci(Shared(state): Shared<Arc<State>>, Json(asked): Json<Value>) -> String {
    let claims = json!({
        "iss": format!("http://{}/circleci/org/{CIRCLECI_ORGANIZATION}", state.address),
        "sub": format!("org/{CIRCLECI_ORGANIZATION}/project/{CIRCLECI_PROJECT}/user/5b1f0b3c"),
        "oidc.circleci.com/project-id": CIRCLECI_PROJECT, "oidc.circleci.com/context-ids": ["5b1f"],
        "oidc.circleci.com/org-id": CIRCLECI_ORGANIZATION, "oidc.circleci.com/ssh-rerun": false,
        "oidc.circleci.com/vcs-origin": "github.com/octo-org/octo-repo",
        "oidc.circleci.com/vcs-ref": "refs/heads/main",
    });
    state.sign(&claims, asked.get("aud").and_then(Value::as_str).unwrap_or_default(), LIFE)
}

/// The identity of the account that a service in Google's cloud runs as, by its metadata server.
async fn google(
    Shared(state): Shared<Arc<State>>,
    Query(mut asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<String, StatusCode> {
    let audience = asked.remove("audience").filter(|audience| !audience.is_empty()).ok_or(StatusCode::BAD_REQUEST)?;
    if headers.get("metadata-flavor").is_none_or(|flavor| flavor != "Google") {
        return Err(StatusCode::FORBIDDEN);
    }
    let full = asked.get("format").is_some_and(|format| format == "full");
    let claims = json!({
        "iss": format!("http://{}/google", state.address), "sub": GOOGLE_ACCOUNT, "azp": GOOGLE_ACCOUNT,
        "email": full.then_some("deployer@project.iam.gserviceaccount.com"), "email_verified": full.then_some(true),
    });
    Ok(state.sign(&claims, &audience, LIFE))
}
