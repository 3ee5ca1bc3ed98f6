//! Logs for a collector of OpenTelemetry: OTLP over HTTP, in the JSON that the protocol publishes (OTLP 1.3, "JSON Protobuf
//! Encoding"): numbers of 64 bits are texts, enumerations are numbers.
//!
//! A row is a log record whose body is the event, byte for byte as it was hashed; what proves it stands beside it. Absent:
//! gRPC, traces and metrics: who scrapes has the last, see `metrics.rs`.

use std::path::Path;
use std::sync::Arc;

use axum::http::HeaderValue;
use futures::future::BoxFuture;
use reqwest::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

use crate::seam::Clock;
use crate::sink::{PATIENCE, Receiver, SinkError};
use crate::store::event::{Log, Row};
use crate::tls;

/// `SEVERITY_NUMBER_INFO` and `SEVERITY_NUMBER_WARN`.
const INFO: u8 = 9;
const WARN: u8 = 13;
/// Texts of an event by which records are found.
const FOUND_BY: [&str; 6] = ["subjectId", "subjectName", "connectionId", "targetId", "targetName", "serviceAction"];
/// The most bytes of an answer that are looked at.
const MOST_ANSWER: usize = 64 << 10;

pub(super) struct Otlp {
    url: Url,
    client: reqwest::Client,
    token: Option<HeaderValue>,
    host: String,
    clock: Arc<dyn Clock>,
}

/// What a collector answers that took some and not others.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    partial_success: Partial,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Partial {
    /// A number in some collectors, a text in those that keep to the letter.
    rejected_log_records: Value,
    error_message: String,
}

impl Otlp {
    pub(super) fn new(
        url: Url,
        (secret, ca): (Option<&Path>, Option<&Path>),
        host: String,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, SinkError> {
        let roots = ca.map(std::fs::read).transpose()?;
        let token = secret.map(token).transpose()?;
        let client = tls::http_client(roots.as_deref(), PATIENCE)?;
        Ok(Self { url, client, token, host, clock: Arc::clone(clock) })
    }

    async fn post(&self, rows: &[Row]) -> Result<(), SinkError> {
        let body = request(rows, &self.host, &nanos(self.clock.now().wall.as_millis())).to_string();
        let mut post = self.client.post(self.url.clone()).header("content-type", "application/json").body(body);
        if let Some(token) = &self.token {
            post = post.header(AUTHORIZATION, token.clone());
        }
        let mut answer = post.send().await.map_err(reqwest::Error::without_url)?;
        if !answer.status().is_success() {
            return Err(SinkError::Status(answer.status()));
        }
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            if text.len().saturating_add(chunk.len()) > MOST_ANSWER {
                return Ok(());
            }
            text.extend_from_slice(&chunk);
        }
        let Partial { rejected_log_records: rejected, error_message } =
            serde_json::from_slice::<Answer>(&text).unwrap_or_default().partial_success;
        if !matches!(rejected.to_string().trim_matches('"'), "null" | "0" | "") {
            // It took the rest, and refuses these also a second time.
            tracing::warn!(%rejected, why = %error_message, "a collector takes some rows of the logs, and not others");
        }
        Ok(())
    }
}

impl Receiver for Otlp {
    fn take<'a>(&'a mut self, rows: &'a [Row]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.post(rows))
    }
}

fn token(path: &Path) -> Result<HeaderValue, SinkError> {
    let text = Zeroizing::new(std::fs::read_to_string(path)?);
    let bearer = Zeroizing::new(format!("Bearer {}", text.trim_end()));
    let unusable = |_| SinkError::Settings("its secret is no text that a header may have");
    let mut value = HeaderValue::from_str(&bearer).map_err(unusable)?;
    value.set_sensitive(true);
    Ok(value)
}

/// An `ExportLogsServiceRequest`.
fn request(rows: &[Row], host: &str, now: &str) -> Value {
    let resource =
        [("service.name", "bz-server"), ("service.version", env!("CARGO_PKG_VERSION")), ("server.address", host)];
    let records: Vec<_> = rows.iter().map(|row| record(row, now)).collect();
    json!({ "resourceLogs": [{
        "resource": { "attributes": resource.map(|(key, text)| attribute(key, text)) },
        "scopeLogs": [{ "scope": { "name": "bz-server" }, "logRecords": records }],
    }] })
}

fn record(row: &Row, now: &str) -> Value {
    let refused = row.log == Log::Calls && row.body.contains("\"evaluation\":false");
    let (number, text) = if refused { (WARN, "WARN") } else { (INFO, "INFO") };
    let mut attributes = vec![
        json!({ "key": "bz.seq", "value": { "intValue": row.seq.to_string() } }),
        attribute("bz.log", row.log.name()),
        attribute("bz.hash", &row.hash.to_string()),
    ];
    let event: Value = serde_json::from_str(&row.body).unwrap_or_default();
    let found =
        FOUND_BY.iter().filter_map(|field| Some(attribute(&format!("bz.{field}"), event.get(field)?.as_str()?)));
    attributes.extend(found);
    json!({
        "timeUnixNano": nanos(row.at.as_millis()), "observedTimeUnixNano": now,
        "severityNumber": number, "severityText": text,
        "body": { "stringValue": row.body }, "attributes": attributes,
    })
}

fn attribute(key: &str, text: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": text } })
}

fn nanos(millis: u64) -> String {
    u128::from(millis).saturating_mul(1_000_000).to_string()
}
