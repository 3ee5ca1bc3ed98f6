//! Requests that another program makes up from the API's own description, signed as an administrator's: the real server
//! answers each as the description says, and fails at none.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_core::api::proof::{Call, Proof};
use bz_examples::needs;
use bz_examples::world::{Way, World};
use bz_protocol::driver::{Clock as _, SystemClock, random};
use tokio::net::TcpListener;
use url::Url;

/// What would end the caller's own login, and with it the test.
const ENDS_LOGIN: &str = "postUsersLogout";
/// What never ends by itself.
const NEVER_ENDS: &str = "getEventsStream";
/// How many requests it makes up for each operation, besides those at the edges of each field.
const EXAMPLES: &str = "4";
/// Also what a status, a media type, a body and headers may be.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance";

/// F-151, F-253~: whatever the description allows, and much that it does not, is answered as it says; never with 500.
#[tokio::test(flavor = "multi_thread")]
async fn made_up_requests_are_answered_as_described() {
    let Some(schemathesis) = needs::SCHEMATHESIS.here() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (helper, user) = (Helper::at(env!("CARGO_BIN_EXE_helper")), User::current().unwrap().name);
    let world = Arc::new(World::start(folder.path(), helper, &user, Way::Ws).await.unwrap());
    let signer = sign(Arc::clone(&world)).await;
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api/openapi.json");
    let run = tokio::process::Command::new(schemathesis)
        .args(["run", document.to_str().unwrap(), "--url", &format!("http://{signer}")])
        .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES])
        .args(["--exclude-operation-id", ENDS_LOGIN, "--exclude-operation-id", NEVER_ENDS])
        .args(["--generation-deterministic", "--no-shrink", "--workers", "2"])
        .args([
            "--continue-on-failure",
            "--generation-with-security-parameters",
            "false",
            "--suppress-health-check",
            "all",
            "--warnings",
            "off",
            "--no-color",
        ])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "schemathesis found that the server is not as docs/api/openapi.json says:\n{said}");
    assert!(said.contains("passed"), "it says nothing of what it did: {said}");
    assert!(world.client.me().await.unwrap().is_admin, "the login has outlived it");
}

/// Passes requests on to the server with an administrator's proof.
async fn sign(world: Arc<World>) -> SocketAddr {
    let tls = rustls::ClientConfig::clone(&world.tls);
    let http = reqwest::ClientBuilder::new().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(move |request: Request<Body>| {
        let (world, http) = (Arc::clone(&world), http.clone());
        async move { pass(&world, &http, request).await }
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn pass(world: &World, http: &reqwest::Client, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let target = head.uri.path_and_query().unwrap().as_str();
    let url: Url = format!("https://{}{target}", world.server.local_addr()).parse().unwrap();
    // As it is sent, which need not be as it came.
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let signed = Call { method: head.method.as_str(), target: &target, body: &body };
    let login = world.client.login();
    let proof = Proof::sign(login.id(), &signed, SystemClock::new().now().wall, random().unwrap(), login.key());
    let mut sent = http.request(head.method.clone(), url).header("Authorization", proof.to_header());
    for name in ["if-match", "content-type"] {
        if let Some(value) = head.headers.get(name) {
            sent = sent.header(name, value);
        }
    }
    let answer = sent.body(body).send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if name != "transfer-encoding" && name != "content-length" {
            response = response.header(name, value);
        }
    }
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}
