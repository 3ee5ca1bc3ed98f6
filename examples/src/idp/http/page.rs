//! What a person sees: the login page and the error page. Every foreign text is escaped.

use std::fmt::Write as _;

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

const STYLE: &str = "body{font:1rem/1.5 sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem}\
    .loud{background:#b00020;color:#fff;padding:.75rem 1rem;font-weight:bold}\
    .wrong{color:#b00020}input,button{font:inherit;padding:.3rem .6rem}";

/// What the login page asks, and what it must send back.
pub(super) struct LoginPage<'a> {
    pub(super) client_id: &'a str,
    pub(super) transaction: &'a str,
    pub(super) suggestion: &'a str,
}

impl LoginPage<'_> {
    pub(super) fn show(&self) -> Response {
        self.render(StatusCode::OK, "")
    }

    pub(super) fn show_refused(&self) -> Response {
        self.render(
            StatusCode::FORBIDDEN,
            "<p class=\"wrong\" role=\"alert\">No such user, or one who is disabled.</p>",
        )
    }

    fn render(&self, status: StatusCode, message: &str) -> Response {
        let body = format!(
            "<h1>Log in to {client}</h1>{message}\
             <form method=\"post\" action=\"/login\">\
             <input type=\"hidden\" name=\"transaction\" value=\"{transaction}\">\
             <label>User name <input type=\"text\" name=\"user\" value=\"{suggestion}\" autofocus autocomplete=\"off\"></label> \
             <button name=\"decision\" value=\"allow\">Log in</button> \
             <button name=\"decision\" value=\"deny\">Cancel</button></form>",
            client = escape(self.client_id),
            transaction = escape(self.transaction),
            suggestion = escape(self.suggestion),
        );
        document(status, &body)
    }
}

/// For a request that must not be answered by a redirect, because where to is not trusted.
pub(super) fn error(description: &str) -> Response {
    let body = format!("<h1>This login cannot go on</h1><p class=\"wrong\">{}</p>", escape(description));
    document(StatusCode::BAD_REQUEST, &body)
}

fn document(status: StatusCode, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Development login</title>\
         <style>{STYLE}</style></head><body><p class=\"loud\">DEVELOPMENT IDENTITY PROVIDER: it asks for no password, \
         and anyone at this machine can log in as anyone. Never let a real system trust it.</p>{body}</body></html>"
    );
    (status, Html(html)).into_response()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' | '<' | '>' | '"' | '\'' => write!(escaped, "&#{};", u32::from(character)).unwrap_or_default(),
            plain => escaped.push(plain),
        }
    }
    escaped
}
