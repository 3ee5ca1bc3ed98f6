//! One row per kind of identity provider: how it names the organization, and which address the organization controls.

use bincode::Encode;
use bincode::enc::Encoder;
use bincode::error::EncodeError;
use serde_json::{Map, Value};

use crate::oidc::workload::{self, GITHUB_OWNER, Workload, WorkloadError};

/// The kinds of provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, bincode::Encode, bincode::Decode)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// Google Workspace.
    Google,
    /// Microsoft Entra ID.
    Microsoft,
    /// Okta.
    Okta,
    /// OneLogin.
    Onelogin,
    /// Keycloak.
    Keycloak,
    /// Any other OpenID provider.
    Oidc,
    /// GitHub Actions, for jobs.
    Github,
    /// CircleCI, for jobs.
    Circleci,
}

/// What a kind of provider does its own way.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The kind's name for people.
    pub name: &'static str,
    /// What says which organization a token belongs to.
    pub organization: OrganizationRule,
    /// The claim that holds an address the organization controls.
    pub address: &'static str,
    /// Whether that address counts only beside `email_verified`.
    pub address_verified: bool,
    /// The claim that lists groups, where tokens carry one by default or by a common setting.
    pub groups: Option<&'static str>,
    /// The claim by which the provider's directory knows the person.
    pub directory: &'static str,
}

/// What says which organization a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrganizationRule {
    /// A claim that must have the pinned value.
    Claim(&'static str),
    /// The issuer: it serves this organization alone.
    Issuer,
    /// What the trust bundle names: a claim and its value, or the issuer explicitly.
    Configured,
}

impl ProviderKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Google,
        Self::Microsoft,
        Self::Okta,
        Self::Onelogin,
        Self::Keycloak,
        Self::Oidc,
        Self::Github,
        Self::Circleci,
    ];

    /// The kind's row.
    #[must_use]
    pub fn row(self) -> Row {
        let row = |name, organization| Row {
            name,
            organization,
            address: "email",
            address_verified: true,
            groups: Some("groups"),
            directory: "sub",
        };
        match self {
            // `hd` is present only for Workspace accounts: a consumer account has none and is nobody here.
            Self::Google => Row { groups: None, ..row("Google", OrganizationRule::Claim("hd")) },
            // `email` is free text at Entra; the user principal name lies in a domain the tenant has verified.
            Self::Microsoft => Row {
                address: "preferred_username",
                address_verified: false,
                // `sub` is another one for each client.
                directory: "oid",
                ..row("Microsoft", OrganizationRule::Claim("tid"))
            },
            Self::Okta => row("Okta", OrganizationRule::Issuer),
            // OneLogin's directory owns the address and sends no `email_verified`.
            Self::Onelogin => Row { address_verified: false, ..row("OneLogin", OrganizationRule::Issuer) },
            Self::Keycloak => row("Keycloak", OrganizationRule::Issuer),
            Self::Oidc => row("OpenID Connect", OrganizationRule::Configured),
            Self::Github => Row { groups: None, ..row("GitHub Actions", OrganizationRule::Claim(GITHUB_OWNER)) },
            // Each of its organizations has an issuer of its own.
            Self::Circleci => Row { groups: None, ..row("CircleCI", OrganizationRule::Issuer) },
        }
    }
}

/// Where the commitment of a `BzCert` stands in a provider's tokens.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, bincode::Encode, bincode::Decode,
)]
#[serde(rename_all = "lowercase")]
pub enum Commitment {
    /// In the `nonce` of the initial token.
    #[default]
    Nonce,
    /// In the audience of both tokens: CI issuers, whose jobs choose it.
    Audience,
}

/// A claim and the value it must have.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, bincode::Encode, bincode::Decode)]
#[serde(deny_unknown_fields)]
pub struct OrganizationClaim {
    /// The claim's name.
    pub claim: String,
    /// Its one accepted value.
    pub value: String,
}

/// A pinned identity provider.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its kind.
    pub kind: ProviderKind,
    /// The issuer, exactly as tokens name it.
    pub issuer: String,
    /// Client ids of public native clients with loopback redirects only; none of an issuer of jobs.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// The organization's claim; absent where the issuer serves this organization alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<OrganizationClaim>,
    /// For kind `oidc` without an organization claim: says that the issuer serves this organization alone.
    #[serde(default)]
    pub organization_is_issuer: bool,
    /// Mail domains the organization controls; `{username}` comes from addresses in these alone.
    #[serde(default)]
    pub domains: Vec<String>,
    /// Where the commitment stands.
    #[serde(default)]
    pub commitment: Commitment,
    /// Which jobs of an issuer of jobs may act.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<Workload>,
    /// The claim that lists groups, where it is not the usual one of this kind of provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_claim: Option<String>,
}

/// As bundles are called: without workloads and the claim of groups, which are parts of their own there.
impl Encode for Provider {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (&self.kind, &self.issuer, &self.audiences, &self.organization).encode(encoder)?;
        (&self.organization_is_issuer, &self.domains, &self.commitment).encode(encoder)
    }
}

/// Claims that list no groups.
const MEANT: [&str; 8] = ["iss", "sub", "aud", "azp", "exp", "iat", "nonce", "email"];

/// Why a provider cannot be pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Neither https nor a loopback address, or not a URL.
    #[error("the issuer must be an https URL (http only on loopback), without query or fragment")]
    Issuer,
    /// No audience, or an empty one.
    #[error("name at least one audience (the client id), none of them empty")]
    Audience,
    /// Nothing says which organization a token belongs to.
    #[error("the organization must be named: {0}")]
    Organization(&'static str),
    /// Rows of jobs that cannot be pinned.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// A mail domain that is none.
    #[error("a mail domain must be a plain name such as example.com")]
    Domain,
    /// A name of no claim.
    #[error("groups_claim must have 1 to 128 bytes, and be none of the claims that have a meaning of their own")]
    Groups,
}

impl Provider {
    /// Whether this provider can be pinned: nothing in it may mean "anyone".
    ///
    /// # Errors
    /// The first rule of [`ProviderError`] it breaks.
    pub fn check(&self) -> Result<(), ProviderError> {
        if !issuer_is_safe(&self.issuer) {
            return Err(ProviderError::Issuer);
        }
        if self.commitment == Commitment::Audience {
            return self.check_jobs();
        }
        if !self.workloads.is_empty() {
            return Err(WorkloadError::Commitment.into());
        }
        if self.audiences.is_empty() || self.audiences.iter().any(|a| a.trim().is_empty()) {
            return Err(ProviderError::Audience);
        }
        self.check_organization()?;
        let plain = |d: &String| {
            d.contains('.') && d.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        };
        if !self.domains.iter().all(plain) {
            return Err(ProviderError::Domain);
        }
        let free = |claim: &String| (1..=128).contains(&claim.len()) && !MEANT.contains(&claim.as_str());
        if self.groups_claim.iter().all(free) { Ok(()) } else { Err(ProviderError::Groups) }
    }

    /// An issuer of jobs: its rows, and whose they are.
    fn check_jobs(&self) -> Result<(), ProviderError> {
        if !self.audiences.is_empty() || !self.domains.is_empty() {
            return Err(WorkloadError::People.into());
        }
        workload::check(&self.workloads, self.kind, self.organization.as_ref())?;
        // A subject is its owner's alone, so rows that each name one need no other claim of an owner.
        if self.organization.is_none() && workload::are_subjects(&self.workloads) {
            return Ok(());
        }
        self.check_organization()
    }

    fn check_organization(&self) -> Result<(), ProviderError> {
        let err = |why| Err(ProviderError::Organization(why));
        if let Some(organization) = &self.organization
            && (organization.claim.trim().is_empty() || organization.value.trim().is_empty())
        {
            return err("an empty claim or value would mean anyone");
        }
        if matches!(self.kind, ProviderKind::Github | ProviderKind::Circleci) && self.commitment != Commitment::Audience
        {
            return err("jobs log in there and no people: say commitment = \"audience\"");
        }
        match (self.kind.row().organization, &self.organization) {
            (OrganizationRule::Claim(claim), Some(o)) if o.claim == claim => {
                // The tenant of all consumer accounts is no organization.
                if o.value == "9188040d-6c67-4c5b-b112-36a304b66dad" {
                    err("this is the tenant of consumer accounts")
                } else {
                    Ok(())
                }
            }
            (OrganizationRule::Claim(GITHUB_OWNER), _) => {
                err("GitHub needs organization = { claim = \"repository_owner_id\", value = \"the account's number\" }")
            }
            (OrganizationRule::Claim("hd"), _) => {
                err("Google needs organization = { claim = \"hd\", value = \"your domain\" }")
            }
            (OrganizationRule::Claim(_), _) => {
                err("Microsoft needs organization = { claim = \"tid\", value = \"your tenant id\" }")
            }
            (OrganizationRule::Issuer, _) | (OrganizationRule::Configured, Some(_)) => Ok(()),
            (OrganizationRule::Configured, None) if self.organization_is_issuer => Ok(()),
            (OrganizationRule::Configured, None) => err(
                "give organization = { claim = …, value = … }, or organization_is_issuer = true when the issuer serves nobody else",
            ),
        }
    }

    /// Whether these claims are of the pinned organization.
    pub(super) fn owns(&self, claims: &Map<String, Value>) -> bool {
        match &self.organization {
            Some(o) => !o.value.is_empty() && claims.get(&o.claim).and_then(Value::as_str) == Some(o.value.as_str()),
            None if self.commitment == Commitment::Audience => self.check_jobs().is_ok(),
            None => self.check_organization().is_ok(),
        }
    }

    /// Who this is: the subject that the issuer says, or of a job the row that it fits.
    pub(super) fn subject(&self, said: &str, claims: &Map<String, Value>) -> Option<String> {
        if self.commitment == Commitment::Nonce {
            return Some(said.to_owned());
        }
        let row = workload::which(&self.workloads, self.kind, claims)?;
        Some(row.subject(self.organization.as_ref()))
    }

    /// The name to show: the one that the issuer says, of a job its own subject.
    pub(super) fn name(&self, said: &str, name: Option<String>) -> Option<String> {
        if self.commitment == Commitment::Audience { Some(said.to_owned()) } else { name }
    }

    /// The claim that lists groups.
    #[must_use]
    pub fn groups_claim(&self) -> Option<&str> {
        self.groups_claim.as_deref().or_else(|| self.kind.row().groups)
    }

    /// The address in these claims, where the organization controls it.
    pub(super) fn address(&self, claims: &Map<String, Value>) -> Option<Address> {
        let row = self.kind.row();
        if row.address_verified && claims.get("email_verified") != Some(&Value::Bool(true)) {
            return None;
        }
        let address = Address::parse(claims.get(row.address)?.as_str()?)?;
        self.domains.contains(&address.domain).then_some(address)
    }
}

/// A mail address in a domain that the organization controls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    local: String,
    domain: String,
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        let (local, domain) = text.rsplit_once('@')?;
        let fits = !local.is_empty() && text.len() <= 254 && !local.contains('@');
        fits.then(|| Self { local: local.to_owned(), domain: domain.to_ascii_lowercase() })
    }

    /// What stands before the `@`: the value of `{username}`.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

fn issuer_is_safe(issuer: &str) -> bool {
    let Ok(url) = url::Url::parse(issuer) else { return false };
    let loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => return false,
    };
    let scheme = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    scheme && url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none()
}
