//! `bz list-targets`.

use bz_client::client::Virtual;
use bz_core::access::Verb;
use bz_core::api::target::{Target, TargetKind, TargetStatus};
use bz_core::api::virtual_target::{DatabaseTarget, KubeTarget, WebTarget};
use bz_core::id::TargetId;
use bz_core::label::{AGENT_PREFIX, LabelNeed, Labels};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Field, Table, Tone, local};

const LABEL: &str = "Only targets of whose labels this holds: key=value, key!=value, 'key in (a, b)', 'key notin (a, b)' \
                     or key; agent/key for what hosts say of themselves; may be given several times";

/// What `bz list-targets` takes.
#[derive(Debug, Args)]
pub(crate) struct ListTargets {
    /// Only names that contain this
    #[arg(long, short, value_name = "TEXT")]
    name: Option<String>,
    /// Only environments whose names contain this
    #[arg(long, short, value_name = "TEXT")]
    environment: Option<String>,
    /// Only targets of this type: Bzero (hosts), Db, Web or Cluster
    #[arg(long, short, value_name = "TYPE")]
    target_type: Option<TargetKind>,
    /// Only targets with this status
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Only targets of whose labels this holds, such as role=web; may be given several times
    #[arg(long, short, value_name = "NEED", help = LABEL)]
    label: Vec<LabelNeed>,
    /// Show agent, target users, verbs and labels, too
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
        let client = context.client()?;
        let mut rows: Vec<Row> =
            client.targets_labelled(&self.label).await?.iter().map(Row::host).collect::<Result<_, _>>()?;
        for target in client.virtual_targets_labelled::<DatabaseTarget>(&self.label).await? {
            let users = target.allowed_target_users.iter().map(|user| user.user_name.to_string());
            let row = Row::behind(&target)?;
            rows.push(Row { users: join(users), verbs: Verb::Database.to_string(), ..row });
        }
        for target in client.virtual_targets_labelled::<WebTarget>(&self.label).await? {
            rows.push(Row { verbs: Verb::Web.to_string(), ..Row::behind(&target)? });
        }
        for target in client.virtual_targets_labelled::<KubeTarget>(&self.label).await? {
            let users = target.allowed_cluster_users.iter().chain(&target.allowed_cluster_groups);
            let row = Row::behind(&target)?;
            rows.push(Row { users: join(users.cloned()), verbs: Verb::Kubernetes.to_string(), ..row });
        }
        rows.retain(|row| self.fits(row));
        rows.sort_by(|a, b| (&a.environment, &a.name).cmp(&(&b.environment, &b.name)));
        let values: Vec<_> = rows.iter().map(|row| row.value.clone()).collect();
        context.output.list(&values, || self.table(rows))?;
        Ok(Exit::Fine)
    }

    fn fits(&self, row: &Row) -> bool {
        let contains = |text: &str, part: &Option<String>| part.as_ref().is_none_or(|part| text.contains(part));
        let status = match self.status {
            None => true,
            Some(Status::NotActivated) => row.status == TargetStatus::NotActivated,
            Some(Status::Offline) => row.status == TargetStatus::Offline,
            Some(Status::Online) => row.status == TargetStatus::Online,
        };
        let kind = self.target_type.is_none_or(|kind| kind == row.kind);
        contains(&row.name, &self.name) && contains(&row.environment, &self.environment) && status && kind
    }

    fn table(&self, rows: Vec<Row>) -> Table {
        let mut headings = vec!["Type", "Name", "Environment", "Status"];
        if self.show_id {
            headings.push("Id");
        }
        if self.detail {
            headings.extend(["Target users", "Verbs", "Routes", "Agent", "Last seen", "Labels"]);
        }
        let mut table = Table::new(headings, "No targets. `bz why TARGET` says why one is missing.");
        for row in rows {
            let mut fields: Vec<Field> =
                vec![row.kind.into(), row.name.into(), row.environment.into(), status(row.status)];
            if self.show_id {
                fields.push(row.id.into());
            }
            if self.detail {
                fields.extend([row.users, row.verbs, row.routes, row.agent, row.seen, row.labels].map(Into::into));
            }
            table.row(fields);
        }
        table
    }
}

/// One target of any kind.
struct Row {
    value: Value,
    kind: TargetKind,
    name: String,
    environment: String,
    status: TargetStatus,
    id: TargetId,
    users: String,
    verbs: String,
    routes: String,
    agent: String,
    seen: String,
    labels: String,
}

impl Row {
    fn host(target: &Target) -> serde_json::Result<Self> {
        Ok(Self {
            value: typed(TargetKind::Bzero, serde_json::to_value(target)?),
            kind: TargetKind::Bzero,
            name: target.name.clone(),
            environment: target.environment_name.clone(),
            status: target.status,
            id: target.id,
            users: join(target.allowed_target_users.iter().map(|user| user.user_name.to_string())),
            verbs: join(target.allowed_verbs.iter().map(ToString::to_string)),
            routes: join(target.routes.iter().map(|route| route.name.clone())),
            agent: target.agent_version.clone(),
            seen: target.last_agent_update.as_deref().map(local).unwrap_or_default(),
            labels: join(pairs("", &target.labels).chain(pairs(AGENT_PREFIX, &target.agent_labels))),
        })
    }

    fn behind<V: Virtual + Serialize>(target: &V) -> serde_json::Result<Self> {
        let base = target.base();
        Ok(Self {
            value: typed(V::KIND, serde_json::to_value(target)?),
            kind: V::KIND,
            name: base.name.clone(),
            environment: base.environment_name.clone(),
            status: base.status,
            id: base.id,
            users: String::new(),
            verbs: String::new(),
            routes: String::new(),
            agent: String::new(),
            seen: String::new(),
            labels: join(pairs("", &base.labels)),
        })
    }
}

/// With its kind beside it.
fn typed(kind: TargetKind, mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.insert("type".to_owned(), Value::String(kind.to_string()));
    }
    value
}

fn status(status: TargetStatus) -> Field {
    match status {
        TargetStatus::NotActivated => Field::toned(&"not activated", Tone::Faint),
        TargetStatus::Offline => Field::toned(&"offline", Tone::Bad),
        TargetStatus::Online => Field::toned(&"online", Tone::Good),
    }
}

fn pairs<'a>(prefix: &'a str, labels: &'a Labels) -> impl Iterator<Item = String> + 'a {
    labels.iter().map(move |(key, value)| format!("{prefix}{key}={value}"))
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}
