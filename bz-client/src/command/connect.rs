//! `bz connect`, `bz attach` and `bz exec`: a session on this terminal or on plain streams.

use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bz_client::client::{AskError, Asked, Client, ConnectionFilter};
use bz_client::pins::KnownBy;
use bz_client::target_name::TargetName;
use bz_client::terminal;
use bz_core::access::Mode;
use bz_core::access::request::Parameters;
use bz_core::api::target::TargetKind;
use bz_core::id::ConnectionId;
use bz_protocol::frame::Fin;
use bz_protocol::refusal::Code;
use bz_protocol::session::End;
use clap::Args;

use crate::command::port::Bind;
use crate::command::{database, kube, web};
use crate::context::Context;
use crate::exit::Exit;

/// What `bz connect` takes.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[command(after_help = "\
A host gives a shell. Leave it with `exit`; Enter ~ . detaches, and the shell runs on.

A database or another service gives a port of this machine, the same every time, until Ctrl-C:
  bz connect orders                        then: psql -h 127.0.0.1 -p PORT
  bz connect reader@orders --exec          psql itself, as reader
  bz connect orders --exec -- -c 'select 1'

A web server gives a port, too, and opens it in your browser:
  bz connect wiki                          http://localhost:PORT/

A cluster gives a port and a configuration for kubectl:
  bz connect prod --as deployer            then: KUBECONFIG=… kubectl get pods
")]
pub(crate) struct Connect {
    /// Where to.
    #[arg(help = "The target: [user@]target[.environment], or its id")]
    target: TargetName,
    /// The port of this machine for what is behind a host; any free one, and then always that one
    #[arg(long, short, alias = "custom-port", value_name = "[BIND:]PORT")]
    port: Option<Bind>,
    #[command(flatten)]
    role: kube::As,
    /// Start a database's usual program, and end with it
    #[arg(long)]
    exec: bool,
    /// Open it although the server could not read it before and can now: an administrator changed what it is
    #[arg(long)]
    inspected: bool,
    /// Only print a web server's address, and open no browser
    #[arg(long)]
    no_browser: bool,
    /// The same in the words of older scripts.
    #[arg(long, hide = true, value_name = "BOOL", alias = "openBrowser", default_value_t = true, action = clap::ArgAction::Set)]
    open_browser: bool,
    /// More arguments for that program
    #[arg(last = true, requires = "exec", value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// What `bz attach` takes.
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// The connection whose shell runs on, as `bz list-connections` shows it
    connection: ConnectionId,
}

/// What `bz exec` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Exits as the command does: its own status, or 128 and the signal that ended it. 255 is bz's own."
)]
pub(crate) struct Exec {
    /// Where.
    #[arg(help = "The target: [user@]target[.environment], or its id")]
    target: TargetName,
    /// The command, as the login shell of the target user reads it
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Connect {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?.with_sealed_names(Arc::new(context.profile.sealed_names()), self.inspected);
        let interactive = std::io::stdin().is_terminal();
        if !interactive || self.exec || self.port.is_some() {
            // No shell comes of this: nothing is asked for that would be one.
            return match client.kind_behind(&self.target.target).await? {
                Some(kind) => self.behind(context, &client, kind).await,
                None if interactive => bail!("{} is a host: --exec and --port are for what is behind one", self.target),
                None => bail!("a shell needs a terminal: use `bz exec {} -- COMMAND` in scripts", self.target),
            };
        }
        let parameters = Parameters::Shell { term: terminal::term(), size: terminal::size() };
        let asked = match client.ask(&self.target, parameters, None).await {
            Ok(asked) => asked,
            Err(AskError::Rest(error)) => {
                let kind = error.kind().filter(|kind| *kind != TargetKind::Bzero);
                return self.behind(context, &client, kind.ok_or(AskError::Rest(error))?).await;
            }
            Err(error) => return Err(error.into()),
        };
        shell(context, &client, asked).await
    }

    /// What is behind a host, and no shell.
    async fn behind(self, context: &Context<'_>, client: &Client, kind: TargetKind) -> anyhow::Result<Exit> {
        match kind {
            TargetKind::Db => {
                let how = database::How { port: self.port, program: self.exec.then_some(self.arguments) };
                database::connect(context, client, (&self.target, how)).await
            }
            TargetKind::Web => {
                let browser = self.open_browser && !self.no_browser && std::io::stdout().is_terminal();
                web::connect(context, client, (&self.target, web::How { port: self.port, browser })).await
            }
            TargetKind::Cluster => {
                let how = kube::How { port: self.port, role: self.role };
                kube::connect(context, client, (&self.target.target, how)).await
            }
            TargetKind::Bzero => {
                bail!("{} is of a kind that this program does not know: is it older than the server?", self.target)
            }
        }
    }
}

impl Attach {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        let filter = ConnectionFilter::default();
        let connections = client.connections_where(&filter).await?;
        let connection = connections.into_iter().find(|c| c.id == self.connection);
        let connection =
            connection.context("no open connection of yours has this id: `bz list-connections` lists them")?;
        let asked = client.attach_grant(&connection, terminal::size()).await?;
        shell(context, &client, asked).await
    }
}

impl Exec {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        let parameters = Parameters::Exec { command: self.command.join(" ") };
        let asked = client.ask(&self.target, parameters, None).await?;
        introduce(context, &asked);
        let connection = asked.made.connection_id;
        let end = terminal::pipes(client.session(asked).await?).await?;
        Ok(finish(context, &end, client.reason(connection)))
    }
}

async fn shell(context: &Context<'_>, client: &Client, asked: Asked) -> anyhow::Result<Exit> {
    introduce(context, &asked);
    let connection = asked.made.connection_id;
    let end = terminal::shell(client.session(asked).await?).await?;
    let exit = finish(context, &end, client.reason(connection));
    if may_run_on(&end) {
        context.output.say(&format!("Come back with: bz attach {connection}"));
    }
    Ok(exit)
}

/// Whether the shell outlives a session that ended so.
fn may_run_on(end: &End) -> bool {
    match end {
        End::Completed(fin) => *fin == Fin::Detached,
        End::Refused(code) | End::Reported(code) => *code == Code::Expired,
        End::Misbehavior(_) | End::Timeout | End::Lost | End::Forgotten | End::Expired | End::Truncated => true,
    }
}

/// Says how the agent's key is known, when that is by first use.
pub(super) fn introduce(context: &Context<'_>, asked: &Asked) {
    if asked.known_by == KnownBy::FirstUse {
        let key = asked.made.agent_public_key.fingerprint();
        context
            .output
            .warn(&format!("{} is new to this machine. Its agent's key is {key}; it is kept from now on.", asked.name));
    }
}

/// Who can read what passes, in a word for programs and a sentence for people.
pub(super) fn readers(asked: &Asked) -> (Mode, &'static str) {
    let mode = asked.request.mode;
    let sentence = match mode {
        Mode::Sealed => "Sealed: only you and the target's agent can read what passes.",
        Mode::Inspected => "Inspected: the server reads what passes, for its logs, and cannot change it.",
    };
    (mode, sentence)
}

/// Says how it ended; `reason` is the server's word, which nothing proves.
fn finish(context: &Context<'_>, end: &End, reason: Option<String>) -> Exit {
    if let Some(farewell) = terminal::farewell(end) {
        context.output.warn(&farewell);
        if let Some(reason) = reason {
            context.output.warn(&format!("The server says: {reason}"));
        }
    }
    Exit::Status(terminal::status(end))
}
