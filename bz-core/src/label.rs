//! Labels of targets, and what policies and lists ask of them.
//!
//! A label counts for policies when an administrator gave it. What an agent says of its own host stands beside it, under
//! [`AGENT_PREFIX`]: whoever runs a host could otherwise let others in, or be let in elsewhere, by a word of his own.
//!
//! Absent: text with meaning. A value is compared, byte for byte.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the keys of labels begin with that an agent gave its own host, where they stand beside others.
pub const AGENT_PREFIX: &str = "agent/";
/// The most labels of a target.
pub const MOST_LABELS: usize = 32;
/// The most bytes of a key, and of a value.
pub const MOST_BYTES: usize = 63;
/// The most values that one need lists.
pub const MOST_VALUES: usize = 32;

/// Labels by their keys.
pub type Labels = BTreeMap<String, String>;

/// Why a text is no label, or no question about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The key.
    #[error("a label's key has 1 to 63 letters, digits, '-', '_' or '.', and begins with a letter or digit")]
    Key,
    /// The value.
    #[error("a label's value has 1 to 63 letters, digits, '-', '_', '.', ':', '/', '@' or '+'")]
    Value,
    /// More labels than a target has.
    #[error("a target has at most 32 labels")]
    Many,
    /// Values where none belong, or none where some do, or too many.
    #[error("In and NotIn list 1 to 32 values, Exists none")]
    Values,
    /// No label at all.
    #[error("write key=value")]
    Pair,
    /// No question.
    #[error("write key=value, key!=value, 'key in (value, …)', 'key notin (value, …)', or key alone")]
    Need,
}

/// Checks one label.
///
/// # Errors
/// [`LabelError`].
pub fn check(key: &str, value: &str) -> Result<(), LabelError> {
    check_key(key)?;
    check_value(value)
}

/// Checks all labels of a target.
///
/// # Errors
/// [`LabelError`].
pub fn check_all(labels: &Labels) -> Result<(), LabelError> {
    if labels.len() > MOST_LABELS {
        return Err(LabelError::Many);
    }
    labels.iter().try_for_each(|(key, value)| check(key, value))
}

fn check_key(key: &str) -> Result<(), LabelError> {
    let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let begins = key.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if plain && begins && key.len() <= MOST_BYTES { Ok(()) } else { Err(LabelError::Key) }
}

fn check_value(value: &str) -> Result<(), LabelError> {
    let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/@+".contains(&b));
    if plain && (1..=MOST_BYTES).contains(&value.len()) { Ok(()) } else { Err(LabelError::Value) }
}

/// One label, as `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let (key, value) = text.split_once('=').ok_or(LabelError::Pair)?;
        check(key, value)?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// What is asked of one label of a target. What a target has no label for holds nowhere: taking a label away never lets
/// anybody in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LabelNeed {
    /// The label's key.
    pub key: String,
    /// What its value must be.
    pub operator: LabelOperator,
    /// The values that the operator is about.
    #[serde(default)]
    pub values: Vec<String>,
}

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LabelOperator {
    /// One of the values.
    In,
    /// There, and none of them.
    NotIn,
    /// There.
    Exists,
}

impl LabelNeed {
    /// Whether a policy may ask this.
    ///
    /// # Errors
    /// [`LabelError`]; also for the key of a label that agents give.
    pub fn check(&self) -> Result<(), LabelError> {
        check_key(&self.key)?;
        self.values.iter().try_for_each(|value| check_value(value))?;
        let fits = match self.operator {
            LabelOperator::In | LabelOperator::NotIn => (1..=MOST_VALUES).contains(&self.values.len()),
            LabelOperator::Exists => self.values.is_empty(),
        };
        if fits { Ok(()) } else { Err(LabelError::Values) }
    }

    /// Whether it holds of a target with these labels.
    #[must_use]
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            LabelOperator::In => value.is_some_and(|value| self.values.contains(value)),
            LabelOperator::NotIn => value.is_some_and(|value| !self.values.contains(value)),
            LabelOperator::Exists => value.is_some(),
        }
    }
}

impl fmt::Display for LabelNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match (self.operator, self.values.as_slice()) {
            (LabelOperator::Exists, _) => f.write_str(key),
            (LabelOperator::In, [value]) => write!(f, "{key}={value}"),
            (LabelOperator::NotIn, [value]) => write!(f, "{key}!={value}"),
            (LabelOperator::In, values) => write!(f, "{key} in ({})", values.join(", ")),
            (LabelOperator::NotIn, values) => write!(f, "{key} notin ({})", values.join(", ")),
        }
    }
}

impl FromStr for LabelNeed {
    type Err = LabelError;

    /// The key may begin with [`AGENT_PREFIX`], for lists; [`LabelNeed::check`] refuses it for policies.
    fn from_str(text: &str) -> Result<Self, LabelError> {
        let text = text.trim();
        let one = |key: &str, operator, value: &str| (key.trim().to_owned(), operator, vec![value.trim().to_owned()]);
        let (key, operator, values) = if let Some((key, value)) = text.split_once("!=") {
            one(key, LabelOperator::NotIn, value)
        } else if let Some((key, value)) = text.split_once('=') {
            one(key, LabelOperator::In, value)
        } else if let Some((head, list)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            let (key, word) = head.trim().rsplit_once(' ').ok_or(LabelError::Need)?;
            let operator = match word {
                "in" => LabelOperator::In,
                "notin" => LabelOperator::NotIn,
                _ => return Err(LabelError::Need),
            };
            (key.trim().to_owned(), operator, list.split(',').map(|value| value.trim().to_owned()).collect())
        } else {
            let key = text.strip_suffix(" exists").unwrap_or(text);
            (key.trim().to_owned(), LabelOperator::Exists, Vec::new())
        };
        let need = Self { key, operator, values };
        let bare = need.key.strip_prefix(AGENT_PREFIX).unwrap_or(&need.key).to_owned();
        Self { key: bare, ..need.clone() }.check()?;
        Ok(need)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        let pair = |text: &str| text.parse().map(|Label { key, value }| (key, value)).unwrap();
        text.split_whitespace().map(pair).collect()
    }

    #[test]
    fn what_is_asked_holds_or_not() {
        for (need, of, holds) in [
            ("role=web", "role=web", true),
            ("role=web", "role=db", false),
            ("role=web", "", false),
            ("role=web", "Role=web", false),
            ("role!=web", "role=db", true),
            ("role!=web", "role=web", false),
            ("role!=web", "", false),
            ("role in (web, db)", "role=db", true),
            ("role in (web,db)", "role=mail", false),
            ("role notin (web, db)", "role=mail", true),
            ("role notin (web, db)", "tier=1", false),
            ("role", "role=x", true),
            ("role exists", "role=x", true),
            ("role", "tier=1", false),
            ("agent/os=linux", "os=linux", false),
        ] {
            let need: LabelNeed = need.parse().unwrap();
            assert_eq!(need.holds(&labels(of)), holds, "{need} of {of}");
            assert_eq!(need.to_string().parse(), Ok(need.clone()), "{need}");
        }
    }

    #[test]
    fn what_is_no_label_is_refused() {
        for bad in ["", "=x", "x=", "x y=1", "x=a b", "-x=1", "agent/x=1", "é=1", &format!("{}=1", "k".repeat(64))] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
        for bad in ["", "x in", "x in ()", "x in (a", "x is (a)", "x in (a b)", "=a", "!=a", "a=b=c", "x y"] {
            assert!(bad.parse::<LabelNeed>().is_err(), "{bad}");
        }
        let of_agent: LabelNeed = "agent/os=linux".parse().unwrap();
        assert_eq!(of_agent.check(), Err(LabelError::Key), "no policy asks what a host says of itself");
        let listed = LabelNeed { key: "x".to_owned(), operator: LabelOperator::Exists, values: vec!["y".to_owned()] };
        assert_eq!(listed.check(), Err(LabelError::Values));
        let many = (0..33).map(|n| (format!("k{n}"), "v".to_owned())).collect();
        assert_eq!(check_all(&many), Err(LabelError::Many));
    }
}
