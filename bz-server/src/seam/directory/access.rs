//! Access to a directory's API: a token that its authorization server gives for a while, or one that stands.
//!
//! It is had by OAuth client credentials or a signed assertion, with the least scopes that read, and kept in memory.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bz_core::time::{Mono, UnixTime};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::Url;
use zeroize::Zeroizing;

use crate::seam::directory::DirectoryError;
use crate::seam::directory::http::receive;
use crate::seam::{Clock, Entropy, random};

/// How long an assertion is good.
const ASSERTED: Duration = Duration::from_secs(300);
/// The longest a token is used.
const MOST: Duration = Duration::from_secs(3600);
/// How long before its end a token is replaced.
const EARLY: Duration = Duration::from_secs(60);

/// What asks for access needs of the world.
#[derive(Clone)]
pub struct World {
    /// The HTTP client: TLS, no redirects, bounded time.
    pub client: reqwest::Client,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// How access is had.
pub enum How {
    /// Okta's API tokens.
    Ssws(Zeroizing<String>),
    /// RFC 6749, section 4.4: the secret in the form.
    Form {
        /// The client.
        id: String,
        /// Its secret.
        secret: Zeroizing<String>,
        /// What to ask for.
        scope: Option<&'static str>,
    },
    /// The same with the secret as HTTP Basic, and JSON for the form: OneLogin.
    Basic {
        /// The client.
        id: String,
        /// Its secret.
        secret: Zeroizing<String>,
    },
    /// RFC 7523, section 2.1: a JWT is the grant. Google's service accounts with domain-wide delegation.
    Grant {
        /// Who signs.
        issuer: String,
        /// In whose name.
        subject: String,
        /// What to ask for.
        scope: &'static str,
        /// The key.
        key: Box<Signer>,
    },
    /// RFC 7523, section 2.2: a JWT is the client's secret. Okta's `private_key_jwt`.
    Client {
        /// The client.
        id: String,
        /// What to ask for.
        scope: &'static str,
        /// The key.
        key: Box<Signer>,
    },
}

impl std::fmt::Debug for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("How").finish_non_exhaustive()
    }
}

/// An RSA key and its id.
pub struct Signer {
    key: RsaKeyPair,
    id: Option<String>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Signer {
    /// The key in this PEM.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(pem: &str, id: Option<String>) -> Result<Self, &'static str> {
        let refused = "the secret is no RSA private key of at least 2048 bits, in PEM";
        let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(refused),
        };
        Ok(Self { key: key.map_err(|_| refused)?, id })
    }

    /// A compact JWS over these claims, RS256.
    fn sign(&self, claims: &Value) -> Result<String, DirectoryError> {
        let mut header = json!({"alg": "RS256", "typ": "JWT"});
        if let (Some(id), Some(header)) = (&self.id, header.as_object_mut()) {
            header.insert("kid".to_owned(), json!(id));
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        let made = self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature);
        made.map_err(|_| DirectoryError::Unable("the key does not sign"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Access to one API.
pub struct Access {
    how: How,
    token_url: Url,
    world: World,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    token: Zeroizing<String>,
    until: Mono,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    token_type: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("token_url", &self.token_url.as_str()).finish_non_exhaustive()
    }
}

impl Access {
    /// Access had in this way, there.
    #[must_use]
    pub fn new(how: How, token_url: Url, world: World) -> Self {
        Self { how, token_url, world, kept: Mutex::new(None) }
    }

    pub(crate) const fn client(&self) -> &reqwest::Client {
        &self.world.client
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.world.clock.now().wall
    }

    /// The value of `Authorization`.
    pub(crate) async fn header(&self) -> Result<Zeroizing<String>, DirectoryError> {
        if let How::Ssws(token) = &self.how {
            return Ok(Zeroizing::new(format!("SSWS {}", token.as_str())));
        }
        // Held while it is asked for: a burst of questions asks once.
        let mut kept = self.kept.lock().await;
        let now = self.world.clock.now().mono;
        if let Some(kept) = kept.as_ref().filter(|kept| now < kept.until) {
            return Ok(Zeroizing::new(format!("Bearer {}", kept.token.as_str())));
        }
        let Token { access_token, token_type, expires_in } = self.ask().await?;
        let token = Zeroizing::new(access_token);
        let visible = token.bytes().all(|byte| byte.is_ascii_graphic()) && (1..=16_384).contains(&token.len());
        if !visible || !token_type.eq_ignore_ascii_case("bearer") {
            return Err(DirectoryError::Malformed("no access token"));
        }
        let life = Duration::from_secs(expires_in.unwrap_or_default()).min(MOST).saturating_sub(EARLY);
        let header = Zeroizing::new(format!("Bearer {}", token.as_str()));
        *kept = Some(Kept { token, until: now.after(life) });
        Ok(header)
    }

    /// Forgets the token that this header has; whether another may take its place.
    pub(crate) async fn forget(&self, header: &str) -> bool {
        let mut kept = self.kept.lock().await;
        // Another question may have had it replaced meanwhile.
        if kept.as_ref().is_some_and(|kept| header.strip_prefix("Bearer ") == Some(kept.token.as_str())) {
            *kept = None;
        }
        !matches!(self.how, How::Ssws(_))
    }

    async fn ask(&self) -> Result<Token, DirectoryError> {
        let url = self.token_url.clone();
        let request = match &self.how {
            How::Ssws(_) => return Err(DirectoryError::Unable("its token stands")),
            How::Form { id, secret, scope } => {
                let mut form = vec![("grant_type", "client_credentials"), ("client_id", id.as_str())];
                form.push(("client_secret", secret.as_str()));
                form.extend(scope.map(|scope| ("scope", scope)));
                self.form(url, &form)
            }
            How::Basic { id, secret } => {
                let basic = Zeroizing::new(STANDARD.encode(format!("{id}:{}", secret.as_str())));
                let request = self.world.client.post(url).header("Authorization", format!("Basic {}", basic.as_str()));
                let request = request.header("Content-Type", "application/json");
                request.body(json!({"grant_type": "client_credentials"}).to_string())
            }
            How::Grant { issuer, subject, scope, key } => {
                let claims = json!({"sub": subject, "scope": scope});
                let assertion = self.assertion(issuer, claims, key)?;
                let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                self.form(url, &[("grant_type", grant), ("assertion", &assertion)])
            }
            How::Client { id, scope, key } => {
                let nonce: [u8; 16] = random(self.world.entropy.as_ref())
                    .map_err(|_| DirectoryError::Unable("the operating system gives no random bytes"))?;
                let claims = json!({"sub": id, "jti": hex::encode(nonce)});
                let assertion = self.assertion(id, claims, key)?;
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                let form = [("grant_type", "client_credentials"), ("scope", scope), ("client_assertion_type", kind)];
                self.form(url, &[&form[..], &[("client_assertion", &assertion)]].concat())
            }
        };
        match receive(request, self.now()).await {
            // RFC 6749, section 5.2: how a wrong secret is answered, where it is not by 401.
            Err(DirectoryError::Status(400)) => Err(DirectoryError::Refused(400)),
            other => other?.read().map(|(token, _)| token),
        }
    }

    fn assertion(&self, issuer: &str, mut claims: Value, key: &Signer) -> Result<String, DirectoryError> {
        let now = self.now().as_secs();
        if let Some(claims) = claims.as_object_mut() {
            claims.insert("iss".to_owned(), json!(issuer));
            claims.insert("aud".to_owned(), json!(self.token_url.as_str()));
            claims.insert("iat".to_owned(), json!(now));
            claims.insert("exp".to_owned(), json!(now.saturating_add(ASSERTED.as_secs())));
        }
        key.sign(&claims)
    }

    fn form(&self, url: Url, pairs: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.world.client.post(url).header("Content-Type", "application/x-www-form-urlencoded").body(body)
    }
}
