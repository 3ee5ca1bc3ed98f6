//! Organization controls: at most one, and what it once switched on stays on.

use bz_core::api::mfa::{ChangeControls, ControlsContent, ControlsPolicy};
use bz_core::id::PolicyId;

use crate::api::openapi::Nothing;
use crate::api::policy::{Authored, Words, check, show};
use crate::api::{Answer, Call};
use crate::error::ApiError;
use crate::store::policy::{Policy, PolicyKind};

/// The most hours after which a login is asked again: as long as any may last.
const MOST_HOURS: u32 = 720;

/// What the organization asks of everybody.
pub(in crate::api) struct OrganizationControls;

impl Authored for OrganizationControls {
    const KIND: PolicyKind = PolicyKind::OrganizationControls;
    type Content = ControlsContent;
    type Shown = ControlsPolicy;

    fn words(content: &ControlsContent) -> Words<'_> {
        let (name, description) = (&content.name, &content.description);
        Words { name, description, time_expires: None, lists: Vec::new(), places: None }
    }

    fn check(content: &ControlsContent) -> Result<(), ApiError> {
        let known = content.mfa_duration.is_none_or(|hours| (1..=MOST_HOURS).contains(&hours));
        if known { Ok(()) } else { Err(ApiError::field("mfaDuration", "must be 1 to 720 hours")) }
    }

    fn shown(id: PolicyId, kind: String, content: ControlsContent) -> ControlsPolicy {
        ControlsPolicy { id, kind, content }
    }
}

/// `POST policies/organization-controls`.
pub(in crate::api) async fn add(call: Call, content: ControlsContent) -> Result<Answer<ControlsPolicy>, ApiError> {
    call.note(content.name.clone());
    check(&call, &OrganizationControls::words(&content))?;
    OrganizationControls::check(&content)?;
    let policy = Policy {
        id: PolicyId::from_random(call.app.random()?),
        kind: OrganizationControls::KIND,
        name: content.name.clone(),
        content: serde_json::to_value(&content).map_err(ApiError::internal)?,
        expires: None,
    };
    call.note_context(said(&content));
    call.app.store.add_only_policy(policy.clone(), call.now()).await?;
    Answer::json(&show::<OrganizationControls>(policy)?)
}

/// `PATCH policies/organization-controls/{id}`.
pub(in crate::api) async fn edit(call: Call, change: ChangeControls) -> Result<Answer<ControlsPolicy>, ApiError> {
    let id: PolicyId = call.id()?;
    let judge = call.clone();
    let edited = move |before: Policy| {
        let content: ControlsContent = serde_json::from_value(before.content.clone()).map_err(ApiError::internal)?;
        if content.mfa_enabled && change.mfa_enabled == Some(false) {
            return Err(once_on());
        }
        let content = ControlsContent {
            name: change.name.unwrap_or(content.name),
            description: change.description.unwrap_or(content.description),
            mfa_enabled: change.mfa_enabled.unwrap_or(content.mfa_enabled),
            mfa_duration: change.mfa_duration.or(content.mfa_duration),
        };
        check(&judge, &OrganizationControls::words(&content))?;
        OrganizationControls::check(&content)?;
        judge.note(content.name.clone());
        judge.note_context(said(&content));
        let name = content.name.clone();
        Ok(Policy { name, content: serde_json::to_value(&content).map_err(ApiError::internal)?, ..before })
    };
    let edited = call.app.store.change_policy((OrganizationControls::KIND, id), edited).await?;
    let policy = edited.ok_or_else(|| ApiError::not_found("policy"))??;
    Answer::json(&show::<OrganizationControls>(policy)?)
}

/// `DELETE policies/organization-controls/{id}`.
pub(in crate::api) async fn delete(call: Call) -> Result<Answer<Nothing>, ApiError> {
    let id: PolicyId = call.id()?;
    let policy = call.app.store.policy(OrganizationControls::KIND, id).await?;
    let policy = policy.ok_or_else(|| ApiError::not_found("policy"))?;
    call.note(policy.name.clone());
    let content: ControlsContent = serde_json::from_value(policy.content).map_err(ApiError::internal)?;
    if content.mfa_enabled {
        return Err(once_on());
    }
    call.app.store.delete_policy(OrganizationControls::KIND, id).await?;
    Ok(Answer::empty())
}

fn once_on() -> ApiError {
    ApiError::conflict("a second factor that the organization demands stays demanded: it cannot be switched off again")
}

fn said(content: &ControlsContent) -> String {
    let asked = content.mfa_duration.map(|hours| format!(", again after {hours} hours")).unwrap_or_default();
    format!("a second factor is {}{asked}", if content.mfa_enabled { "demanded of everybody" } else { "not demanded" })
}
