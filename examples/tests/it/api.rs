//! Calls of the server's API that the client library has no function for, signed like its own.

use bz_core::api::PREFIX;
use bz_core::api::proof::{Call, Proof};
use bz_examples::world::World;
use bz_protocol::driver::{Clock as _, SystemClock, random};
use serde_json::Value;

pub(crate) async fn call(world: &World, method: &str, path: &str, body: Option<&Value>) -> Vec<u8> {
    let target = format!("{PREFIX}/{path}");
    let body = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
    let login = world.client.login();
    let signed = Call { method, target: &target, body: &body };
    let proof = Proof::sign(login.id(), &signed, SystemClock::new().now().wall, random().unwrap(), login.key());
    let tls = rustls::ClientConfig::clone(&world.tls);
    let http = reqwest::ClientBuilder::new().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
    let url = format!("https://{}{target}", world.server.local_addr());
    let request = http.request(method.parse().unwrap(), url).header("Authorization", proof.to_header());
    let answer = request.header("Content-Type", "application/json").body(body).send().await.unwrap();
    let (status, body) = (answer.status(), answer.bytes().await.unwrap());
    assert!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&body));
    body.to_vec()
}
