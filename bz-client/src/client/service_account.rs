//! Service accounts, for administrators.

use bz_core::api::service_account::{
    ChangeServiceAccount, NewServiceAccount, NewWorkload, ServiceAccount, ServiceAccountMade,
};
use bz_core::id::UserId;
use reqwest::Method;
use serde_json::json;

use crate::client::Client;
use crate::rest::RestError;
use crate::secret::Secret;

impl Client {
    /// All service accounts.
    ///
    /// # Errors
    /// [`RestError`], as every call here.
    pub async fn service_accounts(&self) -> Result<Vec<ServiceAccount>, RestError> {
        self.get("service-accounts", &[]).await
    }

    /// Makes one; the secret of its codes is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn create_service_account(&self, new: &NewServiceAccount) -> Result<ServiceAccountMade, RestError> {
        self.rest.post(&self.caller().await, "service-accounts", new).await
    }

    /// Makes one of a job that the trust bundle pins. It has no secret.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn create_workload(&self, new: &NewWorkload) -> Result<ServiceAccount, RestError> {
        self.rest.post(&self.caller().await, "service-accounts/workloads", new).await
    }

    /// Changes its role, or whether it may log in.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn change_service_account(
        &self,
        account: UserId,
        change: &ChangeServiceAccount,
    ) -> Result<ServiceAccount, RestError> {
        self.rest.patch(&self.caller().await, &format!("service-accounts/{account}"), change).await
    }

    /// A new secret for its codes; its logins end.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn rotate_service_account(&self, account: UserId) -> Result<Secret, RestError> {
        let path = format!("mfa/rotate/{account}");
        let secret: String = self.rest.patch(&self.caller().await, &path, &json!({})).await?;
        Ok(Secret::new(secret))
    }

    /// Has the server fetch its key set anew.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn invalidate_service_account(&self, account: UserId) -> Result<(), RestError> {
        self.act(Method::PATCH, &format!("service-accounts/invalidate-cache/{account}")).await
    }

    /// Deletes it: connections, logins and policies end; logs stay.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn delete_service_account(&self, account: UserId) -> Result<(), RestError> {
        self.act(Method::DELETE, &format!("service-accounts/{account}")).await
    }
}
