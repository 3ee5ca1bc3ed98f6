//! JSON lines posted to an address, signed so that the receiver knows who sends them and when.

use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use ring::hmac;
use url::Url;
use zeroize::Zeroizing;

use crate::seam::Clock;
use crate::sink::{PATIENCE, Receiver, SinkError};
use crate::store::event::Row;
use crate::tls;

/// `t=SECONDS,v1=HEX`: HMAC-SHA256 of the seconds, a dot and the body.
pub(super) const SIGNATURE: &str = "x-bz-signature";
/// The numbers of the first and the last row, by which a receiver knows what it has already.
const FIRST: &str = "x-bz-first";
const LAST: &str = "x-bz-last";
/// The least bytes of a secret.
const LEAST_SECRET: usize = 16;

pub(super) struct Webhook {
    url: Url,
    key: hmac::Key,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
}

impl Webhook {
    pub(super) fn new(url: Url, secret: &Path, ca: Option<&Path>, clock: &Arc<dyn Clock>) -> Result<Self, SinkError> {
        let roots = ca.map(std::fs::read).transpose()?;
        let text = Zeroizing::new(std::fs::read(secret)?);
        let secret = text.trim_ascii_end();
        if secret.len() < LEAST_SECRET {
            return Err(SinkError::Settings("its secret has less than 16 bytes"));
        }
        let client = tls::http_client(roots.as_deref(), PATIENCE)?;
        Ok(Self { url, key: hmac::Key::new(hmac::HMAC_SHA256, secret), client, clock: Arc::clone(clock) })
    }

    async fn post(&self, rows: &[Row]) -> Result<(), SinkError> {
        let body: String = rows.iter().map(Row::line).collect();
        let now = self.clock.now().wall.as_secs();
        let tag = hmac::sign(&self.key, format!("{now}.{body}").as_bytes());
        let number = |row: Option<&Row>| row.map_or(0, |row| row.seq).to_string();
        let request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/x-ndjson")
            .header(SIGNATURE, format!("t={now},v1={}", hex::encode(tag)))
            .header(FIRST, number(rows.first()))
            .header(LAST, number(rows.last()));
        let status = request.body(body).send().await.map_err(reqwest::Error::without_url)?.status();
        if status.is_success() { Ok(()) } else { Err(SinkError::Status(status)) }
    }
}

impl Receiver for Webhook {
    fn take<'a>(&'a mut self, rows: &'a [Row]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.post(rows))
    }
}
