//! Keycloak's admin API, read by a client's service account with the roles `view-users` and `query-groups` of
//! `realm-management`. A person is in the groups that list them, not in those above.

use futures::future::BoxFuture;
use serde::Deserialize;
use url::Url;

use crate::seam::directory::http::Api;
use crate::seam::directory::{
    Account, Directory, DirectoryError, Group, MOST_GROUPS, MOST_PAGES, among, group, is_plain,
};

/// How many items a page has.
const PAGE: usize = 100;

/// A realm.
#[derive(Debug)]
pub struct Keycloak {
    /// Its server's API.
    pub api: Api,
    /// The realm.
    pub realm: String,
}

#[derive(Deserialize)]
struct User {
    id: String,
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: String,
    name: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    sub_group_count: u64,
    #[serde(default)]
    sub_groups: Vec<Self>,
}

impl Node {
    fn group(&self) -> Result<Group, DirectoryError> {
        group(self.id.clone(), self.path.clone().unwrap_or_else(|| self.name.clone()))
    }
}

impl Keycloak {
    fn at(&self, segments: &[&str], first: Option<usize>) -> Result<Url, DirectoryError> {
        let whole = [&["admin", "realms", &self.realm][..], segments].concat();
        let Some(first) = first else { return self.api.at(&whole, &[]) };
        let (first, most) = (first.to_string(), PAGE.to_string());
        self.api.at(&whole, &[("first", &first), ("max", &most), ("briefRepresentation", "true")])
    }

    /// All pages of nodes below these segments. A page that is not full is the last.
    async fn nodes(&self, segments: &[&str]) -> Result<Vec<Node>, DirectoryError> {
        let mut all = Vec::new();
        for page in 0..MOST_PAGES {
            let url = self.at(segments, Some(page * PAGE))?;
            let (some, _) = self.api.get(url).await?.read::<Vec<Node>>()?;
            let last = some.len() < PAGE;
            all.extend(some);
            if all.len() > MOST_GROUPS {
                return Err(DirectoryError::Malformed("more groups than can be read"));
            }
            if last {
                return Ok(all);
            }
        }
        Err(DirectoryError::Malformed("pages without an end"))
    }

    /// Every group, those within groups included.
    async fn all(&self) -> Result<Vec<Group>, DirectoryError> {
        let mut waiting = self.nodes(&["groups"]).await?;
        let (mut all, mut asked) = (Vec::new(), 0);
        while let Some(node) = waiting.pop() {
            all.push(node.group()?);
            // Older versions send those within at once; newer ones say how many there are.
            if node.sub_groups.is_empty() && node.sub_group_count > 0 && is_plain(&node.id) {
                asked += 1;
                waiting.extend(self.nodes(&["groups", &node.id, "children"]).await?);
            } else {
                waiting.extend(node.sub_groups);
            }
            if all.len().saturating_add(waiting.len()) > MOST_GROUPS || asked > MOST_PAGES {
                return Err(DirectoryError::Malformed("more groups than can be read"));
            }
        }
        Ok(all)
    }

    async fn of(&self, person: &str) -> Result<Vec<Group>, DirectoryError> {
        self.nodes(&["users", person, "groups"]).await?.iter().map(Node::group).collect()
    }

    async fn ask(&self, person: &str, groups: &[String]) -> Result<Account, DirectoryError> {
        if !is_plain(person) {
            return Err(DirectoryError::Unable("this is no id of a person there"));
        }
        let url = self.at(&["users", person], None)?;
        let Some(user) = self.api.get(url).await?.found::<User>()? else { return Ok(Account::Deactivated) };
        if user.id != person {
            return Err(DirectoryError::Malformed("another person"));
        }
        if !user.enabled {
            return Ok(Account::Deactivated);
        }
        if groups.is_empty() {
            return Ok(Account::Active(Vec::new()));
        }
        Ok(Account::Active(among(groups, &self.of(person).await?)))
    }
}

impl Directory for Keycloak {
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
