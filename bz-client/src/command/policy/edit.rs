//! `bz policy edit` and `bz policy delete`.

use anyhow::{Context as _, bail};
use bz_client::client::Client;
use bz_client::client::administer::ReadPolicy;
use bz_core::label::LabelNeed;
use bz_core::target::UserRule;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::command::group::named;
use crate::command::policy::create::{service_accounts, subjects};
use crate::context::Context;
use crate::exit::Exit;

/// What `bz policy edit` takes.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").multiple(true).required(true))]
pub(crate) struct Edit {
    /// The policy, by name or id
    policy: String,
    /// Its name from now on
    #[arg(long, short, group = "change")]
    name: Option<String>,
    /// What it is for
    #[arg(long, short, group = "change")]
    description: Option<String>,
    /// Let it count again
    #[arg(long, group = "change", conflicts_with = "disable")]
    enable: bool,
    /// Let it count for nothing until it is enabled
    #[arg(long, group = "change")]
    disable: bool,
    /// When it ends by itself, as in 2027-01-31T18:00:00Z, or never
    #[arg(long, group = "change", value_name = "TIME")]
    expires: Option<String>,
    /// A person to name, by address; may be given several times
    #[arg(long, group = "change", value_name = "EMAIL")]
    add_user: Vec<String>,
    /// A person to name no more, by address or id; may be given several times
    #[arg(long, group = "change", value_name = "EMAIL")]
    remove_user: Vec<String>,
    /// A service account to name, by address, name or id; may be given several times
    #[arg(long, group = "change", value_name = "NAME")]
    add_service_account: Vec<String>,
    /// A service account to name no more; may be given several times
    #[arg(long, group = "change", value_name = "NAME")]
    remove_service_account: Vec<String>,
    /// A group to name, by id or name; may be given several times
    #[arg(long, group = "change", value_name = "GROUP")]
    add_group: Vec<String>,
    /// A group to name no more, by id or name; may be given several times
    #[arg(long, group = "change", value_name = "GROUP")]
    remove_group: Vec<String>,
    /// A target user to allow; may be given several times
    #[arg(long, group = "change", value_name = "USER")]
    add_target_user: Vec<UserRule>,
    /// A target user to allow no more; may be given several times
    #[arg(long, group = "change", value_name = "USER")]
    remove_target_user: Vec<UserRule>,
    /// Something to ask of labels, too, such as role=web; may be given several times
    #[arg(long, group = "change", value_name = "NEED")]
    add_label: Vec<LabelNeed>,
    /// Something to ask of labels no more, as `bz policy list` shows it; may be given several times
    #[arg(long, group = "change", value_name = "NEED")]
    remove_label: Vec<LabelNeed>,
}

impl Edit {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        let policy = find(&client, &self.policy).await?;
        let change = self.change(&client, &policy).await?;
        let changed = client.edit_policy(&policy, &change).await?;
        context.output.result(&changed, &format!("Policy {} was changed.", policy.name))?;
        Ok(Exit::Fine)
    }

    async fn change(self, client: &Client, policy: &ReadPolicy) -> anyhow::Result<Value> {
        let mut change = Map::new();
        if let Some(list) = self.subjects(client, policy).await? {
            change.insert("subjects".to_owned(), list);
        }
        if let Some(name) = self.name {
            change.insert("name".to_owned(), json!(name));
        }
        if let Some(description) = self.description {
            change.insert("description".to_owned(), json!(description));
        }
        if self.enable || self.disable {
            change.insert("enabled".to_owned(), json!(self.enable));
        }
        if let Some(expires) = self.expires {
            change.insert("timeExpires".to_owned(), if expires == "never" { Value::Null } else { json!(expires) });
        }
        if !self.add_group.is_empty() || !self.remove_group.is_empty() {
            let gone = self.remove_group;
            let list = listed(policy, "groups", &named(client, self.add_group).await?, |one| {
                gone.iter().any(|group| is(one, "id", group) || is(one, "name", group))
            })?;
            change.insert("groups".to_owned(), list);
        }
        if !self.add_target_user.is_empty() || !self.remove_target_user.is_empty() {
            let gone: Vec<_> = self.remove_target_user.iter().map(ToString::to_string).collect();
            let new: Vec<_> = self.add_target_user.iter().map(|user| json!({"userName": user})).collect();
            let list = listed(policy, "targetUsers", &new, |one| gone.iter().any(|user| is(one, "userName", user)))?;
            change.insert("targetUsers".to_owned(), list);
        }
        if !self.add_label.is_empty() || !self.remove_label.is_empty() {
            let gone: Vec<_> = self.remove_label.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
            change.insert(
                "targetLabels".to_owned(),
                listed(policy, "targetLabels", &self.add_label, |one| gone.contains(one))?,
            );
        }
        Ok(Value::Object(change))
    }
}

impl Edit {
    /// Who the policy names from then on, when that changes.
    async fn subjects(&self, client: &Client, policy: &ReadPolicy) -> anyhow::Result<Option<Value>> {
        let named = [&self.add_user, &self.remove_user, &self.add_service_account, &self.remove_service_account];
        if named.iter().all(|names| names.is_empty()) {
            return Ok(None);
        }
        let mut come = subjects(client, &self.add_user).await?;
        come.extend(service_accounts(client, &self.add_service_account).await?);
        let mut gone = ids(client, &self.remove_user).await?;
        let accounts = service_accounts(client, &self.remove_service_account).await?;
        gone.extend(accounts.iter().map(|account| account.id.to_string()));
        listed(policy, "subjects", &come, |one| gone.iter().any(|id| is(one, "id", id))).map(Some)
    }
}

pub(super) async fn delete(context: &Context<'_>, name: &str) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let policy = find(&client, name).await?;
    client.delete_policy(&policy).await?;
    let value = json!({"policy": policy.name, "id": policy.id});
    context.output.result(&value, &format!("Policy {} was deleted.", policy.name))?;
    Ok(Exit::Fine)
}

pub(super) async fn find(client: &Client, name: &str) -> anyhow::Result<ReadPolicy> {
    let found = client.find_policy(name).await?;
    found.with_context(|| format!("there is no policy {name}: `bz policy list` lists them"))
}

/// The policy's list, without what goes and with what comes.
fn listed(
    policy: &ReadPolicy,
    name: &str,
    new: &[impl Serialize],
    goes: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let empty = Vec::new();
    let old = match policy.value.get(name).and_then(Value::as_array) {
        Some(old) => old,
        // Left out where there are none.
        None if name == "targetLabels" => &empty,
        None => bail!("a policy of this kind has no {name}"),
    };
    let mut list: Vec<_> = old.iter().filter(|one| !goes(one)).cloned().collect();
    for one in new {
        let one = serde_json::to_value(one)?;
        if !list.contains(&one) {
            list.push(one);
        }
    }
    Ok(Value::Array(list))
}

/// The ids of people, named by address or id. Who was deleted is in no policy.
async fn ids(client: &Client, names: &[String]) -> anyhow::Result<Vec<String>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let users = client.users().await?;
    let id = |name: &String| {
        let fits =
            |user: &&bz_core::api::login::User| user.email.eq_ignore_ascii_case(name) || user.id.to_string() == *name;
        let found =
            users.iter().find(fits).with_context(|| format!("there is nobody with the address or id {name}"))?;
        Ok(found.id.to_string())
    };
    names.iter().map(id).collect()
}

fn is(one: &Value, field: &str, text: &str) -> bool {
    one.get(field).and_then(Value::as_str) == Some(text)
}
