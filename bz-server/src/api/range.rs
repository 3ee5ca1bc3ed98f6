//! Parts of a body (RFC 9110, section 14): one range of bytes, or the whole.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::api::Answer;
use crate::error::ApiError;

/// The version of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tag {
    /// Of these very bytes.
    Strong(String),
    /// Of a body that still grows: what there is of it stays as it is under the same tag.
    Weak(String),
}

impl Tag {
    fn text(&self) -> String {
        match self {
            Self::Strong(text) => format!("\"{text}\""),
            Self::Weak(text) => format!("W/\"{text}\""),
        }
    }
}

/// What of a body is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Whole,
    /// From the first byte to the last.
    Part(usize, usize),
    /// Nothing that there is.
    Nowhere,
}

/// The part of a body that a call asks for.
///
/// # Errors
/// [`ApiError`] with 416 where there is no such part.
pub(super) fn answer<T>(
    headers: &HeaderMap,
    media: &'static str,
    (body, tag): (Vec<u8>, &Tag),
) -> Result<Answer<T>, ApiError> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // Only the very same bytes can be gone on with (section 13.1.5): a weak tag and a date never fit.
    let same = text(header::IF_RANGE).is_none_or(|seen| matches!(tag, Tag::Strong(_)) && seen == tag.text());
    let length = body.len();
    let wanted = text(header::RANGE).filter(|_| same).map_or(Wanted::Whole, |range| wanted(range, length));
    let mut answer = match wanted {
        Wanted::Whole => Answer::of(media, body),
        Wanted::Part(first, last) => {
            let part = body.get(first..=last).unwrap_or_default().to_vec();
            let mut answer = Answer::flowing(media, Body::from(part));
            answer.status = StatusCode::PARTIAL_CONTENT;
            let range = HeaderValue::try_from(format!("bytes {first}-{last}/{length}")).map_err(ApiError::internal)?;
            answer.headers.push((header::CONTENT_RANGE, range));
            answer
        }
        Wanted::Nowhere => return Err(ApiError::no_range(length as u64)),
    };
    let tag = HeaderValue::try_from(tag.text()).map_err(ApiError::internal)?;
    answer.headers.extend([(header::ETAG, tag), (header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))]);
    Ok(answer)
}

/// What is no single range of bytes is as if it were not there (section 14.2).
fn wanted(range: &str, length: usize) -> Wanted {
    let Some((unit, set)) = range.split_once('=') else { return Wanted::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // What is too large for a number is behind every end.
        digits.then(|| text.parse().unwrap_or(usize::MAX))
    };
    let end = length.saturating_sub(1);
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.min(end)),
        (Some(first), None) if last.is_empty() => (first, end),
        (None, Some(count)) if first.is_empty() && count > 0 => (length.saturating_sub(count), end),
        (None, Some(_)) if first.is_empty() => return Wanted::Nowhere,
        _ => return Wanted::Whole,
    };
    if first < length { Wanted::Part(first, last) } else { Wanted::Nowhere }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_one_or_none() {
        let check = |range: &str, want: Wanted| assert_eq!(wanted(range, 10), want, "{range}");
        check("bytes=0-0", Wanted::Part(0, 0));
        check("bytes=3-5", Wanted::Part(3, 5));
        check("bytes=3-99", Wanted::Part(3, 9));
        check("BYTES=9-", Wanted::Part(9, 9));
        check("bytes=-3", Wanted::Part(7, 9));
        check("bytes=-30", Wanted::Part(0, 9));
        check("bytes= 0-1 ", Wanted::Part(0, 1));
        check("bytes=0-99999999999999999999999999", Wanted::Part(0, 9));
        for nowhere in ["bytes=10-", "bytes=10-11", "bytes=-0", "bytes=99999999999999999999999999-"] {
            check(nowhere, Wanted::Nowhere);
        }
        for ignored in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-3",
            "lines=0-1",
            "bytes=0-1,3-4",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=0x1-2",
            "bytes 0-1",
            "bytes=\u{e9}-1",
        ] {
            check(ignored, Wanted::Whole);
        }
        assert_eq!(wanted("bytes=0-", 0), Wanted::Nowhere);
        assert_eq!(wanted("bytes=-5", 0), Wanted::Nowhere);
    }
}
