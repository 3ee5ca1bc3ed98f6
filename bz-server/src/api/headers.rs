//! Headers of every answer that tell browsers to be strict. A handler that knows better sets its own.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;

/// What browsers are told: TLS from now on, no guessing of types, no frames, nothing loaded, nothing kept, no traces.
/// `Strict-Transport-Security` counts only where it comes over TLS (RFC 6797, section 8.1), so it is always there.
const STRICT: [(HeaderName, &str); 6] = [
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Adds those that are not there.
pub(crate) async fn secure(mut response: Response) -> Response {
    for (name, value) in STRICT {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
