//! The one page that the server serves: setting up a second factor in a browser.
//!
//! A browser has no login here. What lets the page do something is a code that is good once, for five minutes, for the one
//! login that asked for it; it is typed, or stands in the address behind `#`, which no browser sends. The page loads
//! nothing from elsewhere and runs no script but its own file. Security keys will have their place beside the QR code.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;
use bz_core::digest::Digest;
use bz_core::id::{LoginId, UserId};
use bz_core::time::Mono;

/// For how long a code or a ticket is good.
pub(crate) const LIFE: Duration = Duration::from_secs(300);
/// How many wrong codes of an authenticator app one page may give.
const TRIES: u32 = 5;
/// The most pages that are open at a time.
const MOST: usize = 1000;
/// The random bytes of a code: sixteen symbols.
pub(crate) const CODE: usize = 10;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";
const HEADERS: [(HeaderName, &str); 8] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// The page and what it loads.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/enroll", get(|| async { file("text/html; charset=utf-8", include_str!("page/enroll.html")) }))
        .route("/enroll.js", get(|| async { file("text/javascript; charset=utf-8", include_str!("page/enroll.js")) }))
        .route("/enroll.css", get(|| async { file("text/css; charset=utf-8", include_str!("page/enroll.css")) }))
}

fn file(media: &'static str, text: &'static str) -> impl IntoResponse {
    let mut answer = ([(header::CONTENT_TYPE, media)], text).into_response();
    let headers = HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value)));
    answer.headers_mut().extend(headers);
    answer
}

/// The pages that are open: whose they are, by a digest of what lets them go on.
#[derive(Debug, Default)]
pub(crate) struct Pages(BTreeMap<Digest, Open>);

/// One.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Open {
    /// Who enrolls.
    pub(crate) user: UserId,
    /// The login that asked for it.
    pub(crate) login: LoginId,
    /// Whether the secret was shown.
    shown: bool,
    until: Mono,
    wrong: u32,
}

impl Pages {
    /// Opens one for a login, in place of any other of the person's.
    pub(crate) fn open(&mut self, code: &str, (user, login): (UserId, LoginId), now: Mono) -> bool {
        self.0.retain(|_, open| now < open.until && open.user != user);
        if self.0.len() >= MOST {
            return false;
        }
        self.0.insert(key(code), Open { user, login, shown: false, until: now.after(LIFE), wrong: 0 });
        true
    }

    /// Takes a code, once, and leaves a ticket in its place.
    pub(crate) fn begin(&mut self, code: &str, ticket: &str, now: Mono) -> Option<Open> {
        let open = self.0.remove(&key(code)).filter(|open| !open.shown && now < open.until)?;
        self.0.insert(key(ticket), Open { shown: true, until: now.after(LIFE), ..open });
        Some(open)
    }

    /// Whose ticket this is, as long as it is good.
    pub(crate) fn of(&self, ticket: &str, now: Mono) -> Option<Open> {
        self.0.get(&key(ticket)).filter(|open| open.shown && now < open.until).copied()
    }

    /// A code of the app was wrong: after a few the page is over.
    pub(crate) fn was_wrong(&mut self, ticket: &str) {
        if let Some(open) = self.0.get_mut(&key(ticket)) {
            open.wrong += 1;
            if open.wrong >= TRIES {
                self.end(ticket);
            }
        }
    }

    /// It is done.
    pub(crate) fn end(&mut self, ticket: &str) {
        self.0.remove(&key(ticket));
    }
}

/// However it was typed.
fn key(code: &str) -> Digest {
    let plain: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    Digest::of(plain.to_ascii_uppercase().as_bytes())
}
