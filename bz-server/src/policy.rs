//! Policy: every call and every access to a target is decided here, by the Rego of `policy/bz.rego`, and nowhere else.
//!
//! An engine that fails denies, and says so in the log. Absent: storage, HTTP, and any role checked in Rust.

pub mod engine;
pub mod index;
pub mod input;

use bz_core::access::Verb;
use bz_core::grant::Recording;
use bz_core::id::PolicyId;
use bz_core::target::{TargetUser, UserRule};

pub use crate::policy::engine::Engine;
pub use crate::policy::index::Index;
pub use crate::policy::input::{AccessQuestion, Asker, Document, OperationQuestion, PersonInput, TargetInput};

/// A user allowed on a target, and how the policy named it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct AllowedUser {
    /// The user.
    pub user: TargetUser,
    /// The name itself, or `{username}`.
    pub rule: UserRule,
}

/// The answer to an [`AccessQuestion`].
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The policies that allow it.
    pub policies: Vec<PolicyId>,
    /// The users it is allowed as, each once, a literal name before a substitution.
    pub users: Vec<AllowedUser>,
    /// Whether no user need be named: policies allow any account.
    pub any_user: bool,
    /// Whether the log of statements leaves out values.
    pub redacted: bool,
    /// What must be recorded.
    pub recording: Recording,
    /// Whether nothing goes on unrecorded.
    pub must_record: bool,
    /// Why, in a sentence.
    pub reason: String,
}

/// A user allowed on a target at all, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedUser {
    /// The user, and how a policy named it.
    pub allowed: AllowedUser,
    /// The verbs that policies give as this user, each once.
    pub verbs: Vec<Verb>,
}

/// What a person may do on a target at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// The users that any verb is allowed as, each once, a literal name before a substitution.
    pub users: Vec<ReachedUser>,
    /// The verbs.
    pub verbs: Vec<Verb>,
    /// As whom, and in which groups, in a cluster.
    pub cluster: (Vec<String>, Vec<String>),
}

impl Decision {
    /// Both of them: as whom both allow it.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if !self.allowed {
            return self;
        }
        if !other.allowed {
            return other;
        }
        let same = |user: &AllowedUser| {
            let found = other.users.iter().find(|known| known.user == user.user)?;
            // What needs the person's token in one of them needs it.
            Some(if found.rule.is_substituted() { found.clone() } else { user.clone() })
        };
        let users: Vec<_> = self.users.iter().filter_map(same).collect();
        let (allowed, reason) = if users.is_empty() {
            (false, "policies allow these verbs on this target, but not as the same user".to_owned())
        } else {
            (true, self.reason)
        };
        let mut policies = self.policies;
        policies.extend(other.policies.into_iter().filter(|policy| !policies.contains(policy)).collect::<Vec<_>>());
        Self { allowed, policies, users, reason, ..other }
    }

    /// No, for a reason that is not about any policy.
    #[must_use]
    pub fn no(reason: &str) -> Self {
        Self {
            allowed: false,
            policies: Vec::new(),
            users: Vec::new(),
            any_user: false,
            redacted: true,
            recording: Recording { output: false, input: false },
            must_record: false,
            reason: reason.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(allowed: bool, policy: u8, users: &[(&str, &str)]) -> Decision {
        let user =
            |(user, rule): &(&str, &str)| AllowedUser { user: user.parse().unwrap(), rule: rule.parse().unwrap() };
        let users = users.iter().map(user).collect();
        let policies = vec![PolicyId::from_bytes([policy; 16])];
        Decision { allowed, policies, users, ..Decision::no(if allowed { "allowed" } else { "no" }) }
    }

    #[test]
    fn two_verbs_are_allowed_as_whom_both_are() {
        let first = || decision(true, 1, &[("alice", "alice"), ("bob", "bob"), ("root", "root")]);
        let second = decision(true, 2, &[("alice", "{username}"), ("root", "root")]);
        let both = first().and(second);
        let users: Vec<_> = both.users.iter().map(|user| (user.user.to_string(), user.rule.is_substituted())).collect();
        assert_eq!(users, [("alice".to_owned(), true), ("root".to_owned(), false)], "what needs the token needs it");
        assert_eq!((both.allowed, both.policies.len()), (true, 2));

        let nobody = first().and(decision(true, 2, &[("carol", "carol")]));
        assert!(!nobody.allowed && nobody.reason.contains("not as the same user"), "{}", nobody.reason);
        for (one, other) in [(first(), decision(false, 2, &[])), (decision(false, 1, &[]), first())] {
            let neither = one.and(other);
            assert_eq!((neither.allowed, neither.reason.as_str()), (false, "no"));
        }
    }
}
