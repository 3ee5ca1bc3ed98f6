//! Session recording policies.

use bz_core::api::policy::{RecordingContent, RecordingPolicy};
use bz_core::id::PolicyId;

use crate::api::call::{check_name, check_text};
use crate::api::policy::MOST;
use crate::api::{Answer, Call};
use crate::error::ApiError;
use crate::store::policy::{Policy, PolicyKind};

const KIND: PolicyKind = PolicyKind::SessionRecording;

/// `GET policies/session-recording`.
pub(super) async fn list(call: Call) -> Result<Answer, ApiError> {
    let all = call.app.store.policies().await?.all;
    let shown: Result<Vec<_>, _> = all.into_iter().filter(|p| p.kind == KIND).map(show).collect();
    Answer::json(&shown?)
}

/// `POST policies/session-recording`.
pub(super) async fn add(call: Call) -> Result<Answer, ApiError> {
    let content: RecordingContent = call.json()?;
    call.note(content.name.clone());
    check_name("name", &content.name)?;
    check_text("description", &content.description, 1000)?;
    if content.subjects.len() > MOST || content.groups.len() > MOST {
        return Err(ApiError::field("subjects", "must have at most 1000 entries"));
    }
    let policy = Policy {
        id: PolicyId::from_random(call.app.random()?),
        kind: KIND,
        name: content.name.clone(),
        content: serde_json::to_value(&content).map_err(ApiError::internal)?,
        expires: None,
    };
    call.note_context(policy.id.to_string());
    call.app.store.add_policy(policy.clone(), call.now()).await?;
    Answer::json(&show(policy)?)
}

/// `GET policies/session-recording/{id}`.
pub(super) async fn get(call: Call) -> Result<Answer, ApiError> {
    let policy = call.app.store.policy(KIND, call.id()?).await?;
    Answer::json(&show(policy.ok_or_else(|| ApiError::not_found("policy"))?)?)
}

/// `DELETE policies/session-recording/{id}`.
pub(super) async fn delete(call: Call) -> Result<Answer, ApiError> {
    if call.app.store.delete_policy(KIND, call.id()?).await? {
        Ok(Answer::empty())
    } else {
        Err(ApiError::not_found("policy"))
    }
}

fn show(policy: Policy) -> Result<RecordingPolicy, ApiError> {
    let content = serde_json::from_value(policy.content).map_err(ApiError::internal)?;
    Ok(RecordingPolicy { id: policy.id, kind: KIND.to_string(), content })
}
