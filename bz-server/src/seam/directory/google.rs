//! Google's Admin SDK Directory API, version 1, read in an administrator's name by a service account with domain-wide
//! delegation. Membership by way of a group within a group counts.

use futures::future::BoxFuture;
use serde::Deserialize;
use url::Url;

use crate::seam::directory::http::Api;
use crate::seam::directory::{Account, Directory, DirectoryError, Group, group, is_plain};

/// What access is asked for.
pub const SCOPE: &str = "https://www.googleapis.com/auth/admin.directory.user.readonly \
     https://www.googleapis.com/auth/admin.directory.group.readonly \
     https://www.googleapis.com/auth/admin.directory.group.member.readonly";

/// A Workspace organization.
#[derive(Debug)]
pub struct Google {
    /// Its API.
    pub api: Api,
    /// The customer: `my_customer` for the administrator's own.
    pub customer: String,
}

/// A service account's key file: what is needed of it.
#[derive(Deserialize)]
pub struct KeyFile {
    /// Who signs.
    pub client_email: String,
    /// The key, PEM.
    pub private_key: String,
    /// The key's id.
    pub private_key_id: Option<String>,
    /// Where access is asked for.
    pub token_uri: Url,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFile").field("client_email", &self.client_email).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    id: String,
    suspended: bool,
    #[serde(default)]
    archived: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    // Absent when there are none.
    #[serde(default)]
    groups: Vec<GoogleGroup>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct GoogleGroup {
    id: String,
    #[serde(default)]
    name: String,
    email: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HasMember {
    is_member: bool,
}

const BASE: [&str; 3] = ["admin", "directory", "v1"];

impl Google {
    fn at(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Url, DirectoryError> {
        self.api.at(&[&BASE[..], segments].concat(), query)
    }

    async fn list(&self, whose: (&str, &str)) -> Result<Vec<Group>, DirectoryError> {
        let url = self.at(&["groups"], &[whose, ("maxResults", "200")])?;
        let page = |page: Page, _: &_| {
            let named = |it: GoogleGroup| group(it.id, if it.name.is_empty() { it.email } else { it.name });
            let read: Result<Vec<_>, _> = page.groups.into_iter().map(named).collect();
            let next = page.next_page_token.filter(|token| !token.is_empty());
            let next = next.map(|token| self.at(&["groups"], &[whose, ("maxResults", "200"), ("pageToken", &token)]));
            Ok((read?, next.transpose()?))
        };
        self.api.pages(url, page).await
    }

    async fn ask(&self, person: &str, groups: &[String]) -> Result<Account, DirectoryError> {
        if !is_plain(person) {
            return Err(DirectoryError::Unable("this is no id of a person there"));
        }
        let url = self.at(&["users", person], &[])?;
        let Some(user) = self.api.get(url).await?.found::<User>()? else { return Ok(Account::Deactivated) };
        if user.id != person {
            return Err(DirectoryError::Malformed("another person"));
        }
        if user.suspended || user.archived {
            return Ok(Account::Deactivated);
        }
        let mut within = Vec::new();
        for id in groups.iter().filter(|id| is_plain(id)) {
            let url = self.at(&["groups", id, "hasMember", person], &[])?;
            // A group that is not there has no members.
            let answer = self.api.get(url).await?.found::<HasMember>()?;
            if answer.is_some_and(|answer| answer.is_member) {
                within.push(id.clone());
            }
        }
        Ok(Account::Active(within))
    }
}

impl Directory for Google {
    fn groups(&self) -> BoxFuture<'_, Result<Vec<Group>, DirectoryError>> {
        Box::pin(self.list(("customer", &self.customer)))
    }

    fn groups_of<'a>(&'a self, person: &'a str) -> BoxFuture<'a, Result<Vec<Group>, DirectoryError>> {
        Box::pin(self.list(("userKey", person)))
    }

    fn account<'a>(&'a self, person: &'a str, groups: &'a [String]) -> BoxFuture<'a, Result<Account, DirectoryError>> {
        Box::pin(self.ask(person, groups))
    }
}
