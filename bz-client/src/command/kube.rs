//! Clusters: `bz connect` to one, `bz kube -- ARGS`, and what kubectl asks for the token.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bz_client::client::Client;
use bz_client::kube::{Credential, Kube, Role};
use bz_client::profile::replace_private;
use bz_client::target_name::TargetRef;
use bz_client::web;
use bz_core::access::Mode;
use bz_core::id::ConnectionId;
use clap::Args;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::command::connect::{introduce, readers};
use crate::command::database::status_of;
use crate::command::port::{Bind, farewell, listen, serve};
use crate::context::Context;
use crate::exit::Exit;

/// As whom, in a cluster.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct As {
    /// As which user of the cluster; the only one that policies allow unless given
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// In which of its groups; may be given several times; all that policies name unless given
    #[arg(long = "as-group", alias = "target-group", alias = "targetGroup", value_name = "GROUP")]
    group: Vec<String>,
}

/// What `bz kube` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bz kube prod -- get pods
  bz kube prod --as deployer -- -n shop exec -it web-0 -- sh

kubectl runs with these arguments, for this cluster alone, and its exit status is that of this command.
The log of requests has them beside each request. For more than one command: bz connect prod")]
pub(crate) struct RunKubectl {
    /// Where.
    #[arg(help = "The cluster: target[.environment], or its id")]
    cluster: TargetRef,
    #[command(flatten)]
    role: As,
    /// Of kubectl.
    #[arg(last = true, required = true, value_name = "ARGUMENT", help = "What kubectl is given")]
    arguments: Vec<String>,
}

/// What `bz kube-credential` takes.
#[derive(Debug, Args)]
pub(crate) struct KubeCredential {
    /// The connection.
    connection: ConnectionId,
}

/// A cluster on a port, as `--json` says it.
#[derive(Debug, Serialize)]
struct Listening {
    listening: SocketAddr,
    kubeconfig: PathBuf,
    user: String,
    groups: Vec<String>,
    through: String,
    mode: Mode,
}

impl As {
    fn role(self) -> Role {
        Role { user: self.user, groups: (!self.group.is_empty()).then_some(self.group) }
    }
}

/// A cluster on a port of this machine, for kubectl.
struct Opened {
    kube: Kube,
    listening: SocketAddr,
    files: Files,
    serving: JoinSet<()>,
}

/// What kubectl reads, while it may.
struct Files {
    kubeconfig: PathBuf,
    token: PathBuf,
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in [&self.kubeconfig, &self.token] {
            // What stays is worth nothing: the port is gone.
            std::fs::remove_file(path).unwrap_or_default();
        }
    }
}

async fn open(
    context: &Context<'_>,
    client: &Client,
    (name, role, port): (&TargetRef, As, Option<Bind>),
    command: Option<&str>,
) -> anyhow::Result<Opened> {
    let kube = client.kube(name, role.role()).await?;
    introduce(context, &kube.tunnel().asked);
    let listener = listener(context, &kube, port).await?;
    let listening = listener.local_addr()?;
    let credential = Credential::new()?;
    let files = write(context, (&kube, name), (&credential, listening.port()))?;
    let output = context.output.clone();
    let watcher: web::Watcher = std::sync::Arc::new(move |error| output.warn(&error.to_string()));
    let mut serving = JoinSet::new();
    serving.spawn(kube.serve(listener, (&credential, command), watcher)?);
    Ok(Opened { kube, listening, files, serving })
}

async fn listener(context: &Context<'_>, kube: &Kube, port: Option<Bind>) -> anyhow::Result<TcpListener> {
    let any = Bind(SocketAddr::from(([127, 0, 0, 1], 0)));
    if let Some(bind) = port {
        return listen(bind).await;
    }
    let (ports, target) = (context.profile.ports(), kube.target.base.id);
    if let Some(known) = ports.find(target)
        && let Ok(listener) = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], known))).await
    {
        return Ok(listener);
    }
    let listener = listen(any).await?;
    ports.keep(target, listener.local_addr()?.port());
    Ok(listener)
}

/// The configuration has no secret in it; the token is beside it, for as long as the port is open.
fn write(
    context: &Context<'_>,
    (kube, name): (&Kube, &TargetRef),
    (credential, port): (&Credential, u16),
) -> anyhow::Result<Files> {
    let connection = kube.tunnel().connection();
    let folder = folder(context);
    let files =
        Files { kubeconfig: folder.join(format!("{connection}.config")), token: token_path(&folder, connection) };
    let own = std::env::current_exe().context("this program does not find itself")?;
    let own = own.to_str().context("this program's own path is no UTF-8")?.to_owned();
    let config = context.config_dir.to_str().context("the config folder's path is no UTF-8")?.to_owned();
    let program = [own, "--config-dir".to_owned(), config, "--profile".to_owned(), context.profile_name.clone()];
    let program: Vec<String> =
        program.into_iter().chain(["kube-credential".to_owned(), connection.to_string()]).collect();
    let kubeconfig = credential.kubeconfig(&format!("bz-{name}"), port, &program);
    replace_private(&files.token, credential.token())?;
    replace_private(&files.kubeconfig, &serde_json::to_string_pretty(&kubeconfig)?)?;
    Ok(files)
}

fn folder(context: &Context<'_>) -> PathBuf {
    context.profile.folder().join("kube")
}

fn token_path(folder: &Path, connection: ConnectionId) -> PathBuf {
    folder.join(format!("{connection}.token"))
}

/// How a cluster is opened.
#[derive(Debug)]
pub(crate) struct How {
    /// Which port of this machine leads to it.
    pub(crate) port: Option<Bind>,
    /// As whom.
    pub(crate) role: As,
}

/// `bz connect` to a cluster.
pub(crate) async fn connect(
    context: &Context<'_>,
    client: &Client,
    (name, how): (&TargetRef, How),
) -> anyhow::Result<Exit> {
    let opened = open(context, client, (name, how.role, how.port), None).await?;
    let role = opened.kube.role.clone();
    let through = opened.kube.tunnel().asked.name.to_string();
    let path = opened.files.kubeconfig.display();
    let within = if role.groups.is_empty() { String::new() } else { format!(" in {}", role.groups.join(", ")) };
    let (mode, readers) = readers(&opened.kube.tunnel().asked);
    let text = format!(
        "{} is cluster {} as {}{within}, through {through}\n{readers}\n  export KUBECONFIG={path}\n  kubectl get pods",
        opened.listening, opened.kube.target.base.name, role.user
    );
    let kubeconfig = opened.files.kubeconfig.clone();
    let (user, groups, listening) = (role.user, role.groups, opened.listening);
    context.output.result(&Listening { listening, kubeconfig, user, groups, through, mode }, &text)?;
    let _files = opened.files;
    serve(context, opened.kube.into_tunnel(), opened.serving).await
}

impl RunKubectl {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        let command = format!("kubectl {}", self.arguments.join(" "));
        let opened = open(context, &client, (&self.cluster, self.role, None), Some(&command)).await?;
        let mut kubectl = Command::new("kubectl");
        kubectl.args(&self.arguments).env("KUBECONFIG", &opened.files.kubeconfig);
        let mut child = kubectl.spawn().context("kubectl cannot be started: install it")?;
        let exit = loop {
            tokio::select! {
                status = child.wait() => break status_of(status?),
                end = opened.kube.tunnel().ended() => {
                    let exit = farewell(context, opened.kube.tunnel(), &end);
                    child.wait().await?;
                    return Ok(exit);
                }
                // It is kubectl's to mind: it is in the foreground, too.
                interrupted = tokio::signal::ctrl_c() => interrupted?,
            }
        };
        opened.kube.into_tunnel().close().await;
        Ok(exit)
    }
}

impl KubeCredential {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let path = token_path(&folder(context), self.connection);
        let Ok(token) = std::fs::read_to_string(&path) else {
            bail!("that connection to a cluster is over: open another with `bz connect`");
        };
        context.output.credential(&Credential::shown(token.trim()))?;
        Ok(Exit::Fine)
    }
}
