//! What policies said before, and how two versions differ.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::record::Actor;
use crate::id::PolicyId;

/// What was done to a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PolicyChange {
    /// It was made.
    Created,
    /// It was changed.
    Edited,
    /// It was deleted.
    Deleted,
    /// It ended by itself.
    Expired,
    /// Somebody whom it named was deleted.
    SubjectDeleted,
    /// It was there before versions were kept.
    Kept,
}

impl PolicyChange {
    const ALL: [Self; 6] =
        [Self::Created, Self::Edited, Self::Deleted, Self::Expired, Self::SubjectDeleted, Self::Kept];
}

impl fmt::Display for PolicyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "Created",
            Self::Edited => "Edited",
            Self::Deleted => "Deleted",
            Self::Expired => "Expired",
            Self::SubjectDeleted => "SubjectDeleted",
            Self::Kept => "Kept",
        })
    }
}

/// Text that names no change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownChange;

impl FromStr for PolicyChange {
    type Err = UnknownChange;

    fn from_str(text: &str) -> Result<Self, UnknownChange> {
        Self::ALL.into_iter().find(|change| change.to_string() == text).ok_or(UnknownChange)
    }
}

/// A policy after one of its changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PolicyVersion {
    /// The policy.
    pub policy_id: PolicyId,
    /// Which version, from 1.
    pub number: u32,
    /// The policy's kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name then.
    pub name: String,
    /// What was done to it.
    pub change: PolicyChange,
    /// When, RFC 3339.
    pub timestamp: String,
    /// Who did it; absent when the server did it by itself, or when it was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// What it said from then on, or said last. Lists leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Value>,
}

/// How two versions of a policy differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PolicyDiff {
    /// The policy.
    pub policy_id: PolicyId,
    /// Its name in the later of the two.
    pub name: String,
    /// The one version; 0 for before it was made.
    pub from: u32,
    /// The other.
    pub to: u32,
    /// What differs, by the names of fields.
    pub fields: Vec<FieldDiff>,
}

/// How one field differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct FieldDiff {
    /// Its name.
    pub field: String,
    /// What it was, where it is no list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it became, where it is no list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// The elements that came, where it is a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<Value>,
    /// The elements that went, where it is a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Value>,
}

/// The fields in which two policies differ. The order of a list's elements says nothing.
#[must_use]
pub fn diff(before: &Value, after: &Value) -> Vec<FieldDiff> {
    let fields = |value: &Value| value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default();
    let mut names: Vec<String> = fields(before);
    names.extend(fields(after));
    names.sort();
    names.dedup();
    names.into_iter().filter_map(|field| field_diff(before.get(&field), after.get(&field), field)).collect()
}

fn field_diff(before: Option<&Value>, after: Option<&Value>, field: String) -> Option<FieldDiff> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned();
    let same = FieldDiff { field, before: None, after: None, added: Vec::new(), removed: Vec::new() };
    let diff = match (list(before), list(after)) {
        (None, None) => {
            if before == after {
                return None;
            }
            FieldDiff { before: before.cloned(), after: after.cloned(), ..same }
        }
        (old, new) => {
            let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
            let without = |list: &[Value], others: &[Value]| {
                list.iter().filter(|one| !others.contains(one)).cloned().collect::<Vec<_>>()
            };
            FieldDiff { added: without(&new, &old), removed: without(&old, &new), ..same }
        }
    };
    let differs = diff.before.is_some() || diff.after.is_some() || !diff.added.is_empty() || !diff.removed.is_empty();
    differs.then_some(diff)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_told_by_field_and_by_element() {
        let before = json!({"name": "a", "verbs": [1, 2], "same": [1], "gone": true, "empty": []});
        let after = json!({"name": "b", "verbs": [2, 3], "same": [1], "new": "x"});
        let found = serde_json::to_value(diff(&before, &after)).unwrap();
        assert_eq!(
            found,
            json!([
                {"field": "gone", "before": true},
                {"field": "name", "before": "a", "after": "b"},
                {"field": "new", "after": "x"},
                {"field": "verbs", "added": [3], "removed": [1]},
            ])
        );
        assert_eq!(diff(&json!({"a": [1, 2]}), &json!({"a": [2, 1]})), [], "order says nothing");
        assert_eq!(diff(&before, &before), []);
    }

    #[test]
    fn changes_are_read_as_they_are_written() {
        for change in PolicyChange::ALL {
            assert_eq!(change.to_string().parse(), Ok(change));
            assert_eq!(serde_json::to_value(change).unwrap(), json!(change.to_string()));
        }
    }
}
