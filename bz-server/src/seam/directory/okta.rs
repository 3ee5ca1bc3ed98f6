//! Okta's management API: `/api/v1/users` and `/api/v1/groups`, scopes `okta.users.read` and `okta.groups.read`.
//! Groups of Okta hold people and no groups.

use futures::future::BoxFuture;
use serde::Deserialize;

use crate::seam::directory::http::{Api, linked};
use crate::seam::directory::{Account, Directory, DirectoryError, Group, among, group, is_plain};

/// What access is asked for.
pub const SCOPE: &str = "okta.users.read okta.groups.read";

/// An Okta organization.
#[derive(Debug)]
pub struct Okta(pub Api);

#[derive(Deserialize)]
struct User {
    id: String,
    status: String,
}

#[derive(Deserialize)]
struct OktaGroup {
    id: String,
    profile: Profile,
}

#[derive(Deserialize)]
struct Profile {
    name: String,
}

impl Okta {
    async fn list(&self, segments: &[&str]) -> Result<Vec<Group>, DirectoryError> {
        let url = self.0.at(segments, &[("limit", "200")])?;
        let page = |groups: Vec<OktaGroup>, headers: &_| {
            let read: Result<Vec<_>, _> = groups.into_iter().map(|it| group(it.id, it.profile.name)).collect();
            Ok((read?, linked(headers)?))
        };
        self.0.pages(url, page).await
    }

    async fn ask(&self, person: &str, groups: &[String]) -> Result<Account, DirectoryError> {
        if !is_plain(person) {
            return Err(DirectoryError::Unable("this is no id of a person there"));
        }
        let url = self.0.at(&["api", "v1", "users", person], &[])?;
        let Some(user) = self.0.get(url).await?.found::<User>()? else { return Ok(Account::Deactivated) };
        if user.id != person {
            return Err(DirectoryError::Malformed("another person"));
        }
        if matches!(user.status.as_str(), "DEPROVISIONED" | "SUSPENDED") {
            return Ok(Account::Deactivated);
        }
        if groups.is_empty() {
            return Ok(Account::Active(Vec::new()));
        }
        Ok(Account::Active(among(groups, &self.list(&["api", "v1", "users", person, "groups"]).await?)))
    }
}

impl Directory for Okta {
    fn groups(&self) -> BoxFuture<'_, Result<Vec<Group>, DirectoryError>> {
        Box::pin(self.list(&["api", "v1", "groups"]))
    }

    fn groups_of<'a>(&'a self, person: &'a str) -> BoxFuture<'a, Result<Vec<Group>, DirectoryError>> {
        Box::pin(async move { self.list(&["api", "v1", "users", person, "groups"]).await })
    }

    fn account<'a>(&'a self, person: &'a str, groups: &'a [String]) -> BoxFuture<'a, Result<Account, DirectoryError>> {
        Box::pin(self.ask(person, groups))
    }
}
