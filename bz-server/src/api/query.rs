//! Query parameters: what an operation takes there, checked before it runs.

use bz_core::id::EventId;
use serde_json::{Value, json};

use crate::api::call::parse_time;
use crate::error::ApiError;

/// One query parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub takes: Takes,
    /// Whether it may be repeated.
    pub many: bool,
    /// What it does, in a sentence.
    pub about: &'static str,
}

/// What values a parameter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Any text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A number from here to there.
    Number(u32, u32),
    /// A time as in RFC 3339.
    Time,
    /// An id.
    Id,
    /// One of these.
    OneOf(&'static [&'static str]),
}

/// The most elements of a page.
pub const MOST: u32 = 1000;
/// How many elements of a list to answer with.
pub const LIMIT: Param = one("limit", Takes::Number(1, MOST), "The most elements to answer with; all when absent.");
/// After which element.
pub const CURSOR: Param =
    one("cursor", Takes::Text, "Where to go on: from the `Link` header of the page before, as it stands there.");

pub(super) const CONNECTION_STATES: &[&str] = &["Open", "Closed", "Error", "Pending"];
pub(super) const USER_EMAIL: Param =
    one("userEmail", Takes::Text, "Whose: the address of a person. Only administrators ask for others.");
pub(super) const ALL: Param = one("all", Takes::Flag, "Whether to list everybody's. Only for administrators.");
pub(super) const STATE: Param =
    many("connectionState", Takes::OneOf(CONNECTION_STATES), "In these states; open and pending ones when absent.");
pub(super) const STATES: Param = many("connectionStates", Takes::OneOf(CONNECTION_STATES), "The same.");
pub(super) const STOP: Param = one("stop", Takes::Flag, "Whether recording stops, too.");
pub(super) const FOUND: Param = one("q", Takes::Text, "The text, whatever its letters' case. Needed.");
pub(super) const TOKENS: Param = one("tokens", Takes::Flag, "Whether to put back tokens that have ended.");

/// The filters of a list of connections.
pub(super) const CONNECTIONS: &[Param] = &[USER_EMAIL, ALL, STATE, STATES];
/// The filters of a list of policies.
pub(super) const POLICIES: &[Param] = &[
    one("subjects", Takes::Text, "That name one of these subjects: ids, joined by commas."),
    one("groups", Takes::Text, "That name one of these groups: the provider's ids, joined by commas."),
    one("enabled", Takes::Flag, "That count, or that do not."),
];
/// The filters of what somebody may reach.
pub(super) const REACH: &[Param] = &[
    USER_EMAIL,
    STATE,
    STATES,
    one("allTargetsInOrg", Takes::Flag, "Whether to list all targets there are. Only for administrators."),
];
/// The name of policies.
pub(super) const NAME: Param = one("name", Takes::Text, "The name. Needed.");
/// Two versions of a policy.
pub(super) const VERSIONS: &[Param] = &[
    one("from", Takes::Number(0, u32::MAX), "The earlier version, 0 for before it was made; the one before `to`."),
    one("to", Takes::Number(1, u32::MAX), "The later version; the newest when absent."),
];
/// What targets are labelled with.
pub(super) const LABEL: Param = many(
    "label",
    Takes::Text,
    "Of whose labels all this holds: key=value, key!=value, `key in (value, …)`, `key notin (value, …)` or key alone. \
     What an agent says of its own host is asked for with agent/ before the key.",
);
/// The filters of the list of hosts.
pub(super) const HOSTS: &[Param] = &[
    many("targetNames", Takes::Text, "Called one of these."),
    many("targetIds", Takes::Id, "These."),
    many("envName", Takes::Text, "In an environment of this name."),
    many("envId", Takes::Id, "In this environment."),
    one("search", Takes::Text, "Whose name contains this."),
    LABEL,
];
/// The filters of the list of agents.
pub(super) const AGENTS: &[Param] = &[
    many("agentTypes", Takes::OneOf(&["Linux", "Windows", "Cluster"]), "Of these types."),
    many(
        "agentStatuses",
        Takes::OneOf(&["NotActivated", "Offline", "Online", "Terminated", "Error", "Restarting"]),
        "In these states.",
    ),
    one("environmentName", Takes::Text, "In an environment whose name contains this."),
    one("name", Takes::Text, "Whose name contains this."),
    many("agentIds", Takes::Id, "These."),
];

/// The filters of a list of virtual targets.
pub(super) const VIRTUAL: &[Param] = &[
    many("targetNames", Takes::Text, "Called one of these."),
    many("targetIds", Takes::Id, "These."),
    many("envName", Takes::Text, "In an environment of this name."),
    many("envId", Takes::Id, "In this environment."),
    LABEL,
];

pub(super) const fn one(name: &'static str, takes: Takes, about: &'static str) -> Param {
    Param { name, takes, many: false, about }
}

pub(super) const fn many(name: &'static str, takes: Takes, about: &'static str) -> Param {
    Param { name, takes, many: true, about }
}

impl Param {
    /// Whether the original's clients leave it out so: they send what takes no list, empty. An empty filter of a list of
    /// them is refused: it would ask for everything where something was meant.
    pub(super) fn is_left_out(&self, value: &str) -> bool {
        value.is_empty() && !self.many && matches!(self.takes, Takes::Text | Takes::Id | Takes::OneOf(_))
    }

    /// Checks one value of it.
    ///
    /// # Errors
    /// [`ApiError::field`] when it does not take this.
    pub(super) fn check(&self, value: &str) -> Result<(), ApiError> {
        let rule = match self.takes {
            Takes::Text => return Ok(()),
            Takes::Flag if matches!(value, "true" | "false") => return Ok(()),
            Takes::Number(least, most) if value.parse().is_ok_and(|n: u32| (least..=most).contains(&n)) => {
                return Ok(());
            }
            Takes::Time if parse_time(value).is_some() => return Ok(()),
            Takes::Id if value.parse::<EventId>().is_ok() => return Ok(()),
            Takes::OneOf(words) if words.contains(&value) => return Ok(()),
            Takes::Flag => "must be true or false".to_owned(),
            Takes::Number(least, most) => format!("must be a number from {least} to {most}"),
            Takes::Time => "must be a time as in RFC 3339".to_owned(),
            Takes::Id => "must be an id (a UUID)".to_owned(),
            Takes::OneOf(words) => format!("must be one of {}", words.join(", ")),
        };
        Err(ApiError::field(self.name, &rule))
    }

    /// Its schema.
    #[must_use]
    pub fn schema(&self) -> Value {
        let value = match self.takes {
            Takes::Text => json!({"type": "string"}),
            Takes::Flag => json!({"type": "boolean"}),
            Takes::Number(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
            Takes::Time => json!({"type": "string", "format": "date-time"}),
            Takes::Id => json!({"type": "string", "format": "uuid"}),
            Takes::OneOf(words) => json!({"type": "string", "enum": words}),
        };
        if self.many { json!({"type": "array", "items": value}) } else { value }
    }
}
