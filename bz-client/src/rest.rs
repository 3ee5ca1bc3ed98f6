//! The REST client: typed calls over [`bz_core::api`], each proved by the session key.
//!
//! Absent: what the calls are for; see [`crate::client`].

mod error;

use std::sync::Arc;

use bz_core::api::error::ErrorBody;
use bz_core::api::login::{LoginSettings, TrustBundleText};
use bz_core::api::proof::{Call, Proof};
use bz_core::id::LoginId;
use bz_core::key::PrivateKey;
use bz_core::time::UnixTime;
use bz_protocol::driver::Clock;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH, IF_RANGE, RANGE};
use reqwest::{Method, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock;
use crate::http::{Answer, Http, Incoming};
use crate::server::Server;

pub(crate) use error::ahead;
pub use error::{Refused, RestError};

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) login: LoginId,
    pub(crate) key: PrivateKey,
}

/// One server's API.
#[derive(Debug, Clone)]
pub(crate) struct Rest {
    server: Server,
    http: Http,
    clock: Arc<dyn Clock>,
}

/// One call: method, path below `/api/v2/`, query and JSON body.
struct Draft<'a> {
    method: Method,
    path: &'a str,
    query: &'a [(&'a str, &'a str)],
    body: Vec<u8>,
    /// The version that a change is of.
    tag: Option<&'a str>,
}

impl Rest {
    pub(crate) fn new(server: &Server) -> Result<Self, RestError> {
        let http = Http::new(server.roots(), server.url(), server.proxies())?;
        Ok(Self { http, server: server.clone(), clock: clock::system() })
    }

    /// The same, telling the time by this clock.
    pub(crate) fn with_clock(self, clock: &Arc<dyn Clock>) -> Self {
        Self { clock: Arc::clone(clock), ..self }
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.clock.now().wall
    }

    pub(crate) const fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, RestError> {
        self.read(Some(caller), Draft { method: Method::GET, path, query, body: Vec::new(), tag: None }).await
    }

    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        caller: &Caller,
        path: &str,
        body: &B,
    ) -> Result<T, RestError> {
        let body = serde_json::to_vec(body).map_err(|_| RestError::Request)?;
        self.read(Some(caller), Draft { method: Method::POST, path, query: &[], body, tag: None }).await
    }

    pub(crate) async fn patch<B: Serialize, T: DeserializeOwned>(
        &self,
        caller: &Caller,
        path: &str,
        body: &B,
    ) -> Result<T, RestError> {
        let body = serde_json::to_vec(body).map_err(|_| RestError::Request)?;
        self.read(Some(caller), Draft { method: Method::PATCH, path, query: &[], body, tag: None }).await
    }

    /// What is there, and its version.
    pub(crate) async fn get_tagged<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        path: &str,
    ) -> Result<(T, Option<String>), RestError> {
        let draft = Draft { method: Method::GET, path, query: &[], body: Vec::new(), tag: None };
        let answer = self.send(Some(caller), draft).await?;
        let tag = answer.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        Ok((parse(&answer)?, tag))
    }

    /// A change of what still has this version.
    pub(crate) async fn patch_tagged<B: Serialize, T: DeserializeOwned>(
        &self,
        caller: &Caller,
        path: &str,
        (body, tag): (&B, Option<&str>),
    ) -> Result<T, RestError> {
        let body = serde_json::to_vec(body).map_err(|_| RestError::Request)?;
        self.read(Some(caller), Draft { method: Method::PATCH, path, query: &[], body, tag }).await
    }

    /// A call whose answer says nothing but that it worked.
    pub(crate) async fn act(&self, caller: &Caller, method: Method, path: &str) -> Result<(), RestError> {
        self.send(Some(caller), Draft { method, path, query: &[], body: Vec::new(), tag: None }).await.map(|_| ())
    }

    /// The same of something, in a way that the query says.
    pub(crate) async fn delete(&self, caller: &Caller, path: &str, query: &[(&str, &str)]) -> Result<(), RestError> {
        let draft = Draft { method: Method::DELETE, path, query, body: Vec::new(), tag: None };
        self.send(Some(caller), draft).await.map(|_| ())
    }

    /// The same, with a body.
    pub(crate) async fn tell<B: Serialize>(
        &self,
        caller: &Caller,
        (method, path): (Method, &str),
        body: &B,
    ) -> Result<(), RestError> {
        let body = serde_json::to_vec(body).map_err(|_| RestError::Request)?;
        self.send(Some(caller), Draft { method, path, query: &[], body, tag: None }).await.map(|_| ())
    }

    /// A file, as it comes.
    pub(crate) async fn download(
        &self,
        caller: &Caller,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Incoming, RestError> {
        self.download_from(caller, (path, query), None).await
    }

    /// The same from a byte on, of a file of this version; the whole where it is another.
    pub(crate) async fn download_from(
        &self,
        caller: &Caller,
        (path, query): (&str, &[(&str, &str)]),
        from: Option<(u64, Option<&str>)>,
    ) -> Result<Incoming, RestError> {
        let draft = Draft { method: Method::GET, path, query, body: Vec::new(), tag: None };
        let mut request = self.request(Some(caller), draft)?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some((first, tag)) = from {
            let header = |text: &str| HeaderValue::from_str(text).map_err(|_| RestError::Request);
            request.headers_mut().insert(RANGE, header(&format!("bytes={first}-"))?);
            // A weak one fits nothing there: it is compared here.
            if let Some(tag) = tag.filter(|tag| !tag.starts_with("W/")) {
                request.headers_mut().insert(IF_RANGE, header(tag)?);
            }
        }
        let incoming = self.http.open(request).await?;
        if incoming.status().is_success() { Ok(incoming) } else { Err(self.refused(&incoming.whole().await?)) }
    }

    /// The server's own bundle and its clock, before anybody is logged in.
    pub(crate) async fn trust_bundle(&self) -> Result<(TrustBundleText, Option<UnixTime>), RestError> {
        let draft = Draft { method: Method::GET, path: "trust-bundle", query: &[], body: Vec::new(), tag: None };
        let answer = self.send(None, draft).await?;
        Ok((parse(&answer)?, answer.date()))
    }

    /// What this provider wants to hear at a login, as the server knows it.
    pub(crate) async fn login_settings(&self, issuer: &str) -> Result<LoginSettings, RestError> {
        let (text, _) = self.trust_bundle().await?;
        Ok(text.logins.into_iter().find(|login| login.issuer == issuer).unwrap_or_default())
    }

    async fn read<T: DeserializeOwned>(&self, caller: Option<&Caller>, draft: Draft<'_>) -> Result<T, RestError> {
        parse(&self.send(caller, draft).await?)
    }

    async fn send(&self, caller: Option<&Caller>, draft: Draft<'_>) -> Result<Answer, RestError> {
        let answer = self.http.send(self.request(caller, draft)?).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(self.refused(&answer)) }
    }

    fn request(&self, caller: Option<&Caller>, draft: Draft<'_>) -> Result<Request, RestError> {
        let mut url = self.server.url().clone();
        url.set_path(&format!("{}/{}", bz_core::api::PREFIX, draft.path));
        if !draft.query.is_empty() {
            url.query_pairs_mut().extend_pairs(draft.query);
        }
        let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let mut request = Request::new(draft.method, url);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(caller) = caller {
            let call = Call { method: request.method().as_str(), target: &target, body: &draft.body };
            let proof = Proof::sign(caller.login, &call, self.now(), clock::random()?, &caller.key);
            let header = HeaderValue::from_str(&proof.to_header()).map_err(|_| RestError::Request)?;
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        if let Some(tag) = draft.tag {
            let tag = HeaderValue::from_str(tag).map_err(|_| RestError::Request)?;
            request.headers_mut().insert(IF_MATCH, tag);
        }
        if !draft.body.is_empty() {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(draft.body.into());
        }
        Ok(request)
    }

    fn refused(&self, answer: &Answer) -> RestError {
        let status = answer.status.as_u16();
        let body = serde_json::from_slice::<ErrorBody>(&answer.body).ok();
        let body = body.unwrap_or_else(|| error::from_status(status));
        RestError::Refused(Box::new(Refused {
            server: self.server.to_string(),
            status,
            body,
            clock_ahead: answer.date().map(|theirs| ahead(self.now(), theirs)),
        }))
    }
}

fn parse<T: DeserializeOwned>(answer: &Answer) -> Result<T, RestError> {
    serde_json::from_slice(&answer.body).map_err(|error| RestError::Answer(error.to_string()))
}
