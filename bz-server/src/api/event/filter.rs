//! What a query may ask of a log: the original's parameters, and the same for the logs that it did not have.

use bz_core::id::EnvironmentId;

use crate::api::Call;
use crate::api::query::{CURSOR, LIMIT, Param, Takes, many, one};
use crate::error::ApiError;
use crate::store::event::{Condition, EventFilter, Log, MOST};

/// The most bytes of a value.
const LONGEST: usize = 1000;

const SUBJECTS: &[&str] = &["User", "ApiKey", "ServiceAccount"];
const LIVES: &[&str] = &[
    "Created",
    "Closed",
    "ClientConnect",
    "ClientDisconnect",
    "ShellConnect",
    "ShellDisconnect",
    "StreamOpen",
    "StreamRefused",
];

/// Of a log: what all take, and its own.
macro_rules! log {
    ($($own:expr),* $(,)?) => {
        &[
            many("subjectIds", Takes::Id, "Of these subjects."),
            many("subjectTypes", Takes::OneOf(SUBJECTS), "Of these kinds of subjects."),
            many("subjectNames", Takes::Text, "Of subjects that were called so."),
            many("userNames", Takes::Text, "The same."),
            many("isAdmin", Takes::Flag, "Of those who were administrators, or were not."),
            one("startTimestamp", Takes::Time, "From this time on."),
            one("endTimestamp", Takes::Time, "Up to this time."),
            one("eventCount", Takes::Number(0, u32::MAX), "The most events to answer with; at most 1000."),
            $($own),*
        ]
    };
}

/// Of a log of what happened in connections: what all of them take, and its own.
macro_rules! connections {
    ($($own:expr),* $(,)?) => {
        log![
            many("connectionIds", Takes::Id, "Of these connections."),
            many("spaceIds", Takes::Text, "Of connections that began in these spaces."),
            many("spaceNames", Takes::Text, "Of connections that began in spaces called so."),
            many("targetIds", Takes::Id, "On these targets."),
            many("targetNames", Takes::Text, "On targets that were called so."),
            many("targetTypes", Takes::Text, "On targets of these kinds."),
            many("targetUsers", Takes::Text, "As these target users."),
            many("environmentIds", Takes::Id, "In these environments."),
            many("environmentNames", Takes::Text, "In environments that were called so."),
            many("ipAddresses", Takes::Text, "From these addresses: of the call, or of the one that opened the connection."),
            $($own),*
        ]
    };
}

/// Of the log of calls.
pub(in crate::api) const CALLS: &[Param] = log![
    many("ipAddresses", Takes::Text, "From these addresses."),
    many("serviceActions", Takes::Text, "These operations."),
    many("evaluation", Takes::Flag, "Whether policy allowed it."),
];

/// Of the log of connections.
pub(in crate::api) const CONNECTIONS: &[Param] = connections![
    many("connectionEventTypes", Takes::OneOf(LIVES), "Of these kinds."),
    many("connectionNodeIds", Takes::Text, "Of these nodes of the server."),
];

/// Of the logs whose texts are searched.
pub(in crate::api) const SEARCHED: &[Param] = connections![one(
    "commandSearch",
    Takes::Text,
    "Whose command or statement has this in it, whatever its letters' case; by an index from three characters on."
)];

/// Of the other logs of what happened in connections.
pub(in crate::api) const OTHERS: &[Param] = connections![];

/// Of the log of agents.
pub(in crate::api) const AGENTS: &[Param] = &[
    one("targetId", Takes::Id, "Of the agent of this target. Needed."),
    one("startTimestamp", Takes::Time, "From this time on."),
    one("endTimestamp", Takes::Time, "Up to this time."),
    one("eventCount", Takes::Number(0, u32::MAX), "The most events to answer with; at most 1000."),
];

/// Of all logs at once: what none of a log's events has, none of them is.
pub(in crate::api) const STREAM: &[Param] = connections![
    many("logs", Takes::OneOf(LOGS), "Of these logs; of all when absent."),
    one("after", Takes::Number(0, u32::MAX), "Only events with higher numbers."),
    one("commandSearch", Takes::Text, "Whose command or statement has this in it, whatever its letters' case."),
    many("serviceActions", Takes::Text, "These operations."),
    many("evaluation", Takes::Flag, "Whether policy allowed it."),
    many("connectionEventTypes", Takes::OneOf(LIVES), "Of these kinds."),
    many("connectionNodeIds", Takes::Text, "Of these nodes of the server."),
];

const LOGS: &[&str] = &["subject", "connection", "command", "file", "query", "web", "kube", "agent-status-change"];

/// What a log takes.
pub(in crate::api) const fn params(log: Log) -> &'static [Param] {
    match log {
        Log::Calls => CALLS,
        Log::Connections => CONNECTIONS,
        Log::Commands | Log::Queries => SEARCHED,
        Log::Files | Log::Web | Log::Kube => OTHERS,
        Log::Agents => AGENTS,
    }
}

/// The field of an event that a parameter names; `None` for those that are asked for otherwise.
fn field(parameter: &str) -> Option<&'static str> {
    Some(match parameter {
        "subjectTypes" => "subjectType",
        "subjectNames" | "userNames" => "subjectName",
        "isAdmin" => "isAdmin",
        "ipAddresses" => "ipAddress",
        "serviceActions" => "serviceAction",
        "evaluation" => "evaluation",
        "spaceIds" => "sessionId",
        "spaceNames" => "sessionName",
        "targetNames" => "targetName",
        "targetTypes" => "targetType",
        "targetUsers" => "targetUser",
        "environmentIds" => "environmentId",
        "environmentNames" => "environmentName",
        "connectionEventTypes" => "connectionEventType",
        "connectionNodeIds" => "connectionNodeId",
        _ => return None,
    })
}

/// The query's filter of a log, whose parameters the table knows and checked.
///
/// # Errors
/// [`ApiError::field`] for a value that is none.
pub(in crate::api) fn of(call: &Call, log: Log) -> Result<EventFilter, ApiError> {
    let targets = if log == Log::Agents { "targetId" } else { "targetIds" };
    read(call, params(log), targets)
}

/// The same for all logs at once.
///
/// # Errors
/// [`ApiError::field`] for a value that is none.
pub(in crate::api) fn of_all(call: &Call) -> Result<EventFilter, ApiError> {
    read(call, STREAM, "targetIds")
}

fn read(call: &Call, known: &[Param], targets: &str) -> Result<EventFilter, ApiError> {
    let has = |name: &str| known.iter().any(|param| param.name == name);
    let mut conditions = Vec::new();
    for param in known {
        let Some(field) = field(param.name) else { continue };
        let given = call.query(param.name);
        let values = given.iter().map(|value| stored(param, value)).collect::<Result<Vec<_>, _>>()?;
        if !values.is_empty() {
            conditions.push(Condition { field, values });
        }
    }
    let cursor = call.page()?.and_then(|page| page.after).map(|text| text.parse());
    let search = if has("commandSearch") { call.query("commandSearch").pop() } else { None };
    Ok(EventFilter {
        subjects: if has("subjectIds") { call.ids("subjectIds")? } else { Vec::new() },
        connections: if has("connectionIds") { call.ids("connectionIds")? } else { Vec::new() },
        targets: if has(targets) { call.ids(targets)? } else { Vec::new() },
        conditions,
        search: search.filter(|text| !text.is_empty()).map(|text| short("commandSearch", &text)).transpose()?,
        from: call.time("startTimestamp")?,
        to: call.time("endTimestamp")?,
        before: cursor.transpose().map_err(|_| ApiError::field(CURSOR.name, "is none of this log's"))?,
        limit: limit(call)?,
    })
}

/// `limit` is a page's; `eventCount` is the original's word.
fn limit(call: &Call) -> Result<u32, ApiError> {
    let given = call.query(LIMIT.name).pop().or_else(|| call.query("eventCount").pop());
    given.map_or(Ok(MOST), |text| text.parse().map_err(|_| ApiError::field("eventCount", "must be a number")))
}

/// A value as it stands in events.
fn stored(param: &Param, value: &str) -> Result<String, ApiError> {
    match (param.takes, param.name) {
        (Takes::Flag, _) => Ok(if value == "true" { "1" } else { "0" }.to_owned()),
        (Takes::Id, name) => {
            let id: Result<EnvironmentId, _> = value.parse();
            id.map(|id| id.to_string()).map_err(|_| ApiError::field(name, "must be an id (a UUID)"))
        }
        (Takes::Text, name @ "ipAddresses") => {
            let address: Result<std::net::IpAddr, _> = value.parse();
            address.map(|address| address.to_string()).map_err(|_| ApiError::field(name, "must be an IP address"))
        }
        (_, name) => short(name, value),
    }
}

fn short(parameter: &str, value: &str) -> Result<String, ApiError> {
    if value.len() <= LONGEST && !value.contains('\0') {
        Ok(value.to_owned())
    } else {
        Err(ApiError::field(parameter, "must have at most 1000 bytes, and none that is zero"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bz_core::api::policy::SubjectType;
    use bz_core::api::record::ConnectionEventType;

    /// The words of parameters are those of events and logs.
    #[test]
    fn words_are_those_of_events() {
        for word in LIVES {
            serde_json::from_value::<ConnectionEventType>((*word).into()).unwrap_or_else(|e| panic!("{word}: {e}"));
        }
        assert_eq!(LOGS, Log::ALL.map(Log::name));
        for word in SUBJECTS {
            serde_json::from_value::<SubjectType>((*word).into()).unwrap_or_else(|e| panic!("{word}: {e}"));
        }
    }
}
