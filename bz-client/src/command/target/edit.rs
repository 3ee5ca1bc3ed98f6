//! `bz target edit`.

use anyhow::Context as _;
use bz_client::client::Client;
use bz_client::target_name::TargetRef;
use bz_core::api::target::{ChangeTarget, Target, TargetKind};
use bz_core::api::virtual_target::{NewVirtualTarget, VirtualTarget};
use bz_core::id::{EnvironmentId, TargetId};
use bz_core::label::{Label, Labels};
use clap::Args;

use crate::command::environment;
use crate::command::target::find;
use crate::context::Context;
use crate::exit::Exit;

/// What `bz target edit` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Policies may be about labels. Those that a host says of itself open nothing until an administrator \
                  accepts them; what it says later is not accepted by that."
)]
pub(crate) struct Change {
    /// Its name from now on
    #[arg(long, short, group = "change")]
    name: Option<String>,
    /// Its environment from now on, by name or id
    #[arg(long, short, group = "change")]
    environment: Option<String>,
    /// A label to give it, in place of one with that key; may be given several times
    #[arg(long, short, group = "change", value_name = "KEY=VALUE")]
    label: Vec<Label>,
    /// A label to take away, by its key; may be given several times
    #[arg(long, group = "change", value_name = "KEY")]
    remove_label: Vec<String>,
    /// A label to give it as its own agent says it, by its key; may be given several times
    #[arg(long, group = "change", value_name = "KEY")]
    accept_label: Vec<String>,
}

impl Change {
    pub(super) async fn run(self, context: &Context<'_>, target: &TargetRef) -> anyhow::Result<Exit> {
        let client = context.client()?;
        let environment = match &self.environment {
            Some(name) => Some(environment::find(&client, name).await?.id),
            None => None,
        };
        match find(&client, target).await? {
            (TargetKind::Bzero, _) => self.edit_host(context, &client, (target, environment)).await,
            (kind, id) => self.edit_behind(context, &client, ((kind, id), target, environment)).await,
        }
    }

    async fn edit_host(
        self,
        context: &Context<'_>,
        client: &Client,
        (target, environment_id): (&TargetRef, Option<EnvironmentId>),
    ) -> anyhow::Result<Exit> {
        let old: Target = client.find_target(target).await?;
        let labels = self.labels(&old.labels, &old.agent_labels)?;
        let change = ChangeTarget { target_name: self.name, environment_id, labels };
        let changed = client.edit_target(old.id, &change).await?;
        context.output.result(&changed, &line(target, (&changed.name, &changed.environment_name), &changed.labels))?;
        Ok(Exit::Fine)
    }

    async fn edit_behind(
        self,
        context: &Context<'_>,
        client: &Client,
        (of, target, environment_id): ((TargetKind, TargetId), &TargetRef, Option<EnvironmentId>),
    ) -> anyhow::Result<Exit> {
        let old: VirtualTarget = client.virtual_target(of).await?;
        let labels = self.labels(&old.labels, &Labels::new())?;
        let target_name = self.name.unwrap_or_default();
        let change = NewVirtualTarget { target_name, environment_id, labels, ..NewVirtualTarget::default() };
        let changed = client.edit_virtual_target(of, &change).await?;
        context.output.result(&changed, &line(target, (&changed.name, &changed.environment_name), &changed.labels))?;
        Ok(Exit::Fine)
    }

    /// Its labels from now on, if any of them changes.
    fn labels(&self, old: &Labels, said: &Labels) -> anyhow::Result<Option<Labels>> {
        let mut labels = old.clone();
        labels.retain(|key, _| !self.remove_label.contains(key));
        for key in &self.accept_label {
            let value = said.get(key).with_context(|| format!("its agent says nothing of {key}"))?;
            labels.insert(key.clone(), value.clone());
        }
        labels.extend(self.label.iter().map(|label| (label.key.clone(), label.value.clone())));
        Ok((labels != *old).then_some(labels))
    }
}

fn line(target: &TargetRef, (name, environment): (&str, &str), labels: &Labels) -> String {
    let pairs: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = if pairs.is_empty() { "without labels".to_owned() } else { format!("labelled {}", pairs.join(", ")) };
    format!("{target} is {name}.{environment} from now on, {labels}.")
}
