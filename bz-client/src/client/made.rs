//! Whether the server's answer is what was asked: each field of it, and each field of the grant inside.

use std::fmt;

use bz_core::access::Mode;
use bz_core::access::request::Request;
use bz_core::api::access::ConnectionMade;
use bz_core::api::target::TargetKind;
use bz_core::grant::{Grant, GrantError, MAX_GRANT, Pins, SignedGrant};
use bz_core::id::ShellId;
use bz_core::target::UserRule;
use bz_core::time::UnixTime;
use bz_core::trust::TrustBundle;
use bz_core::wire;

use crate::client::ask::Question;
use crate::login::Login;
use crate::shown::shown;
use crate::target_name::TargetRef;

/// What a person does about a lie.
const TELL: &str = "Nothing was opened; tell your administrator: the server may be lying";

/// The server's answer is not what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    /// A field of the answer.
    #[error("the server answers for another {field} than asked: {asked} was asked, {got} came. {TELL}")]
    Field {
        /// Which.
        field: &'static str,
        /// What was asked.
        asked: String,
        /// What came.
        got: String,
    },
    /// A field of the grant.
    #[error("the server's grant is for another {0} than its answer says. {TELL}")]
    Grant(&'static str),
    /// The grant proves nothing.
    #[error("the server's grant is refused: {0}. Nothing was opened; `bz doctor` checks clock and trust bundle")]
    Refused(GrantError),
    /// No grant.
    #[error("the server's grant is no grant. {TELL}")]
    Malformed,
    /// Another target that acts where none belongs, or none where one is needed.
    #[error("the server names another target that acts where none belongs, or none where one is needed. {TELL}")]
    Proxy,
    /// A user where none belongs, or none where one is needed.
    #[error("the server names a target user where none belongs, or none where one is needed. {TELL}")]
    User,
}

/// What an honest answer comes to.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) request: Request,
    pub(super) request_bytes: Vec<u8>,
    pub(super) grant: SignedGrant,
}

pub(super) fn check(
    question: &Question,
    made: &ConnectionMade,
    (bundle, login): (&TrustBundle, &Login),
    now: UnixTime,
) -> Result<Checked, Lie> {
    check_answer(question, made)?;
    let request = question.request(made.acting(), made.target_user.clone());
    let request_bytes = request.encode().map_err(|_| Lie::User)?;
    let grant: SignedGrant = wire::decode(&made.grant.0, MAX_GRANT).map_err(|_| Lie::Malformed)?;
    let pins = Pins { organization: bundle.organization, roots: &bundle.roots, now };
    let granted = Grant::verify(&grant, &pins).map_err(Lie::Refused)?;
    check_grant(&granted, made, login)?;
    if granted.scope != question.parameters.scope() {
        return Err(Lie::Grant("scope"));
    }
    if granted.request != Request::digest(&request_bytes) {
        return Err(Lie::Grant("request"));
    }
    Ok(Checked { request, request_bytes, grant })
}

fn check_answer(question: &Question, made: &ConnectionMade) -> Result<(), Lie> {
    match &question.target {
        TargetRef::Id(id) => same("target", id, &made.target_id)?,
        TargetRef::Name { name, environment } => {
            same("target", name, &made.target_name)?;
            if let Some(environment) = environment {
                same("environment", environment, &made.environment_name)?;
            }
        }
    }
    if let Some(user) = &question.user {
        let got = made.target_user.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        same("target user", &user.to_string(), &got)?;
    }
    let kind = TargetKind::of(question.parameters.access());
    same("target type", &kind.to_string(), &made.target_type)?;
    check_proxy(kind, made)?;
    same("mode", &question.mode, &made.mode)?;
    let verb = question.request(made.target_id, None).verb();
    same("verb", &verb, &made.verb_type)?;
    let shown = |shell: Option<ShellId>| shell.map_or_else(|| "none".to_owned(), |shell| shell.to_string());
    same("shell", &shown(question.parameters.shell()), &shown(made.shell_id))?;
    // What only client and agent can read cannot be recorded; an answer that says so describes another session.
    if question.mode == Mode::Sealed {
        same("recording", &"none", &if made.recorded { "recorded" } else { "none" })?;
    }
    Ok(())
}

/// What is behind a target is reached by another's agent, and nothing else is.
fn check_proxy(kind: TargetKind, made: &ConnectionMade) -> Result<(), Lie> {
    let plain = |name: &str| !name.is_empty() && !name.chars().any(char::is_control);
    let named = made.proxy.as_ref().is_none_or(|by| plain(&by.target_name) && plain(&by.environment_name));
    if made.proxy.is_some() == (kind != TargetKind::Bzero) && named { Ok(()) } else { Err(Lie::Proxy) }
}

fn check_grant(grant: &Grant, made: &ConnectionMade, login: &Login) -> Result<(), Lie> {
    let user = match (&grant.user, &made.target_user) {
        (Some(UserRule::Literal(granted)), Some(answered)) => granted == answered,
        // The agent computes it from the token; the request's digest holds the answer to it.
        (Some(UserRule::Username), Some(_)) | (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    for (field, holds) in [
        ("connection", grant.connection == made.connection_id),
        ("target", grant.target == made.acting()),
        ("agent key", grant.agent_key == made.agent_public_key),
        ("client key", grant.client_key == login.key().public()),
        ("person", grant.person == login.person()),
        ("verb", grant.verb == made.verb_type),
        ("mode", grant.mode == made.mode),
        ("recording", grant.recording.output == made.recorded),
        ("target user", user),
    ] {
        if !holds {
            return Err(Lie::Grant(field));
        }
    }
    Ok(())
}

/// Refuses an answer that differs from what was asked.
pub(super) fn same<T: PartialEq + fmt::Display>(field: &'static str, asked: &T, got: &T) -> Result<(), Lie> {
    if asked == got {
        return Ok(());
    }
    Err(Lie::Field { field, asked: asked.to_string(), got: shown(&got.to_string()) })
}
