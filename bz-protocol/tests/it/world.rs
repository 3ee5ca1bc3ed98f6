//! An organization in memory: provider, server keys, one agent, one client.

use std::time::Duration;

use bz_core::access::Mode;
use bz_core::access::request::{Parameters, Request, Size};
use bz_core::cert::CertRequest;
use bz_core::digest::Digest;
use bz_core::grant::{GrantBody, Purpose, Recording, ServerCert, SignedGrant};
use bz_core::id::{BootId, ConnectionId, GrantId, OrganizationId, TargetId};
use bz_core::key::PrivateKey;
use bz_core::oidc::Person;
use bz_core::oidc::jwks::Jwks;
use bz_core::signed::Signed;
use bz_core::target::UserRule;
use bz_core::time::{Mono, Now, UnixTime};
use bz_core::trust::TrustBundle;
use bz_core::wire;
use bz_protocol::agent::Config;
use bz_protocol::client::Opening;
use bz_protocol::gate::Gate;

use crate::idp::{ISSUER, Idp, claims, provider};

pub(crate) const ORG: OrganizationId = OrganizationId::from_bytes([1; 16]);
pub(crate) const TARGET: TargetId = TargetId::from_bytes([2; 16]);
pub(crate) const CONNECTION: ConnectionId = ConnectionId::from_bytes([3; 16]);
pub(crate) const BOOT: BootId = BootId::from_bytes([4; 16]);
/// What the machines' ephemeral keys are made of.
pub(crate) const AGENT_SEED: [u8; 32] = [21; 32];
pub(crate) const CLIENT_SEED: [u8; 32] = [31; 32];
/// When every world begins.
pub(crate) const START: u64 = 1_000_000;

pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&[seed; 32]).unwrap()
}

pub(crate) fn start() -> Now {
    Now { mono: Mono::at(Duration::from_secs(50)), wall: UnixTime::from_secs(START) }
}

/// What one case is made of; a test changes one thing of it.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) root: PrivateKey,
    pub(crate) grant_key: PrivateKey,
    pub(crate) client_key: PrivateKey,
    pub(crate) agent_key: PrivateKey,
    pub(crate) mode: Mode,
    pub(crate) parameters: Parameters,
    pub(crate) user: Option<&'static str>,
    pub(crate) token_life: u64,
    pub(crate) session_seconds: u32,
    pub(crate) certificate_known: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            root: key(10),
            grant_key: key(11),
            client_key: key(12),
            agent_key: key(13),
            mode: Mode::Inspected,
            parameters: Parameters::Shell { term: "xterm".to_owned(), size: Size { rows: 24, columns: 80 } },
            user: Some("alice"),
            token_life: 3600,
            session_seconds: 8 * 3600,
            certificate_known: false,
        }
    }

    pub(crate) fn idp() -> Idp {
        Idp::new(1, "k1")
    }

    pub(crate) fn jwks() -> Jwks {
        Self::idp().jwks()
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle {
            organization: ORG,
            roots: vec![self.root.public()],
            directory_key: None,
            service_accounts: vec![],
            providers: vec![provider()],
        }
    }

    pub(crate) fn gate(&self) -> Gate {
        Gate::new(self.bundle(), self.agent_key.public(), vec![TARGET], BOOT)
    }

    pub(crate) fn agent(&self) -> Config {
        Config::new(ORG, self.agent_key.clone(), AGENT_SEED, [22; 32])
    }

    pub(crate) fn request(&self) -> Request {
        let user = self.user.map(|u| u.parse().unwrap());
        Request { target: TARGET, user, mode: self.mode, parameters: self.parameters.clone() }
    }

    /// The login's certificate, with a current token issued `at` seconds after the start.
    pub(crate) fn certificate(&self, at: u64) -> Vec<u8> {
        let request = CertRequest::new(ORG, &self.client_key, [7; 32]);
        let token = |at: u64| {
            let mut body = claims(START + at, &request.commitment());
            body["exp"] = serde_json::json!(START + at + self.token_life);
            Self::idp().token(&body)
        };
        request.certificate(&token(0), &token(at)).unwrap()
    }

    pub(crate) fn grant_body(&self) -> GrantBody {
        let request = self.request();
        GrantBody {
            id: GrantId::from_bytes([5; 16]),
            connection: CONNECTION,
            person: Person { issuer: ISSUER.to_owned(), subject: "alice".to_owned() },
            client_key: self.client_key.public(),
            agent_key: self.agent_key.public(),
            boot: BOOT,
            target: TARGET,
            verb: request.verb(),
            user: self.user.map(|u| UserRule::Literal(u.parse().unwrap())),
            mode: self.mode,
            recording: Recording { output: false, input: false },
            request: Digest::of(&request.encode().unwrap()),
            scope: self.parameters.scope(),
            mfa: None,
            policies: vec![],
            policy_version: 1,
            not_before: UnixTime::from_secs(START),
            not_after: UnixTime::from_secs(START + 300),
            session_seconds: self.session_seconds,
        }
    }

    pub(crate) fn server_cert(&self) -> ServerCert {
        ServerCert {
            key: self.grant_key.public(),
            purpose: Purpose::Grant,
            node: "one".to_owned(),
            not_before: UnixTime::from_secs(START - 10),
            not_after: UnixTime::from_secs(START + 86400),
        }
    }

    pub(crate) fn sign_grant(&self, body: &GrantBody) -> Vec<u8> {
        let certificate = self.server_cert();
        let signed = SignedGrant {
            certificate: Signed::seal(&certificate, ORG, &self.root).unwrap(),
            grant: Signed::seal(body, ORG, &self.grant_key).unwrap(),
        };
        wire::encode(&signed, 1 << 20).unwrap()
    }

    pub(crate) fn opening(&self) -> Opening {
        Opening {
            organization: ORG,
            connection: CONNECTION,
            agent_key: self.agent_key.public(),
            request: self.request().encode().unwrap(),
            grant: self.sign_grant(&self.grant_body()),
            certificate: self.certificate(0),
            certificate_known: self.certificate_known,
            key: self.client_key.clone(),
            ephemeral_seed: CLIENT_SEED,
            random: [32; 32],
            patience: Duration::from_secs(120),
        }
    }
}
