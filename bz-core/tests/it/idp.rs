//! An identity provider in memory: makes tokens of any shape, rightly or wrongly signed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use bz_core::oidc::jwks::Jwks;
use bz_core::oidc::provider::{Commitment, OrganizationClaim, Provider, ProviderKind};
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer as _;
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://idp.example";
pub(crate) const CLIENT: &str = "bz-cli";

pub(crate) struct Idp {
    key: SigningKey,
    kid: &'static str,
}

impl Idp {
    pub(crate) fn new(seed: u8, kid: &'static str) -> Self {
        Self { key: SigningKey::from_slice(&[seed; 32]).unwrap(), kid }
    }

    pub(crate) fn jwk(&self) -> Value {
        let point = self.key.verifying_key().to_sec1_point(false);
        let (x, y) = (&point.as_bytes()[1..33], &point.as_bytes()[33..]);
        json!({"kty": "EC", "crv": "P-256", "kid": self.kid, "use": "sig", "x": B64.encode(x), "y": B64.encode(y)})
    }

    pub(crate) fn jwks(&self) -> Jwks {
        Jwks::parse(json!({"keys": [self.jwk()]}).to_string().as_bytes()).unwrap()
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.raw(&json!({"alg": "ES256", "kid": self.kid}).to_string(), claims.to_string().as_bytes())
    }

    /// A token with exactly this header and payload.
    pub(crate) fn raw(&self, header: &str, payload: &[u8]) -> String {
        let signed = format!("{}.{}", B64.encode(header), B64.encode(payload));
        let signature: p256::ecdsa::Signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", B64.encode(signature.to_bytes()))
    }
}

/// The claims of an hour's token of alice.
pub(crate) fn claims(issued_at: u64, nonce: &str) -> Value {
    json!({
        "iss": ISSUER, "aud": CLIENT, "sub": "alice", "iat": issued_at, "exp": issued_at + 3600, "nonce": nonce,
        "org": "acme", "email": "alice@example.com", "email_verified": true, "groups": ["dev"],
    })
}

pub(crate) fn provider() -> Provider {
    Provider {
        kind: ProviderKind::Oidc,
        issuer: ISSUER.to_owned(),
        audiences: vec![CLIENT.to_owned()],
        organization: Some(OrganizationClaim { claim: "org".to_owned(), value: "acme".to_owned() }),
        organization_is_issuer: false,
        domains: vec!["example.com".to_owned()],
        commitment: Commitment::Nonce,
        workloads: vec![],
        groups_claim: None,
    }
}
