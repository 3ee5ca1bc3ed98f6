//! Who calls: a person by the proof of the login's client key, a program by an API key, or nobody.
//!
//! Absent: what a caller may do. There is no bearer secret of a person: each call is signed and taken once.

pub mod hash;
pub mod key;
pub(crate) mod limit;
pub(crate) mod replay;

use std::net::IpAddr;
use std::sync::PoisonError;

use axum::http::{HeaderMap, header};
use bz_core::api::policy::SubjectType;
use bz_core::api::proof::{Call as SignedCall, Proof, WINDOW};
use bz_core::api::record::Actor;
use bz_core::id::UserId;
use bz_core::key::PublicKey;

use crate::app::App;
use crate::auth::key::{KeyCall, KeyStanding};
use crate::auth::replay::Seen;
use crate::error::ApiError;
use crate::mfa::Standing;
use crate::policy::Asker;
use crate::store::StoreError;
use crate::store::login::Login;
use crate::store::user::User;

/// The header of API keys.
pub const API_KEY: &str = "x-api-key";

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Nobody proved.
    Anonymous,
    /// A person, logged in.
    Person(Box<LoggedIn>),
    /// A program with an access or registration key.
    Key(Box<KeyCall>),
    /// An identity provider that sends events, by its issuer.
    Hook(String),
}

/// A person and the login the call was proved under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// The login.
    pub login: Login,
    /// The person.
    pub user: User,
    /// What the second factor still asks of the login.
    pub standing: Standing,
}

impl Caller {
    /// The caller, as policy sees one.
    #[must_use]
    pub fn asker(&self) -> Asker {
        match self {
            Self::Anonymous => Asker::Anonymous,
            Self::Person(person) if person.user.kind == SubjectType::ServiceAccount => Asker::ServiceAccount {
                id: person.user.id,
                is_admin: person.user.is_admin,
                pending: person.standing.is_pending(),
            },
            Self::Person(person) => Asker::Person {
                id: person.user.id,
                is_admin: person.user.is_admin,
                is_auditor: person.user.is_auditor,
                pending: person.standing.is_pending(),
            },
            Self::Key(call) if call.key.is_registration => {
                Asker::Registration { id: call.key.id, standing: call.standing }
            }
            Self::Key(call) => Asker::Key {
                id: call.key.id,
                standing: call.standing,
                scopes: call.key.scopes.clone(),
                limited: call.key.expires.is_some() || !call.key.ranges.is_empty(),
            },
            Self::Hook(_) => Asker::Hook,
        }
    }

    /// The caller, as logs name one.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match self {
            Self::Anonymous => Actor {
                subject_id: None,
                subject_type: SubjectType::User,
                subject_name: String::new(),
                is_admin: false,
            },
            Self::Person(person) => actor(&person.user),
            Self::Key(call) => Actor {
                // The original names every kind of subject by one id field.
                subject_id: Some(UserId::from_bytes(*call.key.id.as_bytes())),
                subject_type: SubjectType::ApiKey,
                subject_name: call.key.name.clone(),
                is_admin: false,
            },
            Self::Hook(issuer) => Actor {
                subject_id: None,
                subject_type: SubjectType::User,
                subject_name: format!("the identity provider {issuer}"),
                is_admin: false,
            },
        }
    }

    /// Whether this is somebody: strangers' calls are counted, and so are those by keys that are not good.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        match self {
            Self::Anonymous => false,
            Self::Person(_) | Self::Hook(_) => true,
            Self::Key(call) => call.standing == KeyStanding::Good,
        }
    }

    /// The person.
    ///
    /// # Errors
    /// [`ApiError::denied`] for everybody else.
    pub fn person(&self) -> Result<&LoggedIn, ApiError> {
        match self {
            Self::Person(person) => Ok(person),
            Self::Anonymous | Self::Key(_) | Self::Hook(_) => {
                Err(ApiError::denied("only a person who is logged in can do this"))
            }
        }
    }
}

/// A person, as logs name one.
#[must_use]
pub fn actor(user: &User) -> Actor {
    Actor {
        subject_id: Some(user.id),
        subject_type: user.kind,
        subject_name: user.name().to_owned(),
        is_admin: user.is_admin,
    }
}

/// Finds out who made a call.
///
/// # Errors
/// [`ApiError::not_logged_in`] for credentials that prove nobody; having none is [`Caller::Anonymous`].
pub async fn authenticate(
    app: &App,
    (headers, from): (&HeaderMap, IpAddr),
    call: &SignedCall<'_>,
) -> Result<Caller, ApiError> {
    match (headers.get(header::AUTHORIZATION), headers.get(API_KEY)) {
        (None, None) => Ok(Caller::Anonymous),
        (Some(_), Some(_)) => Err(ApiError::bad_request("send either Authorization or X-API-KEY, not both")),
        (None, Some(secret)) => {
            key::by_secret(app, secret.as_bytes(), from).await.map(|call| Caller::Key(Box::new(call)))
        }
        (Some(_), None) => by_proof(app, &proof(headers)?, call).await.map(|p| Caller::Person(Box::new(p))),
    }
}

/// The provider that sends an event, by the secret of its hook.
///
/// # Errors
/// [`ApiError::not_logged_in`] for whatever is none.
pub fn hook(app: &App, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let given = headers.get(header::AUTHORIZATION);
    let unknown = ApiError::not_logged_in("Authorization is no secret of an event hook");
    let Some(secret) = given else { return Err(unknown) };
    let issuer = app.groups.hook_of(secret.as_bytes());
    issuer.map(|issuer| Caller::Hook(issuer.to_owned())).ok_or_else(|| unknown.guess())
}

/// The proof in the headers.
///
/// # Errors
/// [`ApiError::not_logged_in`] when there is none.
pub fn proof(headers: &HeaderMap) -> Result<Proof, ApiError> {
    let header = headers.get(header::AUTHORIZATION).and_then(|h| h.to_str().ok()).unwrap_or_default();
    Proof::parse(header).map_err(|e| ApiError::not_logged_in(e.to_string()))
}

/// Checks that `key` made this proof for this call, now, and for the first time.
///
/// # Errors
/// [`ApiError::not_logged_in`], or [`ApiError::too_many`] when proofs come faster than they can be remembered.
pub fn check_proof(app: &App, proof: &Proof, call: &SignedCall<'_>, key: &PublicKey) -> Result<(), ApiError> {
    let now = app.now().wall;
    if proof.time.since(now) > WINDOW || now.since(proof.time) > WINDOW {
        return Err(ApiError::not_logged_in("the call's time is not the server's: check the clock"));
    }
    proof
        .verify(call, key)
        .map_err(|_| ApiError::not_logged_in("the call is not signed by this login's key").guess())?;
    let mut replay = app.replay.lock().unwrap_or_else(PoisonError::into_inner);
    match replay.see(proof.login, proof.random, proof.time, now) {
        Seen::New => Ok(()),
        Seen::Before => Err(ApiError::not_logged_in("this call was made before")),
        Seen::Full => Err(ApiError::too_many()),
    }
}

async fn by_proof(app: &App, proof: &Proof, call: &SignedCall<'_>) -> Result<LoggedIn, ApiError> {
    let unknown = || ApiError::not_logged_in("this login is unknown: log in again");
    let (login, user) = app.store.login(proof.login).await?.ok_or_else(unknown)?;
    check_proof(app, proof, call, &login.client_key)?;
    if login.ended {
        return Err(ApiError::not_logged_in("this login was logged out"));
    }
    if app.now().wall >= login.expires {
        return Err(ApiError::not_logged_in("this login has expired: refresh it or log in again"));
    }
    let standing = standing(app, &login).await?;
    Ok(LoggedIn { login, user, standing })
}

/// What the second factor asks of a login now.
///
/// # Errors
/// [`StoreError`].
pub async fn standing(app: &App, login: &Login) -> Result<Standing, StoreError> {
    let factor = app.store.factor(login.user).await?;
    Ok(factor.standing(login.mfa.as_ref(), app.now().wall, app.config().mfa_grace()))
}
