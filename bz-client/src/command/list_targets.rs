//! `bz list-targets`.

use bz_core::api::target::{Target, TargetStatus};
use clap::{Args, ValueEnum};

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Field, Table, Tone, local};

/// What `bz list-targets` takes.
#[derive(Debug, Args)]
pub(crate) struct ListTargets {
    /// Only names that contain this
    #[arg(long, short, value_name = "TEXT")]
    name: Option<String>,
    /// Only environments whose names contain this
    #[arg(long, short, value_name = "TEXT")]
    environment: Option<String>,
    /// Only targets with this status
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Show agent, target users and verbs, too
    #[arg(long, short)]
    detail: bool,
    /// Show ids, too
    #[arg(long, short = 'i')]
    show_id: bool,
}

// A status to look for; the names say all.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Status {
    NotActivated,
    Offline,
    Online,
}

impl ListTargets {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let mut targets = context.client()?.targets().await?;
        targets.retain(|target| self.fits(target));
        targets.sort_by(|a, b| (&a.environment_name, &a.name).cmp(&(&b.environment_name, &b.name)));
        context.output.list(&targets, || self.table(&targets))?;
        Ok(Exit::Fine)
    }

    fn fits(&self, target: &Target) -> bool {
        let contains = |text: &str, part: &Option<String>| part.as_ref().is_none_or(|part| text.contains(part));
        let status = match self.status {
            None => true,
            Some(Status::NotActivated) => target.status == TargetStatus::NotActivated,
            Some(Status::Offline) => target.status == TargetStatus::Offline,
            Some(Status::Online) => target.status == TargetStatus::Online,
        };
        contains(&target.name, &self.name) && contains(&target.environment_name, &self.environment) && status
    }

    fn table(&self, targets: &[Target]) -> Table {
        let mut headings = vec!["Name", "Environment", "Status"];
        if self.show_id {
            headings.push("Id");
        }
        if self.detail {
            headings.extend(["Target users", "Verbs", "Routes", "Agent", "Last seen"]);
        }
        let mut table = Table::new(headings, "No targets. `bz why TARGET` says why one is missing.");
        for target in targets {
            let mut row: Vec<Field> =
                vec![target.name.as_str().into(), target.environment_name.as_str().into(), status(target.status)];
            if self.show_id {
                row.push(target.id.into());
            }
            if self.detail {
                let users = target.allowed_target_users.iter().map(|user| user.user_name.to_string());
                let seen = target.last_agent_update.as_deref().map(local).unwrap_or_default();
                row.extend([
                    join(users).into(),
                    join(target.allowed_verbs.iter().map(ToString::to_string)).into(),
                    join(target.routes.iter().map(|route| route.name.clone())).into(),
                    target.agent_version.as_str().into(),
                    seen.into(),
                ]);
            }
            table.row(row);
        }
        table
    }
}

fn status(status: TargetStatus) -> Field {
    match status {
        TargetStatus::NotActivated => Field::toned(&"not activated", Tone::Faint),
        TargetStatus::Offline => Field::toned(&"offline", Tone::Bad),
        TargetStatus::Online => Field::toned(&"online", Tone::Good),
    }
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}
