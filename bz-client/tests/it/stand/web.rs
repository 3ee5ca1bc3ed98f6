//! HTTP for the tests: one plain request, and serving a router on a free loopback port.

use std::io;

use axum::Router;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) body: String,
}

/// One GET, as a browser would send it.
pub(crate) async fn get(url: &Url) -> io::Result<Page> {
    let address = (url.host_str().unwrap(), url.port_or_known_default().unwrap());
    let mut stream = TcpStream::connect(address).await?;
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", url.host_str().unwrap());
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let header = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    };
    Ok(Page {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        location: header("location").map(str::to_owned),
        body: body.to_owned(),
    })
}

/// Serves until the test's runtime ends; gives the origin.
pub(crate) async fn serve(make: impl FnOnce(&str) -> Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let router = make(&origin);
    tokio::spawn(async move { axum::serve(listener, router).await });
    origin
}
