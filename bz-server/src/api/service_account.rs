//! Service accounts: programs that prove themselves by a key set of their owner's, and a code.
//!
//! What none of them may do whatever its role is a list in `policy/bz.rego`.

use bz_core::api::login::{MfaActionRequired, Registered};
use bz_core::api::policy::SubjectType;
use bz_core::api::service_account::{
    ChangeServiceAccount, LoginServiceAccount, LoginWorkload, NewServiceAccount, NewWorkload, RotatedSecret,
    ServiceAccount as Body, ServiceAccountMade, WorkloadJob,
};
use bz_core::cert::BzCert;
use bz_core::id::{OrganizationId, UserId};
use bz_core::oidc::Person;
use bz_core::oidc::provider::Commitment;
use bz_core::oidc::service::{self, JwksPattern};
use bz_core::oidc::workload::Workload;
use bz_core::totp::TotpSecret;
use bz_core::trust::TrustBundle;

use crate::api::call::check_name;
use crate::api::openapi::Nothing;
use crate::api::page::List;
use crate::api::{Answer, Call, mfa, user};
use crate::auth;
use crate::connection;
use crate::error::ApiError;
use crate::mfa::Enrolment;
use crate::store::login::Registration;
use crate::store::service_account::{Root, ServiceAccount};
use crate::store::user::User;

/// `POST service-accounts/login`: two roots at once, the account's own signature and a code.
pub(super) async fn login(call: Call, body: LoginServiceAccount) -> Result<Answer<Registered>, ApiError> {
    let proof = auth::proof(&call.head.headers)?;
    let unknown = || ApiError::not_logged_in("there is no such service account, or it is disabled");
    let issuer = BzCert::claimed_issuer(&body.certificate.0).unwrap_or_default();
    let address = service::address(&issuer).ok_or_else(unknown)?.to_owned();
    let account = call.app.store.service_account_at(address).await?.filter(|a| a.enabled).ok_or_else(unknown)?;
    let Root::KeySet { pattern, .. } = &account.root else { return Err(unknown()) };
    let pinned = TrustBundle { service_accounts: vec![pattern.clone()], ..call.app.bundle() };
    let provider = pinned.provider(&issuer).ok_or_else(unknown)?;
    let cert = user::verify_by(&call, proof.login, &body.certificate.0, &provider).await?;
    auth::check_proof(&call.app, &proof, &call.signed(), &cert.client_key())?;
    if cert.claims().person != account.user.person {
        return Err(unknown());
    }
    call.note_actor(auth::actor(&account.user));
    call.note(proof.login.to_string());
    let login = user::login(&call, proof.login, &cert);
    let expires_at = login.expires;
    let seen = User { last_login: Some(call.now()), ..account.user };
    let Registration::Done(seen) = call.app.store.register(login, seen, None).await? else {
        return Err(ApiError::not_logged_in("this login has ended: log in again"));
    };
    // Without its code the login is known, and may do nothing.
    mfa::judge(&call, (seen.id, proof.login), &body.totp_passcode).await?;
    call.app.keep_initial(proof.login, cert.initial().clone());
    let user = user::show(&seen, call.app.organization);
    Answer::json(&Registered { user, mfa_action_required: MfaActionRequired::None, expires_at })
}

/// `POST service-accounts/workloads/login`: a job, by a token of its issuer whose audience commits to the client key. What
/// it is stands in the trust bundle, so that this server is one of two that say so.
pub(super) async fn login_workload(call: Call, body: LoginWorkload) -> Result<Answer<Registered>, ApiError> {
    let proof = auth::proof(&call.head.headers)?;
    let issuer = BzCert::claimed_issuer(&body.certificate.0)
        .ok_or_else(|| ApiError::bad_request("the body holds no certificate of a login"))?;
    let provider = user::provider(&call, &issuer, Commitment::Audience).ok_or_else(|| {
        ApiError::not_logged_in("the server's settings name no issuer of jobs like this: see [[provider]] there")
    })?;
    let cert = user::verify_by(&call, proof.login, &body.certificate.0, &provider).await?;
    auth::check_proof(&call.app, &proof, &call.signed(), &cert.client_key())?;
    let job = &cert.claims().person;
    let account = call.app.store.workload(job.clone()).await?.filter(|account| account.enabled).ok_or_else(|| {
        ApiError::not_logged_in(format!("no service account is this job, or it is disabled: {}", job.subject))
    })?;
    call.note_actor(auth::actor(&account.user));
    call.note(proof.login.to_string());
    // Who it was at its issuer: which run of which branch, for whom.
    call.note_context(cert.claims().name.clone().unwrap_or_default());
    let login = user::login(&call, proof.login, &cert);
    let expires_at = login.expires;
    let seen = User { last_login: Some(call.now()), ..account.user };
    let Registration::Done(seen) = call.app.store.register(login, seen, None).await? else {
        return Err(ApiError::not_logged_in("this login has ended: log in again"));
    };
    call.app.keep_initial(proof.login, cert.initial().clone());
    let user = user::show(&seen, call.app.organization);
    Answer::json(&Registered { user, mfa_action_required: MfaActionRequired::None, expires_at })
}

/// `GET service-accounts`.
pub(super) async fn list(call: Call) -> Result<Answer<List<Body>>, ApiError> {
    let all = call.app.store.service_accounts().await?;
    Answer::list(&call, all.iter().map(|account| show(account, call.app.organization)).collect())
}

/// `GET service-accounts/me`.
pub(super) async fn me(call: Call) -> Result<Answer<Body>, ApiError> {
    let id = call.person()?.user.id;
    let account = call.app.store.service_account(id).await?;
    let account = account.ok_or_else(|| ApiError::not_found("service account"))?;
    Answer::json(&show(&account, call.app.organization))
}

/// `GET service-accounts/{id}`.
pub(super) async fn get(call: Call) -> Result<Answer<Body>, ApiError> {
    Answer::json(&show(&find(&call).await?, call.app.organization))
}

/// `POST service-accounts`.
pub(super) async fn add(call: Call, new: NewServiceAccount) -> Result<Answer<ServiceAccountMade>, ApiError> {
    call.note(new.email.clone());
    check_name("email", &new.email)?;
    check_name("externalId", &new.external_id)?;
    service::check_address(&new.jwks_url).map_err(|e| ApiError::field("jwksUrl", &e.to_string()))?;
    let pattern = JwksPattern(new.jwks_url_pattern);
    pattern.check().map_err(|e| ApiError::field("jwksUrlPattern", &e.to_string()))?;
    if !pattern.means(&new.jwks_url) {
        return Err(ApiError::field("jwksUrlPattern", "must mean the jwksUrl"));
    }
    let person = Person { issuer: service::issuer(&new.jwks_url), subject: new.external_id };
    let account = made(&call, (new.email, person), Root::KeySet { url: new.jwks_url, pattern })?;
    let (secret, factor) = new_factor(&call, account.user.id)?;
    call.app.store.add_service_account(account.clone(), factor).await?;
    let service_account_summary = show(&account, call.app.organization);
    Answer::json(&ServiceAccountMade { service_account_summary, mfa_secret: secret.to_base32().to_string() })
}

/// `POST service-accounts/workloads`: a job that the settings pin, so that policies can name it. It has no secret.
pub(super) async fn add_workload(call: Call, new: NewWorkload) -> Result<Answer<Body>, ApiError> {
    call.note(new.name.clone());
    check_name("name", &new.name)?;
    let WorkloadJob { issuer, claims } = new.workload;
    let provider = user::provider(&call, &issuer, Commitment::Audience);
    let provider = provider.ok_or_else(|| {
        ApiError::field("workload.issuer", "must be a [[provider]] of the settings with commitment = \"audience\"")
    })?;
    let job = Workload(claims);
    if !provider.workloads.contains(&job) {
        let rule = "must be one of the issuer's `workloads` in the settings and the trust bundle, claim by claim";
        return Err(ApiError::field("workload.claims", rule));
    }
    let person = Person { issuer, subject: job.subject(provider.organization.as_ref()) };
    let account = made(&call, (new.name, person), Root::Job(job))?;
    // No code is ever asked of it: what stands for the second root is the server's own rule about its claims.
    let factor = Enrolment { enabled: Some(false), ..Enrolment::default() };
    call.app.store.add_service_account(account.clone(), factor).await?;
    Answer::json(&show(&account, call.app.organization))
}

fn made(call: &Call, (name, person): (String, Person), root: Root) -> Result<ServiceAccount, ApiError> {
    let user = User {
        id: UserId::from_random(call.app.random()?),
        person,
        kind: SubjectType::ServiceAccount,
        email: name,
        full_name: String::new(),
        is_admin: false,
        is_auditor: false,
        created: call.now(),
        last_login: None,
    };
    call.note_context(user.id.to_string());
    Ok(ServiceAccount { user, root, created_by: call.caller.actor().subject_name, enabled: true })
}

/// `PATCH service-accounts/{id}`. One that is disabled ends at once, with all it opened.
pub(super) async fn edit(call: Call, change: ChangeServiceAccount) -> Result<Answer<Body>, ApiError> {
    let mut account = find(&call).await?;
    call.note_context(format!("{change:?}"));
    if let Some(is_admin) = change.is_admin {
        call.app.store.set_admin(account.user.id, is_admin).await?;
        account.user.is_admin = is_admin;
    }
    if let Some(enabled) = change.enabled {
        call.app.store.enable_service_account(account.user.id, enabled).await?;
        account.enabled = enabled;
        if !enabled {
            end(&call, &account, "the service account was disabled").await?;
        }
    }
    Answer::json(&show(&account, call.app.organization))
}

/// `DELETE service-accounts/{id}`: out of all policies, everything ended; logs stay.
pub(super) async fn delete(call: Call) -> Result<Answer<Nothing>, ApiError> {
    let account = find(&call).await?;
    let logins = call.app.store.live_logins(account.user.id, call.now()).await?;
    call.app.store.delete_user(account.user.id, call.author()).await?;
    let by = connection::administrator(&call.caller);
    connection::close_all_of(&call.app, account.user.id, &by, "the service account was deleted").await?;
    for login in logins {
        call.app.links.logged_out(login.id);
    }
    Ok(Answer::empty())
}

/// `PATCH service-accounts/invalidate-cache/{id}`: its key set is fetched anew when it is needed.
pub(super) async fn invalidate_cache(call: Call) -> Result<Answer<Nothing>, ApiError> {
    let account = find(&call).await?;
    call.app.jwks.forget(&account.user.person.issuer).await;
    Ok(Answer::empty())
}

/// `PATCH mfa/rotate/{id}`: a new secret, shown once; every login under the old one ends.
pub(super) async fn rotate(call: Call) -> Result<Answer<RotatedSecret>, ApiError> {
    let account = find(&call).await?;
    if account.jwks_url().is_none() {
        return Err(ApiError::conflict("a job of CI has no second factor, nor any other secret"));
    }
    let (secret, factor) = new_factor(&call, account.user.id)?;
    call.app.store.change_factor(account.user.id, move |_| (factor, ())).await?;
    end(&call, &account, "the second factor of the service account was rotated").await?;
    Answer::json(&RotatedSecret(secret.to_base32().to_string()))
}

fn new_factor(call: &Call, id: UserId) -> Result<(TotpSecret, Enrolment), ApiError> {
    let secret = TotpSecret::from_bytes(call.app.random()?);
    let sealed = crate::mfa::propose(&call.app.vault, id, (secret.clone(), call.app.random()?));
    let sealed = sealed.map_err(ApiError::internal)?;
    Ok((secret, Enrolment { enabled: Some(true), secret: Some(sealed), ..Enrolment::default() }))
}

async fn end(call: &Call, account: &ServiceAccount, why: &str) -> Result<(), ApiError> {
    let (app, id) = (&call.app, account.user.id);
    for login in app.store.live_logins(id, call.now()).await? {
        app.store.logout(login.id, call.now()).await?;
        app.links.logged_out(login.id);
    }
    connection::close_all_of(app, id, &connection::administrator(&call.caller), why).await?;
    Ok(())
}

async fn find(call: &Call) -> Result<ServiceAccount, ApiError> {
    let account = call.app.store.service_account(call.id()?).await?;
    let account = account.ok_or_else(|| ApiError::not_found("service account"))?;
    call.note(account.user.name());
    Ok(account)
}

fn show(account: &ServiceAccount, organization_id: OrganizationId) -> Body {
    let user = &account.user;
    let (jwks_url, jwks_url_pattern, workload) = match &account.root {
        Root::KeySet { url, pattern } => (url.clone(), pattern.0.clone(), None),
        Root::Job(job) => {
            let workload = WorkloadJob { issuer: user.person.issuer.clone(), claims: job.0.clone() };
            (String::new(), String::new(), Some(workload))
        }
    };
    Body {
        id: user.id,
        organization_id,
        email: user.email.clone(),
        external_id: user.person.subject.clone(),
        jwks_url,
        jwks_url_pattern,
        is_admin: user.is_admin,
        time_created: user.created.to_string(),
        last_login: user.last_login.map(|t| t.to_string()),
        created_by: account.created_by.clone(),
        enabled: account.enabled,
        workload,
    }
}
