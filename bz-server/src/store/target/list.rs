//! Targets, filtered and page by page, so that a long list costs what is shown of it.

use bz_core::id::{EnvironmentId, TargetId};
use bz_core::label::{AGENT_PREFIX, LabelNeed, LabelOperator};
use rusqlite::ToSql;

use crate::store::target::{SELECT, Target, read};
use crate::store::{Store, StoreError, rows};

/// Which targets. An empty list asks nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetFilter {
    /// Called one of these.
    pub names: Vec<String>,
    /// These.
    pub ids: Vec<TargetId>,
    /// In environments of these names.
    pub environments: Vec<String>,
    /// In these environments.
    pub environment_ids: Vec<EnvironmentId>,
    /// Whose name contains this, whatever its letters' case.
    pub search: Option<String>,
    /// Of whose labels all this holds.
    pub labels: Vec<LabelNeed>,
}

/// Where to go on, and how far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// After this name and id.
    pub after: Option<(String, TargetId)>,
    /// The most of them; all when absent.
    pub limit: Option<usize>,
}

impl Store {
    /// Those that fit, by name and id; a part of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn targets_fitting(&self, filter: TargetFilter, part: Part) -> Result<Vec<Target>, StoreError> {
        self.transact(move |tx| {
            let mut question = Question::default();
            question.among("target.name", filter.names);
            question.among("target.id", filter.ids.iter().map(ToString::to_string).collect());
            question.among("environment.name", filter.environments);
            question.among("target.environment", filter.environment_ids.iter().map(ToString::to_string).collect());
            if let Some(text) = filter.search {
                let text = question.bind(text);
                question.all.push(format!("instr(lower(target.name), lower({text})) > 0"));
            }
            for need in filter.labels {
                question.labelled(need);
            }
            if let Some((name, id)) = part.after {
                let (name, id) = (question.bind(name), question.bind(id.to_string()));
                question.all.push(format!("(target.name, target.id) > ({name}, {id})"));
            }
            let limit = part.limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(-1);
            let all =
                if question.all.is_empty() { String::new() } else { format!("WHERE {}", question.all.join(" AND ")) };
            let sql = format!("{SELECT} {all} ORDER BY target.name, target.id LIMIT {limit}");
            let params: Vec<&dyn ToSql> = question.params.iter().map(|param| param as &dyn ToSql).collect();
            rows(tx, &sql, &params, read)
        })
        .await
    }
}

/// A condition as it grows. Values are bound, never written into it.
#[derive(Default)]
struct Question {
    all: Vec<String>,
    params: Vec<String>,
}

impl Question {
    fn bind(&mut self, value: String) -> String {
        self.params.push(value);
        format!("?{}", self.params.len())
    }

    fn among(&mut self, column: &str, values: Vec<String>) {
        if !values.is_empty() {
            let places: Vec<_> = values.into_iter().map(|value| self.bind(value)).collect();
            self.all.push(format!("{column} IN ({})", places.join(", ")));
        }
    }

    /// As [`LabelNeed::holds`] says.
    fn labelled(&mut self, need: LabelNeed) {
        let (column, key) = match need.key.strip_prefix(AGENT_PREFIX) {
            Some(key) => ("target.agent_labels", key),
            None => ("target.labels", need.key.as_str()),
        };
        let path = self.bind(format!("$.\"{key}\""));
        let value = format!("json_extract({column}, {path})");
        let values: Vec<_> = need.values.into_iter().map(|value| self.bind(value)).collect();
        let values = values.join(", ");
        self.all.push(match need.operator {
            LabelOperator::In => format!("{value} IN ({values})"),
            // Of what is not there SQL says neither yes nor no, which is no.
            LabelOperator::NotIn => format!("{value} NOT IN ({values})"),
            LabelOperator::Exists => format!("{value} IS NOT NULL"),
        });
    }
}
