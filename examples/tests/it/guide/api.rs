//! The server's REST API as another program sees it: signed by a login's key, believed by the server's CA.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bz_client::login::Login;
use bz_core::api::proof::{Call, Proof};
use bz_core::api::record::{CommandEvent, ConnectionEvent, ConnectionEventType, TranscriptFile};
use bz_core::id::ConnectionId;
use bz_core::time::UnixTime;
use bz_protocol::transcript::{Anchors, verify};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Api {
    url: String,
    login: Login,
    http: reqwest::Client,
}

impl Api {
    pub(crate) fn new(url: &str, ca: &str, login: &str) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let tls = tls.with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let http = reqwest::ClientBuilder::new().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
        Self { url: url.to_owned(), login: Login::from_text(login).unwrap(), http }
    }

    async fn get(&self, path: &str) -> Vec<u8> {
        self.call(reqwest::Method::GET, path).await
    }

    pub(crate) async fn delete(&self, path: &str) {
        self.call(reqwest::Method::DELETE, path).await;
    }

    async fn call(&self, method: reqwest::Method, path: &str) -> Vec<u8> {
        let target = format!("/api/v2/{path}");
        let mut random = [0; 16];
        getrandom::fill(&mut random).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let call = Call { method: method.as_str(), target: &target, body: b"" };
        let now = UnixTime::from_millis(now.as_millis().try_into().unwrap());
        let proof = Proof::sign(self.login.id(), &call, now, random, self.login.key()).to_header();
        let request = self.http.request(method.clone(), format!("{}{target}", self.url));
        let answer = request.header("Authorization", proof).send().await.unwrap();
        let (status, body) = (answer.status(), answer.bytes().await.unwrap());
        assert!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&body));
        body.to_vec()
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> T {
        serde_json::from_slice(&self.get(path).await).unwrap()
    }

    /// Looks until it holds: what happened at the target comes to the log a moment later.
    async fn until<T: DeserializeOwned + std::fmt::Debug>(&self, path: &str, holds: impl Fn(&T) -> bool) -> T {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let seen = self.read(path).await;
            if holds(&seen) {
                return seen;
            }
            assert!(tokio::time::Instant::now() < deadline, "GET {path} never gives what it should: {seen:#?}");
        }
    }

    /// The log of a connection, oldest first, once it holds `last`.
    pub(super) async fn connection_log(&self, id: ConnectionId, last: ConnectionEventType) -> Vec<ConnectionEvent> {
        let has = |e: &ConnectionEvent| e.connection_id == id && e.connection_event_type == last;
        let holds = |all: &Vec<ConnectionEvent>| all.iter().any(has);
        let all: Vec<ConnectionEvent> = self.until("events/connection?eventCount=100", holds).await;
        all.into_iter().rev().filter(|event| event.connection_id == id).collect()
    }

    /// The command lines of a connection, oldest first, once there are so many.
    pub(super) async fn command_log(&self, id: ConnectionId, count: usize) -> Vec<String> {
        let named = |e: &CommandEvent| e.connection_id == id;
        let enough = |all: &Vec<CommandEvent>| all.iter().filter(|event| named(event)).count() >= count;
        let all = self.until("events/command?eventCount=100", enough).await;
        all.into_iter().rev().filter(named).map(|event| event.command).collect()
    }

    /// What a player of asciicasts would show, in order.
    pub(super) async fn recording(&self, id: ConnectionId) -> String {
        let cast = String::from_utf8(self.get(&format!("session-recordings/{id}")).await).unwrap();
        let mut lines = cast.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let head = lines.next().expect("a recording begins with its head");
        assert_eq!((&head["version"], &head["width"], &head["height"]), (&2.into(), &80.into(), &24.into()), "{head}");
        let (mut shown, mut last) = (String::new(), 0.0);
        for event in lines {
            let time = event[0].as_f64().expect("an event begins with its time");
            assert!(time >= last, "time goes back in the recording: {event} after {last}");
            last = time;
            if event[1] == "o" {
                shown.push_str(event[2].as_str().expect("output is text"));
            }
        }
        shown
    }

    /// The transcripts of a connection that has ended, as the server gives them out, once the last one is whole.
    pub(super) async fn transcripts(&self, id: ConnectionId) -> Vec<Vec<u8>> {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let files: Vec<TranscriptFile> = self.read(&format!("connections/{id}/transcripts")).await;
            let mut all = vec![];
            for file in files {
                all.push(self.get(&format!("connections/{id}/transcripts/{}", file.number)).await);
            }
            let last = all.last().map(|last| verify(last, &Anchors::FromTranscript));
            if matches!(&last, Some(Ok(verdict)) if verdict.complete) {
                return all;
            }
            assert!(tokio::time::Instant::now() < deadline, "the last transcript never becomes whole: {last:?}");
        }
    }
}
