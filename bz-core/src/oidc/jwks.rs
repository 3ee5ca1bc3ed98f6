//! The keys an issuer publishes (RFC 7517), bounded, each with its RFC 7638 thumbprint.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::JsonWebKey as _;
use openidconnect::core::{CoreJsonWebKey, CoreJwsSigningAlgorithm};
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::json;
use crate::oidc::TokenError;

/// The most bytes a key set may have.
pub const MAX_JWKS: usize = 256 << 10;
/// The most keys taken from a set.
pub const MAX_KEYS: usize = 100;
/// RSA moduli shorter than this, in bytes, are refused.
const MIN_RSA_BYTES: usize = 256;
/// RSA moduli longer than this, in bytes, are refused: checking them is work an attacker chooses.
const MAX_RSA_BYTES: usize = 1024;

/// Why bytes are no key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Larger than [`MAX_JWKS`] or more than [`MAX_KEYS`].
    #[error("the issuer's key set is too large")]
    TooLarge,
    /// Not a JSON object with `keys`.
    #[error("the issuer's key set is malformed")]
    Malformed,
}

/// The signature algorithms a token may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The algorithm with this name in a JOSE header; `None` for every other, `none` and the HMAC family included.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    const fn jws(self) -> CoreJwsSigningAlgorithm {
        match self {
            Self::Rs256 => CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
            Self::Es256 => CoreJwsSigningAlgorithm::EcdsaP256Sha256,
            Self::EdDsa => CoreJwsSigningAlgorithm::EdDsa,
        }
    }

    const fn key_type(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Rs256 => ("RSA", None),
            Self::Es256 => ("EC", Some("P-256")),
            Self::EdDsa => ("OKP", Some("Ed25519")),
        }
    }
}

/// An issuer's signing keys.
#[derive(Debug, Clone, Default)]
pub struct Jwks {
    keys: Vec<Key>,
    /// Whether tokens may name any key id: canonical keys carry none.
    any_id: bool,
}

#[derive(Debug, Clone)]
struct Key {
    key: CoreJsonWebKey,
    id: Option<String>,
    kind: (String, Option<String>),
    thumbprint: Digest,
    canonical: String,
    json: Value,
}

impl Jwks {
    /// The usable signing keys of a set; keys of unknown kinds, for encryption, or symmetric ones are left out.
    ///
    /// # Errors
    /// [`JwksError`] when the set is too large or no set.
    pub fn parse(bytes: &[u8]) -> Result<Self, JwksError> {
        if bytes.len() > MAX_JWKS {
            return Err(JwksError::TooLarge);
        }
        let set = json::object(bytes).ok_or(JwksError::Malformed)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(JwksError::Malformed)?;
        if keys.len() > MAX_KEYS {
            return Err(JwksError::TooLarge);
        }
        Ok(Self { keys: keys.iter().filter_map(Key::read).collect(), any_id: false })
    }

    /// The set of exactly these keys in the canonical form of RFC 7638. They carry no key id, so a token may name any:
    /// its signature decides.
    ///
    /// # Errors
    /// [`JwksError`] when there are too many, or one is no usable key in canonical form.
    pub fn from_canonical(keys: &[String]) -> Result<Self, JwksError> {
        if keys.len() > MAX_KEYS || keys.iter().map(String::len).sum::<usize>() > MAX_JWKS {
            return Err(JwksError::TooLarge);
        }
        let read = |text: &String| {
            let json = Value::Object(json::object(text.as_bytes())?);
            Key::read(&json).filter(|key| key.canonical == *text)
        };
        let keys = keys.iter().map(read).collect::<Option<_>>().ok_or(JwksError::Malformed)?;
        Ok(Self { keys, any_id: true })
    }

    /// Takes in the keys of another set that are not here yet.
    ///
    /// # Errors
    /// [`JwksError::TooLarge`] above ten times [`MAX_KEYS`]: what an archive of one issuer may hold.
    pub fn add(&mut self, other: &Self) -> Result<(), JwksError> {
        for key in &other.keys {
            if self.keys.iter().all(|known| known.thumbprint != key.thumbprint || known.id != key.id) {
                self.keys.push(key.clone());
            }
        }
        self.any_id |= other.any_id;
        if self.keys.len() > 10 * MAX_KEYS { Err(JwksError::TooLarge) } else { Ok(()) }
    }

    /// The key with this thumbprint in the canonical form of RFC 7638: the thumbprint is its SHA-256.
    #[must_use]
    pub fn canonical(&self, thumbprint: &Digest) -> Option<&str> {
        self.keys.iter().find(|k| k.thumbprint == *thumbprint).map(|k| k.canonical.as_str())
    }

    /// The set as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        json!({ "keys": self.keys.iter().map(|k| &k.json).collect::<Vec<_>>() }).to_string()
    }

    /// The one key with this thumbprint: what a transcript holds.
    #[must_use]
    pub fn only(&self, thumbprint: &Digest) -> Option<Self> {
        let key = self.keys.iter().find(|k| k.thumbprint == *thumbprint)?;
        Some(Self { keys: vec![key.clone()], any_id: self.any_id })
    }

    /// How many keys there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The thumbprint of the key that signed these bytes.
    pub(super) fn check(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<Digest, TokenError> {
        let (kind, curve) = algorithm.key_type();
        let fits = |key: &&Key| {
            key.kind.0 == kind
                && curve.is_none_or(|c| key.kind.1.as_deref() == Some(c))
                && (self.any_id || id.is_none() || key.id.as_deref() == id)
        };
        let mut candidates = self.keys.iter().filter(fits).peekable();
        if candidates.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        candidates
            .find(|key| key.key.verify_signature(&algorithm.jws(), signed, signature).is_ok())
            .map(|key| key.thumbprint)
            .ok_or(TokenError::Signature)
    }
}

impl Key {
    fn read(json: &Value) -> Option<Self> {
        let text = |name: &str| json.get(name).and_then(Value::as_str);
        let kind = text("kty")?;
        if text("use").is_some_and(|u| u != "sig") {
            return None;
        }
        // RFC 7638, 3.2: the required members only, in lexical order, without spaces.
        let canonical = match kind {
            "RSA" => {
                let modulus = URL_SAFE_NO_PAD.decode(text("n")?).ok()?;
                if !(MIN_RSA_BYTES..=MAX_RSA_BYTES).contains(&modulus.len()) {
                    return None;
                }
                format!(r#"{{"e":{},"kty":"RSA","n":{}}}"#, json.get("e")?, json.get("n")?)
            }
            "EC" => {
                format!(r#"{{"crv":{},"kty":"EC","x":{},"y":{}}}"#, json.get("crv")?, json.get("x")?, json.get("y")?)
            }
            "OKP" => format!(r#"{{"crv":{},"kty":"OKP","x":{}}}"#, json.get("crv")?, json.get("x")?),
            _ => return None,
        };
        Some(Self {
            key: serde_json::from_value(json.clone()).ok()?,
            id: text("kid").map(str::to_owned),
            kind: (kind.to_owned(), text("crv").map(str::to_owned)),
            thumbprint: Digest::of(canonical.as_bytes()),
            canonical,
            json: json.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example key of RFC 7638, section 3.1.
    const RFC_KEY: &str = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;

    #[test]
    fn the_thumbprint_is_the_rfcs() {
        let jwks = Jwks::parse(format!(r#"{{"keys":[{RFC_KEY}]}}"#).as_bytes()).unwrap();
        let want = URL_SAFE_NO_PAD.decode("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs").unwrap();
        assert_eq!(jwks.keys[0].thumbprint.as_bytes().as_slice(), want);
        assert_eq!(jwks.only(&jwks.keys[0].thumbprint).unwrap().len(), 1);
        assert!(jwks.only(&Digest::of(b"")).is_none());
    }

    /// A canonical key is its thumbprint's preimage, byte for byte.
    #[test]
    fn canonical_keys_have_one_form() {
        let jwks = Jwks::parse(format!(r#"{{"keys":[{RFC_KEY}]}}"#).as_bytes()).unwrap();
        let thumbprint = jwks.keys[0].thumbprint;
        let text = jwks.canonical(&thumbprint).unwrap().to_owned();
        assert_eq!(Digest::of(text.as_bytes()), thumbprint);
        let again = Jwks::from_canonical(std::slice::from_ref(&text)).unwrap();
        assert_eq!(again.keys[0].thumbprint, thumbprint);
        for bad in [RFC_KEY.to_owned(), text.replace("{\"e\"", "{ \"e\""), text.replace("RSA", "oct"), String::new()] {
            assert_eq!(Jwks::from_canonical(std::slice::from_ref(&bad)).err(), Some(JwksError::Malformed), "{bad}");
        }
    }

    #[test]
    fn sets_are_bounded_and_keys_that_cannot_sign_are_left_out() {
        let check = |keys: &str, want: Result<usize, JwksError>| {
            let got = Jwks::parse(format!(r#"{{"keys":[{keys}]}}"#).as_bytes()).map(|j| j.len());
            assert_eq!(got, want, "{keys}");
        };
        check(RFC_KEY, Ok(1));
        check(&RFC_KEY.replace("\"alg\"", "\"use\":\"enc\",\"alg\""), Ok(0));
        check(r#"{"kty":"oct","k":"c2VjcmV0"}"#, Ok(0));
        check(r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#, Ok(0));
        check(&vec![r#"{"kty":"x"}"#; MAX_KEYS + 1].join(","), Err(JwksError::TooLarge));
        assert_eq!(Jwks::parse(&vec![b' '; MAX_JWKS + 1]).err(), Some(JwksError::TooLarge));
        assert_eq!(Jwks::parse(b"[]").err(), Some(JwksError::Malformed));
    }
}
