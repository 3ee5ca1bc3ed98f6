//! What a failed call answers: one status, one code, one sentence that says what to do next.
//!
//! Causes inside the server are logged where they arise and never sent.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use bz_core::api::error::{Code, ErrorBody};
use bz_core::api::login::MfaActionRequired;
use bz_core::api::target::TargetKind;
use bz_core::time::UnixTime;

use crate::keys::KeysError;
use crate::seam::EntropyError;
use crate::seam::jwks::FetchError;
use crate::store::StoreError;

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    code: Code,
    message: String,
    errors: BTreeMap<String, Vec<String>>,
    candidates: Vec<String>,
    /// After how many seconds it is worth another try.
    retry: Option<u64>,
    /// Whether somebody may be guessing a secret.
    is_guess: bool,
    /// How long the body is of which there is no such part.
    length: Option<u64>,
}

impl ApiError {
    fn new(code: Code, message: impl Into<String>) -> Self {
        let (errors, candidates) = (BTreeMap::new(), Vec::new());
        Self { code, message: message.into(), errors, candidates, retry: None, is_guess: false, length: None }
    }

    /// Somebody may be guessing: such refusals are counted.
    #[must_use]
    pub(crate) fn guess(self) -> Self {
        Self { is_guess: true, ..self }
    }

    /// Whether somebody may be guessing a secret.
    pub(crate) const fn is_guess(&self) -> bool {
        self.is_guess
    }

    /// After how many seconds it is worth another try.
    #[must_use]
    pub const fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// The body or a parameter is malformed.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    /// One field is wrong.
    #[must_use]
    pub fn field(name: &str, rule: &str) -> Self {
        let errors = BTreeMap::from([(name.to_owned(), vec![rule.to_owned()])]);
        Self { errors, ..Self::new(Code::BadRequest, format!("{name}: {rule}")) }
    }

    /// There is no such part of a body of this length.
    #[must_use]
    pub fn no_range(length: u64) -> Self {
        let message = format!("Range: there are {length} bytes, and none of those that were asked for");
        Self { length: Some(length), ..Self::new(Code::BadRequest, message) }
    }

    /// How long the body is of which there is no such part.
    pub(crate) const fn length(&self) -> Option<u64> {
        self.length
    }

    /// Nobody is logged in, or not any more.
    #[must_use]
    pub fn not_logged_in(why: impl Into<String>) -> Self {
        Self::new(Code::NotLoggedIn, why)
    }

    /// Policy says no.
    #[must_use]
    pub fn denied(why: impl Into<String>) -> Self {
        Self::new(Code::Denied, why)
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {what}"))
    }

    /// There is no target of that name.
    #[must_use]
    pub fn no_target(name: &str) -> Self {
        let message = format!("there is no target called {name}: `bz list-targets` lists those you may know of");
        Self::new(Code::NotFound, message)
    }

    /// Several things have that name.
    #[must_use]
    pub fn ambiguous(message: impl Into<String>, candidates: Vec<String>) -> Self {
        Self { candidates, ..Self::new(Code::Ambiguous, message) }
    }

    /// Something of that name exists.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::Conflict, message)
    }

    /// Somebody changed it in between.
    #[must_use]
    pub fn changed() -> Self {
        Self::new(Code::Changed, "somebody changed it in between: read it again, and change that")
    }

    /// Several target users are allowed.
    #[must_use]
    pub fn target_user_needed(candidates: Vec<String>) -> Self {
        Self {
            candidates,
            ..Self::new(Code::TargetUserNeeded, "you may be several users there: name one, as USER@TARGET")
        }
    }

    /// The target has no link.
    #[must_use]
    pub fn target_offline(name: &str) -> Self {
        let advice = "is its host up, and does bz-agent run there?";
        Self::new(Code::TargetOffline, format!("{name} is offline: its agent has no link to the server; {advice}"))
    }

    /// The target is there, and of another kind than was asked for.
    #[must_use]
    pub fn other_kind(name: &str, kind: TargetKind) -> Self {
        let what = match kind {
            TargetKind::Bzero => "a host",
            TargetKind::Db => "a database",
            TargetKind::Web => "a web server",
            TargetKind::Cluster => "a cluster",
        };
        let candidates = vec![kind.to_string()];
        Self { candidates, ..Self::new(Code::OtherKind, format!("{name} is {what}: `bz connect {name}` knows")) }
    }

    /// No agent is there to reach what is behind it.
    #[must_use]
    pub fn nobody_behind(name: &str) -> Self {
        let advice = "`bz list-targets` shows which hosts are online";
        Self::new(Code::TargetOffline, format!("{name} is offline: no agent that reaches it has a link; {advice}"))
    }

    /// The claim code is wrong.
    #[must_use]
    pub fn claim_code() -> Self {
        Self::new(
            Code::ClaimCode,
            "the claim code is wrong, used or expired: `bz-server admin claim` on the server's host makes a new one",
        )
        .guess()
    }

    /// Too many calls.
    #[must_use]
    pub fn too_many() -> Self {
        Self { retry: Some(60), ..Self::new(Code::TooMany, "too many calls: wait a minute") }
    }

    /// Too many wrong credentials.
    #[must_use]
    pub fn too_many_guesses(wait: Duration) -> Self {
        let seconds = wait.as_secs().max(1);
        let message = format!(
            "too many wrong keys or codes came from this address: wrong ones are not looked at for {} minutes",
            seconds.div_ceil(60)
        );
        Self { retry: Some(seconds), ..Self::new(Code::TooMany, message) }
    }

    /// The login lacks the second factor.
    #[must_use]
    pub fn mfa_needed(action: MfaActionRequired) -> Self {
        let (what, name) = match action {
            MfaActionRequired::Totp | MfaActionRequired::None | MfaActionRequired::ResetDeferAllowed => {
                ("this needs a code of your second factor: `bz mfa verify` asks for it", "TOTP")
            }
            MfaActionRequired::Reset => {
                ("your organization demands a second factor, and you have none: `bz mfa setup` makes one", "RESET")
            }
        };
        Self { candidates: vec![name.to_owned()], ..Self::new(Code::MfaNeeded, what) }
    }

    /// The code is not good.
    #[must_use]
    pub fn mfa_code() -> Self {
        Self::new(Code::MfaCode, "the code is wrong: is the clock of the app's device right?")
    }

    /// The code was taken before.
    #[must_use]
    pub fn mfa_used() -> Self {
        Self::new(Code::MfaUsed, "the code was used before: take the next one that the app shows")
    }

    /// Too many codes were not good.
    #[must_use]
    pub fn mfa_locked(until: UnixTime, now: UnixTime) -> Self {
        let seconds = until.since(now).as_secs().max(1);
        let minutes = seconds.div_ceil(60);
        let advice = "if it was not you who tried, tell an administrator: somebody has your password";
        let message = format!("too many wrong codes: none is taken until {until}, for {minutes} minutes; {advice}");
        Self { retry: Some(seconds), ..Self::new(Code::MfaLocked, message) }
    }

    /// Larger than a call may be.
    #[must_use]
    pub fn too_large() -> Self {
        Self::new(Code::TooLarge, "the body is larger than this call takes: 64 KiB, and 1 MiB of events")
    }

    /// The server failed; the cause is logged here and stays here.
    #[must_use]
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a call failed");
        Self::new(Code::Internal, "the server failed; its log says why, under this request's id")
    }

    /// For programs.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self.code {
            Code::BadRequest if self.length.is_some() => StatusCode::RANGE_NOT_SATISFIABLE,
            Code::BadRequest | Code::ClaimCode => StatusCode::BAD_REQUEST,
            Code::NotLoggedIn => StatusCode::UNAUTHORIZED,
            Code::Denied | Code::MfaNeeded | Code::MfaCode | Code::MfaUsed => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Ambiguous | Code::Conflict | Code::OtherKind | Code::TargetUserNeeded | Code::TargetOffline => {
                StatusCode::CONFLICT
            }
            Code::Changed => StatusCode::PRECONDITION_FAILED,
            Code::TooMany | Code::MfaLocked => StatusCode::TOO_MANY_REQUESTS,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The body.
    #[must_use]
    pub fn body(self, request_id: String) -> ErrorBody {
        ErrorBody {
            error_msg: self.message,
            error_type: format!("{:?}", self.code),
            errors: self.errors,
            code: self.code,
            request_id,
            candidates: self.candidates,
        }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Exists(what) => Self::conflict(format!("{what} exists already")),
            StoreError::InUse => Self::conflict("it is still in use"),
            StoreError::Full
            | StoreError::Locked
            | StoreError::Newer { .. }
            | StoreError::Unreadable(_)
            | StoreError::Failed(_)
            | StoreError::Closed
            | StoreError::Older => Self::internal(error),
            StoreError::TooLong => Self::bad_request(error.to_string()),
        }
    }
}

impl From<EntropyError> for ApiError {
    fn from(error: EntropyError) -> Self {
        Self::internal(error)
    }
}

impl From<KeysError> for ApiError {
    fn from(error: KeysError) -> Self {
        Self::internal(error)
    }
}

impl From<FetchError> for ApiError {
    fn from(error: FetchError) -> Self {
        tracing::warn!(%error, "a login cannot be checked");
        Self::new(Code::Internal, "the identity provider's keys cannot be fetched; the server's log says why")
    }
}
