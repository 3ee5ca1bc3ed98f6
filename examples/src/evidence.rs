//! Everything that two ends need for one session, made in memory from fixed keys: a token, a grant, the pins of both.
//!
//! For examples that show the machines and nothing else.

use std::time::Duration;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use bz_core::access::Mode;
use bz_core::access::request::{Parameters, Request};
use bz_core::cert::CertRequest;
use bz_core::digest::Digest;
use bz_core::grant::{GrantBody, MAX_GRANT, Purpose, Recording, Scope, ServerCert, SignedGrant};
use bz_core::id::{BootId, ConnectionId, GrantId, OrganizationId, TargetId};
use bz_core::key::PrivateKey;
use bz_core::oidc::Person;
use bz_core::oidc::jwks::Jwks;
use bz_core::oidc::provider::{Commitment, Provider, ProviderKind};
use bz_core::signed::Signed;
use bz_core::time::{Mono, Now, UnixTime};
use bz_core::trust::TrustBundle;
use bz_core::wire;
use bz_protocol::agent::Config;
use bz_protocol::client::Opening;
use bz_protocol::gate::Gate;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::json;

const ORGANIZATION: OrganizationId = OrganizationId::from_bytes([1; 16]);
const TARGET: TargetId = TargetId::from_bytes([2; 16]);
const BOOT: BootId = BootId::from_bytes([3; 16]);
const CONNECTION: ConnectionId = ConnectionId::from_bytes([4; 16]);
const ISSUER: &str = "https://idp.example";
const AUDIENCE: &str = "bz-cli";

/// When all of it is good, for five minutes.
pub const NOW: Now = Now { mono: Mono::at(Duration::ZERO), wall: UnixTime::from_secs(1_800_000_000) };

/// One session's evidence, at both ends.
#[derive(Debug)]
pub struct Evidence {
    /// What the agent checks with: the pins of its owner.
    pub gate: Gate,
    /// What the identity provider publishes.
    pub jwks: Jwks,
    /// The agent's own key and random bytes.
    pub agent: Config,
    /// What the client opens with.
    pub opening: Opening,
}

impl Evidence {
    /// Alice may call `greet` on one target.
    ///
    /// # Errors
    /// When a fixed value is none, which a run would show.
    pub fn new() -> Result<Self> {
        let key = |seed: u8| PrivateKey::from_seed(&[seed; 32]);
        let (root, agent, client) = (key(11)?, key(12)?, key(13)?);
        let idp = SigningKey::from_slice(&[14; 32])?;
        let (certificate, subject) = (CertRequest::new(ORGANIZATION, &client, [15; 32]), "alice");
        let token = token(&idp, subject, &certificate.commitment());
        let parameters = Parameters::Handler { route: "greet".to_owned() };
        let request = Request { target: TARGET, user: None, mode: Mode::Inspected, parameters };
        let bytes = request.encode()?;
        let grant = grant(&request, subject, (&client, &agent), Request::digest(&bytes));
        let opening = Opening {
            organization: ORGANIZATION,
            connection: CONNECTION,
            agent_key: agent.public(),
            request: bytes,
            grant: wire::encode(&signed(&grant, &root, &key(16)?)?, MAX_GRANT)?,
            certificate: certificate.certificate(&token, &token)?,
            certificate_known: false,
            key: client,
            ephemeral_seed: [17; 32],
            random: [18; 32],
            patience: Duration::from_secs(120),
        };
        let gate = Gate::new(bundle(&root), agent.public(), vec![TARGET], BOOT);
        let agent = Config::new(ORGANIZATION, agent, [19; 32], [20; 32]);
        Ok(Self { gate, jwks: jwks(&idp)?, agent, opening })
    }
}

fn bundle(root: &PrivateKey) -> TrustBundle {
    let provider = Provider {
        kind: ProviderKind::Oidc,
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        organization: None,
        organization_is_issuer: true,
        domains: vec![],
        commitment: Commitment::Nonce,
        workloads: vec![],
        groups_claim: None,
    };
    TrustBundle {
        organization: ORGANIZATION,
        roots: vec![root.public()],
        directory_key: None,
        service_accounts: vec![],
        providers: vec![provider],
    }
}

/// An ID token whose nonce commits to the client's key.
fn token(idp: &SigningKey, subject: &str, commitment: &str) -> String {
    let now = NOW.wall.as_secs();
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 3600, "nonce": commitment,
    });
    let part = |value: serde_json::Value| BASE64URL.encode(value.to_string());
    let signed = format!("{}.{}", part(json!({"alg": "ES256"})), part(claims));
    let signature: Signature = idp.sign(signed.as_bytes());
    format!("{signed}.{}", BASE64URL.encode(signature.to_bytes()))
}

fn jwks(idp: &SigningKey) -> Result<Jwks> {
    let point = idp.verifying_key().to_sec1_point(false);
    let (x, y) = (point.x().map(|x| BASE64URL.encode(x)), point.y().map(|y| BASE64URL.encode(y)));
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
    Ok(Jwks::parse(json!({"keys": [jwk]}).to_string().as_bytes())?)
}

fn grant(request: &Request, subject: &str, (client, agent): (&PrivateKey, &PrivateKey), digest: Digest) -> GrantBody {
    GrantBody {
        id: GrantId::from_bytes([5; 16]),
        connection: CONNECTION,
        person: Person { issuer: ISSUER.to_owned(), subject: subject.to_owned() },
        client_key: client.public(),
        agent_key: agent.public(),
        boot: BOOT,
        target: request.target,
        verb: request.verb(),
        user: None,
        mode: request.mode,
        recording: Recording { output: false, input: false },
        request: digest,
        scope: Scope::Request,
        mfa: None,
        policies: vec![],
        policy_version: 1,
        not_before: NOW.wall,
        not_after: NOW.wall.after(Duration::from_secs(300)),
        session_seconds: 3600,
    }
}

/// Signed as a server does: the root certifies a key for grants, and that key signs.
fn signed(grant: &GrantBody, root: &PrivateKey, online: &PrivateKey) -> Result<SignedGrant> {
    let certificate = ServerCert {
        key: online.public(),
        purpose: Purpose::Grant,
        node: "one".to_owned(),
        not_before: grant.not_before,
        not_after: grant.not_after,
    };
    Ok(SignedGrant {
        certificate: Signed::seal(&certificate, ORGANIZATION, root)?,
        grant: Signed::seal(grant, ORGANIZATION, online)?,
    })
}
