//! The error envelope: the original's three fields, and a stable code and request id beside them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What every answer outside 2xx carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// For people: what is wrong and what to do next.
    pub error_msg: String,
    /// The original's name for the kind of error.
    pub error_type: String,
    /// What is wrong with each field.
    #[serde(default)]
    pub errors: BTreeMap<String, Vec<String>>,
    /// For programs.
    #[serde(default)]
    pub code: Code,
    /// Names this call in the server's log.
    #[serde(default)]
    pub request_id: String,
    /// Names to choose from, where the error is that several fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
}

/// Why a call failed; stable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum Code {
    /// The body or a parameter is malformed.
    BadRequest,
    /// Nobody is logged in, or the login ended.
    NotLoggedIn,
    /// Policy says no.
    Denied,
    /// There is no such thing, or the caller may not know of it.
    NotFound,
    /// Several things have that name.
    Ambiguous,
    /// Something of that name exists.
    Conflict,
    /// It is not any more what `If-Match` names.
    Changed,
    /// The target is of another kind than was asked for: the candidate.
    OtherKind,
    /// Several target users are allowed and none is named.
    TargetUserNeeded,
    /// The target has no link to the server.
    TargetOffline,
    /// The claim code is wrong, used or expired.
    ClaimCode,
    /// Too many calls.
    TooMany,
    /// Larger than this call takes.
    TooLarge,
    /// The login lacks the second factor, or passed it too long ago for this call: the candidate says what to do.
    MfaNeeded,
    /// The code is wrong, or too old.
    MfaCode,
    /// The code was good, and was taken before: the next one will be.
    MfaUsed,
    /// Too many wrong codes: nothing is taken for a while.
    MfaLocked,
    /// A newer server says something this program does not know, or the server failed.
    #[default]
    #[serde(other)]
    Internal,
}
