//! What becomes of a person's sessions when the person is deleted, or somebody closes them all.

use std::time::Duration;

use bz_core::access::request::Parameters;
use bz_core::api::PREFIX;
use bz_core::api::api_key::NewApiKey;
use bz_core::api::record::ConnectionEventType;
use bz_examples::world::TARGET;
use bz_protocol::frame::Fin;
use bz_protocol::session::End;

use crate::session::{ended, place};

/// F-026~, F-028: a session that runs ends at once, for good, and says why; so does every other of the person's.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_with_their_person() {
    for (method, path, why) in [
        ("PATCH", "/close-connections", "all of this user's connections were closed"),
        ("DELETE", "", "the user was deleted"),
    ] {
        let place = place().await;
        let client = place.client();
        let me = client.me().await.unwrap().id;
        let key = NewApiKey { name: "ops".to_owned(), is_registration_key: false, ..NewApiKey::default() };
        let key = client.create_api_key(&key).await.unwrap().secret;
        let mut shell = place.shell().await;
        let command = Parameters::Exec { command: "sleep 600".to_owned() };
        let asked = client.ask(&TARGET.parse().unwrap(), command, None).await.unwrap();
        let mut exec = client.session(asked).await.unwrap();

        let tls = rustls::ClientConfig::clone(&place.world.tls);
        let http = reqwest::ClientBuilder::new().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
        let url = format!("https://{}{PREFIX}/users/{me}{path}", place.world.server.local_addr());
        let answer = http.request(method.parse().unwrap(), url).header("X-API-KEY", &key).send().await.unwrap();
        assert!(answer.status().is_success(), "{method} {path}: {}", answer.status());
        for session in [&mut shell, &mut exec] {
            let (_, end) = tokio::time::timeout(Duration::from_secs(20), ended(session)).await.expect("it ends");
            assert!(!matches!(end, End::Completed(Fin::Detached)), "{end:?}");
            let store = &place.world.server.app().store;
            let filter = bz_server::store::event::EventFilter {
                connections: vec![session.connection()],
                limit: 100,
                ..bz_server::store::event::EventFilter::default()
            };
            let log = store.connection_events(filter).await.unwrap();
            let closed = log.iter().find(|e| e.connection_event_type == ConnectionEventType::Closed).unwrap();
            assert_eq!(closed.reason, format!("closed by the administrator ops: {why}"));
        }
        place.world.stop().await;
    }
}
