//! What a draft would change for whoever is known, on whatever there is: bounded, and it says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use bz_core::api::policy::question::SimulatedChange;
use bz_core::api::target::TargetKind;
use bz_core::target::UserRule;
use serde_json::Value;

use crate::api::Call;
use crate::api::policy::evaluate::as_known;
use crate::app::App;
use crate::connection::aim::Aim;
use crate::connection::question_of;
use crate::error::ApiError;
use crate::policy::{AccessQuestion, Index, PersonInput, ReachedUser};
use crate::store::policy::{Policy, PolicyKind};
use crate::store::user::User;

/// The most pairs of a subject and a target that one question looks at: about a second.
const MOST_PAIRS: u32 = 10_000;
/// The most changes that one answer lists.
const MOST_CHANGES: usize = 1000;

/// What differs between policies as they are and as they would be.
pub(super) struct Difference {
    pub(super) changes: Vec<SimulatedChange>,
    pub(super) looked_at: u32,
    pub(super) complete: bool,
}

impl Difference {
    /// `concerned` are the policies that differ: nobody and nothing that they do not name is looked at.
    pub(super) async fn between(
        call: &Call,
        (before, after): (Arc<Index>, Arc<Index>),
        concerned: &[Policy],
    ) -> Result<Self, ApiError> {
        let people = people(call, concerned).await?;
        let recording = concerned.iter().any(|policy| policy.kind == PolicyKind::SessionRecording);
        let aims = aims(&call.app, concerned, recording).await?;
        let (app, now) = (Arc::clone(&call.app), call.now());
        let compared = tokio::task::spawn_blocking(move || {
            let mut found = Self { changes: Vec::new(), looked_at: 0, complete: true };
            for (user, person) in &people {
                for aim in &aims {
                    if found.looked_at == MOST_PAIRS || found.changes.len() == MOST_CHANGES {
                        found.complete = false;
                        return found;
                    }
                    found.looked_at += 1;
                    let question = || question_of(person.clone(), aim, (aim.verb(), None, aim.mode()), now);
                    let had = allowed(&app, &question().about(&before), recording);
                    let would = allowed(&app, &question().about(&after), recording);
                    found.changes.extend(change(user, (!recording).then_some(aim), (&had, &would)));
                }
            }
            found
        });
        compared.await.map_err(ApiError::internal)
    }
}

/// What somebody has somewhere, in words.
fn allowed(app: &App, question: &AccessQuestion, recording: bool) -> BTreeSet<String> {
    if recording {
        let kept = app.engine.access(question).recording;
        let words = [(kept.output, "is recorded"), (kept.input, "is recorded, with what is typed")];
        return words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word.to_owned()).collect();
    }
    let reach = app.engine.reach(question);
    let without_user = reach.verbs.iter().filter(|verb| !reach.users.iter().any(|user| user.verbs.contains(verb)));
    let verbs = without_user.map(ToString::to_string);
    let users = reach.users.iter().flat_map(|ReachedUser { allowed, verbs }| {
        let name = match &allowed.rule {
            UserRule::Literal(name) => name.to_string(),
            UserRule::Username => format!("{} ({})", allowed.user, allowed.rule),
        };
        verbs.iter().map(move |verb| format!("{verb} as {name}"))
    });
    let (names, groups) = &reach.cluster;
    let cluster = names.iter().map(|name| format!("as {name}"));
    let groups = groups.iter().map(|group| format!("in {group}"));
    verbs.chain(users).chain(cluster).chain(groups).collect()
}

fn change(
    user: &User,
    aim: Option<&Aim>,
    (had, would): (&BTreeSet<String>, &BTreeSet<String>),
) -> Option<SimulatedChange> {
    (had != would).then(|| SimulatedChange {
        subject_id: user.id,
        subject_type: user.kind,
        subject_name: user.name().to_owned(),
        target_id: aim.map(Aim::id),
        target_name: aim.map(|aim| aim.name().to_owned()),
        environment_name: aim.map(|aim| aim.environment().1.to_owned()),
        target_type: aim.map(Aim::kind),
        gained: would.difference(had).cloned().collect(),
        lost: had.difference(would).cloned().collect(),
    })
}

/// Whom any of them names, by id or by a group.
async fn people(call: &Call, concerned: &[Policy]) -> Result<Vec<(User, PersonInput)>, ApiError> {
    let (subjects, groups) = (ids(concerned, "subjects"), ids(concerned, "groups"));
    let mut found = Vec::new();
    for user in call.app.store.users().await? {
        let named = subjects.contains(&user.id.to_string());
        if !named && groups.is_empty() {
            continue;
        }
        let (person, _) = as_known(call, &user).await?;
        if named || person.groups.iter().any(|group| groups.contains(group)) {
            found.push((user, person));
        }
    }
    Ok(found)
}

/// What any of them names, by id, by environment or by labels. Recording is the same everywhere: any one target will do.
async fn aims(app: &App, concerned: &[Policy], recording: bool) -> Result<Vec<Aim>, ApiError> {
    let hosts = app.store.targets().await?.into_iter().map(|target| Aim::Host(Box::new(target)));
    let mut all: Vec<_> = hosts.collect();
    for kind in [TargetKind::Db, TargetKind::Web, TargetKind::Cluster] {
        all.extend(app.store.virtual_targets(kind).await?.into_iter().map(|target| Aim::Behind(Box::new(target))));
    }
    if recording {
        all.truncate(1);
        return Ok(all);
    }
    let environments = ids(concerned, "environments");
    let targets: BTreeSet<_> = ["targets", "clusters"].iter().flat_map(|list| ids(concerned, list)).collect();
    let labelled = |aim: &Aim| concerned.iter().any(|policy| Index::asks_for(policy, aim.labels()));
    all.retain(|aim| {
        let (id, environment) = (aim.id().to_string(), aim.environment().0.to_string());
        targets.contains(&id) || environments.contains(&environment) || labelled(aim)
    });
    Ok(all)
}

fn ids(policies: &[Policy], list: &str) -> BTreeSet<String> {
    let items = policies.iter().filter_map(|policy| policy.content.get(list)?.as_array()).flatten();
    items.filter_map(|item| Some(item.get("id").and_then(Value::as_str)?.to_owned())).collect()
}
