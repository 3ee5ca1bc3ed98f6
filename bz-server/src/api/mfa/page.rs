//! What the page at `/enroll` is made for: a code from a login, a secret for the code, and its confirmation.

use std::sync::PoisonError;

use bz_core::api::mfa::{BeginPage, ConfirmPage, MfaPage, MfaPassed, PageSecret, ResetMfa};
use bz_core::totp::{TotpSecret, base32};
use qrcode::{Color, EcLevel, QrCode};

use crate::api::mfa::{judge, may_enroll, propose};
use crate::api::{Answer, Call};
use crate::auth;
use crate::error::ApiError;
use crate::page::{CODE, LIFE, Open};
use crate::store::user::User;

/// The most bytes of a code or ticket as it is typed.
const TYPED: usize = 64;

/// `POST mfa/page`: a code for the page, from whoever may enroll.
pub(in crate::api) async fn ask(call: Call, body: ResetMfa) -> Result<Answer<MfaPage>, ApiError> {
    let who = call.person()?;
    may_enroll(&call, who, body).await?;
    let code = code(&call)?;
    let (person, now) = ((who.user.id, who.login.id), call.app.now().mono);
    let mut pages = call.app.pages.lock().unwrap_or_else(PoisonError::into_inner);
    if !pages.open(&code, person, now) {
        return Err(ApiError::too_many());
    }
    drop(pages);
    let groups: Vec<_> = code.as_bytes().chunks(4).map(String::from_utf8_lossy).collect();
    let expires_at = call.now().after(LIFE).to_string();
    Answer::json(&MfaPage { path: "/enroll".to_owned(), code: groups.join("-"), expires_at })
}

/// `POST mfa/page/begin`: a secret for the login that the code is of.
pub(in crate::api) async fn begin(call: Call, body: BeginPage) -> Result<Answer<PageSecret>, ApiError> {
    let ticket = code(&call)?;
    let now = call.app.now().mono;
    let begun = typed(&body.code)
        .then(|| call.app.pages.lock().unwrap_or_else(PoisonError::into_inner).begin(&body.code, &ticket, now));
    let open = begun.flatten().ok_or_else(over)?;
    let user = user(&call, open).await?;
    let url = propose(&call, (&user, open.login)).await?;
    let secret = TotpSecret::from_url(&url).map_err(ApiError::internal)?.to_base32().to_string();
    let code = QrCode::with_error_correction_level(&url, EcLevel::M).map_err(ApiError::internal)?;
    let width = code.width().max(1);
    let module = |color: &Color| if *color == Color::Dark { '1' } else { '0' };
    let qr_code = code.to_colors().chunks(width).map(|row| row.iter().map(module).collect()).collect();
    Answer::json(&PageSecret { ticket, account: user.name().to_owned(), secret, mfa_secret_url: url, qr_code })
}

/// `POST mfa/page/confirm`: the app's first code; the login that asked has passed then.
pub(in crate::api) async fn confirm(call: Call, body: ConfirmPage) -> Result<Answer<MfaPassed>, ApiError> {
    let now = call.app.now().mono;
    let found = typed(&body.ticket)
        .then(|| call.app.pages.lock().unwrap_or_else(PoisonError::into_inner).of(&body.ticket, now));
    let open = found.flatten().ok_or_else(over)?;
    user(&call, open).await?;
    let judged = judge(&call, (open.user, open.login), &body.token).await;
    let mut pages = call.app.pages.lock().unwrap_or_else(PoisonError::into_inner);
    match &judged {
        Ok(_) => pages.end(&body.ticket),
        Err(_) => pages.was_wrong(&body.ticket),
    }
    drop(pages);
    Answer::json(&judged?)
}

/// Who enrolls, whose login must still be one.
async fn user(call: &Call, open: Open) -> Result<User, ApiError> {
    let (login, user) = call.app.store.login(open.login).await?.ok_or_else(over)?;
    call.note_actor(auth::actor(&user));
    if login.ended || call.now() >= login.expires { Err(over()) } else { Ok(user) }
}

fn typed(text: &str) -> bool {
    (1..=TYPED).contains(&text.len())
}

fn over() -> ApiError {
    ApiError::not_logged_in(
        "this code is unknown, used or older than five minutes: `bz mfa setup --page` prints another",
    )
}

fn code(call: &Call) -> Result<String, ApiError> {
    let random: [u8; 32] = call.app.random()?;
    Ok(base32(random.get(..CODE).unwrap_or_default()))
}
