//! All policies at one moment, and which of them might be about somebody and somewhere.
//!
//! The engine reads every policy that it is given, so it is given few. What is left out here names another person or
//! another place, is of a kind for other targets, or is disabled: whatever else decides, the rules do.

use std::collections::HashMap;

use bz_core::api::target::TargetKind;
use bz_core::id::PolicyId;
use bz_core::label::{LabelNeed, Labels};
use bz_core::time::UnixTime;
use serde_json::Value;

use crate::policy::input::{Document, PersonInput, TargetInput};
use crate::store::policy::{Policies, Policy, PolicyKind};

/// Policies, by whom and what they name.
#[derive(Debug, Default)]
pub struct Index {
    all: Vec<Policy>,
    version: u64,
    documents: Vec<Document>,
    /// By the ids of subjects, and of groups: places in `all`, ascending.
    people: HashMap<String, Vec<usize>>,
    groups: HashMap<String, Vec<usize>>,
    /// By the ids of environments, targets and clusters.
    places: HashMap<String, Vec<usize>>,
    /// Those that ask for labels.
    labels: Vec<(usize, Vec<LabelNeed>)>,
    ends: Option<UnixTime>,
}

impl Index {
    /// Of these.
    #[must_use]
    pub fn of(policies: Policies) -> Self {
        let Policies { all, version } = policies;
        let mut index = Self { version, ends: all.iter().filter_map(|policy| policy.expires).min(), ..Self::default() };
        for (at, policy) in all.iter().enumerate() {
            index.documents.push(Document::of(policy));
            if policy.content.get("enabled").and_then(Value::as_bool) == Some(false) {
                continue;
            }
            enter(&mut index.people, &policy.content, "subjects", at);
            enter(&mut index.groups, &policy.content, "groups", at);
            for list in ["environments", "targets", "clusters"] {
                enter(&mut index.places, &policy.content, list, at);
            }
            let needs =
                policy.content.get("targetLabels").filter(|needs| needs.as_array().is_some_and(|n| !n.is_empty()));
            if let Some(needs) = needs {
                // What cannot be read here is for the engine to judge.
                index.labels.push((at, serde_json::from_value(needs.clone()).unwrap_or_default()));
            }
        }
        Self { all, ..index }
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> &[Policy] {
        &self.all
    }

    /// Counts every change of policies.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// When the first of them ends by itself.
    #[must_use]
    pub const fn ends(&self) -> Option<UnixTime> {
        self.ends
    }

    /// The names of these.
    #[must_use]
    pub fn names(&self, ids: &[PolicyId]) -> Vec<&str> {
        self.all.iter().filter(|policy| ids.contains(&policy.id)).map(|policy| policy.name.as_str()).collect()
    }

    /// Policies about access that might let this person do anything there.
    #[must_use]
    pub fn access(&self, person: &PersonInput, target: &TargetInput) -> Vec<Document> {
        let (environment, id) = (target.environment.to_string(), target.id.to_string());
        let places = [self.places.get(&environment), self.places.get(&id)];
        let named = |at: &usize| places.iter().flatten().any(|list| list.binary_search(at).is_ok());
        let labelled = |at: &usize| {
            let found = self.labels.binary_search_by_key(at, |(at, _)| *at).ok().and_then(|n| self.labels.get(n));
            found.is_some_and(|(_, needs)| needs.iter().all(|need| need.holds(&target.labels)))
        };
        let about = |at: &usize| self.all.get(*at).is_some_and(|policy| is_about(policy.kind, target.kind));
        self.documents(self.naming(person).into_iter().filter(|at| about(at) && (named(at) || labelled(at))))
    }

    /// Policies about access that name the person or the place, whatever else they say.
    #[must_use]
    pub fn naming_either(&self, person: &PersonInput, target: &TargetInput) -> Vec<Document> {
        let (environment, id) = (target.environment.to_string(), target.id.to_string());
        let people = |item: &str| item == person.id.to_string();
        let named = |policy: &Policy, list: &str, is: &dyn Fn(&str) -> bool| {
            let items = policy.content.get(list).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(|item| item.get("id").and_then(Value::as_str)).any(is)
        };
        let either = |policy: &Policy| {
            named(policy, "subjects", &people)
                || named(policy, "groups", &|group| person.groups.iter().any(|own| own == group))
                || named(policy, "environments", &|item| item == environment)
                || ["targets", "clusters"].iter().any(|list| named(policy, list, &|item| item == id))
                || Self::asks_for(policy, &target.labels)
        };
        let access = |policy: &Policy| {
            matches!(policy.kind, PolicyKind::TargetConnect | PolicyKind::Proxy | PolicyKind::Kubernetes)
        };
        self.all.iter().filter(|policy| access(policy) && either(policy)).map(Document::of).collect()
    }

    /// Whether a policy asks for labels, and these are what it asks for.
    #[must_use]
    pub fn asks_for(policy: &Policy, labels: &Labels) -> bool {
        let needs = policy.content.get("targetLabels").cloned().unwrap_or_default();
        let needs: Vec<LabelNeed> = serde_json::from_value(needs).unwrap_or_default();
        !needs.is_empty() && needs.iter().all(|need| need.holds(labels))
    }

    /// Session recording policies that might be about this person.
    #[must_use]
    pub fn recording(&self, person: &PersonInput) -> Vec<Document> {
        let is = |at: &usize| self.all.get(*at).is_some_and(|policy| policy.kind == PolicyKind::SessionRecording);
        self.documents(self.naming(person).into_iter().filter(is))
    }

    /// Those that name the person or a group of theirs.
    fn naming(&self, person: &PersonInput) -> Vec<usize> {
        let groups = person.groups.iter().filter_map(|group| self.groups.get(group));
        let mut found: Vec<usize> = groups.chain(self.people.get(&person.id.to_string())).flatten().copied().collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn documents(&self, at: impl Iterator<Item = usize>) -> Vec<Document> {
        at.filter_map(|at| self.documents.get(at).cloned()).collect()
    }
}

/// What kinds of target a kind of policy is about, as the rules say, too.
const fn is_about(policy: PolicyKind, target: TargetKind) -> bool {
    match policy {
        PolicyKind::TargetConnect => matches!(target, TargetKind::Bzero),
        PolicyKind::Proxy => matches!(target, TargetKind::Db | TargetKind::Web),
        PolicyKind::Kubernetes => matches!(target, TargetKind::Cluster),
        PolicyKind::SessionRecording | PolicyKind::OrganizationControls => false,
    }
}

fn enter(map: &mut HashMap<String, Vec<usize>>, content: &Value, list: &str, at: usize) {
    let items = content.get(list).and_then(Value::as_array).into_iter().flatten();
    for id in items.filter_map(|item| item.get("id").and_then(Value::as_str)) {
        let entries = map.entry(id.to_owned()).or_default();
        if entries.last() != Some(&at) {
            entries.push(at);
        }
    }
}
