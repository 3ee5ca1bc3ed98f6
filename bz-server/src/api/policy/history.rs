//! What policies said before: versions, and how two of them differ.

use bz_core::api::policy::version::{PolicyDiff, PolicyVersion, diff};
use bz_core::id::PolicyId;
use serde_json::{Value, json};

use crate::api::page::List;
use crate::api::{Answer, Call};
use crate::error::ApiError;
use crate::store::policy::{History, Version};

/// `GET policy-versions`: of all that ever had a name.
pub(in crate::api) async fn called(call: Call) -> Result<Answer<List<PolicyVersion>>, ApiError> {
    let name = call.query("name").pop().ok_or_else(|| ApiError::field("name", "is needed"))?;
    list(&call, History::Called(name)).await
}

/// `GET policy-versions/{id}`.
pub(in crate::api) async fn of(call: Call) -> Result<Answer<List<PolicyVersion>>, ApiError> {
    let id: PolicyId = call.id()?;
    call.app.store.policy_version(id, None).await?.ok_or_else(|| ApiError::not_found("policy"))?;
    list(&call, History::Of(id)).await
}

/// `GET policy-versions/{id}/{n}`.
pub(in crate::api) async fn one(call: Call) -> Result<Answer<PolicyVersion>, ApiError> {
    let number = call.param("n").parse().map_err(|_| ApiError::bad_request("a version is a number from 1"))?;
    let found = find(&call, Some(number)).await?;
    let content = Some(found.content.clone());
    Answer::json(&PolicyVersion { content, ..show(found) })
}

/// `GET policy-versions/{id}/diff`: between the last two, unless the query says which.
pub(in crate::api) async fn differences(call: Call) -> Result<Answer<PolicyDiff>, ApiError> {
    let asked = |name: &str| call.query(name).pop().and_then(|text| text.parse::<u32>().ok());
    let to = find(&call, asked("to")).await?;
    let from = asked("from").unwrap_or_else(|| to.number.saturating_sub(1));
    let before = if from == 0 { json!({}) } else { find(&call, Some(from)).await?.content };
    // Of what is gone nothing is left, whatever it said last.
    let after = if is_gone(&to) { json!({}) } else { to.content };
    let fields = diff(&before, &after);
    Answer::json(&PolicyDiff { policy_id: to.policy, name: to.name, from, to: to.number, fields })
}

fn is_gone(version: &Version) -> bool {
    use bz_core::api::policy::version::PolicyChange::{Created, Deleted, Edited, Expired, Kept, SubjectDeleted};
    match version.change {
        Deleted | Expired => true,
        Created | Edited | SubjectDeleted | Kept => false,
    }
}

async fn find(call: &Call, number: Option<u32>) -> Result<Version, ApiError> {
    let found = call.app.store.policy_version(call.id()?, number).await?;
    let found = found.ok_or_else(|| ApiError::not_found("version of a policy"))?;
    call.note(found.name.clone());
    Ok(found)
}

/// Newest first: a cursor is how many came before.
async fn list(call: &Call, of: History) -> Result<Answer<List<PolicyVersion>>, ApiError> {
    let page = call.page()?;
    let limit = page.as_ref().and_then(|page| u32::try_from(page.limit).ok());
    let after = page
        .and_then(|page| page.after)
        .map_or(Ok(0), |text| text.parse::<u32>().map_err(|_| ApiError::field("cursor", "is none of this server's")))?;
    let asked = limit.map_or(u32::MAX, |limit| limit.saturating_add(1));
    let found = call.app.store.policy_versions(of, (asked, after)).await?;
    let mut shown: Vec<_> = found.into_iter().map(show).collect();
    let most = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let more = shown.len() > most;
    shown.truncate(most);
    let next = more.then(|| after.saturating_add(limit.unwrap_or_default()).to_string());
    Answer::page(call, &shown, next.as_deref())
}

fn show(version: Version) -> PolicyVersion {
    PolicyVersion {
        policy_id: version.policy,
        number: version.number,
        kind: version.kind.to_string(),
        name: version.name,
        change: version.change,
        timestamp: version.author.at.to_string(),
        actor: version.author.actor,
        content: None::<Value>,
    }
}
