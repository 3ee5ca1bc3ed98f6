//! One call as a handler sees it, and its answer.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use bz_core::api::record::Actor;
use bz_core::time::UnixTime;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::openapi::{Nothing, Tagged, Whole};
use crate::api::{Operation, query};
use crate::app::App;
use crate::auth::{Caller, LoggedIn};
use crate::error::ApiError;
use crate::policy::OperationQuestion;
use crate::store::policy::Author;

/// One call. Its caller is proved and allowed when a handler sees it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The parts of the server.
    pub app: Arc<App>,
    /// Who calls.
    pub caller: Caller,
    /// From where.
    pub from: IpAddr,
    pub(super) params: BTreeMap<String, String>,
    pub(super) head: Parts,
    pub(super) body: Bytes,
    pub(super) noted: Arc<Mutex<Noted>>,
    pub(super) operation: &'static Operation,
}

/// What a handler knows better than the way in, for the log.
#[derive(Debug, Clone, Default)]
pub(super) struct Noted {
    pub(super) actor: Option<Actor>,
    pub(super) resource: Option<String>,
    pub(super) context: Option<String>,
}

impl Call {
    /// The wall clock.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.app.now().wall
    }

    /// Who changes something by this call, and when.
    #[must_use]
    pub fn author(&self) -> Author {
        Author { actor: Some(self.caller.actor()), at: self.now() }
    }

    /// The person who calls.
    ///
    /// # Errors
    /// [`ApiError::denied`] when a key calls.
    pub fn person(&self) -> Result<&LoggedIn, ApiError> {
        self.caller.person()
    }

    /// Whether the caller has one of [`super::RIGHTS`].
    #[must_use]
    pub fn has(&self, right: &str) -> bool {
        let asker = self.caller.asker();
        self.app.engine.may_call(&OperationQuestion { caller: &asker, operation: right, owner: None })
    }

    /// What the path names so; nothing when it does not.
    pub(super) fn param(&self, name: &str) -> &str {
        self.params.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The path's `{id}`.
    ///
    /// # Errors
    /// [`ApiError::bad_request`] when it is none.
    pub fn id<T: FromStr<Err: std::fmt::Display>>(&self) -> Result<T, ApiError> {
        self.param("id").parse().map_err(|e: T::Err| ApiError::bad_request(e.to_string()))
    }

    /// The body.
    ///
    /// # Errors
    /// [`ApiError::bad_request`], naming what is wrong with it.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        // serde would take the fields from an array, too, in the order in which they happen to be declared.
        if self.body.trim_ascii_start().first() != Some(&b'{') {
            return Err(ApiError::bad_request("the body must be an object of JSON"));
        }
        serde_json::from_slice(&self.body).map_err(|e| ApiError::bad_request(format!("the body: {e}")))
    }

    /// The values of a query parameter, which may be repeated. The table says which there are.
    #[must_use]
    pub fn query(&self, name: &str) -> Vec<String> {
        let Some(param) = self.operation.query.iter().chain(&[query::LIMIT, query::CURSOR]).find(|p| p.name == name)
        else {
            tracing::error!(name, operation = ?self.operation, "the table does not know this parameter");
            return Vec::new();
        };
        let query = self.head.uri.query().unwrap_or_default();
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let given = pairs.filter(|(key, value)| key == name && !param.is_left_out(value));
        given.map(|(_, value)| value.into_owned()).collect()
    }

    /// Whether the operation takes this query parameter.
    pub(super) fn takes(&self, name: &str) -> bool {
        self.operation.query.iter().any(|param| param.name == name)
    }

    /// Whether a query parameter is `true`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.query(name).pop().is_some_and(|value| value == "true")
    }

    /// The version that an `If-Match` header names; `None` for any.
    ///
    /// # Errors
    /// [`ApiError::changed`] for a tag that is none of ours: it names nothing that is there.
    pub(super) fn if_match(&self) -> Result<Option<u64>, ApiError> {
        let Some(header) = self.head.headers.get(header::IF_MATCH) else { return Ok(None) };
        let text = header.to_str().unwrap_or_default();
        if text == "*" {
            return Ok(None);
        }
        let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')?.parse().ok());
        version.map(Some).ok_or_else(ApiError::changed)
    }

    /// Checks what the query gives for each parameter. What the table does not know is left alone.
    pub(super) fn check_query(&self) -> Result<(), ApiError> {
        let query = self.head.uri.query().unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let mut params = self.operation.query.iter().chain(&[query::LIMIT, query::CURSOR]);
            let param = params.find(|param| param.name == name && !param.is_left_out(&value));
            param.map_or(Ok(()), |param| param.check(&value))?;
        }
        Ok(())
    }

    /// Says in the log what this call is about.
    pub fn note(&self, resource: impl Into<String>) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).resource = Some(resource.into());
    }

    /// Says more about it.
    pub fn note_context(&self, context: impl Into<String>) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).context = Some(context.into());
    }

    pub(super) fn note_actor(&self, actor: Actor) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).actor = Some(actor);
    }

    pub(super) fn noted(&self) -> Noted {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn ids<T: FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<Vec<T>, ApiError> {
        let parse = |text: &String| text.parse().map_err(|e: T::Err| ApiError::field(name, &e.to_string()));
        self.query(name).iter().map(parse).collect()
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<UnixTime>, ApiError> {
        let text = self.query(name).pop();
        text.map(|text| parse_time(&text).ok_or_else(|| ApiError::field(name, "must be a time as in RFC 3339")))
            .transpose()
    }
}

/// A time as in RFC 3339.
pub(super) fn parse_time(text: &str) -> Option<UnixTime> {
    let stamp: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(stamp.as_millisecond()).ok().map(UnixTime::from_millis)
}

/// What a call that went well answers: a `T`, as the table says.
#[derive(Debug)]
pub struct Answer<T = ()> {
    /// The status.
    pub status: StatusCode,
    /// Headers besides the usual ones.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body and its media type; none at all for an empty answer.
    pub body: Option<(&'static str, Body)>,
    of: PhantomData<fn() -> T>,
}

impl<T> Answer<T> {
    /// These bytes, of this media type.
    #[must_use]
    pub fn of(media: &'static str, body: Vec<u8>) -> Self {
        Self::flowing(media, Body::from(body))
    }

    /// What comes by and by, of this media type.
    #[must_use]
    pub const fn flowing(media: &'static str, body: Body) -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), body: Some((media, body)), of: PhantomData }
    }

    /// The same, which no one on the way keeps.
    #[must_use]
    pub fn kept_nowhere(mut self) -> Self {
        self.headers.push((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
        self
    }

    /// Whatever it is.
    #[must_use]
    pub fn erased(self) -> Answer {
        Answer { status: self.status, headers: self.headers, body: self.body, of: PhantomData }
    }
}

impl<T: Serialize> Answer<T> {
    /// This, as JSON.
    ///
    /// # Errors
    /// [`ApiError::internal`] when it has no JSON.
    pub fn json(value: &T) -> Result<Self, ApiError> {
        Self::wire(value)
    }
}

impl<A> Answer<A> {
    /// This, as the JSON of an `A`.
    pub(super) fn wire(value: &(impl Serialize + ?Sized)) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(value).map_err(ApiError::internal)?;
        Ok(Self::of("application/json", body))
    }
}

impl<T: Serialize> Answer<Whole<T>> {
    /// All of these.
    ///
    /// # Errors
    /// [`ApiError::internal`] when one has no JSON.
    pub fn whole(values: &[T]) -> Result<Self, ApiError> {
        Self::wire(values)
    }
}

impl Answer<Nothing> {
    /// Nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: None, of: PhantomData }
    }
}

impl<T: Serialize> Answer<Tagged<T>> {
    /// This, as JSON, with its version for `If-Match`.
    ///
    /// # Errors
    /// [`ApiError::internal`] when it has no JSON.
    pub fn tagged(value: &T, version: u64) -> Result<Self, ApiError> {
        let mut answer = Self::wire(value)?;
        let tag = HeaderValue::try_from(format!("\"{version}\"")).map_err(ApiError::internal)?;
        answer.headers.push((header::ETAG, tag));
        Ok(answer)
    }
}

/// A text that people give things: 1 to `most` bytes, nothing invisible.
pub(super) fn check_text(field: &str, text: &str, most: usize) -> Result<(), ApiError> {
    let plain = !text.chars().any(char::is_control);
    if plain && text.len() <= most {
        Ok(())
    } else {
        Err(ApiError::field(field, &format!("must have at most {most} bytes and no control characters")))
    }
}

/// A name: a text with something in it, and no space at its ends.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), ApiError> {
    check_text(field, name, 100)?;
    if name.trim() == name && !name.is_empty() {
        Ok(())
    } else {
        Err(ApiError::field(field, "must not be empty, nor begin or end with a space"))
    }
}
