//! Certificates from a real authority (Let's Encrypt's own test server), which looks at this server itself.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_examples::needs;
use bz_examples::world::{Way, World};
use bz_server::config::{AcmeSettings, Config, Tls};
use bz_server::doctor::{Grade, examine};
use bz_server::seam::jwks::HttpJwks;
use bz_server::store::event::{Condition, EventFilter};
use bz_server::{acme, tls};

use crate::logged::Logged;
use crate::port::free;
use crate::typist::Typist;

/// A server that has no certificate gets one when it starts, and shows a new one later: a session and calls that are under
/// way lose nothing. The account stays; its key and the certificate's are their owner's alone. When the authority is gone, or
/// does not believe the server, the certificate stays, and everybody who should know is told.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_come_from_an_authority_and_change_under_a_session() {
    if !needs::program("pebble") {
        return;
    }
    let _logged = Logged::here();
    let folder = tempfile::tempdir().unwrap();
    let listen = free();
    let authority = Authority::start(&folder.path().join("authority"), listen.port()).await;
    let data = folder.path().join("server");
    private_folder(&data);
    std::fs::write(data.join("ca.crt"), authority.root().await).unwrap();
    let (helper, user) = (Helper::at(env!("CARGO_BIN_EXE_helper")), User::current().unwrap().name);
    let settings = authority.settings();
    let by_acme = |config: &mut Config| {
        config.listen = listen;
        config.public_url = "https://localhost".parse().unwrap();
        config.tls = Tls::Acme(settings.clone());
    };
    let world = World::start_with(folder.path(), helper, (&user, Way::Ws), by_acme).await.unwrap();
    let app = world.server.app();
    let shown = || std::fs::read_to_string(data.join("acme.pem")).unwrap();
    let account = || std::fs::read_to_string(data.join("acme.json")).unwrap();
    for file in ["acme.pem", "acme.json"] {
        let mode = std::fs::metadata(data.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let mut typist = Typist::at(&world.client, &user).await;
    typist.line("echo before-$((40+2))", &["before-42"]).await;

    let (first, before) = (shown(), account());
    let (done, client) = (tokio_util::sync::CancellationToken::new(), world.client.clone());
    let stop = done.clone();
    let calls = tokio::spawn(async move {
        let mut calls = 0;
        while !stop.is_cancelled() {
            client.me().await.unwrap_or_else(|error| panic!("call {calls}: {error}"));
            calls += 1;
        }
        calls
    });
    acme::renew(app).await.unwrap();
    assert_ne!(shown(), first, "no new certificate");
    assert_eq!(account(), before, "the account is another");
    typist.line("echo after-$((40+2))", &["after-42"]).await;
    world.log_in(&user).await.unwrap();
    done.cancel();
    assert!(calls.await.unwrap() > 0);

    let kept = shown();
    let stranger = Authority::start(&folder.path().join("stranger"), free().port()).await;
    let misled = Config { tls: Tls::Acme(stranger.settings()), ..Config::clone(&app.config()) };
    world.server.reload(misled).await.unwrap();
    let refused = acme::renew(app).await.unwrap_err().to_string();
    assert!(refused.contains("does not believe that localhost is this server"), "{refused}");
    drop((stranger, authority));
    let unreachable = acme::renew(app).await.unwrap_err().to_string();
    assert!(unreachable.contains("the authority https://127.0.0.1:"), "{unreachable}");
    assert_eq!(shown(), kept, "the certificate did not stay");
    typist.line("echo still-$((40+2))", &["still-42"]).await;
    world.log_in(&user).await.unwrap();
    let text = app.metrics.text().unwrap();
    assert!(text.contains("bz_acme_failures_total 2"), "{text}");
    let findings = examine(&app.config(), &HttpJwks::new(None).unwrap(), app.now().wall).await;
    let finding = findings.iter().find(|finding| finding.check == "TLS certificate").unwrap();
    assert_eq!(finding.grade, Grade::Warning, "{finding:?}");
    assert!(finding.says.contains("the authority https://127.0.0.1:"), "{finding:?}");
    let renewals = vec![Condition { field: "serviceAction", values: vec!["certificateservice:renew".to_owned()] }];
    let filter = EventFilter { conditions: renewals, limit: 100, ..EventFilter::default() };
    let said = app.store.user_events(filter).await.unwrap();
    let failed = said.iter().filter(|event| event.context.contains("\"failed\"")).count();
    assert_eq!((said.len(), failed), (4, 2), "{said:#?}");
    world.stop().await;
}

/// An authority on free ports of loopback; dropping it kills the process.
struct Authority {
    child: Child,
    folder: PathBuf,
    directory: String,
    roots: String,
}

impl Authority {
    /// One that looks for proofs at this port.
    async fn start(folder: &Path, proofs: u16) -> Self {
        private_folder(folder);
        let own = tls::make("Authority", vec!["127.0.0.1".to_owned()], 2026).unwrap();
        for (name, text) in [("ca.crt", &own.ca), ("tls.crt", &own.chain), ("tls.key", &own.key)] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let [listen, manage] = [free(), free()].map(|address| address.to_string());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": listen, "managementListenAddress": manage,
            "certificate": folder.join("tls.crt"), "privateKey": folder.join("tls.key"),
            "httpPort": 1, "tlsPort": proofs, "ocspResponderURL": "", "externalAccountBindingRequired": false,
        } });
        std::fs::write(folder.join("pebble.json"), config.to_string()).unwrap();
        let child = Command::new(needs::find("pebble").unwrap())
            .arg("-config")
            .arg(folder.join("pebble.json"))
            .env("PEBBLE_VA_NOSLEEP", "1")
            // A proof is looked for each time, and some nonces are refused, as authorities do.
            .env("PEBBLE_AUTHZREUSE", "0")
            .env("PEBBLE_WFE_NONCEREJECT", "10")
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(folder.join("said")).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (directory, roots) = (format!("https://{listen}/dir"), format!("https://{manage}/roots/0"));
        let authority = Self { child, folder: folder.to_owned(), directory, roots };
        authority.root().await;
        authority
    }

    /// The root of the certificates that it gives.
    async fn root(&self) -> String {
        let ca = std::fs::read(self.folder.join("ca.crt")).unwrap();
        let client = tls::http_client(Some(&ca), Duration::from_secs(10)).unwrap();
        let asking = async {
            loop {
                let listens = client.get(&self.directory).send().await.is_ok();
                match client.get(&self.roots).send().await {
                    Ok(answer) if listens => return answer.text().await.unwrap(),
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asking).await.expect("the authority answers")
    }

    fn settings(&self) -> AcmeSettings {
        AcmeSettings {
            acme: self.directory.parse().unwrap(),
            names: vec!["localhost".to_owned()],
            contact: vec!["ops@example.com".to_owned()],
            accept_terms: true,
            ca: Some(self.folder.join("ca.crt")),
        }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn private_folder(path: &Path) {
    std::fs::create_dir_all(path).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}
