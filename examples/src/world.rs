//! The whole system on loopback in one process: identity provider, server, agent, and a client that is logged in.
//!
//! Every part is the real one, over TLS and WebSocket, or QUIC; only the identity provider is the development one.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bz_agent::agent::{Agent, Identity, Running};
use bz_agent::files::Files;
use bz_agent::helper::Helper;
use bz_agent::http::Direct;
use bz_agent::jwks::IssuerKeys;
use bz_agent::receipts::FolderReceipts as AgentReceipts;
use bz_agent::register::{Reach, Registration, register};
use bz_agent::shell::Shells;
use bz_agent::web::Web;
use bz_client::client::Client;
use bz_client::login::{Browser, BrowserFailed, Login, LoginOptions, Opening};
use bz_client::pins::{FirstContact, MemoryPins};
use bz_client::receipts::FolderReceipts as ClientReceipts;
use bz_client::secret::Secret;
use bz_client::server::{Roots, Server as ServerAddress};
use bz_client::trust::Trust;
use bz_core::access::Verb;
use bz_core::api::api_key::NewApiKey;
use bz_core::api::policy::{PolicyTarget, RecordingContent, Subject, SubjectType, TargetConnectContent};
use bz_core::api::target::TargetUserName;
use bz_core::id::ConnectionId;
use bz_core::oidc::provider::{Commitment, Provider, ProviderKind};
use bz_core::target::UserRule;
use bz_core::trust::TrustBundle;
use bz_protocol::carrier::Proxies;
use bz_protocol::driver::{Clock, SystemClock};
use bz_protocol::link::{Choice, Ways};
use bz_protocol::receipt::Bounds;
use bz_protocol::transcript::{Anchors, JwksArchive, Verdict, verify};
use bz_server::config::{Config, Tls};
use bz_server::init::{self, InitTls};
use bz_server::relay::Relay;
use bz_server::seam::SystemEntropy;
use bz_server::seam::jwks::HttpJwks;
use bz_server::seam::links::Links;
use bz_server::{Seams, Server};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

use crate::browser::authorize_without_browser;
use crate::certified::CertifiedIdp;
use crate::idp::{self, DevIdp, DevIdpConfig, User};

/// The client id that everything pins.
pub const CLIENT_ID: &str = "bz-cli";
/// Another name that the server's certificate bears. No directory knows it: it leads somewhere through a proxy alone.
pub const NAME: &str = "bz.example.com";
/// The target's name.
pub const TARGET: &str = "here";

/// Where the agent and the client keep their receipts, in the system's folder.
pub const AGENT_RECEIPTS: &str = "agent-receipts";
/// See [`AGENT_RECEIPTS`].
pub const CLIENT_RECEIPTS: &str = "client-receipts";

/// A system that runs.
#[derive(Debug)]
pub struct World {
    /// The identity provider.
    pub idp: Idp,
    /// What every part tells the time by, save an identity provider that is a process of its own.
    pub clock: Arc<dyn Clock>,
    /// The server.
    pub server: Server,
    /// The server's links, for carriers of one's own.
    pub relay: Arc<Relay>,
    /// The agent for this machine.
    pub agent: Running,
    /// The administrator, logged in.
    pub client: Client,
    /// What agents and clients pin.
    pub bundle: TrustBundle,
    /// How agents reach the server.
    pub carrier: Ways,
    /// What agents and clients believe in TLS.
    pub tls: Arc<rustls::ClientConfig>,
    /// Where everything is kept.
    pub folder: PathBuf,
}

/// The identity provider of a system.
#[derive(Debug)]
pub enum Idp {
    /// Ours, in this process.
    Dev(DevIdp),
    /// The certified one.
    Certified(Box<CertifiedIdp>),
}

impl Idp {
    fn issuer(&self) -> String {
        match self {
            Self::Dev(idp) => idp.issuer().to_string(),
            Self::Certified(idp) => idp.issuer().to_owned(),
        }
    }

    async fn stop(self) {
        match self {
            Self::Dev(idp) => idp.stop().await,
            // Its process ends when it is dropped.
            Self::Certified(_) => {}
        }
    }
}

/// What a system is made of.
#[derive(Debug)]
pub struct Parts {
    /// Starts the agent's helpers.
    pub helper: Helper,
    /// Who logs in and becomes administrator, as the identity provider knows them.
    pub person: String,
    /// As which user of this machine sessions run.
    pub user: String,
    /// The identity provider.
    pub idp: Idp,
    /// What tells the time.
    pub clock: Arc<dyn Clock>,
    /// What carries the links.
    pub way: Way,
}

/// What carries the links of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// Who answers first.
    Auto,
    /// WebSocket over TLS.
    Ws,
    /// QUIC.
    Quic,
}

impl From<Way> for Choice {
    fn from(way: Way) -> Self {
        match way {
            Way::Auto => Self::Auto,
            Way::Ws => Self::Ws,
            Way::Quic => Self::Quic,
        }
    }
}

/// A browser that walks the development provider's login by itself.
#[derive(Debug, Clone)]
pub struct Walker {
    /// As whom.
    pub user: String,
}

impl Browser for Walker {
    fn open<'a>(&'a self, url: &'a Url) -> Opening<'a> {
        Box::pin(async move {
            let redirect = authorize_without_browser(url, &self.user).await;
            redirect.map(Some).map_err(|e| BrowserFailed(e.to_string()))
        })
    }
}

impl World {
    /// Starts everything in `folder`, which must be empty, with `user` as administrator who may be that user here.
    ///
    /// # Errors
    /// What failed first.
    pub async fn start(folder: &Path, helper: Helper, user: &str, way: Way) -> Result<Self> {
        Self::start_with(folder, helper, (user, way), |_| ()).await
    }

    /// The same, with other settings of the server.
    ///
    /// # Errors
    /// What failed first.
    pub async fn start_with(
        folder: &Path,
        helper: Helper,
        (user, way): (&str, Way),
        settings: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        let clock = Arc::new(SystemClock::new());
        let idp = Idp::Dev(provider(user, idp::Clock::system()).await?);
        let (person, user) = (user.to_owned(), user.to_owned());
        Self::of(folder, Parts { helper, person, user, idp, clock, way }, settings).await
    }

    /// The same of these parts.
    ///
    /// # Errors
    /// What failed first.
    pub async fn of(folder: &Path, parts: Parts, settings: impl FnOnce(&mut Config)) -> Result<Self> {
        let Parts { helper, person, user, idp, clock, way } = parts;
        let (server, relay, (claim, bundle)) = server(folder, &idp.issuer(), (&clock, settings)).await?;
        let ca = std::fs::read_to_string(folder.join("server/ca.crt")).context("the server's CA")?;
        let tls = Arc::new(tls(&ca)?);
        let address = address(&server).await?;
        let client = log_in((&address, &ca), &bundle, (Some(&claim), &person), &clock).await?;
        let carrier = Ways::to_server(client.server().url(), &tls, way.into(), &Proxies::default());
        let client = client.clone().with_carrier(client.server().ways(way.into())?);
        let receipts = ClientReceipts::new(folder.join(CLIENT_RECEIPTS), Bounds::CLIENT);
        let client = client.with_receipts(Arc::new(receipts));
        let identity = enroll(&client, (&address, TARGET), (&tls, &clock)).await?;
        allow(&client, &identity, &user).await?;
        // Nobody comes back to this agent: a shell that was left behind ends soon after it.
        let files = Files::new(helper.clone());
        let shells = Shells::new(helper, folder.join("shells"))?.idle(Duration::from_secs(60));
        let keys = IssuerKeys::ThroughLink(Arc::clone(&tls));
        let receipts = AgentReceipts::new(folder.join(AGENT_RECEIPTS), Bounds::AGENT);
        let agent = Agent::new(identity, bundle.clone(), carrier.clone(), keys).clock(Arc::clone(&clock));
        let agent = agent
            .shell(shells)
            .files(files)
            .tunnels()
            .web(Web::new(Arc::clone(&tls)))
            .receipts(Arc::new(receipts))
            .start()?;
        agent.online().await;
        Ok(Self { idp, clock, server, relay, agent, client, bundle, carrier, tls, folder: folder.to_owned() })
    }

    /// Another login, over WebSocket.
    ///
    /// # Errors
    /// What failed first.
    pub async fn log_in(&self, person: &str) -> Result<Client> {
        let ca = std::fs::read_to_string(self.folder.join("server/ca.crt")).context("the server's CA")?;
        log_in((&address(&self.server).await?, &ca), &self.bundle, (None, person), &self.clock).await
    }

    /// A client with this login, as another program of the same person would have it.
    ///
    /// # Errors
    /// When no TLS can be set up.
    pub fn client_of(&self, login: Login) -> Result<Client> {
        let client = Client::new(self.client.server(), self.client.trust().clone(), login)?;
        let client = client.with_clock(Arc::clone(&self.clock))?;
        Ok(client.with_known_agents(Arc::new(MemoryPins::default()), FirstContact::Accept))
    }

    /// Registers another target and lets the administrator have shells and commands there as the user of this process.
    ///
    /// # Errors
    /// What the server says.
    pub async fn enroll(&self, name: &str) -> Result<Identity> {
        let identity = enroll(&self.client, (&address(&self.server).await?, name), (&self.tls, &self.clock)).await?;
        let user = bz_agent::user::User::current()?.name;
        self.client.create_policy(&shells_on(&self.client, &identity, (name, &user)).await?).await?;
        Ok(identity)
    }

    /// Registers another target and lets the administrator call one route of its program.
    ///
    /// # Errors
    /// What the server says.
    pub async fn register(&self, name: &str, route: &str) -> Result<Identity> {
        let identity = enroll(&self.client, (&address(&self.server).await?, name), (&self.tls, &self.clock)).await?;
        let policy = TargetConnectContent {
            name: format!("call {route} on {name}"),
            subjects: vec![Subject { id: self.client.me().await?.id, kind: SubjectType::User }],
            targets: vec![PolicyTarget { id: identity.target, kind: "Bzero".to_owned() }],
            verbs: vec![Verb::Handler { name: route.to_owned() }],
            ..TargetConnectContent::default()
        };
        self.client.create_policy(&policy).await?;
        Ok(identity)
    }

    /// The transcripts of a connection that are whole by now, each with what verifying it against the pinned bundle and
    /// the provider's own keys says.
    ///
    /// # Errors
    /// When the provider does not give its keys, or a file cannot be read.
    pub async fn transcripts(&self, connection: ConnectionId) -> Result<Vec<(PathBuf, Result<Verdict, String>)>> {
        let provider = self.bundle.providers.first().context("the bundle has a provider")?;
        let keys = bz_client::login::issuer_keys(provider, self.client.server()).await?;
        let mut archive = JwksArchive::new();
        archive.add(&provider.issuer, &keys)?;
        let folder = self.folder.join("server/transcripts").join(connection.to_string());
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&folder)?.map(|e| e.map(|e| e.path())).collect::<std::io::Result<_>>()?;
        // Their tokens lie beside them.
        files.retain(|path| path.extension().is_some_and(|extension| extension == "bzt"));
        files.sort();
        let check = |path: PathBuf| {
            let verdict = verify(&std::fs::read(&path)?, &Anchors::Bundle(&self.bundle, &archive));
            Ok((path, verdict.map_err(|refused| refused.to_string())))
        };
        files.into_iter().map(check).collect()
    }

    /// Ends everything in order: who depends goes first.
    pub async fn stop(self) {
        self.agent.stop().await;
        self.server.shutdown().await;
        self.idp.stop().await;
    }
}

/// The development identity provider with one user, who is logged in without a page.
///
/// # Errors
/// When it cannot listen.
pub async fn provider(user: &str, clock: idp::Clock) -> Result<DevIdp> {
    let person = User::new(user, &format!("{user}@example.com")).with_hd("example.com");
    let config = DevIdpConfig::new(loopback(), CLIENT_ID, vec![person]);
    Ok(DevIdp::start(DevIdpConfig { auto_login: Some(user.to_owned()), clock, ..config }).await?)
}

async fn server(
    folder: &Path,
    issuer: &str,
    (clock, settings): (&Arc<dyn Clock>, impl FnOnce(&mut Config)),
) -> Result<(Server, Arc<Relay>, (String, TrustBundle))> {
    let listen = loopback();
    let mut config = Config {
        organization: "Quickstart".to_owned(),
        data: folder.join("server"),
        listen,
        public_url: "https://127.0.0.1".parse()?,
        providers: vec![Provider {
            kind: ProviderKind::Oidc,
            issuer: issuer.to_owned(),
            audiences: vec![CLIENT_ID.to_owned()],
            organization: None,
            organization_is_issuer: true,
            domains: vec!["example.com".to_owned()],
            commitment: Commitment::Nonce,
            workloads: vec![],
            groups_claim: None,
        }],
        ..Config::parse(Config::default_text(), [])?
    };
    settings(&mut config);
    let tls = match &config.tls {
        Tls::Acme(_) => InitTls::AsConfigured,
        Tls::Off(_) | Tls::Files(_) => InitTls::Make(vec!["127.0.0.1".to_owned(), NAME.to_owned()]),
    };
    let made = init::init(config, tls, clock.as_ref(), &SystemEntropy).await?;
    let config = init::read_config(&made.config, [])?;
    let relay = Relay::new();
    let seams = Seams {
        clock: Arc::clone(clock),
        entropy: Arc::new(SystemEntropy),
        jwks: Arc::new(HttpJwks::new(None)?),
        links: Arc::clone(&relay) as Arc<dyn Links>,
    };
    let server = Server::start_with(config, seams, Arc::clone(&relay)).await?;
    Ok((server, relay, (made.claim, TrustBundle::parse(&made.bundle)?)))
}

/// Where clients and agents reach a server: by a name where its certificate is an authority's, once there is one.
async fn address(server: &Server) -> Result<String> {
    let app = server.app();
    let Tls::Acme(settings) = &app.config().tls else { return Ok(server.local_addr().to_string()) };
    let first = async {
        while app.certificates.as_ref().is_none_or(|certificates| certificates.ends().is_none()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), first).await.context("no first certificate")?;
    let name = settings.names.first().context("a name of the certificate")?;
    Ok(format!("{name}:{}", server.local_addr().port()))
}

async fn log_in(
    (address, ca): (&str, &str),
    bundle: &TrustBundle,
    (claim, user): (Option<&str>, &str),
    clock: &Arc<dyn Clock>,
) -> Result<Client> {
    let server = ServerAddress::new(&format!("https://{address}"))?.with_roots(Roots::Ca(ca.to_owned()))?;
    let trust = Trust::given(bundle.clone())?;
    let options = LoginOptions { claim: claim.map(Secret::new), ..LoginOptions::default() };
    let walker = Walker { user: user.to_owned() };
    let login = Login::begin_at(&server, &trust, &options, &walker, clock).await?;
    let client = Client::new(&server, trust, login)?.with_clock(Arc::clone(clock))?;
    Ok(client.with_known_agents(Arc::new(MemoryPins::default()), FirstContact::Accept))
}

async fn enroll(
    client: &Client,
    (address, name): (&str, &str),
    (tls, clock): (&Arc<rustls::ClientConfig>, &Arc<dyn Clock>),
) -> Result<Identity> {
    let key = NewApiKey { name: name.to_owned(), is_registration_key: true, ..NewApiKey::default() };
    let key = client.create_api_key(&key).await?;
    let registration = Registration {
        labels: Default::default(),
        server: format!("https://{address}"),
        organization: client.trust().bundle().organization,
        name: name.to_owned(),
        host_name: "localhost".to_owned(),
        environment: None,
        local_policy: false,
        replaces: None,
        now: clock.now().wall,
    };
    let reach = Reach { tls: Arc::clone(tls), dial: Arc::new(Direct) };
    Ok(register(&registration, &key.secret, reach).await?)
}

async fn shells_on(client: &Client, identity: &Identity, (name, user): (&str, &str)) -> Result<TargetConnectContent> {
    Ok(TargetConnectContent {
        name: format!("shells on {name}"),
        subjects: vec![Subject { id: client.me().await?.id, kind: SubjectType::User }],
        targets: vec![PolicyTarget { id: identity.target, kind: "Bzero".to_owned() }],
        target_users: vec![TargetUserName { user_name: UserRule::Literal(user.parse()?) }],
        verbs: vec![Verb::Shell],
        ..TargetConnectContent::default()
    })
}

async fn allow(client: &Client, identity: &Identity, user: &str) -> Result<()> {
    client.create_policy(&shells_on(client, identity, (TARGET, user)).await?).await?;
    let me = client.me().await?;
    let recording = RecordingContent {
        name: "record everything here".to_owned(),
        subjects: vec![Subject { id: me.id, kind: SubjectType::User }],
        ..RecordingContent::default()
    };
    client.create_recording_policy(&recording).await?;
    Ok(())
}

fn tls(ca: &str) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

const fn loopback() -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
}
