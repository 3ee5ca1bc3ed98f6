//! Keys, what hosts register by, and what scripts are made of, for administrators.

use bz_core::api::api_key::{
    ApiKey, ApiKeyMade, ChangeApiKey, EnforceGlobalKey, RegistrationKeySettings, RotateApiKey,
};
use bz_core::api::autodiscovery::{Artifact, AutodiscoveryScript};
use bz_core::id::{ApiKeyId, EnvironmentId};
use reqwest::Method;
use serde_json::json;

use crate::client::Client;
use crate::rest::RestError;

/// Which token a script gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptQuestion {
    /// Where its targets go; to the default environment when absent.
    pub environment: Option<EnvironmentId>,
    /// Of which registration key it is; of the one that the settings say when absent.
    pub registration_key: Option<ApiKeyId>,
    /// How many targets it registers; one when absent.
    pub uses: Option<u32>,
    /// For how many minutes; 60 when absent.
    pub valid_minutes: Option<u32>,
}

impl Client {
    /// Changes a key.
    ///
    /// # Errors
    /// [`RestError`], as every call here.
    pub async fn change_api_key(&self, id: ApiKeyId, change: &ChangeApiKey) -> Result<ApiKey, RestError> {
        self.rest.patch(&self.caller().await, &format!("api-keys/{id}"), change).await
    }

    /// Gives a key another secret, which is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn rotate_api_key(&self, id: ApiKeyId, rotation: &RotateApiKey) -> Result<ApiKeyMade, RestError> {
        self.rest.post(&self.caller().await, &format!("api-keys/{id}/rotate"), rotation).await
    }

    /// Deletes a key, and the tokens that were made of it.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn delete_api_key(&self, id: ApiKeyId) -> Result<(), RestError> {
        self.act(Method::DELETE, &format!("api-keys/{id}")).await
    }

    /// Which registration key hosts register by.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn registration_key_settings(&self) -> Result<RegistrationKeySettings, RestError> {
        self.get("organization/registration-key/settings", &[]).await
    }

    /// Has hosts register by this key; by the own key of each administrator when absent.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn set_global_key(&self, key: Option<ApiKeyId>) -> Result<RegistrationKeySettings, RestError> {
        let caller = self.caller().await;
        let folder = "organization/registration-key";
        match key {
            Some(default_registration_key_id) => {
                let body = EnforceGlobalKey { default_registration_key_id };
                self.rest.post(&caller, &format!("{folder}/enable-enforce-global-key"), &body).await
            }
            None => self.rest.post(&caller, &format!("{folder}/disable-enforce-global-key"), &json!({})).await,
        }
    }

    /// Another secret for the caller's own registration key.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn own_registration_key(&self) -> Result<ApiKeyMade, RestError> {
        self.rest.post(&self.caller().await, "organization/registration-key/own", &json!({})).await
    }

    /// What a script is made of: a token, and the digests of the agents' programs. Its text is the server's, and has no
    /// pins: see [`bz_core::script`].
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn script_parts(&self, question: &ScriptQuestion) -> Result<AutodiscoveryScript, RestError> {
        let values = [
            ("environmentId", question.environment.map(|id| id.to_string())),
            ("registrationKeyId", question.registration_key.map(|id| id.to_string())),
            ("uses", question.uses.map(|uses| uses.to_string())),
            ("validMinutes", question.valid_minutes.map(|minutes| minutes.to_string())),
        ];
        let query: Vec<_> = values.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
        self.get("autodiscovery-scripts/bzero/bash", &query).await
    }

    /// The agents' programs that the server gives.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn artifacts(&self) -> Result<Vec<Artifact>, RestError> {
        self.get("artifacts", &[]).await
    }
}
