//! Groups of identity providers: who is in which of those that policies name, and whether an account is still active.
//!
//! Where a provider's tokens list groups, a login has those of its token, for as long as the token counts. Where a
//! directory is set up ([`source`]), it is asked instead, and what it says counts for [`COUNTS`]: at each login, when a
//! policy that names groups is saved, every [`EVERY`] for people who are here, and when the provider sends an event
//! ([`hook`]). What is kept is in the store: ids of people, groups that policies name, and when it was confirmed.
//!
//! The agents' own check is none of this: it reads the token alone. Absent: the APIs, which are [`crate::seam::directory`]'s.

pub mod hook;
pub mod source;
pub mod sync;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bz_core::id::UserId;
use bz_core::oidc::provider::{Provider, ProviderKind};
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use crate::app::App;
use crate::config::Config;
use crate::connection::life::By;
use crate::connection::{close_all_of, recheck};
use crate::error::ApiError;
use crate::groups::source::{DirectoryConfig, SourceError};
use crate::jobs::own_event;
use crate::seam::directory::access::{Access, How, Signer, World};
use crate::seam::directory::http::{Api, PATIENCE};
use crate::seam::directory::{Account, Directory, DirectoryError, google, keycloak, microsoft, okta, onelogin};
use crate::store::user::User;

/// How often a directory is asked about everybody who is here.
pub const EVERY: Duration = Duration::from_secs(30 * 60);
/// How long what a directory said counts. With the half minute between two looks at it, less than an hour: by then every
/// change has come through, or nothing of before counts.
pub const COUNTS: Duration = Duration::from_secs(59 * 60);
/// How long a directory may take about one person.
const PERSON: Duration = Duration::from_secs(30);
/// How long a login waits for it.
const LOGIN: Duration = Duration::from_secs(5);

/// The directories of the settings.
pub struct Groups {
    sources: BTreeMap<String, Source>,
    /// Counts questions: an answer is taken only if nothing later was heard of its person.
    turns: AtomicU64,
    heard: tokio::sync::Mutex<BTreeMap<UserId, u64>>,
}

/// One directory.
pub(crate) struct Source {
    directory: Arc<dyn Directory>,
    hook: Option<Zeroizing<String>>,
    /// Held while everybody is asked about.
    syncing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Groups").field("issuers", &self.sources.keys()).finish_non_exhaustive()
    }
}

/// A question's place among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn(u64);

impl Groups {
    /// Reads the secrets that the settings name, and sets everything up; asks nobody yet.
    ///
    /// # Errors
    /// [`SourceError`], naming what is wrong.
    pub fn open(config: &Config, world: impl Fn(reqwest::Client) -> World) -> Result<Self, SourceError> {
        let mut sources = BTreeMap::new();
        for settings in &config.directories {
            let provider = config.providers.iter().find(|provider| provider.issuer == settings.issuer);
            let provider = provider.ok_or_else(|| settings.error("no provider has this issuer"))?;
            let ca = config.provider_ca.as_ref().map(std::fs::read).transpose().map_err(|e| settings.error(e))?;
            let client = crate::tls::http_client(ca.as_deref(), PATIENCE).map_err(|e| settings.error(e))?;
            let directory = directory(settings, provider, world(client))?;
            let source = Source { directory, hook: settings.hook_secret()?, syncing: tokio::sync::Mutex::default() };
            sources.insert(settings.issuer.clone(), source);
        }
        Ok(Self { sources, turns: AtomicU64::new(0), heard: tokio::sync::Mutex::default() })
    }

    /// The providers whose directories are asked.
    pub fn issuers(&self) -> impl Iterator<Item = &String> {
        self.sources.keys()
    }

    /// Whether a directory says who is in this provider's groups.
    #[must_use]
    pub fn has(&self, issuer: &str) -> bool {
        self.sources.contains_key(issuer)
    }

    /// Whether any provider sends events.
    pub(crate) fn has_hook(&self, issuer: Option<&str>) -> bool {
        self.sources.iter().any(|(of, source)| source.hook.is_some() && issuer.is_none_or(|issuer| issuer == of))
    }

    pub(crate) fn directory(&self, issuer: &str) -> Option<&Arc<dyn Directory>> {
        self.sources.get(issuer).map(|source| &source.directory)
    }

    fn turn(&self) -> Turn {
        Turn(self.turns.fetch_add(1, Ordering::SeqCst))
    }
}

/// The directory of these settings.
fn directory(settings: &DirectoryConfig, provider: &Provider, world: World) -> Result<Arc<dyn Directory>, SourceError> {
    let secret = settings.secret()?;
    let url = |text: &str| Url::parse(text).map_err(|_| settings.error(format!("{text} is no address")));
    let issuer = url(&provider.issuer)?;
    let id = settings.client_id.clone().unwrap_or_default();
    let api = |usual: Url| settings.api.clone().unwrap_or(usual);
    let token = |usual: Result<Url, SourceError>| settings.token_url.clone().map_or(usual, Ok);
    let below = |base: &Url, path: &str| url(&format!("{}{path}", base.as_str().trim_end_matches('/')));
    let signer = |pem: &str, id: Option<String>| Signer::of(pem, id).map(Box::new).map_err(|why| settings.error(why));
    Ok(match settings.kind(provider) {
        ProviderKind::Google => {
            let key: google::KeyFile = serde_json::from_str(&secret)
                .map_err(|_| settings.error("the secret is no key file of a service account (JSON)"))?;
            let signs = signer(&Zeroizing::new(key.private_key), key.private_key_id)?;
            let subject = settings.subject.clone().unwrap_or_default();
            let how = How::Grant { issuer: key.client_email, subject, scope: google::SCOPE, key: signs };
            let token_url = token(Ok(key.token_uri))?;
            if !source::is_safe(&token_url) {
                return Err(settings.error("the key file's token_uri must be an https address"));
            }
            let api = Api::new(api(url("https://admin.googleapis.com")?), Access::new(how, token_url, world));
            let customer = settings.customer.clone().unwrap_or_else(|| "my_customer".to_owned());
            Arc::new(google::Google { api, customer })
        }
        ProviderKind::Microsoft => {
            let tenant = provider.organization.as_ref().map(|claim| claim.value.clone()).unwrap_or_default();
            let how = How::Form { id, secret, scope: Some(microsoft::SCOPE) };
            let usual = url(&format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"));
            let access = Access::new(how, token(usual)?, world);
            Arc::new(microsoft::Microsoft(Api::new(api(url("https://graph.microsoft.com")?), access)))
        }
        ProviderKind::Okta | ProviderKind::Oidc => {
            let base = api(origin(&issuer));
            let how = match &settings.client_id {
                None => How::Ssws(secret),
                Some(_) => How::Client { id, scope: okta::SCOPE, key: signer(&secret, settings.key_id.clone())? },
            };
            let access = Access::new(how, token(below(&base, "/oauth2/v1/token"))?, world);
            Arc::new(okta::Okta(Api::new(base, access)))
        }
        ProviderKind::Onelogin => {
            let base = api(origin(&issuer));
            let access = Access::new(How::Basic { id, secret }, token(below(&base, "/auth/oauth2/v2/token"))?, world);
            Arc::new(onelogin::OneLogin(Api::new(base, access)))
        }
        ProviderKind::Keycloak => {
            let named = provider.issuer.trim_end_matches('/').rsplit_once("/realms/");
            let (base, realm) = named.ok_or_else(|| settings.error("an issuer of Keycloak ends in /realms/NAME"))?;
            let usual = below(&issuer, "/protocol/openid-connect/token");
            let access = Access::new(How::Form { id, secret, scope: None }, token(usual)?, world);
            Arc::new(keycloak::Keycloak { api: Api::new(api(url(base)?), access), realm: realm.to_owned() })
        }
        ProviderKind::Github | ProviderKind::Circleci => return Err(settings.error("jobs are in no group")),
    })
}

/// An address without its path.
fn origin(url: &Url) -> Url {
    let mut origin = url.clone();
    origin.set_path("/");
    origin
}

/// What was heard of somebody who logs in.
#[derive(Debug)]
pub(crate) enum Heard {
    /// There is nobody to ask: the token counts.
    Nothing,
    /// The directory says this.
    Said(Account, Turn),
    /// It says nothing now; what it said before counts, as long as it does.
    Silent,
}

/// Asks about somebody who logs in, before anything is kept; and about which groups.
pub(crate) async fn at_login(app: &App, issuer: &str, id: Option<&str>) -> Result<(Vec<String>, Heard), ApiError> {
    let Some(source) = app.groups.sources.get(issuer) else { return Ok((Vec::new(), Heard::Nothing)) };
    let silent = (Vec::new(), Heard::Silent);
    let Some(id) = id else {
        tracing::warn!(issuer, "a token does not say what the directory calls its person: nobody is in a group by it");
        return Ok(silent);
    };
    if app.store.directory_state(issuer.to_owned()).await?.removed {
        return Ok(silent);
    }
    let asked = ids(app).await?;
    let turn = app.groups.turn();
    let answer = tokio::time::timeout(LOGIN, source.directory.account(id, &asked)).await;
    match answer.unwrap_or_else(|_| Err(late())) {
        Ok(account) => Ok((asked, Heard::Said(account, turn))),
        Err(error) => {
            sync::failed(app, issuer, &error).await?;
            Ok(silent)
        }
    }
}

fn late() -> DirectoryError {
    DirectoryError::Unreachable("not in time".to_owned())
}

/// The groups that policies name.
async fn ids(app: &App) -> Result<Vec<String>, ApiError> {
    Ok(app.store.named_groups().await?.into_iter().map(|group| group.id).collect())
}

/// Takes in what a directory said about these groups of somebody. Whether they lost something.
///
/// # Errors
/// [`ApiError`].
pub(crate) async fn take(
    app: &App,
    user: &User,
    (asked, account): (&[String], Account),
    turn: Turn,
) -> Result<bool, ApiError> {
    let mut heard = app.groups.heard.lock().await;
    // Something later was heard meanwhile, such as an event: this is of the past.
    if heard.get(&user.id).is_some_and(|last| *last > turn.0) {
        return Ok(false);
    }
    heard.insert(user.id, turn.0);
    match account {
        Account::Deactivated => {
            deactivate(app, user).await?;
            Ok(false)
        }
        Account::Active(groups) => {
            let changed = app.store.set_memberships(user.id, (asked.to_vec(), groups), app.now().wall).await?;
            if !changed.added.is_empty() || !changed.removed.is_empty() || changed.reactivated {
                let context = json!({
                    "added": changed.added, "removed": changed.removed, "reactivated": changed.reactivated,
                });
                note(app, "groupservice:changed", user, &context).await?;
            }
            Ok(!changed.removed.is_empty())
        }
    }
}

/// The provider has deactivated somebody: logins and connections end, and no login is taken until it says otherwise.
async fn deactivate(app: &App, user: &User) -> Result<(), ApiError> {
    let now = app.now().wall;
    let logins = app.store.live_logins(user.id, now).await?;
    // First the person, so that nothing new is opened, then what is open.
    if app.store.deactivate(user.id, now).await? {
        note(app, "groupservice:deactivated", user, &json!({"logins": logins.len()})).await?;
    }
    close_all_of(app, user.id, &By::Service, "the identity provider has deactivated the account").await?;
    for login in logins {
        app.links.logged_out(login.id);
    }
    Ok(())
}

/// Takes somebody out of a group at once, whatever is being asked at this moment. Whether they were in it.
async fn remove(app: &App, user: &User, group: &str) -> Result<bool, ApiError> {
    let mut heard = app.groups.heard.lock().await;
    heard.insert(user.id, app.groups.turn().0);
    let removed = app.store.remove_membership(user.id, group.to_owned()).await?;
    if removed {
        note(app, "groupservice:changed", user, &json!({"removed": [group], "by": "event"})).await?;
    }
    Ok(removed)
}

async fn note(app: &App, action: &str, user: &User, context: &serde_json::Value) -> Result<(), ApiError> {
    let event = own_event(app, (action, user.name()), context.to_string())?;
    Ok(app.store.add_user_event(event, app.now().wall).await?)
}

/// After somebody lost something: what no policy allows any more ends.
async fn lost(app: &App) -> Result<(), ApiError> {
    recheck(app, &By::Service).await
}

#[cfg(test)]
mod tests;
