//! Service accounts: `service-accounts/…`, and their second factor at `mfa/rotate/{id}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::Bytes;
use crate::id::{OrganizationId, UserId};

/// One account as `GET service-accounts` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccount {
    /// The account.
    pub id: UserId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// What people and logs call it.
    pub email: String,
    /// The subject of its tokens.
    pub external_id: String,
    /// Where its key set is; empty of a job.
    pub jwks_url: String,
    /// The pattern that agents' owners pin for it; empty of a job.
    pub jwks_url_pattern: String,
    /// Whether it administers, but for what no service account does.
    pub is_admin: bool,
    /// When it was made, RFC 3339.
    pub time_created: String,
    /// Last login, RFC 3339.
    #[serde(default)]
    pub last_login: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// Whether it may log in.
    pub enabled: bool,
    /// The job that it is, of one that has no key set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadJob>,
}

/// A job, as its issuer's claims tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WorkloadJob {
    /// The issuer, as the trust bundle names it.
    pub issuer: String,
    /// One of its `workloads` there: claims, and the value that each has.
    pub claims: BTreeMap<String, String>,
}

/// `POST service-accounts/workloads`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NewWorkload {
    /// What people and logs call it.
    pub name: String,
    /// The job.
    pub workload: WorkloadJob,
}

/// `POST service-accounts/workloads/login`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LoginWorkload {
    /// The `BzCert`, whose tokens' audience commits to the client key.
    pub certificate: Bytes,
}

impl std::fmt::Debug for LoginWorkload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginWorkload").finish_non_exhaustive()
    }
}

/// `POST service-accounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NewServiceAccount {
    /// What people and logs call it.
    pub email: String,
    /// Where its key set is.
    pub jwks_url: String,
    /// The pattern that agents' owners pin for it.
    pub jwks_url_pattern: String,
    /// The subject of its tokens.
    pub external_id: String,
}

/// The answer to [`NewServiceAccount`]: the only time the secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountMade {
    /// The account.
    pub service_account_summary: ServiceAccount,
    /// The secret of its codes, base 32.
    pub mfa_secret: String,
}

impl std::fmt::Debug for ServiceAccountMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let summary = &self.service_account_summary;
        f.debug_struct("ServiceAccountMade").field("service_account_summary", summary).finish_non_exhaustive()
    }
}

/// `PATCH service-accounts/{id}`: what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChangeServiceAccount {
    /// Whether it administers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_admin: Option<bool>,
    /// Whether it may log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// `POST service-accounts/login`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LoginServiceAccount {
    /// The `BzCert`, whose tokens the account signed itself.
    pub certificate: Bytes,
    /// The present code of its secret.
    pub totp_passcode: String,
}

impl std::fmt::Debug for LoginServiceAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginServiceAccount").finish_non_exhaustive()
    }
}

/// The answer to `PATCH mfa/rotate/{id}`: the new secret, base 32, shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct RotatedSecret(pub String);

impl std::fmt::Debug for RotatedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RotatedSecret")
    }
}
