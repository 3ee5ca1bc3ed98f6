//! Ports of this machine that lead somewhere, until a signal or the session ends them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use bz_client::terminal;
use bz_client::tunnel::{Tunnel, Watcher};
use bz_core::api::virtual_target::Remote;
use bz_core::id::TargetId;
use bz_protocol::session::End;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::exit::Exit;

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bind(pub(crate) SocketAddr);

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no = || format!("{text} is no [BIND:]PORT");
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port = port.parse().map_err(|_| no())?;
        Ok(Self(SocketAddr::new(address(host).ok_or_else(no)?, port)))
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn address(host: &str) -> Option<IpAddr> {
    match host.trim_start_matches('[').trim_end_matches(']') {
        "" | "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        "*" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        host => host.parse().ok(),
    }
}

/// Listens there.
pub(crate) async fn listen(bind: Bind) -> anyhow::Result<TcpListener> {
    TcpListener::bind(bind.0).await.with_context(|| format!("{bind} cannot be listened on: try another port, or 0"))
}

/// Listens for a target: where the person says, else where the target says, else where it was last time, else anywhere.
pub(crate) async fn listen_for(
    context: &Context<'_>,
    target: TargetId,
    (remote, asked): (&Remote, Option<Bind>),
) -> anyhow::Result<TcpListener> {
    if let Some(bind) = asked {
        return listen(bind).await;
    }
    let host = remote.local_host.as_deref().unwrap_or_default();
    let host =
        address(host).with_context(|| format!("{host} is no address of this machine: name a port with --port"))?;
    let on = |port| Bind(SocketAddr::new(host, port));
    if let Some(port) = remote.local_port.value {
        let taken = || format!("port {port}, which this target asks for, is taken: name another with --port");
        return listen(on(port)).await.with_context(taken);
    }
    let ports = context.profile.ports();
    if let Some(port) = ports.find(target) {
        // A second connection beside the first has another port, and the first one's is kept.
        return match TcpListener::bind(on(port).0).await {
            Ok(listener) => Ok(listener),
            Err(_) => listen(on(0)).await,
        };
    }
    let listener = listen(on(0)).await?;
    ports.keep(target, listener.local_addr()?.port());
    Ok(listener)
}

/// Warns where a port is open to others.
pub(crate) fn warn_if_open(context: &Context<'_>, listening: SocketAddr) {
    if !listening.ip().is_loopback() {
        context.output.warn(&format!("{listening} is open to everybody who reaches this machine."));
    }
}

/// Says what connections could not have.
pub(crate) fn watcher(context: &Context<'_>) -> Watcher {
    let output = context.output.clone();
    Arc::new(move |error| output.warn(&error.to_string()))
}

/// Serves ports until a signal, or the end of their session.
pub(crate) async fn serve(context: &Context<'_>, tunnel: Tunnel, mut serving: JoinSet<()>) -> anyhow::Result<Exit> {
    let end = tokio::select! {
        end = tunnel.ended() => end,
        stopped = tokio::signal::ctrl_c() => {
            stopped?;
            serving.shutdown().await;
            tunnel.close().await;
            return Ok(Exit::Fine);
        }
    };
    Ok(farewell(context, &tunnel, &end))
}

/// Says how a session ended that nobody here ended.
pub(crate) fn farewell(context: &Context<'_>, tunnel: &Tunnel, end: &End) -> Exit {
    let farewell = if *end == End::Lost { None } else { terminal::farewell(end) };
    context.output.warn(&farewell.unwrap_or_else(|| format!("The connection has ended: {end}.")));
    if let Some(reason) = tunnel.reason() {
        context.output.warn(&format!("The server says: {reason}"));
    }
    Exit::Failed
}
