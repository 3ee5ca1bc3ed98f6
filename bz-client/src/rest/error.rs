//! Why a call failed, and what to do next.

use std::collections::BTreeMap;
use std::fmt;

use bz_core::api::error::{Code, ErrorBody};
use bz_core::api::proof::WINDOW;
use bz_core::api::target::TargetKind;
use bz_core::time::UnixTime;

use crate::clock::NoRandom;
use crate::http::HttpError;

/// Why a call of the API failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    /// There is no answer.
    #[error("{0}")]
    NoAnswer(#[from] HttpError),
    /// The server refuses.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// The server's answer is not what this program understands.
    #[error("the server's answer is not understood: {0}; are client and server of the same version?")]
    Answer(String),
    /// The request cannot be written as JSON or as a header.
    #[error("the request cannot be written")]
    Request,
    /// What is downloaded is not what it was.
    #[error("what is downloaded changed meanwhile: somebody deleted it, or it went on: begin again")]
    Changed,
    /// No random bytes.
    #[error("{0}")]
    Random(#[from] NoRandom),
}

impl RestError {
    /// The server's code, where the server refused.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refused) => Some(refused.body.code),
            Self::NoAnswer(_) | Self::Answer(_) | Self::Request | Self::Changed | Self::Random(_) => None,
        }
    }

    /// The kind that the target is of, where it is another than was asked for.
    #[must_use]
    pub fn kind(&self) -> Option<TargetKind> {
        match self {
            Self::Refused(refused) if refused.body.code == Code::OtherKind => {
                refused.body.candidates.first()?.parse().ok()
            }
            Self::Refused(_)
            | Self::NoAnswer(_)
            | Self::Answer(_)
            | Self::Request
            | Self::Changed
            | Self::Random(_) => None,
        }
    }
}

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which server.
    pub server: String,
    /// The HTTP status.
    pub status: u16,
    /// The server's words; made from the status where it had none.
    pub body: ErrorBody,
    /// How many seconds this machine's clock is ahead of the server's, where the server told its time.
    pub clock_ahead: Option<i64>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.body.error_msg)?;
        for (field, faults) in &self.body.errors {
            write!(f, "; {field}: {}", faults.join(", "))?;
        }
        if !self.body.candidates.is_empty() && !matches!(self.body.code, Code::OtherKind | Code::MfaNeeded) {
            write!(f, " (choose one of: {})", self.body.candidates.join(", "))?;
        }
        if self.body.code != Code::NotLoggedIn {
            return Ok(());
        }
        match self.clock_ahead {
            Some(ahead) if ahead.unsigned_abs() > WINDOW.as_secs() => {
                let way = if ahead > 0 { "ahead of" } else { "behind" };
                write!(f, " (this clock is {} s {way} the server's: set it, then try again)", ahead.unsigned_abs())
            }
            Some(_) | None => f.write_str(" (log in again)"),
        }
    }
}

/// An error for an answer that carries none, such as a proxy's.
pub(super) fn from_status(status: u16) -> ErrorBody {
    let (code, text) = match status {
        401 => (Code::NotLoggedIn, "nobody is logged in, or the login ended"),
        403 => (Code::Denied, "not allowed"),
        404 => (Code::NotFound, "there is no such thing, or this server is older than this program"),
        413 => (Code::TooLarge, "the request is larger than the server takes"),
        429 => (Code::TooMany, "too many calls: wait a minute"),
        300..=399 => (Code::Internal, "the server's address redirects: give the address it leads to"),
        502..=504 => (Code::Internal, "the server is not running behind its proxy: try again in a minute"),
        _ => (Code::Internal, "the server failed without a word: see its log"),
    };
    ErrorBody {
        error_msg: format!("{text} (status {status})"),
        error_type: String::new(),
        errors: BTreeMap::new(),
        code,
        request_id: String::new(),
        candidates: Vec::new(),
    }
}

/// Seconds by which `ours` is ahead of `theirs`.
pub(crate) fn ahead(ours: UnixTime, theirs: UnixTime) -> i64 {
    let secs = |later: UnixTime, earlier| i64::try_from(later.since(earlier).as_secs()).unwrap_or(i64::MAX);
    if ours >= theirs { secs(ours, theirs) } else { -secs(theirs, ours) }
}
