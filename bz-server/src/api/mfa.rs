//! The second factor of people: giving a code, enrolling, and what administrators may do about somebody else's.

pub(super) mod page;

use std::sync::Arc;

use bz_core::api::login::MfaActionRequired;
use bz_core::api::mfa::{MfaPassed, MfaSecret, MfaStatus, PassMfa, RecoveryCodes, ResetMfa, WhoseMfa};
use bz_core::grant::Mfa;
use bz_core::id::{LoginId, UserId};
use bz_core::totp::TotpSecret;

use crate::api::openapi::Nothing;
use crate::api::user::{find, refuse_self};
use crate::api::{Answer, Call};
use crate::auth::{self, LoggedIn};
use crate::connection;
use crate::error::ApiError;
use crate::mfa::{self, Attempt, Enrolment, Factor, Outcome, Standing};
use crate::store::user::User;

/// `POST mfa/totp`: a code passes the factor, or confirms the secret that was proposed to this login.
pub(super) async fn totp(call: Call, body: PassMfa) -> Result<Answer<MfaPassed>, ApiError> {
    let who = call.person()?;
    Answer::json(&judge(&call, (who.user.id, who.login.id), &body.token).await?)
}

/// What becomes of a code that a login gives.
pub(super) async fn judge(call: &Call, (user, login): (UserId, LoginId), token: &str) -> Result<MfaPassed, ApiError> {
    let token: String = token.chars().filter(|c| !c.is_whitespace()).collect();
    if !mfa::is_code(&token) {
        return Err(ApiError::field("token", "must be the six digits that the app shows, or a recovery code"));
    }
    let now = call.now();
    let (codes, fresh) = mfa::recovery_codes(user, &call.app.random()?);
    let vault = Arc::clone(&call.app.vault);
    let judge = move |before: &Enrolment| {
        let attempt = Attempt { user, login, token: &token, fresh: &fresh, now };
        match mfa::attempt(&vault, before, &attempt) {
            Ok((after, outcome)) => {
                (after, method(outcome).map(|m| Mfa { method: m.to_owned(), at: now }), Ok(outcome))
            }
            Err(error) => (before.clone(), None, Err(error)),
        }
    };
    let outcome = call.app.store.pass_factor((user, login), judge).await?.map_err(ApiError::internal)?;
    match outcome {
        Outcome::Passed(_) | Outcome::Confirmed => {}
        Outcome::Wrong => return Err(ApiError::mfa_code()),
        Outcome::Used => return Err(ApiError::mfa_used()),
        Outcome::Locked(until) => return Err(ApiError::mfa_locked(until, now)),
        Outcome::NotEnrolled => {
            return Err(ApiError::conflict("there is no second factor to compare with: `bz mfa setup` makes one"));
        }
    }
    let method = method(outcome).unwrap_or_default();
    let confirmed = outcome == Outcome::Confirmed;
    call.note_context(if confirmed { "enrolled a second factor".to_owned() } else { format!("passed by {method}") });
    let factor = call.app.store.factor(user).await?;
    let passed = Mfa { method: method.to_owned(), at: now };
    Ok(MfaPassed {
        method: passed.method.clone(),
        verified_until: factor.ends(&passed).map(|end| end.to_string()),
        recovery_codes: if confirmed { codes } else { Vec::new() },
        recovery_codes_left: factor.enrolment.recovery.len(),
    })
}

const fn method(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Passed(method) => Some(method),
        Outcome::Confirmed => Some(mfa::TOTP),
        Outcome::Wrong | Outcome::Used | Outcome::Locked(_) | Outcome::NotEnrolled => None,
    }
}

/// `POST mfa/reset`: a new secret for the caller, who has passed the old one a moment ago where there is one.
pub(super) async fn reset(call: Call, body: ResetMfa) -> Result<Answer<MfaSecret>, ApiError> {
    let who = call.person()?;
    may_enroll(&call, who, body).await?;
    Answer::json(&MfaSecret { mfa_secret_url: propose(&call, (&who.user, who.login.id)).await? })
}

/// Whether the caller may set up a second factor now, in place of one that is there.
async fn may_enroll(call: &Call, who: &LoggedIn, body: ResetMfa) -> Result<(), ApiError> {
    let factor = call.app.store.factor(who.user.id).await?;
    if !factor.enrolment.is_verified() {
        return Ok(());
    }
    if !body.force_setup {
        return Err(ApiError::conflict("you have a second factor: `bz mfa reset` takes another in its place"));
    }
    freshly_passed(call, who)
}

/// Proposes a new secret to a login; the address that apps read.
async fn propose(call: &Call, (user, login): (&User, LoginId)) -> Result<String, ApiError> {
    let organization = call.app.store.organization().await?.map(|o| o.name).unwrap_or_default();
    let secret = TotpSecret::from_bytes(call.app.random()?);
    let url = secret.to_url(&organization, user.name());
    let user = user.id;
    let sealed = mfa::propose(&call.app.vault, user, (secret, call.app.random()?)).map_err(ApiError::internal)?;
    let propose = move |before: &Enrolment| (Enrolment { proposed: Some((sealed, login)), ..before.clone() }, ());
    call.app.store.change_factor(user, propose).await?;
    Ok(url.to_string())
}

/// `POST mfa/recovery-codes`: new ones in place of those that are left.
pub(super) async fn recovery_codes(call: Call) -> Result<Answer<RecoveryCodes>, ApiError> {
    let who = call.person()?;
    if !call.app.store.factor(who.user.id).await?.enrolment.is_verified() {
        return Err(ApiError::conflict("you have no second factor: `bz mfa setup` makes one, with recovery codes"));
    }
    freshly_passed(&call, who)?;
    let (codes, recovery) = mfa::recovery_codes(who.user.id, &call.app.random()?);
    let change = move |before: &Enrolment| (Enrolment { recovery, ..before.clone() }, ());
    call.app.store.change_factor(who.user.id, change).await?;
    Answer::json(&RecoveryCodes { recovery_codes: codes })
}

/// What a stolen login must not do alone.
fn freshly_passed(call: &Call, who: &LoggedIn) -> Result<(), ApiError> {
    let passed = who.login.mfa.as_ref().is_some_and(|passed| call.now().since(passed.at) <= mfa::FRESH);
    if passed { Ok(()) } else { Err(ApiError::mfa_needed(MfaActionRequired::Totp)) }
}

/// `GET mfa/me`.
pub(super) async fn me(call: Call) -> Result<Answer<MfaStatus>, ApiError> {
    let who = call.person()?;
    let factor = call.app.store.factor(who.user.id).await?;
    let passed = who.login.mfa.as_ref();
    let counts = factor.counts(passed, call.now());
    let until = passed.filter(|_| counts).and_then(|passed| factor.ends(passed));
    Answer::json(&MfaStatus {
        session_verified: Some(counts),
        verified_until: until.map(|until| until.to_string()),
        ..status(&call, &factor)
    })
}

/// `GET mfa/{userId}`, by id or address.
pub(super) async fn get(call: Call) -> Result<Answer<MfaStatus>, ApiError> {
    let user = find(&call).await?;
    let factor = call.app.store.factor(user.id).await?;
    Answer::json(&status(&call, &factor))
}

fn status(call: &Call, factor: &Factor) -> MfaStatus {
    let now = call.now();
    let grace = factor.grace(now, call.app.config().mfa_grace());
    MfaStatus {
        enabled: factor.is_needed(),
        verified: factor.enrolment.is_verified(),
        session_verified: None,
        grace_period_end_time: grace.map(|end| end.to_string()),
        verified_until: None,
        locked_until: factor.enrolment.locked_until.filter(|until| now < *until).map(|until| until.to_string()),
        recovery_codes_left: factor.enrolment.recovery.len(),
    }
}

/// `POST mfa/clear`: the person enrolls anew at the next login. Every login ends, for whoever has the lost device may be
/// in one; shells run on, detached.
pub(super) async fn clear(call: Call, body: WhoseMfa) -> Result<Answer<Nothing>, ApiError> {
    let user = whose(&call, body).await?;
    refuse_self(&call, &user, "your own second factor is somebody else's to clear: `bz mfa reset` takes a new one")?;
    let logins = call.app.store.live_logins(user.id, call.now()).await?;
    call.app.store.clear_factor(user.id, call.now()).await?;
    call.note_context(format!("the second factor was cleared, and {} logins ended", logins.len()));
    for login in logins {
        call.app.store.logout(login.id, call.now()).await?;
        let id = login.id;
        let who = LoggedIn { login, user: user.clone(), standing: Standing::FREE };
        connection::after_logout(&call.app, &who).await?;
        call.app.links.logged_out(id);
    }
    Ok(Answer::empty())
}

/// `POST mfa/setup`: this person needs a second factor, whatever the organization asks of others.
pub(super) async fn setup(call: Call, body: WhoseMfa) -> Result<Answer<Nothing>, ApiError> {
    let user = whose(&call, body).await?;
    enable(&call, &user, true).await?;
    Ok(Answer::empty())
}

/// `POST mfa/disable`: this person needs none. Discouraged, and said so in the log.
pub(super) async fn disable(call: Call, body: WhoseMfa) -> Result<Answer<Nothing>, ApiError> {
    let user = whose(&call, body).await?;
    refuse_self(&call, &user, "your own second factor is somebody else's to disable")?;
    call.note_context("WARNING: this person's logins need no second factor any more");
    enable(&call, &user, false).await?;
    Ok(Answer::empty())
}

async fn enable(call: &Call, user: &User, enabled: bool) -> Result<(), ApiError> {
    let change = move |before: &Enrolment| (Enrolment { enabled: Some(enabled), ..before.clone() }, ());
    Ok(call.app.store.change_factor(user.id, change).await?)
}

async fn whose(call: &Call, WhoseMfa { user_id }: WhoseMfa) -> Result<User, ApiError> {
    let found = call.app.store.users_called(user_id.to_string()).await?.pop();
    let user = found.ok_or_else(|| ApiError::not_found("user"))?;
    call.note(user.name());
    Ok(user)
}

/// After a login was registered: how it stands. The grace of who needs a factor and has none begins here.
pub(super) async fn begin(call: &Call, login: LoginId) -> Result<Standing, ApiError> {
    let unknown = || ApiError::internal("a login just registered is not there");
    let (login, _) = call.app.store.login(login).await?.ok_or_else(unknown)?;
    let factor = call.app.store.factor(login.user).await?;
    if let Some(ends) = factor.grace(call.now(), call.app.config().mfa_grace())
        && factor.enrolment.grace_ends.is_none()
    {
        let change = move |before: &Enrolment| (Enrolment { grace_ends: Some(ends), ..before.clone() }, ());
        call.app.store.change_factor(login.user, change).await?;
    }
    Ok(auth::standing(&call.app, &login).await?)
}
