//! What the exit status of `bz` says. The numbers are those users of `zli` know, where they had one.

use std::process::ExitCode;

use bz_client::client::{AskError, FindError, RefreshError};
use bz_client::database::DatabaseError;
use bz_client::login::{LoginError, ProviderFailed, RedirectError, TokenSourceError};
use bz_client::profile::ProfileError;
use bz_client::sealed::SealedError;
use bz_client::server::ServerError;
use bz_client::session::SessionError;
use bz_client::trust::TrustError;
use bz_client::{FileError, RestError};
use bz_core::api::error::Code;
use bz_protocol::stream::Why;

use crate::command::NoCode;

/// For `--help`.
pub(crate) const HELP: &str = "\
Exit status:
   0  fine
   1  refused, or failed in a way that has no number of its own
   2  wrong usage
   3  given up: nobody finished the login
   5  the profile, a file or an option is wrong
  10  with `connect --exec`: nobody listens where the database should be
  11  the server or the identity provider cannot be reached
  12  with `connect --exec`: the database speaks no TLS, and is to
  15  the same: its certificate is of an authority that the target's host does not know
  16  the same: its certificate has expired
  17  the same: its certificate is for another name
  18  not logged in, the login is no longer good, or it lacks the second factor

`bz exec`, `connect` and `attach` exit as the command or shell on the target does.";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Fine,
    Failed,
    Cancelled,
    Configuration,
    Unreachable,
    Login,
    /// What a command on a target exited with.
    Status(u8),
}

impl Exit {
    /// The number.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Cancelled => 3,
            Self::Configuration => 5,
            Self::Unreachable => 11,
            Self::Login => 18,
            Self::Status(status) => status,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// The status of an error: that of the first cause that has one.
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(one).unwrap_or(Exit::Failed)
}

fn one(error: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(error) = error.downcast_ref::<RestError>() {
        return Some(rest(error));
    }
    if let Some(error) = error.downcast_ref::<ProfileError>() {
        return Some(if matches!(error, ProfileError::NotLoggedIn) { Exit::Login } else { Exit::Configuration });
    }
    if let Some(error) = error.downcast_ref::<LoginError>() {
        return Some(login(error));
    }
    if let Some(RefreshError::Login(error)) = error.downcast_ref() {
        return Some(login(error));
    }
    if let Some(error) = error.downcast_ref::<AskError>() {
        return ask(error);
    }
    if let Some(error) = error.downcast_ref::<SessionError>() {
        return session(error);
    }
    if let Some(FindError::Rest(error)) = error.downcast_ref() {
        return Some(rest(error));
    }
    if let Some(error) = error.downcast_ref::<DatabaseError>() {
        return match error {
            DatabaseError::Find(FindError::Rest(error)) => Some(rest(error)),
            DatabaseError::Ask(error) => ask(error),
            DatabaseError::Session(error) => session(error),
            DatabaseError::Sealed(SealedError::Store(_)) => Some(Exit::Configuration),
            DatabaseError::Find(_) | DatabaseError::Place(_) | DatabaseError::Sealed(SealedError::Inspected { .. }) => {
                None
            }
        };
    }
    if let Some(TrustError::Server(error)) = error.downcast_ref() {
        return Some(rest(error));
    }
    if error.is::<NoCode>() {
        return Some(Exit::Login);
    }
    (error.is::<ServerError>() || error.is::<TrustError>() || error.is::<FileError>()).then_some(Exit::Configuration)
}

/// The status of a database that could not be reached, where there is one.
pub(crate) const fn of_refusal(why: Why) -> Option<Exit> {
    match why {
        Why::ConnectionRefused => Some(Exit::Status(10)),
        Why::NoTls => Some(Exit::Status(12)),
        Why::UnknownAuthority => Some(Exit::Status(15)),
        Why::CertificateExpired => Some(Exit::Status(16)),
        Why::WrongName => Some(Exit::Status(17)),
        Why::NotAllowed | Why::NotFound | Why::Unreachable | Why::TimedOut | Why::Unavailable | Why::Tls => None,
    }
}

fn ask(error: &AskError) -> Option<Exit> {
    if let AskError::Rest(error) = error { Some(rest(error)) } else { None }
}

fn session(error: &SessionError) -> Option<Exit> {
    match error {
        SessionError::Ask(error) => ask(error),
        SessionError::Link(_) => Some(Exit::Unreachable),
        SessionError::NoCarrier
        | SessionError::Opening(_)
        | SessionError::Wire(_)
        | SessionError::Random(_)
        | SessionError::Pin(_)
        | SessionError::Key(_)
        | SessionError::Ended { .. } => None,
    }
}

fn rest(error: &RestError) -> Exit {
    match error {
        RestError::NoAnswer(_) => Exit::Unreachable,
        RestError::Refused(refused)
            if matches!(
                refused.body.code,
                Code::NotLoggedIn | Code::MfaNeeded | Code::MfaCode | Code::MfaUsed | Code::MfaLocked
            ) =>
        {
            Exit::Login
        }
        RestError::Refused(_)
        | RestError::Answer(_)
        | RestError::Request
        | RestError::Changed
        | RestError::Random(_) => Exit::Failed,
    }
}

fn login(error: &LoginError) -> Exit {
    match error {
        LoginError::Redirect(RedirectError::TimedOut) => Exit::Cancelled,
        LoginError::Provider(ProviderFailed::NoAnswer(_)) => Exit::Unreachable,
        LoginError::Provider(ProviderFailed::Client(_)) => Exit::Configuration,
        LoginError::Server(error) | LoginError::Settings(error) => rest(error),
        LoginError::TokenSource(TokenSourceError::NoAnswer(_)) => Exit::Unreachable,
        LoginError::Trust(_)
        | LoginError::Credentials(_)
        | LoginError::NoTokenSource(_)
        | LoginError::TokenSource(_) => Exit::Configuration,
        LoginError::Provider(_)
        | LoginError::Redirect(_)
        | LoginError::Browser(_)
        | LoginError::Certificate(_)
        | LoginError::Token(_)
        | LoginError::OtherPerson
        | LoginError::NoRefreshToken
        | LoginError::TooLarge(_)
        | LoginError::Lie(_)
        | LoginError::Key(_)
        | LoginError::Random(_) => Exit::Login,
    }
}
