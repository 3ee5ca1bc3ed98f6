//! `bz why`.

use bz_client::client::question;
use bz_client::target_name::TargetName;
use clap::Args;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Field, Table, Tone};

/// What `bz why` takes.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// What is asked about.
    #[arg(help = "The target: [user@]target[.environment], or its id")]
    target: TargetName,
}

impl Why {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let mut asked = question(&self.target.target);
        asked.target_user.clone_from(&self.target.user);
        let why = context.client()?.why(&asked).await?;
        context.output.list(&why, || {
            let mut table = Table::new([], "");
            let mut row = |name: &str, field: Field| table.row([name.into(), field]);
            row("Allowed", if why.allowed { Field::toned(&"yes", Tone::Good) } else { Field::toned(&"no", Tone::Bad) });
            row("Reason", why.reason.as_str().into());
            row("Policies", join(why.policies.iter().map(|policy| policy.name.clone())).into());
            row("Target users", why.allowed_target_users.join(", ").into());
            row("Verbs", join(why.allowed_verbs.iter().map(ToString::to_string)).into());
            if let Some(remedy) = &why.remedy {
                row("Remedy", remedy.as_str().into());
            }
            table
        })?;
        Ok(if why.allowed { Exit::Fine } else { Exit::Failed })
    }
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}
