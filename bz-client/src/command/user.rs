//! `bz user`: the people of the organization.

use anyhow::{Context as _, bail};
use bz_client::client::Client;
use bz_core::api::login::{Role, User as Person};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::command::mfa;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Table, local};

/// What `bz user` does.
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// List the people who have ever logged in
    List,
    /// Make somebody an administrator, or no longer one
    Role {
        /// The person, by address or id
        user: String,
        /// What the person may do of the administration
        role: WhichRole,
    },
    /// Close all connections of a person, who may open others
    CloseConnections {
        /// The person, by address or id
        user: String,
    },
    /// The second factor of a person
    #[command(subcommand)]
    Mfa(UserMfa),
    /// Delete a person: out of all policies, every connection and login ended; logs stay
    #[command(after_help = "\
Who is still known to the identity provider can log in again, as somebody new to whom no policy gives anything. \
To keep somebody out, deactivate the account there.")]
    Delete {
        /// The person, by address or id
        user: String,
    },
}

/// What `bz user mfa` does.
#[derive(Debug, Subcommand)]
pub(crate) enum UserMfa {
    /// How it stands
    Status(Named),
    /// Forget it, for who lost the device: every login ends, and the next one enrolls anew
    Reset(Named),
    /// Demand one of this person, whatever the organization demands of others
    Enable(Named),
    /// Demand none of this person; discouraged, for then a stolen password is enough for the server
    Disable(Named),
}

/// Who.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The person, by address or id
    user: String,
}

impl UserMfa {
    async fn run(self, context: &Context<'_>, client: &Client) -> anyhow::Result<()> {
        let (Self::Status(Named { user })
        | Self::Reset(Named { user })
        | Self::Enable(Named { user })
        | Self::Disable(Named { user })) = &self;
        let person = find(client, user).await?;
        let line = match self {
            Self::Status(_) => return mfa::show(context, &client.mfa_of(person.id).await?),
            Self::Reset(_) => {
                client.clear_mfa(person.id).await?;
                format!("The second factor of {user} is forgotten, and every login of theirs has ended.")
            }
            Self::Enable(_) => {
                client.enable_mfa(person.id).await?;
                format!("{user} needs a second factor now.")
            }
            Self::Disable(_) => {
                context.output.warn(&format!(
                    "WARNING: {user} needs no second factor any more. Whoever gets hold of this person's login at the \
                     identity provider gets everything that policies give to it. `bz user mfa enable` undoes this."
                ));
                client.disable_mfa(person.id).await?;
                format!("{user} needs no second factor any more.")
            }
        };
        Ok(context.output.result(&json!({"user": person.id}), &line)?)
    }
}

// The names say all.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum WhichRole {
    User,
    Admin,
}

impl User {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        match self {
            Self::List => {
                let users = client.users().await?;
                context.output.list(&users, || table(&users))?;
            }
            Self::Role { user, role } => {
                let role = match role {
                    WhichRole::User => Role::User,
                    WhichRole::Admin => Role::Admin,
                };
                let user = client.set_role(find(&client, &user).await?.id, role).await?;
                let now = if user.is_admin { "an administrator now" } else { "no administrator now" };
                context.output.result(&user, &format!("{} is {now}.", user.email))?;
            }
            Self::CloseConnections { user } => {
                client.close_connections_of(find(&client, &user).await?.id).await?;
                context.output.result(&json!({"user": user}), &format!("All connections of {user} are closed."))?;
            }
            Self::Mfa(mfa) => mfa.run(context, &client).await?,
            Self::Delete { user } => {
                client.delete_user(find(&client, &user).await?.id).await?;
                context.output.result(&json!({"user": user}), &format!("{user} was deleted."))?;
            }
        }
        Ok(Exit::Fine)
    }
}

/// The one person of this address or id.
pub(super) async fn find(client: &Client, name: &str) -> anyhow::Result<Person> {
    let fits = |user: &Person| user.email.eq_ignore_ascii_case(name) || user.id.to_string() == name;
    let mut found: Vec<_> = client.users().await?.into_iter().filter(fits).collect();
    let user = found.pop().with_context(|| format!("nobody with the address or id {name} has ever logged in"))?;
    if !found.is_empty() {
        bail!("several people have the address {name}: name one by id, as `bz user list` shows it");
    }
    Ok(user)
}

fn table(users: &[Person]) -> Table {
    let mut table = Table::new(["Address", "Name", "Role", "Id", "Last login"], "Nobody has ever logged in.");
    for user in users {
        table.row([
            user.email.as_str().into(),
            user.full_name.as_str().into(),
            if user.is_admin { "admin" } else { "user" }.into(),
            user.id.into(),
            user.last_login.as_deref().map(local).unwrap_or_default().into(),
        ]);
    }
    table
}
