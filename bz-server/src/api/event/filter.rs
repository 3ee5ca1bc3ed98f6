//! What a query may ask of a log: the original's parameters, and the same for the logs that it did not have.
//!
//! Parameters that a log does not know are ignored, as the original ignored them; values that cannot be are refused.

use bz_core::api::policy::SubjectType;
use bz_core::api::record::ConnectionEventType;
use bz_core::id::EnvironmentId;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::Call;
use crate::error::ApiError;
use crate::store::event::{Condition, EventFilter, Log, MOST};

/// The most bytes of a value.
const LONGEST: usize = 1000;

/// How the values of a parameter are read.
type Read = fn(&str, &str) -> Result<String, ApiError>;

/// Of all logs: parameter, field, values.
const ALL: &[(&str, &str, Read)] = &[
    ("subjectTypes", "subjectType", one_of::<SubjectType>),
    ("subjectNames", "subjectName", any),
    ("userNames", "subjectName", any),
    ("isAdmin", "isAdmin", yes_or_no),
    ("ipAddresses", "ipAddress", address),
];

const CALLS: &[(&str, &str, Read)] =
    &[("serviceActions", "serviceAction", any), ("evaluation", "evaluation", yes_or_no)];

/// Of all logs of what happened in connections.
const CONNECTIONS: &[(&str, &str, Read)] = &[
    ("spaceIds", "sessionId", any),
    ("spaceNames", "sessionName", any),
    ("targetNames", "targetName", any),
    ("targetTypes", "targetType", any),
    ("targetUsers", "targetUser", any),
    ("environmentIds", "environmentId", environment),
    ("environmentNames", "environmentName", any),
];

const LIVES: &[(&str, &str, Read)] = &[
    ("connectionEventTypes", "connectionEventType", one_of::<ConnectionEventType>),
    ("connectionNodeIds", "connectionNodeId", any),
];

/// The query's filter of a log.
///
/// # Errors
/// [`ApiError::field`] for a value that is none.
pub(in crate::api) fn of(call: &Call, log: Log) -> Result<EventFilter, ApiError> {
    let mut conditions = Vec::new();
    for (parameter, field, read) in tables(log).into_iter().flatten() {
        let given = call.query(parameter);
        let values = given.iter().map(|value| read(parameter, value)).collect::<Result<Vec<_>, _>>()?;
        if !values.is_empty() {
            conditions.push(Condition { field, values });
        }
    }
    let mut targets = call.ids("targetIds")?;
    targets.extend(call.ids::<bz_core::id::TargetId>("targetId")?);
    let before = call.query("cursor").pop().map(|text| text.parse());
    Ok(EventFilter {
        subjects: call.ids("subjectIds")?,
        connections: if log == Log::Calls { Vec::new() } else { call.ids("connectionIds")? },
        targets: if log == Log::Calls { Vec::new() } else { targets },
        conditions,
        search: search(call, log)?,
        from: call.time("startTimestamp")?,
        to: call.time("endTimestamp")?,
        before: before
            .transpose()
            .map_err(|e: crate::store::event::find::ParseCursorError| ApiError::field("cursor", &e.to_string()))?,
        limit: limit(call)?,
    })
}

const fn tables(log: Log) -> [&'static [(&'static str, &'static str, Read)]; 3] {
    match log {
        Log::Calls => [ALL, CALLS, &[]],
        Log::Connections => [ALL, CONNECTIONS, LIVES],
        Log::Commands | Log::Files | Log::Queries | Log::Web | Log::Kube => [ALL, CONNECTIONS, &[]],
        Log::Agents => [&[], &[], &[]],
    }
}

/// `limit` is a page's; `eventCount` is the original's word.
fn limit(call: &Call) -> Result<u32, ApiError> {
    let count = |name| {
        let text = call.query(name).pop();
        text.map(|text| text.parse::<u32>().map_err(|_| ApiError::field(name, "must be a number"))).transpose()
    };
    let (events, limit) = (count("eventCount")?, count("limit")?);
    if limit.is_some_and(|limit| !(1..=MOST).contains(&limit)) {
        return Err(ApiError::field("limit", "must be 1 to 1000"));
    }
    Ok(limit.or(events).unwrap_or(MOST))
}

fn search(call: &Call, log: Log) -> Result<Option<String>, ApiError> {
    if !matches!(log, Log::Commands | Log::Queries) {
        return Ok(None);
    }
    let text = call.query("commandSearch").pop().filter(|text| !text.is_empty());
    text.map(|text| any("commandSearch", &text)).transpose()
}

fn any(parameter: &str, value: &str) -> Result<String, ApiError> {
    if value.len() <= LONGEST && !value.contains('\0') {
        Ok(value.to_owned())
    } else {
        Err(ApiError::field(parameter, "must have at most 1000 bytes, and none that is zero"))
    }
}

fn yes_or_no(parameter: &str, value: &str) -> Result<String, ApiError> {
    match value {
        "true" => Ok("1".to_owned()),
        "false" => Ok("0".to_owned()),
        _ => Err(ApiError::field(parameter, "must be true or false")),
    }
}

fn address(parameter: &str, value: &str) -> Result<String, ApiError> {
    let address: Result<std::net::IpAddr, _> = value.parse();
    address.map(|address| address.to_string()).map_err(|_| ApiError::field(parameter, "must be an IP address"))
}

fn environment(parameter: &str, value: &str) -> Result<String, ApiError> {
    let id: Result<EnvironmentId, _> = value.parse();
    id.map(|id| id.to_string()).map_err(|_| ApiError::field(parameter, "must be the id of an environment"))
}

fn one_of<T: DeserializeOwned>(parameter: &str, value: &str) -> Result<String, ApiError> {
    let known: Result<T, _> = serde_json::from_value(Value::String(value.to_owned()));
    known.map(|_| value.to_owned()).map_err(|error| ApiError::field(parameter, &error.to_string()))
}
