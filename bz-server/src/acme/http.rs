//! The way to the authority: the same HTTP client as for everything else that this server asks, over TLS alone.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::tls::{self, TlsError};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most bytes of one answer.
const MOST: usize = 256 << 10;

pub(super) struct Http(reqwest::Client);

impl Http {
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, TlsError> {
        let roots = ca.map(|path| std::fs::read(path).map_err(|error| tls::unreadable(path, &error))).transpose()?;
        tls::http_client(roots.as_deref(), PATIENCE).map(Self)
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            if head.uri.scheme_str() != Some("https") {
                return Err(Error::Str("the authority names an address without TLS"));
            }
            let body =
                axum::body::to_bytes(Body::new(body), MOST).await.map_err(|error| Error::Other(Box::new(error)))?;
            let asked = client.request(head.method, head.uri.to_string()).headers(head.headers).body(body);
            let mut answer = asked.send().await.map_err(|error| Error::Other(Box::new(error)))?;
            let mut parts = Response::new(()).into_parts().0;
            parts.status = answer.status();
            parts.headers = std::mem::take(answer.headers_mut());
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(|error| Error::Other(Box::new(error)))? {
                if body.len().saturating_add(chunk.len()) > MOST {
                    return Err(Error::Str("an answer of the authority is too long"));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(BytesResponse { parts, body: Box::new(Bytes::from(body)) })
        })
    }
}
