//! `bz policy evaluate` and `bz policy simulate`.

use std::path::PathBuf;

use anyhow::Context as _;
use bz_client::target_name::TargetName;
use bz_core::access::Verb;
use bz_core::api::access::Cluster;
use bz_core::api::policy::question::{EvaluateQuestion, Evaluation, SimulateQuestion, SimulatedChange};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::command::policy::edit;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Field, Table, Tone};

/// The largest draft that is read: as large as a body may be.
const MOST_DRAFT: u64 = 64 << 10;

/// What `bz policy evaluate` takes.
#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    /// Who: a person, by address, or a subject, by id
    #[arg(long, short, value_name = "EMAIL")]
    user: String,
    #[command(flatten)]
    rest: Rest,
}

/// What a question has beside the person.
#[derive(Debug, Args)]
struct Rest {
    /// Where.
    #[arg(long, short, help = "Where: [user@]target[.environment], or its id")]
    target: TargetName,
    /// What for; a shell, or what the target is, unless said otherwise
    #[arg(long, short)]
    verb: Option<Verb>,
    /// A group to suppose them in, instead of those that are known; may be given several times
    #[arg(long, short, value_name = "GROUP")]
    group: Vec<String>,
    /// As which user of a cluster
    #[arg(long, value_name = "USER")]
    cluster_user: Option<String>,
    /// In which group of a cluster; may be given several times
    #[arg(long, value_name = "GROUP", requires = "cluster_user")]
    cluster_group: Vec<String>,
    /// When, as in 2027-01-31T18:00:00Z; now unless said otherwise
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

/// What `bz policy simulate` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "A draft is what the API takes to make a policy: see docs/api/reference.md. Nothing is changed."
)]
pub(crate) struct Simulate {
    /// The draft, as JSON
    #[arg(long, short, value_name = "FILE", required_unless_present = "delete")]
    file: Option<PathBuf>,
    /// The draft's kind
    #[arg(long, short, value_enum, default_value_t = Kind::TargetAccess)]
    kind: Kind,
    /// The policy in whose place it would be, by name or id
    #[arg(long, value_name = "POLICY")]
    replace: Option<String>,
    /// The policy that would be deleted, by name or id
    #[arg(long, value_name = "POLICY", conflicts_with_all = ["file", "replace", "kind"])]
    delete: Option<String>,
}

// The kinds of policy, as `bz policy create` calls them.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    TargetAccess,
    Proxy,
    Kubernetes,
    SessionRecording,
}

impl Evaluate {
    pub(super) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let answer = context.client()?.evaluate_policies(&self.question()).await?;
        context.output.list(&answer, || table(&answer))?;
        Ok(if answer.allowed { Exit::Fine } else { Exit::Failed })
    }

    fn question(self) -> EvaluateQuestion {
        let rest = self.rest;
        let target = &rest.target.target;
        let subject_id = self.user.parse().ok();
        EvaluateQuestion {
            user_email: subject_id.is_none().then_some(self.user),
            subject_id,
            groups: (!rest.group.is_empty()).then_some(rest.group),
            target_id: target.id(),
            target_name: target.name().map(str::to_owned),
            environment_name: target.environment().map(str::to_owned),
            verb_type: rest.verb,
            target_user: rest.target.user.clone(),
            cluster: rest.cluster_user.map(|user| Cluster { user, groups: rest.cluster_group }),
            time: rest.at,
        }
    }
}

fn table(answer: &Evaluation) -> Table {
    let mut table = Table::new([], "");
    let mut row = |name: &str, field: Field| table.row([name.into(), field]);
    row("Allowed", if answer.allowed { Field::toned(&"yes", Tone::Good) } else { Field::toned(&"no", Tone::Bad) });
    row("Reason", answer.reason.as_str().into());
    row("Policies", join(answer.policies.iter().map(|policy| policy.name.clone())).into());
    row("Target users", answer.allowed_target_users.join(", ").into());
    row("Verbs", join(answer.allowed_verbs.iter().map(ToString::to_string)).into());
    let recorded = match (answer.recorded, answer.input_recorded) {
        (false, _) => "no",
        (true, false) => "output",
        (true, true) => "output and input",
    };
    row("Recorded", recorded.into());
    for one in &answer.considered {
        row("Considered", format!("{}: {}", one.name, one.verdict).into());
    }
    for note in &answer.notes {
        row("Note", Field::toned(note, Tone::Faint));
    }
    table
}

impl Simulate {
    pub(super) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        let named = match self.replace.as_ref().or(self.delete.as_ref()) {
            Some(name) => Some(edit::find(&client, name).await?),
            None => None,
        };
        let kind = match (&named, &self.delete) {
            // Which kind it is, is no question where it is there.
            (Some(policy), Some(_)) => policy.value.get("type").and_then(Value::as_str).unwrap_or_default(),
            _ => self.kind.name(),
        };
        let question = SimulateQuestion {
            kind: kind.to_owned(),
            policy_id: named.as_ref().map(|policy| policy.id),
            policy: self.file.as_deref().map(read).transpose()?,
            question: None,
        };
        let answer = client.simulate_policy(&question).await?;
        context.output.list(&answer, || changes(&answer.changes))?;
        if !answer.complete {
            context.output.warn("There is more than this: the draft is about too many to look at them all.");
        }
        Ok(Exit::Fine)
    }
}

fn read(path: &std::path::Path) -> anyhow::Result<Value> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MOST_DRAFT).read_to_string(&mut text));
    read.with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

fn changes(changes: &[SimulatedChange]) -> Table {
    let mut table = Table::new(["Who", "Where", "Change"], "Nothing would change for anybody who is known.");
    for one in changes {
        let environment = one.environment_name.clone().unwrap_or_default();
        let place = one.target_name.as_ref().map(|name| format!("{name}.{environment}"));
        let place = place.unwrap_or_else(|| "everywhere".to_owned());
        let told = [('-', &one.lost, Tone::Bad), ('+', &one.gained, Tone::Good)];
        for (sign, words, tone) in told.into_iter().filter(|(_, words, _)| !words.is_empty()) {
            let text = format!("{sign} {}", words.join(", "));
            table.row([one.subject_name.as_str().into(), place.as_str().into(), Field::toned(&text, tone)]);
        }
    }
    table
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::TargetAccess => "TargetConnect",
            Self::Proxy => "Proxy",
            Self::Kubernetes => "Kubernetes",
            Self::SessionRecording => "SessionRecording",
        }
    }
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}
