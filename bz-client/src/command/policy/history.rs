//! `bz policy history` and `bz policy diff`.

use anyhow::{Context as _, bail};
use bz_client::client::Client;
use bz_core::api::policy::version::{FieldDiff, PolicyChange, PolicyVersion};
use bz_core::id::PolicyId;
use serde_json::Value;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Field, Table, Tone, local};

pub(super) async fn history(context: &Context<'_>, name: &str) -> anyhow::Result<Exit> {
    let versions = versions(&context.client()?, name).await?;
    context.output.list(&versions, || {
        let mut table = Table::new(["Version", "When", "Who", "Change", "Name", "Id"], "No versions.");
        for version in &versions {
            let who = version.actor.as_ref().map_or("the server itself", |actor| actor.subject_name.as_str());
            let who = if version.change == PolicyChange::Kept { "before versions were kept" } else { who };
            table.row([
                version.number.into(),
                local(&version.timestamp).into(),
                who.into(),
                change(version.change),
                version.name.as_str().into(),
                version.policy_id.to_string().into(),
            ]);
        }
        table
    })?;
    Ok(Exit::Fine)
}

pub(super) async fn diff(
    context: &Context<'_>,
    name: &str,
    (from, to): (Option<u32>, Option<u32>),
) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let policy = one(&versions(&client, name).await?, name)?;
    let diff = client.policy_diff(policy, (from, to)).await?;
    context.output.list(&diff, || {
        let mut table = Table::new([], "These versions do not differ.");
        for field in &diff.fields {
            for (sign, value, tone) in lines(field) {
                let text = format!("{sign} {}", words(value));
                table.row([field.field.as_str().into(), Field::toned(&text, tone)]);
            }
        }
        table
    })?;
    Ok(Exit::Fine)
}

/// What went, then what came.
fn lines(field: &FieldDiff) -> Vec<(char, &Value, Tone)> {
    let gone = field.before.iter().chain(&field.removed).map(|value| ('-', value, Tone::Bad));
    let new = field.after.iter().chain(&field.added).map(|value| ('+', value, Tone::Good));
    gone.chain(new).collect()
}

/// A value in few words: the one that says it, where there is one.
fn words(value: &Value) -> String {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let said = text("userName").or_else(|| text("name")).or_else(|| text("id")).or_else(|| text("type"));
    match (value, said) {
        (Value::String(text), _) => text.clone(),
        (Value::Object(object), Some(said)) if object.len() == 1 => said.to_owned(),
        _ => value.to_string(),
    }
}

fn change(change: PolicyChange) -> Field {
    let (text, tone) = match change {
        PolicyChange::Created => ("made", Tone::Good),
        PolicyChange::Edited => ("changed", Tone::Plain),
        PolicyChange::Deleted => ("deleted", Tone::Bad),
        PolicyChange::Expired => ("ended by itself", Tone::Bad),
        PolicyChange::SubjectDeleted => ("somebody it named was deleted", Tone::Plain),
        PolicyChange::Kept => ("was there", Tone::Faint),
    };
    Field::toned(&text, tone)
}

/// Of the policy with this id, or of all that ever had this name.
async fn versions(client: &Client, name: &str) -> anyhow::Result<Vec<PolicyVersion>> {
    let found = match name.parse::<PolicyId>() {
        Ok(id) => client.policy_versions(id).await?,
        Err(_) => client.policy_versions_called(name).await?,
    };
    if found.is_empty() {
        bail!("there was never a policy called {name}: `bz policy list` lists those that there are");
    }
    Ok(found)
}

/// The one policy that these are versions of.
fn one(versions: &[PolicyVersion], name: &str) -> anyhow::Result<PolicyId> {
    let first = versions.first().context("there are no versions")?.policy_id;
    if versions.iter().any(|version| version.policy_id != first) {
        bail!("several policies were called {name}: name one by its id, which `bz policy history {name}` shows");
    }
    Ok(first)
}
