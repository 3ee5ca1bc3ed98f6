//! Organization controls: at most one, and what it once switched on stays on.

use bz_core::api::mfa::{ControlsContent, ControlsPolicy};
use bz_core::id::PolicyId;

use crate::api::policy::{Authored, Words};
use crate::error::ApiError;
use crate::store::policy::PolicyKind;

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

    const ONLY: bool = true;

    fn may_become(before: &ControlsContent, after: &ControlsContent) -> Result<(), ApiError> {
        if before.mfa_enabled && !after.mfa_enabled { Err(once_on()) } else { Ok(()) }
    }

    fn may_go(content: &ControlsContent) -> Result<(), ApiError> {
        if content.mfa_enabled { Err(once_on()) } else { Ok(()) }
    }

    fn said(content: &ControlsContent) -> Option<String> {
        let asked = content.mfa_duration.map(|hours| format!(", again after {hours} hours")).unwrap_or_default();
        let what = if content.mfa_enabled { "demanded of everybody" } else { "not demanded" };
        Some(format!("a second factor is {what}{asked}"))
    }

    fn shown(id: PolicyId, kind: String, content: ControlsContent) -> ControlsPolicy {
        ControlsPolicy { id, kind, content }
    }
}

fn once_on() -> ApiError {
    ApiError::conflict("a second factor that the organization demands stays demanded: it cannot be switched off again")
}
