//! `bz group`: groups of identity providers.

use anyhow::bail;
use bz_client::client::Client;
use bz_core::api::error::Code;
use bz_core::api::groups::{GroupsSource, IdpGroup, SourceKind};
use bz_core::api::policy::Group as Named;
use clap::Subcommand;
use serde_json::json;

use crate::command::user;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Table, local};

/// What `bz group` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// List the groups that policies name
    List {
        /// List all groups that there are, as directories say now
        #[arg(long)]
        available: bool,
    },
    /// List the groups that a person is in, as the directory says now
    Of {
        /// The person, by address or id
        user: String,
    },
    /// Say where groups come from, when that last went well, and why it did not
    Status,
    /// Have directories asked now about everybody who is logged in
    Sync,
    /// Have no directory asked any more: what they said counts no more
    Disable,
    /// Have the directories of the server's settings asked again
    Enable,
}

impl Group {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        match self {
            Self::List { available } => {
                let all = if available { client.available_groups().await? } else { client.groups().await? };
                context.output.list(&all, || table(&all))?;
            }
            Self::Of { user } => {
                let all = client.groups_of(user::find(&client, &user).await?.id).await?;
                context.output.list(&all, || table(&all))?;
            }
            Self::Status => {
                let all = client.groups_sources().await?;
                context.output.list(&all, || sources(&all))?;
            }
            Self::Sync => return show(context, &client.sync_groups().await?),
            Self::Disable => {
                client.remove_directories().await?;
                let line = "No directory is asked any more, and what they said counts no more.";
                context.output.result(&json!({"enabled": false}), line)?;
            }
            Self::Enable => return show(context, &client.restore_directories().await?),
        }
        Ok(Exit::Fine)
    }
}

/// How it went; a failure where a directory did not answer.
fn show(context: &Context<'_>, all: &[GroupsSource]) -> anyhow::Result<Exit> {
    context.output.list(&all, || sources(all))?;
    let failed = all.iter().any(|source| source.enabled && source.last_error.is_some());
    Ok(if failed { Exit::Failed } else { Exit::Fine })
}

/// Groups as a policy names them: by id, or by a name that only one has. Where tokens say who is in a group nobody knows
/// which there are.
pub(super) async fn named(client: &Client, given: Vec<String>) -> anyhow::Result<Vec<Named>> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let as_it_is = |id: String| Named { name: id.clone(), id };
    let known = match client.available_groups().await {
        Ok(known) => known,
        Err(error) if matches!(error.code(), Some(Code::Conflict | Code::NotFound)) => {
            return Ok(given.into_iter().map(as_it_is).collect());
        }
        Err(error) => return Err(error.into()),
    };
    let by_token = client.groups_sources().await?.iter().any(|source| source.source == SourceKind::Token);
    let mut all = Vec::new();
    for text in given {
        if let Some(group) = known.iter().find(|group| group.id == text) {
            all.push(Named { id: group.id.clone(), name: group.name.clone() });
            continue;
        }
        let called: Vec<_> = known.iter().filter(|group| group.name == text).collect();
        match called.as_slice() {
            [group] => all.push(Named { id: group.id.clone(), name: group.name.clone() }),
            [] if by_token => all.push(as_it_is(text)),
            [] => bail!("no directory knows a group {text}: `bz group list --available` lists them"),
            [..] => bail!("several groups are called {text}: name one by id, as `bz group list --available` shows it"),
        }
    }
    Ok(all)
}

fn table(all: &[IdpGroup]) -> Table {
    let mut table = Table::new(["Name", "Policies", "Members here", "Id", "Provider"], "No groups.");
    for group in all {
        table.row([
            group.name.as_str().into(),
            group.policies.into(),
            group.members.into(),
            group.id.as_str().into(),
            group.issuer.as_str().into(),
        ]);
    }
    table
}

fn sources(all: &[GroupsSource]) -> Table {
    let mut table =
        Table::new(["Provider", "Groups from", "Last sync", "Next sync", "Last event", "Last error"], "No providers.");
    for source in all {
        let from = match (source.source, &source.claim) {
            (SourceKind::Directory, _) if source.enabled => "directory".to_owned(),
            (SourceKind::Directory, _) => "directory, disabled".to_owned(),
            (SourceKind::Token, Some(claim)) => format!("token, claim {claim}"),
            (SourceKind::Token | SourceKind::Nothing, _) => "nothing".to_owned(),
        };
        let time = |time: &Option<String>| time.as_deref().map(local).unwrap_or_default();
        table.row([
            source.issuer.as_str().into(),
            from.into(),
            time(&source.last_sync).into(),
            time(&source.next_sync).into(),
            time(&source.last_event).into(),
            source.last_error.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}
