//! The second factor: `mfa/…`, and the organization's rules about it.

use serde::{Deserialize, Serialize};

use crate::id::{PolicyId, UserId};

/// `POST mfa/totp`: finishes a login, or confirms a new secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PassMfa {
    /// The code that the authenticator app shows, or a recovery code.
    pub token: String,
}

impl std::fmt::Debug for PassMfa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PassMfa").finish_non_exhaustive()
    }
}

/// The answer to [`PassMfa`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct MfaPassed {
    /// The method, as grants name it.
    pub method: String,
    /// Until when nothing more is asked of this login, RFC 3339; as long as the login lasts when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_until: Option<String>,
    /// After an enrolment, the only time they are shown: each is taken once, in place of a code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovery_codes: Vec<String>,
    /// How many recovery codes are left.
    #[serde(default)]
    pub recovery_codes_left: usize,
}

impl std::fmt::Debug for MfaPassed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MfaPassed").field("method", &self.method).finish_non_exhaustive()
    }
}

/// `POST mfa/reset`: a new secret for the caller, which counts once a code of it was given to `mfa/totp`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ResetMfa {
    /// Whether one that is there is to be replaced.
    #[serde(default)]
    pub force_setup: bool,
}

/// The answer to `POST mfa/page`: what lets a browser set up the second factor of this login, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct MfaPage {
    /// Where the page is on this server.
    pub path: String,
    /// What is typed there, or stands behind `#` in the address.
    pub code: String,
    /// Until when it is good, RFC 3339.
    pub expires_at: String,
}

impl std::fmt::Debug for MfaPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MfaPage").field("path", &self.path).finish_non_exhaustive()
    }
}

/// `POST mfa/page/begin`, from the page.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct BeginPage {
    /// The code of [`MfaPage`], taken once.
    pub code: String,
}

impl std::fmt::Debug for BeginPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BeginPage").finish_non_exhaustive()
    }
}

/// The answer to [`BeginPage`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PageSecret {
    /// What lets the page confirm the secret.
    pub ticket: String,
    /// Whose second factor it is.
    pub account: String,
    /// The secret, base 32.
    pub secret: String,
    /// The address that authenticator apps read; the secret is in it.
    pub mfa_secret_url: String,
    /// The same as a QR code: rows of modules, `1` for a dark one.
    pub qr_code: Vec<String>,
}

impl std::fmt::Debug for PageSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageSecret").field("account", &self.account).finish_non_exhaustive()
    }
}

/// `POST mfa/page/confirm`, from the page.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConfirmPage {
    /// The ticket of [`PageSecret`].
    pub ticket: String,
    /// The first code of the app.
    pub token: String,
}

impl std::fmt::Debug for ConfirmPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfirmPage").finish_non_exhaustive()
    }
}

/// The answer to [`ResetMfa`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct MfaSecret {
    /// The address that authenticator apps read from a QR code; the secret is in it.
    pub mfa_secret_url: String,
}

impl std::fmt::Debug for MfaSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MfaSecret").finish_non_exhaustive()
    }
}

/// `POST mfa/recovery-codes`: the only time they are shown; those before are void.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RecoveryCodes {
    /// Each is taken once, in place of a code.
    pub recovery_codes: Vec<String>,
}

impl std::fmt::Debug for RecoveryCodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecoveryCodes").finish_non_exhaustive()
    }
}

/// `POST mfa/clear`, `mfa/setup` and `mfa/disable`: whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WhoseMfa {
    /// The person.
    pub user_id: UserId,
}

/// `GET mfa/me` and `mfa/{userId}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct MfaStatus {
    /// Whether this person's logins need a second factor.
    pub enabled: bool,
    /// Whether the person has a secret that a code confirmed.
    pub verified: bool,
    /// Whether the caller's own login has passed; of others nothing is said.
    #[serde(default)]
    pub session_verified: Option<bool>,
    /// Until when a login without a second factor does everything, RFC 3339.
    #[serde(default)]
    pub grace_period_end_time: Option<String>,
    /// Until when the caller's login has passed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_until: Option<String>,
    /// Until when no code is taken after too many wrong ones, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<String>,
    /// How many recovery codes are left.
    #[serde(default)]
    pub recovery_codes_left: usize,
}

/// An organization controls policy: `policies/organization-controls`. There is at most one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ControlsPolicy {
    /// The policy.
    pub id: PolicyId,
    /// Always `OrganizationControls`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it says.
    #[serde(flatten)]
    pub content: ControlsContent,
}

/// What an organization controls policy says, and the body that makes one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ControlsContent {
    /// Unique over all kinds.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Whether everybody needs a second factor. Once on, on.
    #[serde(default)]
    pub mfa_enabled: bool,
    /// After how many hours a login is asked for it again; not as long as it lasts when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfa_duration: Option<u32>,
}

/// `PATCH policies/organization-controls/{id}`: what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChangeControls {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether everybody needs a second factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfa_enabled: Option<bool>,
    /// After how many hours a login is asked for it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfa_duration: Option<u32>,
}
