//! `bz connect` to a web server.

use std::net::SocketAddr;

use anyhow::Context as _;
use bz_client::client::Client;
use bz_client::target_name::TargetName;
use bz_client::web;
use bz_core::access::Mode;
use serde::Serialize;
use tokio::task::JoinSet;
use url::Url;

use crate::command::connect::{introduce, readers};
use crate::command::port::{Bind, listen_for, serve, warn_if_open};
use crate::context::Context;
use crate::exit::Exit;

/// How a web server is opened.
#[derive(Debug)]
pub(crate) struct How {
    /// Which port of this machine leads to it.
    pub(crate) port: Option<Bind>,
    /// Whether the browser is opened.
    pub(crate) browser: bool,
}

/// A port that listens, as `--json` says it.
#[derive(Debug, Serialize)]
struct Listening {
    listening: SocketAddr,
    url: Url,
    destination: String,
    through: String,
    mode: Mode,
}

pub(crate) async fn connect(
    context: &Context<'_>,
    client: &Client,
    (name, how): (&TargetName, How),
) -> anyhow::Result<Exit> {
    let web = client.web(name).await?;
    let listener = listen_for(context, web.target.base.id, (&web.target.remote, how.port)).await?;
    introduce(context, &web.tunnel().asked);
    let listening = listener.local_addr()?;
    warn_if_open(context, listening);
    let mut serving = JoinSet::new();
    serving.spawn(web.serve(listener, watcher(context))?);
    let (through, destination) = (web.tunnel().asked.name.to_string(), web.destination.to_string());
    let url = address(listening)?;
    let (mode, readers) = readers(&web.tunnel().asked);
    let text = format!("{url} is {} ({destination}) through {through}\n{readers}", web.target.base.name);
    context.output.result(&Listening { listening, url: url.clone(), destination, through, mode }, &text)?;
    if how.browser {
        let (output, text) = (context.output.clone(), url.to_string());
        serving.spawn(async move {
            let opened = tokio::task::spawn_blocking(move || webbrowser::open(&text)).await;
            if !matches!(opened, Ok(Ok(()))) {
                output.say("No browser could be started: open that address in yours.");
            }
        });
    }
    serve(context, web.into_tunnel(), serving).await
}

/// How a browser on this machine calls the port.
fn address(listening: SocketAddr) -> anyhow::Result<Url> {
    let host = match listening.ip() {
        ip if ip.is_loopback() || ip.is_unspecified() => "localhost".to_owned(),
        ip if ip.is_ipv6() => format!("[{ip}]"),
        ip => ip.to_string(),
    };
    Url::parse(&format!("http://{host}:{}/", listening.port())).context("this port has no address")
}

/// Says what requests could not have.
fn watcher(context: &Context<'_>) -> web::Watcher {
    let output = context.output.clone();
    std::sync::Arc::new(move |error| output.warn(&error.to_string()))
}
