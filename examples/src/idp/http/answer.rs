//! How a refusal reads on the wire: as JSON at the token endpoint, as parameters of a redirect after `/authorize`.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use url::Url;

use crate::idp::state::GrantError;

/// The error codes of RFC 6749 and OpenID Connect Core that this provider uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    UnsupportedGrantType,
    UnsupportedResponseType,
    RequestNotSupported,
    RequestUriNotSupported,
    LoginRequired,
    AccessDenied,
    TemporarilyUnavailable,
}

/// A refusal that a client can read.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) description: String,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidScope => "invalid_scope",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::RequestNotSupported => "request_not_supported",
            Self::RequestUriNotSupported => "request_uri_not_supported",
            Self::LoginRequired => "login_required",
            Self::AccessDenied => "access_denied",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::InvalidRequest
            | Self::InvalidGrant
            | Self::InvalidScope
            | Self::UnsupportedGrantType
            | Self::UnsupportedResponseType
            | Self::RequestNotSupported
            | Self::RequestUriNotSupported
            | Self::LoginRequired
            | Self::AccessDenied => StatusCode::BAD_REQUEST,
        }
    }

    pub(super) fn because(self, description: impl Into<String>) -> Refusal {
        Refusal { code: self, description: description.into() }
    }
}

impl From<GrantError> for Refusal {
    fn from(error: GrantError) -> Self {
        let code = match error {
            GrantError::Full | GrantError::Randomness(_) => Code::TemporarilyUnavailable,
            GrantError::Unknown | GrantError::Reused | GrantError::OtherRequest | GrantError::Verifier => {
                Code::InvalidGrant
            }
        };
        code.because(error.to_string())
    }
}

impl Refusal {
    /// The pairs that tell it to a client through a redirect.
    pub(super) fn pairs(&self) -> [(&'static str, &str); 2] {
        [("error", self.code.as_str()), ("error_description", &self.description)]
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.code.as_str(), "error_description": self.description });
        (self.code.status(), Json(body)).into_response()
    }
}

/// 303, so that the browser follows a POST with a GET (RFC 9700, section 4.12).
pub(super) fn redirect(to: &Url) -> Response {
    // A serialized URL is ASCII without control characters; a failure here would be a fault of the URL parser.
    HeaderValue::from_str(to.as_str()).map_or_else(
        |_| StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        |location| (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response(),
    )
}
