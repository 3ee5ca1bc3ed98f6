//! A provider in memory, whose tokens have any shape, rightly or wrongly signed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bz_core::oidc::jwks::Jwks;
use bz_core::time::UnixTime;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer as _;
use serde_json::{Value, json};

use crate::hostile::organization::{AUDIENCE, ISSUER, KitError, PERSON};

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signing {
    /// As it should be.
    #[default]
    Right,
    /// `alg: none`, and no signature.
    None,
    /// `HS256` with the provider's public key as the secret.
    PublicKeyAsSecret,
    /// One bit of the signature is another.
    Flipped,
    /// Under the name of a key that nobody publishes.
    UnknownKey,
}

/// A provider's signing key.
#[derive(Clone)]
pub struct Issuer {
    key: SigningKey,
    kid: &'static str,
}

impl Issuer {
    /// The key that a seed decides, under this name.
    ///
    /// # Errors
    /// When the seed is no key.
    pub fn new(seed: [u8; 32], kid: &'static str) -> Result<Self, KitError> {
        let no_key = |_| KitError::Key(bz_core::key::KeyError::PrivateKey);
        Ok(Self { key: SigningKey::from_slice(&seed).map_err(no_key)?, kid })
    }

    /// The published key set.
    ///
    /// # Errors
    /// When it is none.
    pub fn jwks(&self) -> Result<Jwks, KitError> {
        Ok(Jwks::parse(json!({"keys": [self.jwk()]}).to_string().as_bytes())?)
    }

    fn jwk(&self) -> Value {
        let point = self.key.verifying_key().to_sec1_point(false);
        let half = |from: usize, to: usize| BASE64.encode(point.as_bytes().get(from..to).unwrap_or_default());
        json!({"kty": "EC", "crv": "P-256", "kid": self.kid, "use": "sig", "x": half(1, 33), "y": half(33, 65)})
    }

    /// A token with these claims.
    #[must_use]
    pub fn token(&self, claims: &[u8], signing: Signing) -> String {
        let (algorithm, kid) = match signing {
            Signing::Right | Signing::Flipped => ("ES256", self.kid),
            Signing::None => ("none", self.kid),
            Signing::PublicKeyAsSecret => ("HS256", self.kid),
            Signing::UnknownKey => ("ES256", "k9"),
        };
        let header = json!({"alg": algorithm, "kid": kid}).to_string();
        let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let signature = match signing {
            Signing::None => Vec::new(),
            Signing::PublicKeyAsSecret => {
                let public = self.key.verifying_key().to_sec1_point(false);
                let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public.as_bytes());
                ring::hmac::sign(&secret, signed.as_bytes()).as_ref().to_vec()
            }
            Signing::Right | Signing::Flipped | Signing::UnknownKey => {
                let signature: p256::ecdsa::Signature = self.key.sign(signed.as_bytes());
                let mut bytes = signature.to_bytes().to_vec();
                if let Some(first) = bytes.first_mut().filter(|_| signing == Signing::Flipped) {
                    *first ^= 1;
                }
                bytes
            }
        };
        format!("{signed}.{}", BASE64.encode(signature))
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The claims of an hour's token of the person.
#[must_use]
pub fn claims(issued_at: UnixTime, nonce: &str) -> Value {
    let at = issued_at.as_secs();
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": PERSON, "iat": at, "exp": at.saturating_add(3600), "nonce": nonce,
        "org": "acme", "email": "alice@example.com", "email_verified": true, "groups": ["dev"],
    })
}
