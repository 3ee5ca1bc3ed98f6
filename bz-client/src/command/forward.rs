//! `bz forward`: ports of this machine that lead to whatever a target reaches.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::bail;
use bz_client::target_name::TargetName;
use bz_core::access::destination::{Destination, DestinationRule};
use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::command::connect::introduce;
use crate::command::port::{Bind, listen, serve, warn_if_open, watcher};
use crate::context::Context;
use crate::exit::Exit;

/// What `bz forward` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bz forward web-1 5432:db.internal:5432       then: psql -h localhost
  bz forward web-1 8080:localhost:80 2222:10.0.0.7:22
  bz forward web-1 --socks 1080                then: curl -x socks5h://localhost:1080 http://intra/

Names are looked up on the target. The tunnel carries nothing anywhere else. It needs the verb
Tunnel, and ends with Ctrl-C, with `bz logout`, and with your login. Port 0 takes any free one.")]
pub(crate) struct Forward {
    /// Where from.
    #[arg(help = "The target that dials: target[.environment], or its id")]
    target: TargetName,
    /// Where from and where to.
    #[arg(
        value_name = "FORWARD",
        required_unless_present = "socks",
        help = "A port of this machine, and where it leads: [BIND:]PORT:HOST:PORT"
    )]
    forwards: Vec<Way>,
    /// Serve SOCKS 5 on this port of this machine, to wherever the target reaches
    #[arg(long, value_name = "[BIND:]PORT")]
    socks: Option<Bind>,
}

/// A port and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    bind: Bind,
    destination: Destination,
}

/// A port that listens, as `--json` says it.
#[derive(Debug, Serialize)]
struct Listening {
    listening: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    socks: bool,
    through: String,
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no = || format!("{text} is no [BIND:]PORT:HOST:PORT");
        // From the right: the last two parts are the destination, and brackets keep colons together.
        let (rest, port) = text.rsplit_once(':').ok_or_else(no)?;
        let (bind, host) = match rest.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')) {
            Some((bind, host)) => (bind.strip_suffix(':').ok_or_else(no)?, host),
            None => rest.rsplit_once(':').ok_or_else(no)?,
        };
        let port = port.parse().map_err(|_| no())?;
        let destination = Destination::new(host, port).map_err(|error| format!("{text}: {error}"))?;
        Ok(Self { bind: bind.parse().map_err(|_| no())?, destination })
    }
}

impl Forward {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        if let Some(user) = &self.target.user {
            bail!("a tunnel is dialed by the agent and by no user: leave out `{user}@`");
        }
        let rules: Vec<DestinationRule> = match self.socks {
            Some(_) => vec!["*:*".parse()?],
            None => self.forwards.iter().map(|way| DestinationRule::from(&way.destination)).collect(),
        };
        // The ports before the tunnel: what cannot listen needs no connection.
        let mut ports = Vec::new();
        for way in &self.forwards {
            ports.push((listen(way.bind).await?, Some(way.destination.clone())));
        }
        if let Some(bind) = self.socks {
            ports.push((listen(bind).await?, None));
        }
        let client = context.client()?;
        let tunnel = client.tunnel(&self.target, rules).await?;
        introduce(context, &tunnel.asked);
        for (listener, destination) in &ports {
            let listening = listener.local_addr()?;
            let (socks, destination) = (destination.is_none(), destination.as_ref().map(ToString::to_string));
            say(context, &Listening { listening, destination, socks, through: self.target.to_string() })?;
            warn_if_open(context, listening);
        }
        let (mut serving, watcher) = (JoinSet::new(), watcher(context));
        for (listener, destination) in ports {
            match destination {
                Some(destination) => serving.spawn(tunnel.forward(listener, destination, Arc::clone(&watcher))),
                None => serving.spawn(tunnel.socks(listener, Arc::clone(&watcher))),
            };
        }
        serve(context, tunnel, serving).await
    }
}

fn say(context: &Context<'_>, listening: &Listening) -> std::io::Result<()> {
    let to = listening.destination.as_deref().unwrap_or("wherever it reaches (SOCKS 5)");
    context.output.result(listening, &format!("{} leads to {to} through {}", listening.listening, listening.through))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read_as_ssh_users_write_them() {
        let check = |text: &str, want: Option<(&str, &str)>| {
            let got = text.parse::<Way>().ok().map(|way| (way.bind.to_string(), way.destination.to_string()));
            assert_eq!(got, want.map(|(bind, to)| (bind.to_owned(), to.to_owned())), "{text}");
        };
        check("5432:db.internal:5432", Some(("127.0.0.1:5432", "db.internal:5432")));
        check("0:localhost:80", Some(("127.0.0.1:0", "localhost:80")));
        check("*:8080:10.0.0.1:80", Some(("0.0.0.0:8080", "10.0.0.1:80")));
        check("[::1]:8080:[fd00::1]:80", Some(("[::1]:8080", "[fd00::1]:80")));
        check("192.0.2.1:8080:web:80", Some(("192.0.2.1:8080", "web:80")));
        for bad in ["", "80", "80:web", "web:80", "80:web:0", "80:a b:1", "x:web:80", "80:fd00::1:80", "80[::1]:80"] {
            check(bad, None);
        }
    }
}
