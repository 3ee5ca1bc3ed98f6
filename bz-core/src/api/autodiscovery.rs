//! What makes a host a target by itself: `autodiscovery-scripts/…`, and the agents' programs at `artifacts/…`.

use serde::{Deserialize, Serialize};

use crate::id::ApiKeyId;

/// An agent's program, as the server gives it to whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Its file's name, such as `bz-agent-linux-x86_64`.
    pub name: String,
    /// SHA-256 of it, in hexadecimal.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
}

/// A token that registers few targets, for a short time.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RegistrationToken {
    /// The token, as keys are listed.
    pub id: ApiKeyId,
    /// What registers: shown this once.
    pub secret: String,
    /// The registration key that it was made of.
    pub registration_key_id: ApiKeyId,
    /// That key's name.
    pub registration_key_name: String,
    /// When it ends, RFC 3339.
    pub expires_at: String,
    /// How many targets it registers.
    pub uses: u32,
}

impl std::fmt::Debug for RegistrationToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistrationToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A script, and what it was made of: whoever pins something of their own makes another of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AutodiscoveryScript {
    /// The script, which asks for the trust bundle: a server does not vouch for itself.
    pub autodiscovery_script: String,
    /// The token in it; absent where the caller has no registration key, and the script says so.
    #[serde(default)]
    pub registration_token: Option<RegistrationToken>,
    /// The environment in it; the default one when absent.
    #[serde(default)]
    pub environment_name: Option<String>,
    /// The agents' programs that it knows.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
}
