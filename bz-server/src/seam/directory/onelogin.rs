//! OneLogin's API, with credentials of the kind "Read users". A person is in one group there, and has many roles: roles are
//! what policies name.

use axum::http::HeaderMap;
use futures::future::BoxFuture;
use serde::Deserialize;
use url::Url;

use crate::seam::directory::http::Api;
use crate::seam::directory::{Account, Directory, DirectoryError, Group, MOST_GROUPS, group};

/// An account at OneLogin.
#[derive(Debug)]
pub struct OneLogin(pub Api);

#[derive(Deserialize)]
struct User {
    id: u64,
    status: Option<u32>,
    state: Option<u32>,
}

impl User {
    /// Suspended or never activated; or not approved, or without a license.
    fn is_deactivated(&self) -> bool {
        matches!(self.status, None | Some(0 | 2)) || matches!(self.state, Some(0 | 2 | 3))
    }
}

#[derive(Deserialize)]
struct Role {
    id: u64,
    name: String,
}

/// Version 1 wraps what it says: one list of ids in a list.
#[derive(Deserialize)]
struct Roles {
    data: Vec<Vec<u64>>,
}

impl OneLogin {
    async fn all(&self) -> Result<Vec<Group>, DirectoryError> {
        let url = self.0.at(&["api", "2", "roles"], &[("limit", "650"), ("fields", "id,name")])?;
        let page = |roles: Vec<Role>, headers: &HeaderMap| {
            let read: Result<Vec<_>, _> = roles.into_iter().map(|role| group(role.id.to_string(), role.name)).collect();
            Ok((read?, self.after(headers)?))
        };
        self.0.pages(url, page).await
    }

    /// The next page: what the cursor of this one names, which comes as it stands in an address.
    fn after(&self, headers: &HeaderMap) -> Result<Option<Url>, DirectoryError> {
        let cursor = headers.get("after-cursor").and_then(|value| value.to_str().ok()).map(str::trim);
        let Some(cursor) = cursor.filter(|cursor| !cursor.is_empty()) else { return Ok(None) };
        let pair = format!("cursor={}", cursor.replace('+', "%2B"));
        let decoded = url::form_urlencoded::parse(pair.as_bytes()).next();
        let decoded = decoded.map(|(_, value)| value.into_owned()).unwrap_or_default();
        self.0.at(&["api", "2", "roles"], &[("cursor", &decoded)]).map(Some)
    }

    async fn roles_of(&self, person: u64) -> Result<Vec<String>, DirectoryError> {
        let url = self.0.at(&["api", "1", "users", &person.to_string(), "roles"], &[])?;
        let (roles, _) = self.0.get(url).await?.read::<Roles>()?;
        let ids: Vec<String> = roles.data.into_iter().flatten().map(|id| id.to_string()).collect();
        if ids.len() > MOST_GROUPS { Err(DirectoryError::Malformed("more groups than can be read")) } else { Ok(ids) }
    }

    async fn of(&self, person: &str) -> Result<Vec<Group>, DirectoryError> {
        let ids = self.roles_of(number(person)?).await?;
        Ok(self.all().await?.into_iter().filter(|group| ids.contains(&group.id)).collect())
    }

    async fn ask(&self, person: &str, groups: &[String]) -> Result<Account, DirectoryError> {
        let id = number(person)?;
        let url = self.0.at(&["api", "2", "users", &id.to_string()], &[])?;
        let Some(user) = self.0.get(url).await?.found::<User>()? else { return Ok(Account::Deactivated) };
        if user.id != id {
            return Err(DirectoryError::Malformed("another person"));
        }
        if user.is_deactivated() {
            return Ok(Account::Deactivated);
        }
        if groups.is_empty() {
            return Ok(Account::Active(Vec::new()));
        }
        let roles = self.roles_of(id).await?;
        Ok(Account::Active(groups.iter().filter(|group| roles.contains(group)).cloned().collect()))
    }
}

fn number(person: &str) -> Result<u64, DirectoryError> {
    person.parse().map_err(|_| DirectoryError::Unable("this is no id of a person there"))
}

impl Directory for OneLogin {
    fn groups(&self) -> BoxFuture<'_, Result<Vec<Group>, DirectoryError>> {
        Box::pin(self.all())
    }

    fn groups_of<'a>(&'a self, person: &'a str) -> BoxFuture<'a, Result<Vec<Group>, DirectoryError>> {
        Box::pin(self.of(person))
    }

    fn account<'a>(&'a self, person: &'a str, groups: &'a [String]) -> BoxFuture<'a, Result<Account, DirectoryError>> {
        Box::pin(self.ask(person, groups))
    }
}
