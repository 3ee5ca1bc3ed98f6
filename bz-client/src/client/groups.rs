//! Groups of identity providers, for administrators.

use bz_core::api::groups::{GroupsSource, IdpGroup};
use bz_core::id::UserId;
use reqwest::Method;
use serde_json::json;

use crate::client::Client;
use crate::rest::RestError;

impl Client {
    /// The groups that policies name.
    ///
    /// # Errors
    /// [`RestError`], as every call here.
    pub async fn groups(&self) -> Result<Vec<IdpGroup>, RestError> {
        self.get("organization/groups", &[]).await
    }

    /// The groups that there are, as directories say now.
    ///
    /// # Errors
    /// [`RestError`]; with code `conflict` where there is no directory to ask, or it does not answer.
    pub async fn available_groups(&self) -> Result<Vec<IdpGroup>, RestError> {
        self.rest.post(&self.caller().await, "organization/groups/fetch", &json!({})).await
    }

    /// The groups that a person is in, as the directory says now.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn groups_of(&self, user: UserId) -> Result<Vec<IdpGroup>, RestError> {
        let path = format!("organization/groups-memberships/fetch/{user}");
        self.rest.post(&self.caller().await, &path, &json!({})).await
    }

    /// Where groups come from, and how that stands.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn groups_sources(&self) -> Result<Vec<GroupsSource>, RestError> {
        self.get("organization/groups/credentials", &[]).await
    }

    /// Has directories asked now, and says how it went.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn sync_groups(&self) -> Result<Vec<GroupsSource>, RestError> {
        self.rest.post(&self.caller().await, "organization/groups/sync", &json!({})).await
    }

    /// Has no directory asked any more; what they said counts no more.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn remove_directories(&self) -> Result<(), RestError> {
        self.act(Method::DELETE, "organization/groups/credentials").await
    }

    /// Has the directories of the server's settings asked again.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn restore_directories(&self) -> Result<Vec<GroupsSource>, RestError> {
        self.rest.post(&self.caller().await, "organization/groups/credentials", &json!({})).await
    }
}
