//! A small REST server: checks every proof and certificate, makes real grants, and lies when told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::body::Bytes as Body;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use bz_core::access::Mode;
use bz_core::access::request::{MAX_REQUEST, Parameters, Request, UserNeed};
use bz_core::api::Bytes;
use bz_core::api::access::{AttachShell, ConnectionMade, NewConnection};
use bz_core::api::login::{MfaActionRequired, RegisterUser, Registered, User};
use bz_core::api::proof::{Call, Proof};
use bz_core::cert::{BzCert, CertCheck, DEFAULT_MAX_AGE};
use bz_core::grant::{GrantBody, MAX_GRANT, Purpose, Recording, ServerCert, SignedGrant};
use bz_core::id::{BootId, ConnectionId, GrantId, LoginId, ShellId, TargetId, UserId};
use bz_core::key::{PrivateKey, PublicKey};
use bz_core::oidc::Person;
use bz_core::oidc::jwks::Jwks;
use bz_core::signed::Signed;
use bz_core::target::UserRule;
use bz_core::time::UnixTime;
use bz_core::trust::TrustBundle;
use bz_core::wire;
use bz_protocol::carrier::{Link as _, MuxLink, Role};
use bz_protocol::control::LINK_PATH;
use bz_protocol::link::greet;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};

use crate::stand::{ORGANIZATION, key, root, web};

pub(crate) const TARGET: TargetId = TargetId::from_bytes([1; 16]);
pub(crate) const SHELL: ShellId = ShellId::from_bytes([3; 16]);
pub(crate) const CONNECTION: ConnectionId = ConnectionId::from_bytes([2; 16]);

/// Changes an answer and its grant before they are sent.
pub(crate) type Change = fn(&mut ConnectionMade, &mut GrantBody);

/// One answer of several, which may break off.
pub(crate) struct Piece {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) bytes: Vec<u8>,
    /// Whether its connection breaks after these bytes.
    pub(crate) breaks: bool,
    /// What the question for it must have in its headers.
    pub(crate) asked: Vec<(&'static str, Option<String>)>,
}

impl Piece {
    fn answer(self, headers: &HeaderMap) -> Response {
        for (name, want) in &self.asked {
            let got = headers.get(*name).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(got, *want, "{name}");
        }
        let bytes = futures::stream::iter([Ok(Body::from(self.bytes))]);
        let end = futures::stream::iter(self.breaks.then_some(())).then(async |()| {
            // What came before it is sent first.
            tokio::task::yield_now().await;
            Err(std::io::Error::other("broken"))
        });
        let body = axum::body::Body::from_stream(bytes.chain(end));
        let mut response = (StatusCode::from_u16(self.status).unwrap(), body).into_response();
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    }
}

#[derive(Clone)]
pub(crate) struct TestServer {
    pub(crate) url: String,
    pub(crate) state: Arc<Mutex<ServerState>>,
}

/// What a test can look at and change.
pub(crate) struct ServerState {
    pub(crate) bundle: TrustBundle,
    jwks: Jwks,
    logins: BTreeMap<LoginId, (PublicKey, Person)>,
    /// `METHOD path?query` of every proved call, latest last.
    pub(crate) calls: Vec<String>,
    /// Claim codes that came.
    pub(crate) claims: Vec<Option<String>>,
    /// Answers by `METHOD path`.
    pub(crate) answers: BTreeMap<String, (u16, Value)>,
    /// Files by `METHOD path`.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Answers of which each is given once, by `METHOD path`.
    pub(crate) pieces: BTreeMap<String, VecDeque<Piece>>,
    /// Changes the answers to registrations.
    pub(crate) registered: fn(&mut Registered),
    /// Changes the answers to connections.
    pub(crate) made: Change,
    /// How long registered logins last.
    pub(crate) life: Duration,
}

impl TestServer {
    pub(crate) async fn start(bundle: TrustBundle, jwks: Jwks) -> Self {
        let state = Arc::new(Mutex::new(ServerState {
            bundle,
            jwks,
            logins: BTreeMap::new(),
            calls: Vec::new(),
            claims: Vec::new(),
            answers: BTreeMap::new(),
            files: BTreeMap::new(),
            pieces: BTreeMap::new(),
            registered: |_| {},
            made: |_, _| {},
            life: Duration::from_secs(3600),
        }));
        let shared = Arc::clone(&state);
        let url =
            web::serve(move |_| Router::new().route(LINK_PATH, get(link)).fallback(answer).with_state(shared)).await;
        Self { url, state }
    }

    pub(crate) fn answer(&self, call: &str, status: u16, body: Value) {
        self.state.lock().unwrap().answers.insert(call.to_owned(), (status, body));
    }

    pub(crate) fn file(&self, call: &str, bytes: &[u8]) {
        self.state.lock().unwrap().files.insert(call.to_owned(), bytes.to_vec());
    }

    pub(crate) fn pieces(&self, call: &str, pieces: impl IntoIterator<Item = Piece>) {
        self.state.lock().unwrap().pieces.insert(call.to_owned(), pieces.into_iter().collect());
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    pub(crate) fn lie(&self, made: Change) {
        self.state.lock().unwrap().made = made;
    }
}

/// Greets whoever dials, and logs nobody in.
async fn link(upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols(["bz.1"]).on_upgrade(|socket| async move {
        let incoming = |message| match message {
            Ok(Message::Binary(bytes)) => Ok(bytes),
            other => Err(std::io::Error::other(format!("{other:?}"))),
        };
        let pipe = socket
            .map(incoming)
            .sink_map_err(std::io::Error::other)
            .with(|bytes: Body| std::future::ready(Ok::<_, std::io::Error>(Message::Binary(bytes))));
        let link = MuxLink::new(Role::Listener, pipe);
        let Ok(mut control) = link.accept().await else { return };
        drop(greet(&mut control, ORGANIZATION, [7; 32]).await);
    })
}

pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixTime::from_millis(u64::try_from(since.as_millis()).unwrap())
}

async fn answer(
    State(state): State<Arc<Mutex<ServerState>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let mut state = state.lock().unwrap();
    let path = uri.path().strip_prefix("/api/v2/").unwrap_or_default().to_owned();
    if path == "trust-bundle" {
        let text = state.bundle.to_text().unwrap();
        return Json(json!({"bundle": text, "logins": []})).into_response();
    }
    let header = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Ok(proof) = Proof::parse(header) else { return refused("no proof") };
    let target = uri.path_and_query().unwrap().as_str();
    let call = Call { method: method.as_str(), target, body: &body };
    if path == "users/register" {
        return state.register(&proof, &call);
    }
    let Some((client_key, person)) = state.logins.get(&proof.login).cloned() else { return refused("no login") };
    if proof.verify(&call, &client_key).is_err() {
        return refused("bad proof");
    }
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    state.calls.push(format!("{method} {path}{query}"));
    let name = format!("{method} {path}");
    if let Some((status, body)) = state.answers.get(&name) {
        return (StatusCode::from_u16(*status).unwrap(), Json(body.clone())).into_response();
    }
    if let Some(piece) = state.pieces.get_mut(&name).and_then(VecDeque::pop_front) {
        return piece.answer(&headers);
    }
    if let Some(bytes) = state.files.get(&name) {
        return bytes.clone().into_response();
    }
    match (method, path.as_str()) {
        (Method::POST, "connections/universal") => {
            let asked = serde_json::from_slice(&body).unwrap();
            Json(state.connect(&asked, client_key, person)).into_response()
        }
        (Method::POST, path) if path.ends_with("/shell/attach") => {
            let asked: AttachShell = serde_json::from_slice(&body).unwrap();
            let parameters = Parameters::Attach { shell: SHELL, size: asked.size };
            let asked = NewConnection {
                parameters: Some(Bytes(wire::encode(&parameters, MAX_REQUEST).unwrap())),
                mode: Some(Mode::Inspected),
                ..NewConnection::default()
            };
            Json(state.connect(&asked, client_key, person)).into_response()
        }
        (Method::GET, _) => Json(json!([])).into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

impl ServerState {
    fn register(&mut self, proof: &Proof, call: &Call<'_>) -> Response {
        let asked: RegisterUser = serde_json::from_slice(call.body).unwrap();
        let check = CertCheck {
            organization: ORGANIZATION,
            provider: &self.bundle.providers[0],
            jwks: &self.jwks,
            max_age: DEFAULT_MAX_AGE,
            known_initial: None,
            not_older_than: None,
            now: now(),
        };
        let cert = match BzCert::verify(&asked.certificate.0, &check) {
            Ok(cert) => cert,
            Err(error) => return refused(&error.to_string()),
        };
        if proof.verify(call, &cert.client_key()).is_err() {
            return refused("another key");
        }
        let person = cert.claims().person.clone();
        self.logins.insert(proof.login, (cert.client_key(), person.clone()));
        self.claims.push(asked.claim);
        let user = User {
            id: UserId::from_bytes([4; 16]),
            organization_id: ORGANIZATION,
            email: "alice@example.com".to_owned(),
            full_name: "Alice".to_owned(),
            is_admin: false,
            is_auditor: false,
            time_created: "2026-01-01T00:00:00Z".to_owned(),
            last_login: None,
            issuer: person.issuer,
            subject: person.subject,
        };
        let mut answer =
            Registered { user, mfa_action_required: MfaActionRequired::None, expires_at: now().after(self.life) };
        (self.registered)(&mut answer);
        Json(answer).into_response()
    }

    fn connect(&self, asked: &NewConnection, client_key: PublicKey, person: Person) -> ConnectionMade {
        let parameters: Parameters = wire::decode(&asked.parameters.as_ref().unwrap().0, MAX_REQUEST).unwrap();
        let attached = matches!(parameters, Parameters::Attach { .. });
        let needed = parameters.needs_user() == UserNeed::Needed;
        let user = needed.then(|| asked.target_user.clone().unwrap_or_else(|| "deploy".parse().unwrap()));
        let request = Request { target: TARGET, user: user.clone(), mode: asked.mode.unwrap(), parameters };
        let mut made = ConnectionMade {
            connection_id: CONNECTION,
            target_id: TARGET,
            target_name: asked.target_name.clone().unwrap_or_else(|| "web".to_owned()),
            environment_name: asked.environment_name.clone().unwrap_or_else(|| "Default".to_owned()),
            target_user: user.clone(),
            target_type: "Bzero".to_owned(),
            proxy: None,
            verb_type: request.verb(),
            agent_public_key: key(50).public(),
            agent_version: "0.1.0".to_owned(),
            mode: request.mode,
            recorded: false,
            grant: Bytes(Vec::new()),
            directory_entry: None,
            shell_id: attached.then_some(SHELL),
        };
        let mut grant = GrantBody {
            id: GrantId::from_bytes([5; 16]),
            connection: CONNECTION,
            person,
            client_key,
            agent_key: key(50).public(),
            boot: BootId::from_bytes([6; 16]),
            target: TARGET,
            verb: request.verb(),
            user: user.map(UserRule::Literal),
            mode: request.mode,
            recording: Recording { output: false, input: false },
            request: Request::digest(&request.encode().unwrap()),
            scope: request.parameters.scope(),
            mfa: None,
            policies: Vec::new(),
            policy_version: 1,
            not_before: now(),
            not_after: now().after(Duration::from_secs(60)),
            session_seconds: 3600,
        };
        (self.made)(&mut made, &mut grant);
        if made.grant.0.is_empty() {
            made.grant = signed(&grant, &root(), Purpose::Grant);
        }
        made
    }
}

/// A grant under this root, by a key certified for this.
pub(crate) fn signed(grant: &GrantBody, root: &PrivateKey, purpose: Purpose) -> Bytes {
    let online = key(101);
    let certificate = ServerCert {
        key: online.public(),
        purpose,
        node: "one".to_owned(),
        not_before: now(),
        not_after: now().after(Duration::from_secs(600)),
    };
    let signed = SignedGrant {
        certificate: Signed::seal(&certificate, ORGANIZATION, root).unwrap(),
        grant: Signed::seal(grant, ORGANIZATION, &online).unwrap(),
    };
    Bytes(wire::encode(&signed, MAX_GRANT).unwrap())
}

fn refused(why: &str) -> Response {
    let body = json!({"errorMsg": why, "errorType": "Unauthorized", "errors": {}, "code": "notLoggedIn"});
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}
