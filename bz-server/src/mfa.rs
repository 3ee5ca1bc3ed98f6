//! The second factor: what is asked of a login, and what becomes of a code.
//!
//! Everything here is a function of what the store holds; the store runs `attempt` within one transaction, so that a
//! code is taken once whoever comes at the same moment, and also after a restart. A method beside codes, such as
//! `WebAuthn`, is another function like `attempt` with another name in the grant.
//!
//! Absent: who may call what with a login that still lacks it, which is `policy/bz.rego`'s.

mod vault;

use std::time::Duration;

use bz_core::api::login::MfaActionRequired;
use bz_core::digest::Digest;
use bz_core::grant::Mfa;
use bz_core::id::{LoginId, UserId};
use bz_core::time::UnixTime;
use bz_core::totp::{DIGITS, TotpSecret, base32};

pub(crate) use vault::{SealedSecret, Vault, VaultError};

/// The method of a code, as grants name it.
pub const TOTP: &str = "totp";
/// The method of a recovery code.
pub const RECOVERY: &str = "recovery";
/// How many wrong codes in a row lock; each further one locks again.
pub const TRIES: u32 = 5;
/// For how long.
pub const LOCK: Duration = Duration::from_secs(15 * 60);
/// How long ago the factor may have been passed by who changes their own.
pub const FRESH: Duration = Duration::from_secs(10 * 60);
/// How many recovery codes there are.
pub const RECOVERY_CODES: usize = 10;
/// The random bytes of one: sixteen symbols.
const RECOVERY_BYTES: usize = 10;

/// What the organization asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Controls {
    /// Whether everybody needs a second factor.
    pub enabled: bool,
    /// For how long passing it counts.
    pub lasts: Option<Duration>,
}

/// A person's second factor, as the store holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enrolment {
    /// Whether this person needs one; as the organization says when absent.
    pub enabled: Option<bool>,
    /// The confirmed secret.
    pub(crate) secret: Option<SealedSecret>,
    /// A new one that no code confirmed yet, and the login it was shown to.
    pub(crate) proposed: Option<(SealedSecret, LoginId)>,
    /// The step of the last code that was taken.
    pub last_step: u64,
    /// Wrong codes since the last right one.
    pub failures: u32,
    /// No code is taken before.
    pub locked_until: Option<UnixTime>,
    /// Until when the factor may be missing; not begun when absent.
    pub grace_ends: Option<UnixTime>,
    /// What is left of the recovery codes.
    pub recovery: Vec<Digest>,
}

/// The rules and one person's factor, read together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Factor {
    /// The organization's rules.
    pub controls: Controls,
    /// The person's.
    pub enrolment: Enrolment,
}

/// How a login stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What is asked of it.
    pub action: MfaActionRequired,
    /// Until when what it passed counts; as long as it lasts when absent.
    pub until: Option<UnixTime>,
}

impl Standing {
    /// Of what nothing is asked.
    pub const FREE: Self = Self { action: MfaActionRequired::None, until: None };

    /// Whether it may do nothing but finish.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        matches!(self.action, MfaActionRequired::Totp | MfaActionRequired::Reset)
    }
}

impl Enrolment {
    /// Whether a code confirmed a secret.
    #[must_use]
    pub const fn is_verified(&self) -> bool {
        self.secret.is_some()
    }
}

impl Factor {
    /// Whether this person's logins need a second factor.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.enrolment.enabled.unwrap_or(self.controls.enabled)
    }

    /// Until when it may be missing, where it is needed and missing.
    #[must_use]
    pub fn grace(&self, now: UnixTime, grace: Duration) -> Option<UnixTime> {
        let missing = self.is_needed() && !self.enrolment.is_verified();
        missing.then(|| self.enrolment.grace_ends.unwrap_or_else(|| now.after(grace)))
    }

    /// Until when having passed then counts; for ever when absent.
    #[must_use]
    pub fn ends(&self, passed: &Mfa) -> Option<UnixTime> {
        self.controls.lasts.map(|lasts| passed.at.after(lasts))
    }

    /// Whether this login's passing counts now.
    #[must_use]
    pub fn counts(&self, passed: Option<&Mfa>, now: UnixTime) -> bool {
        passed.is_some_and(|passed| self.ends(passed).is_none_or(|end| now < end))
    }

    /// How a login stands that passed so, or not at all.
    #[must_use]
    pub fn standing(&self, passed: Option<&Mfa>, now: UnixTime, grace: Duration) -> Standing {
        let action = |action| Standing { action, until: None };
        if let Some(ends) = self.grace(now, grace) {
            let waits = now < ends;
            return action(if waits { MfaActionRequired::ResetDeferAllowed } else { MfaActionRequired::Reset });
        }
        if !self.is_needed() {
            return Standing::FREE;
        }
        match passed.filter(|_| self.counts(passed, now)) {
            Some(passed) => Standing { action: MfaActionRequired::None, until: self.ends(passed) },
            None => action(MfaActionRequired::Totp),
        }
    }
}

/// A code that somebody gave.
pub struct Attempt<'a> {
    /// Whose.
    pub user: UserId,
    /// By which login.
    pub login: LoginId,
    /// The code.
    pub token: &'a str,
    /// New recovery codes, kept where this confirms a secret.
    pub fresh: &'a [Digest],
    /// The time.
    pub now: UnixTime,
}

impl std::fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The factor is passed by this method.
    Passed(&'static str),
    /// So it is, and the proposed secret counts from now on.
    Confirmed,
    /// The code is not good.
    Wrong,
    /// It was good, and taken before: no guess, and so not counted as one.
    Used,
    /// It was not looked at: too many were wrong.
    Locked(UnixTime),
    /// There is no secret to compare with.
    NotEnrolled,
}

/// Judges a code, and says how the enrolment is after it.
pub(crate) fn attempt(
    vault: &Vault,
    before: &Enrolment,
    attempt: &Attempt<'_>,
) -> Result<(Enrolment, Outcome), VaultError> {
    let mut after = before.clone();
    if let Some(until) = before.locked_until.filter(|until| attempt.now < *until) {
        return Ok((after, Outcome::Locked(until)));
    }
    let proposed = before.proposed.as_ref().filter(|(_, to)| *to == attempt.login).map(|(secret, _)| secret);
    if proposed.is_none() && before.secret.is_none() {
        return Ok((after, Outcome::NotEnrolled));
    }
    let check = |sealed: Option<&SealedSecret>, used| match sealed {
        Some(sealed) => Ok(vault.open(attempt.user, sealed)?.check(attempt.token, attempt.now, used)),
        None => Ok(None),
    };
    let taken = |after: &mut Enrolment| (after.failures, after.locked_until) = (0, None);
    if let Some(step) = check(proposed, 0)? {
        taken(&mut after);
        after.secret = after.proposed.take().map(|(secret, _)| secret);
        (after.last_step, after.recovery, after.grace_ends) = (step, attempt.fresh.to_vec(), None);
        // Who enrolls wants it, also where nobody demands it.
        after.enabled = Some(true);
        return Ok((after, Outcome::Confirmed));
    }
    if let Some(step) = check(before.secret.as_ref(), before.last_step)? {
        taken(&mut after);
        after.last_step = step;
        return Ok((after, Outcome::Passed(TOTP)));
    }
    if check(before.secret.as_ref(), 0)?.is_some() {
        return Ok((after, Outcome::Used));
    }
    let digest = recovery_digest(attempt.user, attempt.token);
    if let Some(at) = before.recovery.iter().position(|known| Some(*known) == digest) {
        taken(&mut after);
        after.recovery.remove(at);
        return Ok((after, Outcome::Passed(RECOVERY)));
    }
    after.failures = after.failures.saturating_add(1);
    if after.failures >= TRIES {
        after.locked_until = Some(attempt.now.after(LOCK));
    }
    Ok((after, Outcome::Wrong))
}

/// The bytes that recovery codes are made of.
pub(crate) type RecoverySeed = [u8; RECOVERY_CODES * RECOVERY_BYTES];

/// New recovery codes: what is shown, and what is kept.
pub(crate) fn recovery_codes(user: UserId, random: &RecoverySeed) -> (Vec<String>, Vec<Digest>) {
    let code = |bytes: &[u8]| {
        let symbols = base32(bytes).to_lowercase();
        let groups = symbols.as_bytes().chunks(4).map(|group| String::from_utf8_lossy(group).into_owned());
        groups.collect::<Vec<_>>().join("-")
    };
    let codes: Vec<String> = random.chunks_exact(RECOVERY_BYTES).map(code).collect();
    let digests = codes.iter().filter_map(|code| recovery_digest(user, code)).collect();
    (codes, digests)
}

/// SHA-256 of eighty random bits and whose they are: nothing to guess, so nothing to slow down.
fn recovery_digest(user: UserId, code: &str) -> Option<Digest> {
    let plain: String = code.chars().filter(|c| !c.is_whitespace() && *c != '-').collect::<String>().to_lowercase();
    let whole = plain.len() == RECOVERY_BYTES * 8 / 5;
    whole.then(|| Digest::of(&[b"bz/1 recovery\0", user.as_bytes().as_slice(), plain.as_bytes()].concat()))
}

/// Whether a text could be a code at all: who pastes something else into a terminal has not guessed.
#[must_use]
pub fn is_code(token: &str) -> bool {
    let digits = token.len() == DIGITS && token.bytes().all(|b| b.is_ascii_digit());
    digits || recovery_digest(UserId::from_bytes([0; 16]), token).is_some()
}

/// A new secret and how it is kept.
pub(crate) fn propose(
    vault: &Vault,
    user: UserId,
    (secret, nonce): (TotpSecret, [u8; vault::NONCE]),
) -> Result<SealedSecret, VaultError> {
    vault.seal(user, &secret, nonce)
}

#[cfg(test)]
mod tests;
