//! Paging: `limit` and `cursor`, and the `Link` header that leads on. A list is whole when neither is asked for.
//!
//! A cursor names the place of the last element that was answered, not its number, so that what is made or deleted
//! meanwhile neither repeats nor hides another element.

use std::marker::PhantomData;

use axum::http::{HeaderValue, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bz_core::api::{
    access, api_key, groups, login, mfa, policy, reach, record, service_account, target, virtual_target,
};
use serde::Serialize;

use crate::api::call::{Answer, Call, parse_time};
use crate::api::query;
use crate::error::ApiError;

/// How many elements a page has when only a cursor is given.
const USUAL: u32 = 100;

/// What is answered as an array that can be paged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List<T>(PhantomData<fn() -> T>);

/// The page that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The most elements.
    pub limit: usize,
    /// The place of the last element of the page before.
    pub after: Option<String>,
}

/// An element of a list.
pub trait Listed {
    /// Where it stands among the others when they are paged: unique, and the same as long as it exists.
    fn place(&self) -> String;
}

impl Call {
    /// The page that was asked for; `None` for the whole list.
    ///
    /// # Errors
    /// [`ApiError::field`] for what is no cursor.
    pub fn page(&self) -> Result<Option<Page>, ApiError> {
        let (limit, cursor) = (self.query(query::LIMIT.name).pop(), self.query(query::CURSOR.name).pop());
        if limit.is_none() && cursor.is_none() {
            return Ok(None);
        }
        let limit = limit.and_then(|text| text.parse().ok()).unwrap_or(USUAL).clamp(1, query::MOST);
        let unknown = || ApiError::field(query::CURSOR.name, "is none of this server's");
        let decode = |text: String| URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let after = cursor.map(|text| decode(text).ok_or_else(unknown)).transpose()?;
        Ok(Some(Page { limit: usize::try_from(limit).unwrap_or(usize::MAX), after }))
    }
}

impl<T: Serialize> Answer<List<T>> {
    /// One page of a list whose elements were found page by page; `next` is the place of its last element when more
    /// follow.
    ///
    /// # Errors
    /// [`ApiError::internal`] when it has no JSON.
    pub fn page(call: &Call, items: &[T], next: Option<&str>) -> Result<Self, ApiError> {
        Self::wire(items)?.leading_on(call, next)
    }
}

impl<T> Answer<List<T>> {
    /// The same, with where the next page is.
    pub(super) fn leading_on(mut self, call: &Call, next: Option<&str>) -> Result<Self, ApiError> {
        if let Some(place) = next {
            let link = link(&call.head.uri, &URL_SAFE_NO_PAD.encode(place));
            self.headers.push((header::LINK, HeaderValue::try_from(link).map_err(ApiError::internal)?));
        }
        Ok(self)
    }
}

impl<T: Serialize + Listed> Answer<List<T>> {
    /// All of these, or the page of them that was asked for.
    ///
    /// # Errors
    /// [`ApiError::field`] for what is no cursor.
    pub fn list(call: &Call, mut items: Vec<T>) -> Result<Self, ApiError> {
        let Some(page) = call.page()? else { return Self::page(call, &items, None) };
        items.sort_by_cached_key(Listed::place);
        if let Some(after) = &page.after {
            items.retain(|item| item.place() > *after);
        }
        let more = items.len() > page.limit;
        items.truncate(page.limit);
        let next = items.last().filter(|_| more).map(Listed::place);
        Self::page(call, &items, next.as_deref())
    }
}

/// This call again, from there on.
fn link(uri: &Uri, cursor: &str) -> String {
    let kept = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let kept = kept.filter(|(name, _)| name != query::CURSOR.name);
    let mut again = url::form_urlencoded::Serializer::new(String::new());
    let again = again.extend_pairs(kept).append_pair(query::CURSOR.name, cursor).finish();
    format!("<{}?{again}>; rel=\"next\"", uri.path())
}

fn named(name: &str, id: impl std::fmt::Display) -> String {
    format!("{name}\n{id}")
}

fn newest(time: &str, id: impl std::fmt::Display) -> String {
    let millis = parse_time(time).map_or(0, bz_core::time::UnixTime::as_millis);
    format!("{:020}\n{id}", u64::MAX - millis)
}

macro_rules! listed {
    ($($type:path: |$it:ident| $place:expr;)*) => {$(
        impl Listed for $type {
            fn place(&self) -> String {
                let $it = self;
                $place
            }
        }
    )*};
}

listed! {
    groups::IdpGroup: |it| named(&it.name, &it.id);
    login::SubjectDetails: |it| named(&it.email, it.id);
    reach::Agent: |it| named(&it.name, it.id);
    login::User: |it| named(&it.email, it.id);
    api_key::ApiKey: |it| named(&it.name, it.id);
    policy::TargetConnectPolicy: |it| named(&it.content.name, it.id);
    policy::ProxyPolicy: |it| named(&it.content.name, it.id);
    policy::KubernetesPolicy: |it| named(&it.content.name, it.id);
    policy::RecordingPolicy: |it| named(&it.content.name, it.id);
    target::Environment: |it| named(&it.name, it.id);
    target::Target: |it| named(&it.name, it.id);
    virtual_target::DatabaseTarget: |it| named(&it.base.name, it.base.id);
    virtual_target::WebTarget: |it| named(&it.base.name, it.base.id);
    virtual_target::KubeTarget: |it| named(&it.base.name, it.base.id);
    access::Connection: |it| newest(&it.time_created, it.id);
    record::SessionRecording: |it| newest(&it.time_created, it.connection_id);
    record::TranscriptFile: |it| format!("{:010}", it.number);
    mfa::ControlsPolicy: |it| it.id.to_string();
    service_account::ServiceAccount: |it| it.id.to_string();
}
