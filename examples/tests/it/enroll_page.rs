//! The page of the second factor in a real browser: by the code of a login, with nothing but its own script.

use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_core::api::mfa::ResetMfa;
use bz_core::time::UnixTime;
use bz_core::totp::{TotpSecret, step};
use bz_examples::browser::loopback_client;
use bz_examples::needs;
use bz_examples::world::{Way, World};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const DEADLINE: Duration = Duration::from_secs(60);
/// What a test is told once it is true of the document.
const SEEN: &str = "const seen = (test) => new Promise((done) => {
    const look = () => { const found = test(); if (found) done(found); return found; };
    const watch = { subtree: true, childList: true, attributes: true, characterData: true };
    if (!look()) new MutationObserver((_, observer) => look() && observer.disconnect()).observe(document, watch);
});";

/// F-048: the QR code on a page: the code behind `#` leaves the address, a wrong code of the app is said, the right one gives
/// recovery codes, and the login that asked has the factor. A script that is not the page's own does not run.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_sets_up_the_second_factor() {
    if !needs::program("chromium") {
        return;
    }
    let (folder, user) = (tempfile::tempdir().unwrap(), User::current().unwrap().name);
    let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
    let world = World::start(folder.path(), helper, &user, Way::Ws).await.unwrap();
    let client = &world.client;
    let page = client.mfa_page(ResetMfa::default()).await.unwrap();
    let address = format!("{}#{}", client.server().url().join(&page.path).unwrap(), page.code);
    let mut tab = Tab::open(folder.path(), &address).await;

    let filled = "[document.getElementById('code').value, location.hash, history.length]";
    assert_eq!(tab.says(filled).await, json!([page.code, "", 1]));
    let blocked = "new Promise((done) => {
        document.addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective));
        document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = 1' }));
    })";
    assert_eq!(tab.says(blocked).await, "script-src-elem");
    assert_eq!(tab.says("typeof window.ran").await, "undefined");

    let shown = tab
        .says(&format!(
            "{SEEN} document.getElementById('begin').requestSubmit();
             seen(() => !document.getElementById('confirm').hidden && [
                 document.getElementById('secret').textContent, document.getElementById('account').textContent,
                 document.querySelector('#qr path').getAttribute('d').length,
             ])"
        ))
        .await;
    let secret: TotpSecret = shown[0].as_str().unwrap().parse().unwrap();
    assert_eq!(shown[1], json!(client.me().await.unwrap().email));
    assert!(shown[2].as_u64().unwrap() > 1000, "no QR code: {shown}");
    let give = |code: &str, then: &str| {
        format!(
            "{SEEN} document.getElementById('token').value = '{code}';
             document.getElementById('confirm').requestSubmit(); seen(() => {then})"
        )
    };
    let error = "!document.getElementById('error').hidden && document.getElementById('error').textContent";
    let said = tab.says(&give("000000", error)).await;
    assert!(said.as_str().unwrap().contains("code"), "{said}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let done = "!document.getElementById('done').hidden
        && [...document.querySelectorAll('#recovery li')].map((item) => item.textContent)";
    let codes = tab.says(&give(&secret.code(step(UnixTime::from_secs(now))), done)).await;
    assert_eq!(codes.as_array().unwrap().len(), 10, "{codes}");
    assert_eq!(tab.says("document.getElementById('secret').textContent").await, "", "the secret stays on the page");
    let status = client.mfa().await.unwrap();
    assert!(status.verified && status.session_verified == Some(true), "{status:?}");
    tab.browser.kill().await.unwrap();
    world.stop().await;
}

/// A browser's one page, and the way to ask it.
struct Tab {
    browser: Child,
    socket: WebSocketStream<TcpStream>,
    asked: u64,
}

impl Tab {
    async fn open(folder: &std::path::Path, address: &str) -> Self {
        let mut browser = Command::new("chromium");
        browser.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]);
        // The server's authority is one that no browser knows.
        browser.args(["--ignore-certificate-errors", "--remote-debugging-port=0"]);
        browser.arg(format!("--user-data-dir={}", folder.join("browser").display())).arg(address);
        browser.env("HOME", folder).kill_on_drop(true).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut browser = browser.spawn().unwrap();
        let mut said = BufReader::new(browser.stderr.take().unwrap()).lines();
        let listening = async {
            loop {
                let line = said.next_line().await.unwrap().expect("chromium ends");
                if let Some((_, place)) = line.split_once("DevTools listening on ws://") {
                    return place.split('/').next().unwrap().to_owned();
                }
            }
        };
        let place = tokio::time::timeout(DEADLINE, listening).await.expect("chromium does not listen");
        // Who reads no more would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        let list = format!("http://{place}/json/list");
        let pages: Value = loopback_client().unwrap().get(list).send().await.unwrap().json().await.unwrap();
        let page = pages.as_array().unwrap().iter().find(|page| page["type"] == "page").expect("a page");
        let request = page["webSocketDebuggerUrl"].as_str().unwrap().into_client_request().unwrap();
        let stream = TcpStream::connect(&place).await.unwrap();
        let socket = tokio_tungstenite::client_async(request, stream).await.unwrap().0;
        let mut tab = Self { browser, socket, asked: 0 };
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while tab.says("location.pathname + document.readyState").await != "/enrollcomplete" {
            assert!(tokio::time::Instant::now() < deadline, "the page does not load");
        }
        tab
    }

    /// What an expression is on the page.
    async fn says(&mut self, expression: &str) -> Value {
        self.asked += 1;
        let params = json!({"expression": format!("(() => {{ {} }})()", returning(expression)), "awaitPromise": true, "returnByValue": true});
        let ask = json!({"id": self.asked, "method": "Runtime.evaluate", "params": params});
        self.socket.send(Message::text(ask.to_string())).await.unwrap();
        let answer = async {
            loop {
                let Message::Text(text) = self.socket.next().await.unwrap().unwrap() else { continue };
                let read: Value = serde_json::from_str(&text).unwrap();
                if read["id"] == self.asked {
                    return read;
                }
            }
        };
        let answer = tokio::time::timeout(DEADLINE, answer).await.unwrap_or_else(|_| panic!("never: {expression}"));
        answer["result"]["result"]["value"].clone()
    }
}

/// The last expression of some statements, returned.
fn returning(text: &str) -> String {
    match text.rsplit_once("seen(() =>") {
        Some((before, last)) => format!("{before} return seen(() =>{last}"),
        None => format!("return {text}"),
    }
}
