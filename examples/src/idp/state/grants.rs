//! Logins under way, codes, and the token families that grow out of them (RFC 6749, RFC 7636, RFC 9700).
//!
//! One record per login: it is a code first, then a family with one living refresh token. Whatever is shown to a
//! record that does not fit its present stage ends the record, so a stolen code or refresh token dies at its second use.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::token::{self, Hashed};

const CODE_LIFE: u64 = 60;
const LOGIN_LIFE: u64 = 600;
const FAMILY_LIFE: u64 = 30 * 24 * 3600;
/// Far above what a developer or a test needs, far below what hurts the machine.
const MAX_RECORDS: usize = 4096;

/// Everything issued and not yet over.
#[derive(Debug, Default)]
pub(in crate::idp) struct Grants {
    pending: HashMap<Hashed, Pending>,
    families: HashMap<String, Family>,
}

/// An authorization request that passed every check.
#[derive(Clone, Debug)]
pub(in crate::idp) struct Request {
    pub(in crate::idp) client_id: String,
    /// As the client wrote it: the token request must repeat it letter for letter.
    pub(in crate::idp) redirect_uri: String,
    pub(in crate::idp) back: ReturnTo,
    pub(in crate::idp) nonce: Option<String>,
    pub(in crate::idp) scope: Vec<String>,
    pub(in crate::idp) challenge: String,
}

/// Where the answer goes, and what the client wants to find in it.
#[derive(Clone, Debug)]
pub(in crate::idp) struct ReturnTo {
    pub(in crate::idp) url: Url,
    pub(in crate::idp) state: Option<String>,
}

/// Who logged in, for whom, and when.
#[derive(Clone, Debug)]
pub(in crate::idp) struct Login {
    pub(in crate::idp) user: String,
    pub(in crate::idp) client_id: String,
    pub(in crate::idp) nonce: Option<String>,
    pub(in crate::idp) scope: Vec<String>,
    pub(in crate::idp) auth_time: u64,
}

/// What a client shows for tokens.
pub(in crate::idp) struct Redemption<'a> {
    pub(in crate::idp) code: &'a str,
    pub(in crate::idp) client_id: &'a str,
    pub(in crate::idp) redirect_uri: &'a str,
    pub(in crate::idp) verifier: &'a str,
}

/// What a client gets beside its ID token.
pub(in crate::idp) struct Issued {
    pub(in crate::idp) login: Login,
    pub(in crate::idp) access: String,
    pub(in crate::idp) refresh: Option<String>,
}

/// Why nothing is issued.
#[derive(Debug, thiserror::Error)]
pub(in crate::idp) enum GrantError {
    #[error("too many logins are under way")]
    Full,
    #[error("the system gave no random bytes")]
    Randomness(#[from] getrandom::Error),
    #[error("the code or token is unknown, or its time is over")]
    Unknown,
    #[error("the code or token was used before, or does not fit its login: everything issued from it is revoked")]
    Reused,
    #[error("the code was issued for another client or redirect_uri")]
    OtherRequest,
    #[error("code_verifier does not match the code_challenge")]
    Verifier,
}

#[derive(Debug)]
struct Pending {
    request: Request,
    until: u64,
}

#[derive(Debug)]
struct Family {
    login: Login,
    stage: Stage,
    access: Option<(Hashed, u64)>,
    until: u64,
}

#[derive(Debug)]
enum Stage {
    Code { secret: Hashed, challenge: String, redirect_uri: String },
    Live { refresh: Option<Hashed> },
    Revoked,
}

impl Grants {
    /// Remembers a request while its login page is open; the answer is what the page must send back.
    pub(in crate::idp) fn open_login(&mut self, request: Request, now: u64) -> Result<String, GrantError> {
        self.pending.retain(|_, pending| now < pending.until);
        if self.pending.len() >= MAX_RECORDS {
            return Err(GrantError::Full);
        }
        let transaction = token::random()?;
        self.pending.insert(Hashed::of(&transaction), Pending { request, until: now.saturating_add(LOGIN_LIFE) });
        Ok(transaction)
    }

    /// The client that an open login page is for.
    pub(in crate::idp) fn client_of_login(&self, transaction: &str, now: u64) -> Option<&str> {
        let pending = self.pending.get(&Hashed::of(transaction)).filter(|pending| now < pending.until)?;
        Some(&pending.request.client_id)
    }

    /// The request of a login page, once.
    pub(in crate::idp) fn close_login(&mut self, transaction: &str, now: u64) -> Option<Request> {
        self.pending.remove(&Hashed::of(transaction)).filter(|pending| now < pending.until).map(|found| found.request)
    }

    pub(in crate::idp) fn issue_code(&mut self, request: &Request, user: &str, now: u64) -> Result<String, GrantError> {
        self.families.retain(|_, family| now < family.until);
        if self.families.len() >= MAX_RECORDS {
            return Err(GrantError::Full);
        }
        let (handle, secret) = (token::random()?, token::random()?);
        let login = Login {
            user: user.to_owned(),
            client_id: request.client_id.clone(),
            nonce: request.nonce.clone(),
            scope: request.scope.clone(),
            auth_time: now,
        };
        let stage = Stage::Code {
            secret: Hashed::of(&secret),
            challenge: request.challenge.clone(),
            redirect_uri: request.redirect_uri.clone(),
        };
        let code = token::join(&handle, &secret);
        self.families.insert(handle, Family { login, stage, access: None, until: now.saturating_add(CODE_LIFE) });
        Ok(code)
    }

    /// Any try, also a failed one, is the code's only use.
    pub(in crate::idp) fn redeem(&mut self, shown: &Redemption<'_>, now: u64, life: u64) -> Result<Issued, GrantError> {
        let (handle, secret) = token::split(shown.code).ok_or(GrantError::Unknown)?;
        let family = self.families.get_mut(handle).filter(|family| now < family.until).ok_or(GrantError::Unknown)?;
        let Stage::Code { secret: expected, challenge, redirect_uri } = family.end() else {
            return Err(GrantError::Reused);
        };
        if Hashed::of(secret) != expected {
            return Err(GrantError::Unknown);
        }
        if shown.client_id != family.login.client_id || shown.redirect_uri != redirect_uri {
            return Err(GrantError::OtherRequest);
        }
        if BASE64URL.encode(Sha256::digest(shown.verifier)) != challenge {
            return Err(GrantError::Verifier);
        }
        family.until = now.saturating_add(FAMILY_LIFE);
        family.issue(handle, now, life)
    }

    pub(in crate::idp) fn refresh(
        &mut self,
        shown: &str,
        client_id: &str,
        now: u64,
        life: u64,
    ) -> Result<Issued, GrantError> {
        let (handle, secret) = token::split(shown).ok_or(GrantError::Unknown)?;
        let family = self.families.get_mut(handle).filter(|family| now < family.until).ok_or(GrantError::Unknown)?;
        let Stage::Live { refresh: Some(expected) } = family.end() else {
            return Err(GrantError::Reused);
        };
        if Hashed::of(secret) != expected || client_id != family.login.client_id {
            return Err(GrantError::Reused);
        }
        family.issue(handle, now, life)
    }

    /// The user that a living access token stands for.
    pub(in crate::idp) fn bearer(&self, shown: &str, now: u64) -> Option<&str> {
        let (handle, secret) = token::split(shown)?;
        let family = self.families.get(handle)?;
        let (expected, until) = family.access.as_ref()?;
        (*expected == Hashed::of(secret) && now < *until).then_some(family.login.user.as_str())
    }

    pub(in crate::idp) fn revoke_user(&mut self, user: &str) {
        for family in self.families.values_mut().filter(|family| family.login.user == user) {
            family.end();
        }
    }
}

impl Family {
    /// Takes the stage out and leaves the family dead until [`Self::issue`] finds every check passed.
    fn end(&mut self) -> Stage {
        self.access = None;
        std::mem::replace(&mut self.stage, Stage::Revoked)
    }

    fn issue(&mut self, handle: &str, now: u64, life: u64) -> Result<Issued, GrantError> {
        let access = token::random()?;
        let offline = self.login.scope.iter().any(|scope| scope == "offline_access");
        let refresh = if offline { Some(token::random()?) } else { None };
        self.access = Some((Hashed::of(&access), now.saturating_add(life)));
        self.stage = Stage::Live { refresh: refresh.as_deref().map(Hashed::of) };
        Ok(Issued {
            login: self.login.clone(),
            access: token::join(handle, &access),
            refresh: refresh.map(|secret| token::join(handle, &secret)),
        })
    }
}
