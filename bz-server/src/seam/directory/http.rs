//! One request to a directory: with access, without redirects, answered in time, with JSON of a bounded size. And pages,
//! which never lead elsewhere and end.

use std::time::Duration;

use axum::http::{HeaderMap, Method, StatusCode, header};
use bz_core::time::UnixTime;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::groups::source::is_safe;
use crate::seam::directory::access::Access;
use crate::seam::directory::{DirectoryError, MOST_GROUPS, MOST_PAGES};

/// The most bytes of one answer.
const MOST_BYTES: usize = 4 << 20;
/// How long one answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a directory that asks for patience is left alone at least and at most.
const LEAST: Duration = Duration::from_secs(5);
const MOST: Duration = Duration::from_secs(3600);

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The status: of success, or 404.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Value,
}

impl Answered {
    /// What it says.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<(T, HeaderMap), DirectoryError> {
        if !self.status.is_success() {
            return Err(DirectoryError::Status(self.status.as_u16()));
        }
        let value =
            serde_json::from_value(self.body).map_err(|_| DirectoryError::Malformed("another shape of JSON"))?;
        Ok((value, self.headers))
    }

    /// What it says, unless there is no such thing. Something that is not the directory's own word is no answer.
    pub(crate) fn found<T: DeserializeOwned>(self) -> Result<Option<T>, DirectoryError> {
        match self.status {
            StatusCode::NOT_FOUND if self.body.is_object() => Ok(None),
            StatusCode::NOT_FOUND => Err(DirectoryError::Malformed("a page that was not found, which says nothing")),
            _ => self.read().map(|(value, _)| Some(value)),
        }
    }
}

/// A directory's API.
#[derive(Debug)]
pub struct Api {
    base: Url,
    access: Access,
}

impl Api {
    /// The API at this address.
    #[must_use]
    pub fn new(base: Url, access: Access) -> Self {
        Self { base, access }
    }

    /// The address of these segments below the API's.
    pub(crate) fn at(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Url, DirectoryError> {
        let mut url = self.base.clone();
        url.set_query(None);
        let unable = DirectoryError::Unable("its address takes no path");
        url.path_segments_mut().map_err(|()| unable)?.pop_if_empty().extend(segments);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// Reads.
    pub(crate) async fn get(&self, url: Url) -> Result<Answered, DirectoryError> {
        self.send(Method::GET, url, None).await
    }

    /// Reads by a question that is too long for an address.
    pub(crate) async fn ask(&self, url: Url, question: &Value) -> Result<Answered, DirectoryError> {
        self.send(Method::POST, url, Some(question)).await
    }

    async fn send(&self, method: Method, url: Url, body: Option<&Value>) -> Result<Answered, DirectoryError> {
        if url.origin() != self.base.origin() || !is_safe(&url) {
            return Err(DirectoryError::Malformed("a way that leads elsewhere"));
        }
        let mut again = true;
        loop {
            let authorization = self.access.header().await?;
            let mut request = self.access.client().request(method.clone(), url.clone());
            request = request.header(header::AUTHORIZATION, authorization.as_str());
            request = request.header(header::ACCEPT, "application/json");
            if let Some(body) = body {
                let bytes = serde_json::to_vec(body).map_err(|_| DirectoryError::Unable("a question has no JSON"))?;
                request = request.header(header::CONTENT_TYPE, "application/json").body(bytes);
            }
            let answer = receive(request, self.access.now()).await;
            // Access that was given before may be withdrawn: once it is asked for anew.
            if again && matches!(answer, Err(DirectoryError::Refused(401))) && self.access.forget(&authorization).await
            {
                again = false;
                continue;
            }
            return answer;
        }
    }

    /// All items of an answer that comes by pages: `next` says of each page what is on it, and where the next one is.
    pub(crate) async fn pages<T, P: DeserializeOwned>(
        &self,
        first: Url,
        next: impl Fn(P, &HeaderMap) -> Result<(Vec<T>, Option<Url>), DirectoryError>,
    ) -> Result<Vec<T>, DirectoryError> {
        let mut all = Vec::new();
        let mut url = first;
        for _ in 0..MOST_PAGES {
            let (page, headers) = self.get(url).await?.read::<P>()?;
            let (items, following) = next(page, &headers)?;
            all.extend(items);
            if all.len() > MOST_GROUPS {
                return Err(DirectoryError::Malformed("more groups than can be read"));
            }
            match following {
                Some(following) => url = following,
                None => return Ok(all),
            }
        }
        Err(DirectoryError::Malformed("pages without an end"))
    }
}

/// Sends a request and reads its answer: success, or 404.
pub(crate) async fn receive(request: reqwest::RequestBuilder, now: UnixTime) -> Result<Answered, DirectoryError> {
    let unreachable = |error: reqwest::Error| DirectoryError::Unreachable(chain(&error.without_url()));
    let mut answer = request.send().await.map_err(unreachable)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            return Err(DirectoryError::Busy(patience(&headers, now)));
        }
        StatusCode::UNAUTHORIZED => return Err(DirectoryError::Refused(status.as_u16())),
        _ => {}
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if body.len().saturating_add(chunk.len()) > MOST_BYTES {
            return Err(DirectoryError::Malformed("more bytes than such an answer has"));
        }
        body.extend_from_slice(&chunk);
    }
    let json = serde_json::from_slice(&body);
    match status {
        // Google says so when it is asked too often.
        StatusCode::FORBIDDEN if json.as_ref().is_ok_and(is_quota) => {
            Err(DirectoryError::Busy(patience(&headers, now)))
        }
        StatusCode::FORBIDDEN => Err(DirectoryError::Refused(status.as_u16())),
        StatusCode::NOT_FOUND => Ok(Answered { status, headers, body: json.unwrap_or_default() }),
        _ if status.is_success() => {
            let body = json.map_err(|_| DirectoryError::Malformed("no JSON"))?;
            Ok(Answered { status, headers, body })
        }
        _ => Err(DirectoryError::Status(status.as_u16())),
    }
}

fn is_quota(body: &Value) -> bool {
    let reasons = body.pointer("/error/errors").and_then(Value::as_array).into_iter().flatten();
    let reason = |error: &Value| error.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
    reasons.map(reason).any(|reason| reason.ends_with("ateLimitExceeded") || reason == "quotaExceeded")
}

/// `Retry-After` in seconds or as a date, or Okta's time of the next calls.
fn patience(headers: &HeaderMap, now: UnixTime) -> Duration {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let until = |seconds: u64| UnixTime::from_secs(seconds).since(now);
    let after = text("retry-after").and_then(|text| {
        let date =
            || jiff::fmt::rfc2822::parse(text).ok().and_then(|date| u64::try_from(date.timestamp().as_second()).ok());
        text.parse().ok().map(Duration::from_secs).or_else(|| date().map(until))
    });
    let reset = || text("x-rate-limit-reset").and_then(|text| text.parse().ok()).map(until);
    after.or_else(reset).unwrap_or(LEAST * 12).clamp(LEAST, MOST)
}

/// The address of the next page in `Link` headers (RFC 8288).
pub(crate) fn linked(headers: &HeaderMap) -> Result<Option<Url>, DirectoryError> {
    let links = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    let mut each = links.flat_map(|value| value.split(", <").map(str::to_owned));
    let Some(next) = each.find(|link| link.split(';').skip(1).any(|part| part.trim() == "rel=\"next\"")) else {
        return Ok(None);
    };
    let address = next.split('>').next().unwrap_or_default().trim_start_matches('<');
    Url::parse(address).map(Some).map_err(|_| DirectoryError::Malformed("a link that is no address"))
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |e| e.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn patience_is_what_is_asked_for_within_bounds() {
        let now = UnixTime::from_secs(784_111_777);
        let check = |of: &[(&'static str, &'static str)], seconds| {
            assert_eq!(patience(&headers(of), now).as_secs(), seconds, "{of:?}");
        };
        check(&[("retry-after", "30")], 30);
        check(&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")], 60);
        check(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], 5);
        check(&[("retry-after", "99999999")], 3600);
        check(&[("retry-after", "0")], 5);
        check(&[("retry-after", "soon")], 60);
        check(&[("x-rate-limit-reset", "784111877")], 100);
        check(&[], 60);
    }

    #[test]
    fn the_next_page_is_the_link_that_says_so() {
        let both = r#"<https://x.example/a?limit=2>; rel="self", <https://x.example/a?after=b&limit=2>; rel="next""#;
        for (link, want) in [
            (both, Some("https://x.example/a?after=b&limit=2")),
            (r#"<https://x.example/a>; rel="self""#, None),
            (r#"<https://x.example/a>; rel="next""#, Some("https://x.example/a")),
        ] {
            assert_eq!(linked(&headers(&[("link", link)])).unwrap().as_ref().map(Url::as_str), want);
        }
        assert!(linked(&headers(&[("link", r#"<a>; rel="next""#)])).is_err());
    }
}
