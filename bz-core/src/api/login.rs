//! Logging in: `POST users/register` with a certificate, proved like every call under a login id the client chose.

use serde::{Deserialize, Serialize};

use crate::api::Bytes;
use crate::api::policy::SubjectType;
use crate::id::{OrganizationId, UserId};
use crate::time::UnixTime;

/// `POST users/register`: registers a certificate, and the person at the first time. Again after each refresh.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RegisterUser {
    /// The `BzCert`.
    pub certificate: Bytes,
    /// The claim code of `init` or `admin claim`, by which this person becomes an administrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
}

impl std::fmt::Debug for RegisterUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegisterUser").finish_non_exhaustive()
    }
}

/// What a second factor still asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MfaActionRequired {
    /// Nothing.
    None,
    /// A code.
    Totp,
    /// Enrolment.
    Reset,
    /// Enrolment, which may wait: until then the login may do everything.
    ResetDeferAllowed,
}

/// The answer to [`RegisterUser`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// The person.
    pub user: User,
    /// What the second factor asks for.
    pub mfa_action_required: MfaActionRequired,
    /// When the login ends, unless a refreshed certificate is registered before.
    pub expires_at: UnixTime,
}

/// `GET users/me`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The person here: a new one at each first login.
    pub id: UserId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// The address as the provider told it; empty when it told none.
    pub email: String,
    /// The full name.
    pub full_name: String,
    /// Whether the person administers.
    pub is_admin: bool,
    /// Whether an auditor, who reads logs and recordings.
    #[serde(default)]
    pub is_auditor: bool,
    /// First login, RFC 3339.
    pub time_created: String,
    /// Last login, RFC 3339.
    #[serde(default)]
    pub last_login: Option<String>,
    /// The issuer that knows this person.
    pub issuer: String,
    /// The subject there.
    pub subject: String,
}

/// What a person may do of the administration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    /// Nothing.
    User,
    /// Everything.
    Admin,
    /// Logs, recordings and transcripts, to be read alone.
    Auditor,
}

/// `PATCH users/{id}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeUser {
    /// The role from now on.
    pub role: Role,
}

/// `GET trust-bundle`: the bundle's text, for first use of a server (taking it trusts the server this once), and what
/// clients need in order to log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TrustBundleText {
    /// The file's text.
    pub bundle: String,
    /// For providers that want more than the bundle says.
    #[serde(default)]
    pub logins: Vec<LoginSettings>,
}

/// What a client tells an identity provider besides its id. Nothing depends on it but whether the provider answers, so
/// it may come from the server.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LoginSettings {
    /// The provider.
    pub issuer: String,
    /// The secret that some providers give even to clients that cannot keep one (RFC 8252, section 8.5). Whoever reaches
    /// the server can read it; codes are protected by PKCE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// Scopes to ask for besides the usual ones.
    #[serde(default)]
    pub scopes: Vec<String>,
}

impl std::fmt::Debug for LoginSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginSettings")
            .field("issuer", &self.issuer)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// `GET organization`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Organization {
    /// The organization.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
    /// Always false: kept for the original's SDK.
    pub is_single_user_organization: bool,
    /// When it was made, RFC 3339.
    pub time_created: String,
}

/// `GET organization/bzcert-validation-info`: what says which organization a login belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct CertValidation {
    /// `google`, `microsoft`, `okta`, `onelogin`, `keycloak` or `oidc`.
    pub org_idp_provider: String,
    /// The organization's claim there, or the issuer where it serves this organization alone.
    pub org_idp_issuer_id: String,
}

/// `GET organization/identity-provider`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct IdentityProvider {
    /// `google`, `microsoft`, `okta`, `onelogin`, `keycloak` or `oidc`.
    pub identity_provider_type: String,
    /// The organization's claim there, or the issuer where it serves this organization alone.
    pub identity_provider_id: String,
}

/// Whoever a policy may name: `GET subjects`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SubjectDetails {
    /// The subject.
    pub id: UserId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// A person's address; empty for a key.
    pub email: String,
    /// Whether it administers.
    pub is_admin: bool,
    /// First login, or when it was made, RFC 3339.
    pub time_created: String,
    /// Last login, RFC 3339.
    #[serde(default)]
    pub last_login: Option<String>,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: SubjectType,
}
