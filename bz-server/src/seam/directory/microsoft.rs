//! Microsoft Graph, version 1.0, with the application permissions `User.Read.All` and `GroupMember.Read.All`. Membership
//! by way of a group within a group counts.

use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::seam::directory::http::Api;
use crate::seam::directory::{Account, Directory, DirectoryError, Group, group};

/// What access is asked for: what an administrator of the tenant consented to.
pub const SCOPE: &str = "https://graph.microsoft.com/.default";
/// The most groups of one question.
const AT_ONCE: usize = 20;

/// An Entra tenant.
#[derive(Debug)]
pub struct Microsoft(pub Api);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    id: String,
    account_enabled: bool,
}

#[derive(Deserialize)]
struct Page {
    value: Vec<GraphGroup>,
    #[serde(default, rename = "@odata.nextLink")]
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GraphGroup {
    id: String,
    #[serde(default)]
    display_name: Option<String>,
}

#[derive(Deserialize)]
struct Within {
    value: Vec<String>,
}

impl Microsoft {
    async fn list(&self, segments: &[&str]) -> Result<Vec<Group>, DirectoryError> {
        let url = self.0.at(segments, &[("$select", "id,displayName"), ("$top", "999")])?;
        let page = |page: Page, _: &_| {
            let named = |it: GraphGroup| {
                let name = it.display_name.filter(|name| !name.is_empty()).unwrap_or_else(|| it.id.clone());
                group(it.id, name)
            };
            let read: Result<Vec<_>, _> = page.value.into_iter().map(named).collect();
            let next = page.next.map(|next| Url::parse(&next));
            Ok((read?, next.transpose().map_err(|_| DirectoryError::Malformed("a link that is no address"))?))
        };
        self.0.pages(url, page).await
    }

    async fn ask(&self, person: &str, groups: &[String]) -> Result<Account, DirectoryError> {
        if !is_guid(person) {
            return Err(DirectoryError::Unable("this is no object id of a person"));
        }
        let url = self.0.at(&["v1.0", "users", person], &[("$select", "id,accountEnabled")])?;
        let Some(user) = self.0.get(url).await?.found::<User>()? else { return Ok(Account::Deactivated) };
        if !user.id.eq_ignore_ascii_case(person) {
            return Err(DirectoryError::Malformed("another person"));
        }
        if !user.account_enabled {
            return Ok(Account::Deactivated);
        }
        let mut within = Vec::new();
        // One id that is none makes the whole question fail.
        let asked: Vec<&String> = groups.iter().filter(|id| is_guid(id)).collect();
        for some in asked.chunks(AT_ONCE) {
            let url = self.0.at(&["v1.0", "users", person, "checkMemberGroups"], &[])?;
            let found: Within = self.0.ask(url, &json!({"groupIds": some})).await?.read()?.0;
            let is_in = |id: &&&String| found.value.iter().any(|found| found.eq_ignore_ascii_case(id));
            within.extend(some.iter().filter(is_in).map(|id| (*id).clone()));
        }
        Ok(Account::Active(within))
    }
}

fn is_guid(text: &str) -> bool {
    let form =
        |(at, byte): (usize, u8)| if [8, 13, 18, 23].contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == 36 && text.bytes().enumerate().all(form)
}

impl Directory for Microsoft {
    fn groups(&self) -> BoxFuture<'_, Result<Vec<Group>, DirectoryError>> {
        Box::pin(self.list(&["v1.0", "groups"]))
    }

    fn groups_of<'a>(&'a self, person: &'a str) -> BoxFuture<'a, Result<Vec<Group>, DirectoryError>> {
        Box::pin(
            async move { self.list(&["v1.0", "users", person, "transitiveMemberOf", "microsoft.graph.group"]).await },
        )
    }

    fn account<'a>(&'a self, person: &'a str, groups: &'a [String]) -> BoxFuture<'a, Result<Account, DirectoryError>> {
        Box::pin(self.ask(person, groups))
    }
}
