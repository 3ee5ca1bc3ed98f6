//! A server, a directory, an administrator, and a target.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bz_core::api::access::ConnectionMade;
use bz_core::api::login::Registered;
use bz_core::id::ConnectionId;
use bz_core::oidc::provider::{OrganizationClaim, Provider, ProviderKind};
use bz_server::config::Config;
use bz_server::connection::link;
use bz_server::jobs;
use bz_server::seam::links::Asked;
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use super::stand::{Kind, Stand};
use crate::idp;
use crate::world::{Agent, As, Client, Reply, World};

pub(crate) const KINDS: [Kind; 5] = [Kind::Google, Kind::Microsoft, Kind::Okta, Kind::OneLogin, Kind::Keycloak];
/// A key of these tests and nothing else.
const KEY: &str = include_str!("key.txt");
pub(crate) const HOOK: &str = "the-secret-of-the-event-hook";
const KEYCLOAK: &str = "https://idp.example/realms/acme";

pub(crate) struct Place {
    pub(crate) world: World,
    pub(crate) stand: Stand,
    pub(crate) agent: Agent,
    admin: Client,
    _secrets: tempfile::TempDir,
}

impl Place {
    pub(crate) async fn new(kind: Kind) -> Self {
        Self::with(kind, |_| ()).await
    }

    pub(crate) async fn with(kind: Kind, change: impl FnOnce(&mut Config)) -> Self {
        let groups: Vec<_> = (0..5).map(|n| (group(kind, n), format!("group {n}"))).collect();
        let groups: Vec<_> = groups.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
        let stand = Stand::start(kind, &groups, verified).await;
        stand.put(&id(kind, 0), &[]);
        let secrets = tempfile::tempdir().unwrap();
        let directory = toml::from_str(&settings(&stand, secrets.path())).unwrap();
        let world = World::with(|config| {
            config.providers = vec![provider(kind)];
            config.directories = vec![directory];
            change(config);
        })
        .await;
        let admin = client(&world, kind, 0);
        world.register(&admin, &admin.initial, Some(&world.claim)).await.ok::<Registered>();
        let agent = world.agent(&admin, "web").await;
        Self { world, stand, agent, admin, _secrets: secrets }
    }

    pub(crate) fn admin(&self) -> As<'_> {
        As::Client(&self.admin)
    }

    pub(crate) fn id(&self, n: usize) -> String {
        id(self.stand.kind, n)
    }

    pub(crate) fn group(&self, n: usize) -> String {
        group(self.stand.kind, n)
    }

    /// Somebody who is in these groups, logged in.
    pub(crate) async fn person(&self, n: usize, groups: &[usize]) -> Client {
        let groups: Vec<_> = groups.iter().map(|n| self.group(*n)).collect();
        self.stand.put(&self.id(n), &groups.iter().map(String::as_str).collect::<Vec<_>>());
        let client = self.client(n);
        self.world.register(&client, &client.initial, None).await.ok::<Registered>();
        client
    }

    /// A login that is not registered yet.
    pub(crate) fn client(&self, n: usize) -> Client {
        client(&self.world, self.stand.kind, n)
    }

    /// A policy by which whoever is in these groups may have shells on the target.
    pub(crate) async fn policy(&self, name: &str, groups: &[usize]) -> Reply {
        let groups: Vec<_> =
            groups.iter().map(|n| json!({"id": self.group(*n), "name": format!("group {n}")})).collect();
        self.policy_of(name, &groups).await
    }

    pub(crate) async fn policy_of(&self, name: &str, groups: &[Value]) -> Reply {
        let body = json!({
            "name": name, "groups": groups, "targets": [{"id": self.agent.id, "type": "Bzero"}],
            "targetUsers": [{"userName": "deploy"}], "verbs": [{"type": "Shell"}],
        });
        let made = self.world.call(self.admin(), "POST", "/policies/target-connect", &body).await;
        made.done();
        made
    }

    pub(crate) async fn connect(&self, who: &Client) -> Reply {
        let body = json!({"targetId": self.agent.id});
        self.world.call(As::Client(who), "POST", "/connections/universal", &body).await
    }

    /// A session that somebody is in.
    pub(crate) async fn session(&self, who: &Client) -> ConnectionId {
        let made: ConnectionMade = self.connect(who).await.ok();
        link::client_connected(&self.world.app, made.connection_id).await.unwrap();
        made.connection_id
    }

    /// How many connections somebody has.
    pub(crate) async fn open(&self, who: &Client) -> usize {
        self.world.get(As::Client(who), "/connections").await.ok::<Vec<Value>>().len()
    }

    /// The same as an administrator sees it.
    pub(crate) async fn connections_of(&self, n: usize) -> usize {
        let all: Vec<Value> = self.world.get(self.admin(), "/connections?all=true").await.ok();
        let name = format!("p{n}@example.com");
        all.iter().filter(|connection| connection.to_string().contains(&name)).count()
    }

    /// Why the links of a session were told to end, once they were.
    pub(crate) fn closed(&self, connection: ConnectionId) -> Option<String> {
        self.world.links.asked().into_iter().find_map(|asked| match asked {
            Asked::Closed(id, why) => (id == connection).then_some(why),
            Asked::LoggedOut(_) | Asked::Removed(_) => None,
        })
    }

    /// Some minutes go by, with all jobs.
    pub(crate) async fn later(&self, minutes: u64) {
        self.world.advance(minutes * 60);
        jobs::tick(&self.world.app).await.unwrap();
        jobs::groups(&self.world.app).await.unwrap();
    }

    /// All that the database has of memberships: groups, and how many are in each.
    pub(crate) fn kept(&self) -> Vec<(String, u32)> {
        let database = rusqlite::Connection::open(self.world.folder.path().join("data/bz-server.db")).unwrap();
        let mut all = database.prepare("SELECT group_id, count(*) FROM membership GROUP BY group_id").unwrap();
        let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Nothing but reads was asked for or sent.
    pub(crate) fn only_reads(&self) {
        for asked in self.stand.asked() {
            let reads = asked.starts_with("GET ") || asked.ends_with("/checkMemberGroups");
            assert!(reads, "{asked}");
        }
        let scope = match self.stand.kind {
            Kind::Google => {
                "https://www.googleapis.com/auth/admin.directory.user.readonly \
                 https://www.googleapis.com/auth/admin.directory.group.readonly \
                 https://www.googleapis.com/auth/admin.directory.group.member.readonly"
            }
            Kind::Microsoft => "https://graph.microsoft.com/.default",
            Kind::Okta => "okta.users.read okta.groups.read",
            Kind::OneLogin | Kind::Keycloak => "",
        };
        for access in self.stand.with(|state| state.access.clone()) {
            assert_eq!(access.get("scope").map(String::as_str).unwrap_or_default(), scope);
            if self.stand.kind == Kind::Google {
                assert_eq!(access["sub"], "reader@example.com");
                assert_eq!(access["iss"], "bz@project.iam.gserviceaccount.com");
            }
        }
    }
}

fn id(kind: Kind, n: usize) -> String {
    match kind {
        Kind::Google | Kind::OneLogin => (1000 + n).to_string(),
        Kind::Microsoft => format!("00000000-0000-4000-8000-00000000000{n}"),
        Kind::Okta => format!("00u{n}"),
        Kind::Keycloak => format!("7f000000-0000-4000-8000-00000000000{n}"),
    }
}

fn group(kind: Kind, n: usize) -> String {
    match kind {
        Kind::Google => format!("01abc{n}"),
        Kind::OneLogin => (500 + n).to_string(),
        Kind::Microsoft | Kind::Keycloak => format!("11111111-0000-4000-8000-00000000000{n}"),
        Kind::Okta => format!("00g{n}"),
    }
}

fn provider(kind: Kind) -> Provider {
    let claim = |claim: &str| Some(OrganizationClaim { claim: claim.to_owned(), value: "acme".to_owned() });
    let (kind, organization) = match kind {
        Kind::Google => (ProviderKind::Google, claim("hd")),
        Kind::Microsoft => (ProviderKind::Microsoft, claim("tid")),
        Kind::Okta => (ProviderKind::Okta, claim("org")),
        Kind::OneLogin => (ProviderKind::Onelogin, claim("org")),
        Kind::Keycloak => (ProviderKind::Keycloak, claim("org")),
    };
    let mut provider = Provider { kind, organization, ..idp::provider() };
    if kind == ProviderKind::Keycloak {
        KEYCLOAK.clone_into(&mut provider.issuer);
    }
    provider
}

/// The settings that lead to this directory, and the files that they name.
fn settings(stand: &Stand, folder: &Path) -> String {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let url = stand.url();
    let issuer = provider(stand.kind).issuer;
    let common = format!("issuer = {issuer:?}\napi = {url:?}\n");
    let secret = format!("client_id = \"bz\"\nsecret_file = {:?}\n", file("secret", &stand.secret));
    match stand.kind {
        Kind::Google => {
            let key = json!({
                "type": "service_account", "client_email": "bz@project.iam.gserviceaccount.com",
                "private_key": pem(), "private_key_id": "k1", "token_uri": format!("{url}/token"),
            });
            let key = file("key.json", &key.to_string());
            format!("{common}subject = \"reader@example.com\"\nsecret_file = {key:?}\n")
        }
        Kind::Microsoft => format!("{common}{secret}token_url = \"{url}/acme/oauth2/v2.0/token\"\n"),
        Kind::Okta => {
            let (key, hook) = (file("key.pem", &pem()), file("hook", HOOK));
            format!("{common}client_id = \"bz\"\nkey_id = \"k1\"\nsecret_file = {key:?}\nhook_secret_file = {hook:?}\n")
        }
        Kind::OneLogin => format!("{common}{secret}"),
        Kind::Keycloak => {
            format!("{common}{secret}token_url = \"{url}/realms/acme/protocol/openid-connect/token\"\n")
        }
    }
}

fn pem() -> String {
    format!("-----BEGIN PRIVATE {0}-----\n{KEY}-----END PRIVATE {0}-----\n", "KEY")
}

/// An assertion's claims, when our key signed it and it is short-lived.
fn verified(jwt: &str) -> Result<Value, String> {
    let der = STANDARD.decode(KEY.split_whitespace().collect::<String>()).map_err(|error| error.to_string())?;
    let key = RsaKeyPair::from_pkcs8(&der).map_err(|error| error.to_string())?;
    let (signed, signature) = jwt.rsplit_once('.').ok_or("no JWT")?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|error| error.to_string());
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
    public.verify(signed.as_bytes(), &decode(signature)?).map_err(|_| "the signature does not verify")?;
    let (header, claims) = signed.split_once('.').ok_or("no JWT")?;
    let header: Value = serde_json::from_slice(&decode(header)?).map_err(|error| error.to_string())?;
    let claims: Value = serde_json::from_slice(&decode(claims)?).map_err(|error| error.to_string())?;
    let life = claims["exp"].as_u64().unwrap_or_default() - claims["iat"].as_u64().unwrap_or_default();
    let right = header["alg"] == "RS256" && header["kid"] == "k1" && (1..=3600).contains(&life);
    let right = right && claims["aud"].as_str().is_some_and(|aud| aud.ends_with("/token"));
    if right { Ok(claims) } else { Err(format!("{header} {claims}")) }
}

/// A login of the provider's `n`th person.
fn client(world: &World, kind: Kind, n: usize) -> Client {
    let mut client = world.client(&id(kind, n));
    let more = json!({
        "hd": "acme", "tid": "acme", "oid": id(kind, n), "iss": provider(kind).issuer,
        "email": format!("p{n}@example.com"), "preferred_username": format!("p{n}@example.com"),
    });
    client.claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    if kind == Kind::Microsoft {
        // Another one for each client there.
        client.claims["sub"] = json!(format!("pairwise-{n}"));
    }
    client.initial = world.issuer.idp.lock().unwrap().token(&client.claims);
    client
}
