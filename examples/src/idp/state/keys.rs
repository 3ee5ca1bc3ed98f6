//! The signing keys: one signs, all published ones verify (RFC 7515, RFC 7517, RFC 7518 section 3.4).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::Generate as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::idp::OldKey;

/// As many keys as a client's bounded JWKS can be expected to take.
const MAX_PUBLISHED: usize = 16;

/// The key that signs and what the JWKS shows.
pub(in crate::idp) struct Keyring {
    signing: SigningKey,
    current: Published,
    /// Newest first; without the current one.
    former: Vec<Published>,
}

#[derive(Clone, Debug)]
struct Published {
    kid: String,
    jwk: Value,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("current", &self.current.kid).finish_non_exhaustive()
    }
}

impl Keyring {
    pub(in crate::idp) fn generate() -> Self {
        let signing = SigningKey::generate();
        let current = Published::of(&signing);
        Self { signing, current, former: Vec::new() }
    }

    pub(in crate::idp) fn kid(&self) -> &str {
        &self.current.kid
    }

    pub(in crate::idp) fn rotate(&mut self, old: OldKey) {
        let next = Self::generate();
        let last = std::mem::replace(&mut self.current, next.current);
        self.signing = next.signing;
        match old {
            OldKey::Published => self.former.insert(0, last),
            OldKey::Withdrawn => self.former.clear(),
        }
        self.former.truncate(MAX_PUBLISHED - 1);
    }

    pub(in crate::idp) fn jwks(&self) -> Value {
        let keys: Vec<&Value> = std::iter::once(&self.current).chain(&self.former).map(|key| &key.jwk).collect();
        json!({ "keys": keys })
    }

    pub(in crate::idp) fn sign(&self, claims: &Value) -> String {
        self.sign_under(&json!({ "alg": "ES256", "typ": "JWT", "kid": self.current.kid }), claims)
    }

    pub(in crate::idp) fn sign_under(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
        let signature: Signature = self.signing.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64URL.encode(signature.to_bytes()))
    }
}

impl Published {
    /// The `kid` is the thumbprint of RFC 7638, so that one name can never mean two keys.
    fn of(key: &SigningKey) -> Self {
        let point = key.verifying_key().to_sec1_point(false);
        let coordinate = |bytes: Option<_>| bytes.map_or_else(String::new, |bytes| BASE64URL.encode(bytes));
        let (x, y) = (coordinate(point.x()), coordinate(point.y()));
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = BASE64URL.encode(Sha256::digest(canonical));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "use": "sig", "kid": kid });
        Self { kid, jwk }
    }
}
