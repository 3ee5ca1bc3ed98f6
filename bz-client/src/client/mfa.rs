//! The second factor: the caller's own, other people's, and what the organization demands.

use bz_core::api::mfa::{
    ChangeControls, ControlsContent, ControlsPolicy, MfaPage, MfaPassed, MfaSecret, MfaStatus, PassMfa, RecoveryCodes,
    ResetMfa, WhoseMfa,
};
use bz_core::id::UserId;
use reqwest::Method;
use serde_json::json;

use crate::client::Client;
use crate::rest::RestError;

const CONTROLS: &str = "policies/organization-controls";

impl Client {
    /// How the caller's second factor stands.
    ///
    /// # Errors
    /// [`RestError`], as every call here.
    pub async fn mfa(&self) -> Result<MfaStatus, RestError> {
        self.get("mfa/me", &[]).await
    }

    /// How a person's stands (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn mfa_of(&self, user: UserId) -> Result<MfaStatus, RestError> {
        self.get(&format!("mfa/{user}"), &[]).await
    }

    /// Gives a code of the authenticator app, or a recovery code: the login has passed, or a new secret is confirmed.
    ///
    /// # Errors
    /// [`RestError`]; its code says whether the code was wrong or none is taken for a while.
    pub async fn pass_mfa(&self, code: &str) -> Result<MfaPassed, RestError> {
        self.rest.post(&self.caller().await, "mfa/totp", &PassMfa { token: code.to_owned() }).await
    }

    /// A new secret, which counts once [`Self::pass_mfa`] was given a code of it.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn reset_mfa(&self, reset: ResetMfa) -> Result<MfaSecret, RestError> {
        self.rest.post(&self.caller().await, "mfa/reset", &reset).await
    }

    /// A code by which a browser sets up the second factor of this login, on a page of the server.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn mfa_page(&self, reset: ResetMfa) -> Result<MfaPage, RestError> {
        self.rest.post(&self.caller().await, "mfa/page", &reset).await
    }

    /// New recovery codes; those before are void.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn new_recovery_codes(&self) -> Result<RecoveryCodes, RestError> {
        self.rest.post(&self.caller().await, "mfa/recovery-codes", &json!({})).await
    }

    /// Forgets a person's second factor and ends every login of theirs (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn clear_mfa(&self, user: UserId) -> Result<(), RestError> {
        self.about_mfa_of(user, "mfa/clear").await
    }

    /// Demands a second factor of a person (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn enable_mfa(&self, user: UserId) -> Result<(), RestError> {
        self.about_mfa_of(user, "mfa/setup").await
    }

    /// Demands none of a person (for administrators): discouraged.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn disable_mfa(&self, user: UserId) -> Result<(), RestError> {
        self.about_mfa_of(user, "mfa/disable").await
    }

    /// What the organization demands, where it said so.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn organization_controls(&self) -> Result<Option<ControlsPolicy>, RestError> {
        Ok(self.get::<Vec<ControlsPolicy>>(CONTROLS, &[]).await?.pop())
    }

    /// Demands this of everybody (for administrators); what is absent stays as it is.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn change_organization_controls(&self, change: &ChangeControls) -> Result<ControlsPolicy, RestError> {
        if let Some(present) = self.organization_controls().await? {
            return self.rest.patch(&self.caller().await, &format!("{CONTROLS}/{}", present.id), change).await;
        }
        let ChangeControls { name, description, mfa_enabled, mfa_duration } = change.clone();
        let content = ControlsContent {
            name: name.unwrap_or_else(|| "organization controls".to_owned()),
            description: description.unwrap_or_default(),
            mfa_enabled: mfa_enabled.unwrap_or_default(),
            mfa_duration,
        };
        self.rest.post(&self.caller().await, CONTROLS, &content).await
    }

    async fn about_mfa_of(&self, user_id: UserId, path: &str) -> Result<(), RestError> {
        self.rest.tell(&self.caller().await, (Method::POST, path), &WhoseMfa { user_id }).await
    }
}
