//! People: registering a login, ending it, and who is there.

use bz_core::api::login::{ChangeUser, RegisterUser, Registered, Role, User as UserBody};
use bz_core::api::policy::SubjectType;
use bz_core::cert::{BzCert, CertCheck, CertError, Verified};
use bz_core::id::{LoginId, OrganizationId, UserId};
use bz_core::oidc::TokenError;
use bz_core::oidc::provider::{Commitment, Provider};
use bz_core::target::UserRule;

use crate::api::openapi::Nothing;
use crate::api::page::List;
use crate::api::{Answer, Call, mfa};
use crate::auth;
use crate::connection;
use crate::connection::life::By;
use crate::error::ApiError;
use crate::groups::{self, Heard};
use crate::init::claim_hash;
use crate::seam::directory::Account;
use crate::store::login::{Login, Registration};
use crate::store::user::User;

/// `POST users/register`.
pub(super) async fn register(call: Call, body: RegisterUser) -> Result<Answer<Registered>, ApiError> {
    let proof = auth::proof(&call.head.headers)?;
    let cert = verify(&call, proof.login, &body.certificate.0).await?;
    auth::check_proof(&call.app, &proof, &call.signed(), &cert.client_key())?;
    let (login, seen) = (login(&call, proof.login, &cert), seen(&call, &cert)?);
    call.note_actor(auth::actor(&seen));
    let directory_id = cert.claims().directory_id.clone();
    let (asked, heard) = ask_directory(&call, &seen, directory_id.as_deref()).await?;
    let claim = body.claim.as_deref().map(claim_hash);
    let claimed = claim.is_some();
    let expires_at = login.expires;
    match call.app.store.register(login, seen, claim).await? {
        Registration::Done(user) => {
            call.note_actor(auth::actor(&user));
            call.note(proof.login.to_string());
            if claimed {
                call.note_context("became an administrator by a claim code");
            }
            call.app.keep_initial(proof.login, cert.initial().clone());
            hear_directory(&call, &user, directory_id, (asked, heard)).await?;
            let mfa_action_required = mfa::begin(&call, proof.login).await?.action;
            let user = show(&user, call.app.organization);
            Answer::json(&Registered { user, mfa_action_required, expires_at })
        }
        Registration::BadClaim => Err(ApiError::claim_code()),
        Registration::Refused => Err(ApiError::not_logged_in("this login has ended: log in again")),
    }
}

/// What the provider's directory says of somebody who logs in, and about which groups it was asked.
async fn ask_directory(call: &Call, seen: &User, id: Option<&str>) -> Result<(Vec<String>, Heard), ApiError> {
    let issuer = &seen.person.issuer;
    let (asked, heard) = groups::at_login(&call.app, issuer, id).await?;
    let known = match id {
        Some(id) => call.app.store.directory_user(issuer.clone(), id.to_owned()).await?,
        None => None,
    };
    let deactivated = match (&heard, id) {
        (Heard::Said(Account::Deactivated, turn), _) => {
            if let Some(known) = known {
                groups::take(&call.app, &known, (&[], Account::Deactivated), *turn).await?;
            }
            true
        }
        // Nobody says that it is otherwise by now.
        (Heard::Silent, Some(id)) => call.app.store.is_deactivated(issuer.clone(), id.to_owned()).await?,
        (Heard::Said(Account::Active(_), _) | Heard::Silent | Heard::Nothing, _) => false,
    };
    if deactivated {
        return Err(ApiError::not_logged_in("your organization's identity provider has deactivated this account"));
    }
    Ok((asked, heard))
}

/// Keeps what it said, now that the person is known here.
async fn hear_directory(
    call: &Call,
    user: &User,
    id: Option<String>,
    (asked, heard): (Vec<String>, Heard),
) -> Result<(), ApiError> {
    if let (Some(id), false) = (id, matches!(heard, Heard::Nothing)) {
        call.app.store.keep_directory_id(user.id, user.person.issuer.clone(), id).await?;
    }
    if let Heard::Said(account, turn) = heard
        && groups::take(&call.app, user, (&asked, account), turn).await?
    {
        connection::recheck(&call.app, &By::Service).await?;
    }
    Ok(())
}

/// `POST users/logout`.
pub(super) async fn logout(call: Call) -> Result<Answer<Nothing>, ApiError> {
    let who = call.person()?;
    call.app.store.logout(who.login.id, call.now()).await?;
    connection::after_logout(&call.app, who).await?;
    call.app.links.logged_out(who.login.id);
    Ok(Answer::empty())
}

/// `GET users/me`.
pub(super) async fn me(call: Call) -> Result<Answer<UserBody>, ApiError> {
    Answer::json(&show(&call.person()?.user, call.app.organization))
}

/// `GET users`.
pub(super) async fn list(call: Call) -> Result<Answer<List<UserBody>>, ApiError> {
    let all = call.app.store.users().await?;
    Answer::list(&call, all.iter().map(|u| show(u, call.app.organization)).collect())
}

/// `GET users/{id}`, by id or address.
pub(super) async fn get(call: Call) -> Result<Answer<UserBody>, ApiError> {
    Answer::json(&show(&find(&call).await?, call.app.organization))
}

/// `PATCH users/{id}`: the role. Nobody changes their own.
pub(super) async fn edit(call: Call, change: ChangeUser) -> Result<Answer<UserBody>, ApiError> {
    let changed = change_role(&call, change).await?;
    Answer::json(&show(&changed, call.app.organization))
}

/// Changes the role of the person that the path names.
pub(super) async fn change_role(call: &Call, change: ChangeUser) -> Result<User, ApiError> {
    let user = find(call).await?;
    refuse_self(call, &user, "your own role is somebody else's to change")?;
    call.note_context(format!("role {:?}", change.role));
    let (is_admin, is_auditor) = (change.role == Role::Admin, change.role == Role::Auditor);
    call.app.store.set_role(user.id, (is_admin, is_auditor)).await?;
    Ok(User { is_admin, is_auditor, ..user })
}

/// `DELETE users/{id}`: out of all policies, connections closed at once, logins ended. Logs keep the person's id, and who
/// comes back is somebody new.
pub(super) async fn delete(call: Call) -> Result<Answer<Nothing>, ApiError> {
    let user = find(&call).await?;
    refuse_self(&call, &user, "somebody else must delete you: an organization needs an administrator")?;
    let logins = call.app.store.live_logins(user.id, call.now()).await?;
    // First the person, so that nothing new is opened, then what is open.
    call.app.store.delete_user(user.id, call.author()).await?;
    let by = connection::administrator(&call.caller);
    connection::close_all_of(&call.app, user.id, &by, "the user was deleted").await?;
    for login in logins {
        call.app.links.logged_out(login.id);
    }
    Ok(Answer::empty())
}

/// `PATCH users/{id}/close-connections`.
pub(super) async fn close_connections(call: Call) -> Result<Answer<Nothing>, ApiError> {
    let user = find(&call).await?;
    let by = connection::administrator(&call.caller);
    let closed =
        connection::close_all_of(&call.app, user.id, &by, "all of this user's connections were closed").await?;
    call.note_context(format!("{closed} connections"));
    Ok(Answer::empty())
}

/// The one person that the path names.
pub(super) async fn find(call: &Call) -> Result<User, ApiError> {
    called(call, call.param("id").to_owned()).await
}

/// The one person of this id or address.
pub(super) async fn called(call: &Call, name: String) -> Result<User, ApiError> {
    let mut found = call.app.store.users_called(name).await?;
    let user = found.pop().ok_or_else(|| ApiError::not_found("user"))?;
    call.note(user.name());
    if found.is_empty() {
        return Ok(user);
    }
    found.push(user);
    let ids = found.iter().map(|user| user.id.to_string()).collect();
    Err(ApiError::ambiguous("several people have this address: name one by id", ids))
}

pub(super) fn refuse_self(call: &Call, user: &User, why: &str) -> Result<(), ApiError> {
    let own = call.person().is_ok_and(|who| who.user.id == user.id);
    if own { Err(ApiError::conflict(why)) } else { Ok(()) }
}

async fn verify(call: &Call, login: LoginId, bytes: &[u8]) -> Result<Verified<BzCert>, ApiError> {
    let refused = |error: CertError| ApiError::not_logged_in(error.to_string());
    let issuer = BzCert::claimed_issuer(bytes)
        .ok_or_else(|| ApiError::bad_request("the body holds no certificate of a login"))?;
    // Jobs have a door of their own.
    let provider = provider(call, &issuer, Commitment::Nonce);
    verify_by(call, login, bytes, &provider.ok_or_else(|| refused(CertError::Initial(TokenError::Issuer)))?).await
}

/// The provider of people or of jobs with this issuer.
pub(super) fn provider(call: &Call, issuer: &str, commitment: Commitment) -> Option<Provider> {
    call.app.config().providers.iter().find(|p| p.issuer == issuer && p.commitment == commitment).cloned()
}

/// Checks a certificate against one provider's keys.
pub(super) async fn verify_by(
    call: &Call,
    login: LoginId,
    bytes: &[u8],
    provider: &Provider,
) -> Result<Verified<BzCert>, ApiError> {
    let refused = |error: CertError| ApiError::not_logged_in(error.to_string());
    let before = call.app.store.login(login).await?.map(|(login, _)| login.token_issued);
    let known = call.app.initial(login);
    let check = |keys: &bz_core::oidc::jwks::Jwks, provider: &Provider| {
        let check = CertCheck {
            organization: call.app.organization,
            provider,
            jwks: keys,
            max_age: call.app.config().login_max(),
            known_initial: known.as_ref(),
            not_older_than: before,
            now: call.now(),
        };
        BzCert::verify(bytes, &check)
    };
    let mono = call.app.now().mono;
    let keys = call.app.jwks.keys(provider, mono).await?;
    match check(&keys, provider) {
        Err(CertError::Initial(TokenError::UnknownKey) | CertError::Current(TokenError::UnknownKey)) => {
            let keys = call.app.jwks.keys_again(provider, mono).await?;
            check(&keys, provider).map_err(refused)
        }
        other => other.map_err(refused),
    }
}

pub(super) fn login(call: &Call, id: LoginId, cert: &BzCert) -> Login {
    let claims = cert.claims();
    // A directory is believed alone: a token says for as long as it counts what it said when it was made.
    let told = !call.app.groups.has(&claims.person.issuer);
    Login {
        id,
        // Replaced by the person's own id in the store.
        user: UserId::from_bytes([0; 16]),
        client_key: cert.client_key(),
        certificate: cert.digest(),
        expires: cert.expires_at(),
        token_issued: claims.issued_at,
        username: UserRule::Username.resolve(claims.address.as_ref()),
        groups: claims.groups.iter().filter(|_| told).cloned().collect(),
        ended: false,
        // Kept by the store, where the login is known.
        mfa: None,
    }
}

fn seen(call: &Call, cert: &BzCert) -> Result<User, ApiError> {
    let claims = cert.claims();
    let now = call.now();
    Ok(User {
        id: UserId::from_random(call.app.random()?),
        person: claims.person.clone(),
        kind: SubjectType::User,
        email: claims.address.as_ref().map(ToString::to_string).unwrap_or_default(),
        full_name: claims.name.clone().unwrap_or_default(),
        is_admin: false,
        is_auditor: false,
        created: now,
        last_login: Some(now),
    })
}

pub(super) fn show(user: &User, organization: OrganizationId) -> UserBody {
    UserBody {
        id: user.id,
        organization_id: organization,
        email: user.email.clone(),
        full_name: user.full_name.clone(),
        is_admin: user.is_admin,
        is_auditor: user.is_auditor,
        time_created: user.created.to_string(),
        last_login: user.last_login.map(|t| t.to_string()),
        issuer: user.person.issuer.clone(),
        subject: user.person.subject.clone(),
    }
}
