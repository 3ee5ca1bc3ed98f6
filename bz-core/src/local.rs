//! The agent's local policy: what its host's owner allows, whatever anybody else grants.
//!
//! Right = grant ∩ this file; nothing in the file widens a grant. Owner and mode of the file are checked where files
//! are read, in the agent.

use std::net::IpAddr;
use std::time::Duration;

use crate::access::destination::{Destination, DestinationRule};
use crate::access::upstream::KubeRequest;
use crate::access::{Mode, Verb};
use crate::grant::Mfa;
use crate::oidc::Claims;
use crate::target::{TargetUser, UserRule};
use crate::time::UnixTime;

/// The most bytes a policy file may have.
pub const MAX_POLICY: usize = 256 << 10;

/// Why a local policy refuses everything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalPolicyError {
    /// Larger than [`MAX_POLICY`].
    #[error("the local policy is larger than 256 KiB")]
    TooLarge,
    /// Not the TOML of a policy.
    #[error("the local policy is malformed: {0}")]
    Malformed(String),
    /// A version this program does not know.
    #[error("the local policy's version is not 1")]
    Version,
    /// A rule that allows to reach something, and nowhere.
    #[error("rule {0} of the local policy allows {1} and no destination: give destinations, such as \"*:*\"")]
    Nowhere(usize, Verb),
    /// A rule that allows clusters as nobody.
    #[error("rule {0} of the local policy allows Kubernetes and no user: give cluster_users, such as \"*\"")]
    NoClusterUser(usize),
    /// A rule that names nobody.
    #[error("rule {0} of the local policy names nobody: give subjects, groups, or everyone = true")]
    Nobody(usize),
}

/// The policy of one agent's host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalPolicy {
    /// The format's version: 1.
    pub version: u16,
    /// The rules. A session needs one that allows all of it.
    #[serde(default)]
    pub allow: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The issuer of the people meant.
    pub issuer: String,
    /// Their subjects.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// Or groups their tokens name.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Or everyone of the issuer's organization.
    #[serde(default)]
    pub everyone: bool,
    /// Verbs.
    pub verbs: Vec<Verb>,
    /// Where tunnels, databases and web servers may be; nowhere when absent. Link-local addresses need a rule of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<DestinationRule>,
    /// Target users, and accounts of databases; `{username}` is the person's own.
    #[serde(default)]
    pub target_users: Vec<UserRule>,
    /// Users of the cluster; `*` is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_users: Vec<String>,
    /// Groups of the cluster; `*` is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_groups: Vec<String>,
    /// Modes; both when absent.
    #[serde(default = "both")]
    pub modes: Vec<Mode>,
    /// Refuse what would not be recorded.
    #[serde(default)]
    pub require_recording: bool,
    /// The longest a session may last, in minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_minutes: Option<u32>,
    /// Refuse whose grant names no second factor.
    #[serde(default)]
    pub require_mfa: bool,
    /// Refuse whose second factor was passed more minutes before the session opens, or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfa_minutes: Option<u32>,
}

fn both() -> Vec<Mode> {
    vec![Mode::Inspected, Mode::Sealed]
}

/// What a session would do.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who.
    pub claims: &'a Claims,
    /// The verb.
    pub verb: &'a Verb,
    /// The target user.
    pub user: Option<&'a TargetUser>,
    /// As whom in a cluster, where it is about one.
    pub cluster: Option<&'a KubeRequest>,
    /// The mode.
    pub mode: Mode,
    /// Whether the output would be recorded.
    pub recorded: bool,
    /// The second factor, as the grant says.
    pub mfa: Option<&'a Mfa>,
    /// The time, when a session is to open; none of one that is open, for which its age was looked at then.
    pub opens_at: Option<UnixTime>,
}

/// What the local policy allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// The longest the session may last.
    pub session_cap: Option<Duration>,
}

/// Why the local policy says no: the last hurdle of the rule that came furthest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum LocalDenial {
    /// No rule names the person.
    #[error("the local policy names no rule for this person")]
    Person,
    /// The verb is not allowed.
    #[error("the local policy does not allow this verb")]
    Verb,
    /// The target user is not allowed.
    #[error("the local policy does not allow this target user")]
    User,
    /// The mode is not allowed.
    #[error("the local policy does not allow this mode")]
    Mode,
    /// It must be recorded and would not be.
    #[error("the local policy requires a recording")]
    Recording,
    /// There is no second factor, or it was passed too long ago.
    #[error("the local policy requires a second factor, or a newer one")]
    Mfa,
    /// Nothing may lead there.
    #[error("the local policy does not allow this destination")]
    Destination,
}

impl LocalPolicy {
    /// Reads a policy file's text.
    ///
    /// # Errors
    /// [`LocalPolicyError`]; the caller then refuses everything.
    pub fn parse(text: &str) -> Result<Self, LocalPolicyError> {
        if text.len() > MAX_POLICY {
            return Err(LocalPolicyError::TooLarge);
        }
        let policy: Self = toml::from_str(text).map_err(|e| LocalPolicyError::Malformed(e.message().to_owned()))?;
        if policy.version != 1 {
            return Err(LocalPolicyError::Version);
        }
        if let Some(at) = policy.allow.iter().position(Rule::names_nobody) {
            return Err(LocalPolicyError::Nobody(at + 1));
        }
        for (at, rule) in policy.allow.iter().enumerate() {
            let leads = rule.verbs.iter().find(|verb| matches!(verb, Verb::Tunnel | Verb::Database | Verb::Web));
            if let (Some(verb), true) = (leads, rule.destinations.is_empty()) {
                return Err(LocalPolicyError::Nowhere(at + 1, verb.clone()));
            }
            if rule.verbs.contains(&Verb::Kubernetes) && rule.cluster_users.is_empty() {
                return Err(LocalPolicyError::NoClusterUser(at + 1));
            }
        }
        Ok(policy)
    }

    /// Whether one rule allows all of it.
    ///
    /// # Errors
    /// [`LocalDenial`] otherwise.
    pub fn decide(&self, question: &Question<'_>) -> Result<Allowed, LocalDenial> {
        self.by_a_rule(|rule| rule.decide(question))
    }

    /// Whether one rule allows all of it and this destination, before it is looked up, or at the address to be dialled.
    ///
    /// # Errors
    /// [`LocalDenial`] otherwise.
    pub fn decide_destination(
        &self,
        question: &Question<'_>,
        destination: &Destination,
        address: Option<IpAddr>,
    ) -> Result<Allowed, LocalDenial> {
        let means = |rule: &DestinationRule| match address {
            Some(address) => rule.means(destination, address),
            None => rule.may_mean(destination),
        };
        self.by_a_rule(|rule| {
            let allowed = rule.decide(question)?;
            if rule.destinations.iter().any(means) { Ok(allowed) } else { Err(LocalDenial::Destination) }
        })
    }

    fn by_a_rule(&self, decide: impl Fn(&Rule) -> Result<Allowed, LocalDenial>) -> Result<Allowed, LocalDenial> {
        let mut furthest = LocalDenial::Person;
        for rule in &self.allow {
            match decide(rule) {
                Ok(allowed) => return Ok(allowed),
                Err(denial) => furthest = furthest.max(denial),
            }
        }
        Err(furthest)
    }
}

impl Rule {
    fn names_nobody(&self) -> bool {
        !self.everyone && self.subjects.is_empty() && self.groups.is_empty()
    }

    fn takes_mfa(&self, question: &Question<'_>) -> bool {
        let Some(mfa) = question.mfa else { return !self.require_mfa && self.mfa_minutes.is_none() };
        let (Some(minutes), Some(now)) = (self.mfa_minutes, question.opens_at) else { return true };
        let most = Duration::from_secs(u64::from(minutes) * 60);
        // What was passed in the future says nothing of its age.
        mfa.at.since(now) <= crate::oidc::SKEW && now.since(mfa.at) <= most
    }

    fn means_in_cluster(&self, cluster: &KubeRequest) -> bool {
        let listed = |list: &[String], name: &String| list.iter().any(|known| known == "*" || known == name);
        listed(&self.cluster_users, &cluster.user)
            && cluster.groups.iter().all(|group| listed(&self.cluster_groups, group))
    }

    fn decide(&self, question: &Question<'_>) -> Result<Allowed, LocalDenial> {
        let check = |holds: bool, denial| if holds { Ok(()) } else { Err(denial) };
        let person = &question.claims.person;
        let named = self.everyone
            || self.subjects.contains(&person.subject)
            || question.claims.groups.iter().any(|g| self.groups.contains(g));
        check(self.issuer == person.issuer && named, LocalDenial::Person)?;
        check(self.verbs.contains(question.verb), LocalDenial::Verb)?;
        let means =
            |user| self.target_users.iter().any(|r| r.resolve(question.claims.address.as_ref()).as_ref() == Some(user));
        // A database's account that nobody named could be any.
        let any = *question.verb != Verb::Database || self.target_users.is_empty();
        check(question.user.map_or(any, means), LocalDenial::User)?;
        check(question.cluster.is_none_or(|cluster| self.means_in_cluster(cluster)), LocalDenial::User)?;
        check(self.modes.contains(&question.mode), LocalDenial::Mode)?;
        check(!self.require_recording || question.recorded, LocalDenial::Recording)?;
        check(self.takes_mfa(question), LocalDenial::Mfa)?;
        Ok(Allowed { session_cap: self.session_minutes.map(|m| Duration::from_secs(u64::from(m) * 60)) })
    }
}

/// Whether an address is one that only an explicit rule may reach: link-local, and so every cloud's metadata service.
#[must_use]
pub const fn is_guarded(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.is_link_local() || v4.is_unspecified(),
            None => {
                v6.is_unicast_link_local()
                    || v6.is_unspecified()
                    || matches!(v6.segments(), [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254])
            }
        },
    }
}

#[cfg(test)]
mod tests;
