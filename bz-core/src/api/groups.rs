//! Groups of identity providers: `organization/groups…`, and the events that a provider sends about them.

use serde::{Deserialize, Serialize};

/// A group at an identity provider, as `GET organization/groups` lists those that policies name, and
/// `POST organization/groups/fetch` those that there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct IdpGroup {
    /// As the provider knows it, and as policies name it.
    #[serde(rename = "idPGroupId")]
    pub id: String,
    /// For people.
    pub name: String,
    /// The provider; empty for a group whose provider is not known here, because its tokens name it.
    #[serde(default)]
    pub issuer: String,
    /// How many policies name it.
    #[serde(default)]
    pub policies: u32,
    /// How many people who are known here are in it, as the directory last said.
    #[serde(default)]
    pub members: u32,
}

/// Where groups of one provider's people come from, and how that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct GroupsSource {
    /// The provider.
    pub issuer: String,
    /// Its kind: `google`, `microsoft`, `okta`, `onelogin`, `keycloak` or `oidc`.
    pub provider: String,
    /// What says who is in a group.
    pub source: SourceKind,
    /// The claim of tokens that lists groups, where tokens are the source.
    #[serde(default)]
    pub claim: Option<String>,
    /// Whether the directory is asked. Not while the integration is removed.
    pub enabled: bool,
    /// Whether the provider sends events, which count at once.
    pub event_hook: bool,
    /// When the directory last answered about everybody, RFC 3339.
    #[serde(default)]
    pub last_sync: Option<String>,
    /// When it was last asked, RFC 3339.
    #[serde(default)]
    pub last_attempt: Option<String>,
    /// Why the last attempt failed, where it did.
    #[serde(default)]
    pub last_error: Option<String>,
    /// When it is asked again at the latest, RFC 3339.
    #[serde(default)]
    pub next_sync: Option<String>,
    /// When an event last came, RFC 3339.
    #[serde(default)]
    pub last_event: Option<String>,
}

/// What says who is in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum SourceKind {
    /// A claim of each login's token.
    Token,
    /// The provider's directory.
    Directory,
    /// Nothing: tokens of this provider name no groups, and no directory is set up.
    Nothing,
}

/// The answer to the challenge of an event hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HookVerified {
    /// The challenge.
    pub verification: String,
}

/// Events as Okta sends them: of a delivery, what is about people and groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OktaDelivery {
    /// What it carries.
    pub data: OktaEvents,
}

/// The events of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OktaEvents {
    /// In the order in which they happened.
    pub events: Vec<OktaEvent>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct OktaEvent {
    /// What happened, such as `group.user_membership.remove`.
    pub event_type: String,
    /// Whether it came about.
    #[serde(default)]
    pub outcome: Option<OktaOutcome>,
    /// To whom and what.
    #[serde(default)]
    pub target: Option<Vec<OktaTarget>>,
}

/// Whether an event came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OktaOutcome {
    /// `SUCCESS`, or another word.
    #[serde(default)]
    pub result: Option<String>,
}

/// Whom or what an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OktaTarget {
    /// As the directory knows it.
    pub id: String,
    /// `User`, `UserGroup`, or another word.
    #[serde(rename = "type")]
    pub kind: String,
}
