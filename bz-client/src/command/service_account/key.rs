//! `bz service-account generate-key`: a key for an account that no provider makes one for, and the key set to publish.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bz_core::digest::Digest;
use clap::Args;
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};

use crate::context::Context;

/// What `generate-key` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Publish the key set at its address, keep the credentials secret, and make the account with `bz service-account create`. \
Once more with other --provider-creds it adds a second key to the set, so that one can follow the other.")]
pub(crate) struct GenerateKey {
    /// What people and logs will call the account: an address
    email: String,
    /// Where you will publish the key set
    #[arg(long, value_name = "URL")]
    jwks_url: String,
    /// The pattern that targets' owners pin; the address itself when absent
    #[arg(long, value_name = "PATTERN")]
    jwks_url_pattern: Option<String>,
    /// The file of the key set, added to when it is there
    #[arg(long, value_name = "FILE", default_value = "jwks.json")]
    jwks: PathBuf,
    /// Leave no other key in the set: what a lost key signed is good no longer
    #[arg(long)]
    replace: bool,
    /// The file that the credentials are written to
    #[arg(long, value_name = "FILE", default_value = "provider-credentials.json")]
    provider_creds: PathBuf,
}

impl GenerateKey {
    pub(crate) fn run(self, context: &Context<'_>) -> anyhow::Result<()> {
        let pattern = self.jwks_url_pattern.as_deref().unwrap_or(&self.jwks_url);
        let pinned = bz_core::oidc::service::JwksPattern(pattern.to_owned());
        pinned.check().with_context(|| format!("--jwks-url-pattern {pattern}"))?;
        if !pinned.means(&self.jwks_url) {
            bail!("--jwks-url-pattern {pattern} does not mean {}", self.jwks_url);
        }
        if self.provider_creds.exists() {
            bail!("{} exists: name another file with --provider-creds", self.provider_creds.display());
        }
        let key = KeyPair::generate().context("no key can be made")?;
        let (id, jwk) = public(&key)?;
        let mut set = published(&self.jwks)?;
        let keys = set.get_mut("keys").and_then(Value::as_array_mut);
        let keys = keys.with_context(|| format!("{} is no key set", self.jwks.display()))?;
        if self.replace {
            keys.clear();
        }
        keys.push(jwk);
        let credentials = json!({
            "client_id": self.email, "client_email": self.email, "private_key_id": id,
            "private_key": key.serialize_pem(), "jwksURL": self.jwks_url, "jwksURLPattern": pattern,
        });
        super::write_private(&self.provider_creds, &serde_json::to_string_pretty(&credentials)?)?;
        let written = fs::write(&self.jwks, serde_json::to_string_pretty(&set)?);
        written.with_context(|| format!("{} cannot be written", self.jwks.display()))?;
        let line = format!(
            "Key {id} is in {}, and its public half in {}: publish that at {}.",
            self.provider_creds.display(),
            self.jwks.display(),
            self.jwks_url
        );
        Ok(context
            .output
            .result(&json!({"keyId": id, "jwks": self.jwks, "providerCreds": self.provider_creds}), &line)?)
    }
}

fn published(path: &Path) -> anyhow::Result<Value> {
    if !path.exists() {
        return Ok(json!({"keys": []}));
    }
    serde_json::from_str(&super::read(path)?).with_context(|| format!("{} is no key set", path.display()))
}

/// A key's id, which is a digest of it, and its public half.
fn public(key: &KeyPair) -> anyhow::Result<(String, Value)> {
    // RFC 5480: an uncompressed point of 65 bytes.
    let point = key.der_bytes();
    let coordinate = |from: usize, to: usize| point.get(from..to).map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    let (x, y) = coordinate(1, 33).zip(coordinate(33, 65)).context("no key can be made")?;
    let id: String = Digest::of(point).to_string().chars().take(16).collect();
    let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": x, "y": y});
    Ok((id, jwk))
}
