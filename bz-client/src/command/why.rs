//! `bz why`.

use bz_client::target_name::TargetName;
use bz_core::access::Verb;
use bz_core::api::access::WhyQuestion;
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
    /// What for; a shell, or what the target is, unless said otherwise
    #[arg(long, short)]
    verb: Option<Verb>,
    /// About another person (for administrators)
    #[arg(long, short, value_name = "EMAIL")]
    user: Option<String>,
}

impl Why {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let target = &self.target.target;
        let question = WhyQuestion {
            target_id: target.id(),
            target_name: target.name().map(str::to_owned),
            environment_name: target.environment().map(str::to_owned),
            verb_type: self.verb,
            target_user: self.target.user.clone(),
            cluster: None,
            user_email: self.user,
        };
        let why = context.client()?.why(&question).await?;
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
