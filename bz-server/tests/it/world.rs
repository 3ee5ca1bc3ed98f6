//! One server in a temporary folder, and actors: anonymous, user, admin, agent, key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use bz_core::api::Bytes;
use bz_core::api::access::ConnectionMade;
use bz_core::api::api_key::{ApiKeyMade, NewApiKey};
use bz_core::api::error::{Code, ErrorBody};
use bz_core::api::login::{RegisterUser, Registered};
use bz_core::api::proof::{Call, Proof};
use bz_core::api::record::UserEvent;
use bz_core::api::register::{AgentRegistered, RegisterAgent};
use bz_core::cert::CertRequest;
use bz_core::id::{BootId, LoginId, TargetId};
use bz_core::key::PrivateKey;
use bz_core::oidc::jwks::Jwks;
use bz_core::oidc::provider::Provider;
use bz_core::time::UnixTime;
use bz_server::config::{Config, Off, Tls};
use bz_server::init::{self, InitTls};
use bz_server::seam::jwks::{FetchError, JwksSource};
use bz_server::seam::links::MemoryLinks;
use bz_server::seam::{FakeClock, SystemEntropy};
use bz_server::store::event::EventFilter;
use bz_server::{App, Seams, api};
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Mutex;
use tower::ServiceExt as _;

use crate::idp::{self, Idp};
use crate::logged::Logged;

/// When every world begins.
pub(crate) const START: u64 = 1_800_000_000;

pub(crate) struct World {
    pub(crate) app: Arc<App>,
    pub(crate) router: Router,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) links: Arc<MemoryLinks>,
    pub(crate) issuer: Arc<Issuer>,
    /// The claim code of `init`.
    pub(crate) claim: String,
    pub(crate) folder: tempfile::TempDir,
    /// An error that no test expects is one.
    pub(crate) logged: Logged,
    seeds: AtomicU8,
}

/// The identity provider's published keys, and how often they were asked for.
pub(crate) struct Issuer {
    pub(crate) idp: Mutex<Idp>,
}

impl JwksSource for Issuer {
    fn fetch<'a>(&'a self, _: &'a Provider) -> BoxFuture<'a, Result<Jwks, FetchError>> {
        let keys = self.idp.lock().unwrap().jwks();
        Box::pin(async move { Ok(keys) })
    }
}

/// A person's client.
pub(crate) struct Client {
    pub(crate) login: LoginId,
    pub(crate) key: PrivateKey,
    pub(crate) request: CertRequest,
    pub(crate) initial: String,
    pub(crate) claims: Value,
}

/// An agent that registered.
pub(crate) struct Agent {
    pub(crate) id: TargetId,
    pub(crate) identity: PrivateKey,
    pub(crate) boot: BootId,
}

/// Who calls.
#[derive(Clone, Copy)]
pub(crate) enum As<'a> {
    Nobody,
    Client(&'a Client),
    Key(&'a str),
    Hook(&'a str),
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    async fn of(answer: axum::response::Response) -> Self {
        let (status, headers) = (answer.status(), answer.headers().clone());
        if headers.get("content-type").is_some_and(|media| media == "text/event-stream") {
            // That never ends.
            return Self { status, headers, body: Vec::new() };
        }
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec();
        Self { status, headers, body }
    }

    #[track_caller]
    pub(crate) fn ok<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, StatusCode::OK, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn done(&self) {
        assert!(self.status.is_success(), "{}: {}", self.status, String::from_utf8_lossy(&self.body));
    }

    #[track_caller]
    pub(crate) fn refused(&self, code: Code) -> ErrorBody {
        assert!(!self.status.is_success(), "expected {code:?}, got {}", String::from_utf8_lossy(&self.body));
        let body: ErrorBody = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body.code, code, "{}", body.error_msg);
        body
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// A world whose settings differ.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let logged = Logged::here();
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(FakeClock::at(UnixTime::from_secs(START)));
        let mut config = config(&folder);
        change(&mut config);
        let made = init::init(config, InitTls::AsConfigured, clock.as_ref(), &SystemEntropy).await.unwrap();
        let config = init::read_config(&made.config, []).unwrap();
        let issuer = Arc::new(Issuer { idp: Mutex::new(Idp::new(1, "k1")) });
        let links = Arc::new(MemoryLinks::default());
        let seams = Seams {
            clock: Arc::clone(&clock) as _,
            entropy: Arc::new(SystemEntropy),
            jwks: Arc::clone(&issuer) as _,
            links: Arc::clone(&links) as _,
        };
        let app = Arc::new(App::open(config, seams).await.unwrap());
        let router = api::router(Arc::clone(&app));
        Self { app, router, clock, links, issuer, claim: made.claim, folder, logged, seeds: AtomicU8::new(10) }
    }

    /// The same world, its server started anew.
    pub(crate) async fn restarted(self) -> Self {
        let config = Config::clone(&self.app.config());
        self.moved(config).await
    }

    /// The same world, its server started with other settings.
    pub(crate) async fn moved(self, config: Config) -> Self {
        let seams = Seams {
            clock: Arc::clone(&self.clock) as _,
            entropy: Arc::new(SystemEntropy),
            jwks: Arc::clone(&self.issuer) as _,
            links: Arc::clone(&self.links) as _,
        };
        let app = Arc::new(App::open(config, seams).await.unwrap());
        Self { router: api::router(Arc::clone(&app)), app, ..self }
    }

    pub(crate) fn seed(&self) -> [u8; 32] {
        [self.seeds.fetch_add(1, Ordering::SeqCst); 32]
    }

    pub(crate) fn now(&self) -> u64 {
        self.app.now().wall.as_secs()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// A login that is not registered yet.
    pub(crate) fn client(&self, subject: &str) -> Client {
        let seed = self.seed();
        let key = PrivateKey::from_seed(&seed).unwrap();
        let request = CertRequest::new(self.app.organization, &key, seed);
        let mut claims = idp::claims(self.now(), &request.commitment());
        claims["sub"] = json!(subject);
        claims["email"] = json!(format!("{subject}@example.com"));
        let initial = self.issuer.idp.lock().unwrap().token(&claims);
        Client { login: LoginId::from_random([seed[0]; 16]), key, request, initial, claims }
    }

    pub(crate) async fn register(&self, client: &Client, current: &str, claim: Option<&str>) -> Reply {
        let certificate = Bytes(client.request.certificate(&client.initial, current).unwrap());
        let body = RegisterUser { certificate, claim: claim.map(str::to_owned) };
        self.call(As::Client(client), "POST", "/users/register", &body).await
    }

    /// A person, logged in.
    pub(crate) async fn user(&self, subject: &str) -> Client {
        let client = self.client(subject);
        self.register(&client, &client.initial, None).await.ok::<Registered>();
        client
    }

    /// The administrator.
    pub(crate) async fn admin(&self) -> Client {
        let client = self.client("root-of-all");
        self.register(&client, &client.initial, Some(&self.claim)).await.ok::<Registered>();
        client
    }

    /// A key's secret.
    pub(crate) async fn key(&self, admin: &Client, is_registration_key: bool) -> String {
        let new = NewApiKey { name: "ci".to_owned(), is_registration_key, ..NewApiKey::default() };
        self.call(As::Client(admin), "POST", "/api-keys", &new).await.ok::<ApiKeyMade>().secret
    }

    pub(crate) fn registration(&self, name: &str, seed: [u8; 32]) -> (RegisterAgent, PrivateKey) {
        let identity = PrivateKey::from_seed(&seed).unwrap();
        let control = PrivateKey::from_seed(&seed.map(|b| b ^ 0xff)).unwrap();
        let mut body = RegisterAgent {
            public_key: identity.public(),
            control_key: control.public(),
            identity_proof: Bytes(vec![]),
            control_proof: Bytes(vec![]),
            organization_id: self.app.organization,
            time: self.app.now().wall,
            version: "1.2.3".to_owned(),
            target_name: name.to_owned(),
            target_host_name: format!("{name}.internal"),
            environment_name: None,
            local_policy: false,
            target_id: None,
            labels: Default::default(),
        };
        body.prove(&identity, &control);
        (body, identity)
    }

    /// An agent, registered and online.
    pub(crate) async fn agent(&self, admin: &Client, name: &str) -> Agent {
        let secret = self.key(admin, true).await;
        let seed = self.seed();
        let (body, identity) = self.registration(name, seed);
        let made: AgentRegistered = self.call(As::Key(&secret), "POST", "/agent/register", &body).await.ok();
        let boot = BootId::from_bytes([seed[0]; 16]);
        self.links.set(made.target_id, Some(boot));
        Agent { id: made.target_id, identity, boot }
    }

    /// A policy by which a person may have shells on a target; its id.
    pub(crate) async fn allow(&self, admin: &Client, who: &Client, agent: &Agent, users: &[&str]) -> String {
        let body = json!({
            "name": format!("p{}", self.seed()[0]),
            "subjects": [{"id": self.id_of(who).await, "type": "User"}],
            "targets": [{"id": agent.id, "type": "Bzero"}],
            "targetUsers": users.iter().map(|u| json!({"userName": u})).collect::<Vec<_>>(),
            "verbs": [{"type": "Shell"}],
        });
        let made: Value = self.call(As::Client(admin), "POST", "/policies/target-connect", &body).await.ok();
        made["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn id_of(&self, who: &Client) -> String {
        let me: Value = self.get(As::Client(who), "/users/me").await.ok();
        me["id"].as_str().unwrap().to_owned()
    }

    /// A connection on a target, with the only allowed user.
    pub(crate) async fn connect(&self, who: &Client, agent: &Agent) -> ConnectionMade {
        let body = json!({"targetId": agent.id});
        self.call(As::Client(who), "POST", "/connections/universal", &body).await.ok()
    }

    pub(crate) async fn get(&self, who: As<'_>, path: &str) -> Reply {
        self.raw(who, "GET", path, Vec::new()).await
    }

    /// An answer, and where it says that more is.
    pub(crate) async fn linked(&self, who: As<'_>, path: &str) -> (Reply, Option<String>) {
        let answer = self.router.clone().oneshot(self.request(who, "GET", path, Vec::new())).await.unwrap();
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        (Reply::of(answer).await, link)
    }

    pub(crate) async fn call(&self, who: As<'_>, method: &str, path: &str, body: &impl Serialize) -> Reply {
        self.raw(who, method, path, serde_json::to_vec(body).unwrap()).await
    }

    pub(crate) async fn raw(&self, who: As<'_>, method: &str, path: &str, body: Vec<u8>) -> Reply {
        self.send(self.request(who, method, path, body)).await
    }

    fn request(&self, who: As<'_>, method: &str, path: &str, body: Vec<u8>) -> Request<Body> {
        let path = format!("/api/v2{path}");
        let request = Request::builder().method(method).uri(&path);
        let request = match who {
            As::Nobody => request,
            As::Key(secret) => request.header("X-API-KEY", secret),
            As::Hook(secret) => request.header("Authorization", secret),
            As::Client(client) => {
                let header = self.proof(client, method, &path, &body).to_header();
                request.header("Authorization", header)
            }
        };
        request.body(Body::from(body)).unwrap()
    }

    /// The API's description, as it is served.
    pub(crate) async fn document(&self) -> Value {
        self.get(As::Nobody, "/openapi.json").await.ok()
    }

    pub(crate) fn proof(&self, client: &Client, method: &str, target: &str, body: &[u8]) -> Proof {
        let random = bz_server::seam::random(&SystemEntropy).unwrap();
        Proof::sign(client.login, &Call { method, target, body }, self.app.now().wall, random, &client.key)
    }

    /// An answer whose body comes by and by.
    pub(crate) async fn answer(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        Reply::of(self.router.clone().oneshot(request).await.unwrap()).await
    }

    /// The log of calls, newest first, read behind the API so that reading adds nothing.
    pub(crate) async fn log(&self) -> Vec<UserEvent> {
        self.app.store.user_events(EventFilter { limit: 1000, ..EventFilter::default() }).await.unwrap()
    }
}

pub(crate) fn config(folder: &tempfile::TempDir) -> Config {
    let mut config = Config::parse(Config::default_text(), []).unwrap();
    config.data = folder.path().join("data");
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.tls = Tls::Off(Off::Off);
    config.providers = vec![idp::provider()];
    config
}
