//! Why something is allowed, or not, and what an administrator would do about it.

use bz_core::access::{Mode, Verb};
use bz_core::api::access::{Why, WhyPolicy, WhyQuestion};

use crate::api::{Answer, Call};
use crate::auth::LoggedIn;
use crate::connection::{find_target, question};
use crate::error::ApiError;
use crate::policy::Decision;
use crate::store::policy::Policy;
use crate::store::target::Target;

/// `POST policy-query/why`.
pub(super) async fn why(call: Call) -> Result<Answer, ApiError> {
    let ask: WhyQuestion = call.json()?;
    let who = about(&call, ask.user_email.as_deref()).await?;
    let names = (ask.target_name, ask.environment_name);
    let target = find_target(&call.app, ask.target_id, names).await?;
    call.note(target.name.clone());
    let verb = ask.verb_type.unwrap_or(Verb::Shell);
    let what = (verb.clone(), ask.target_user.clone(), Mode::Inspected);
    let policies = call.app.store.policies().await?.all;
    let decision = call.app.engine.access(&question(&who, &target, what, call.now()).about(&policies));
    let user = ask.target_user.map(|u| u.to_string());
    let remedy = (!decision.allowed).then(|| remedy(&who, &target, &verb, user.as_deref()));
    Answer::json(&explain(decision, &policies, remedy))
}

/// The person the question is about. Another's username and groups are those of a live login, where there is one.
async fn about(call: &Call, email: Option<&str>) -> Result<LoggedIn, ApiError> {
    let who = call.person()?;
    let Some(email) = email.filter(|e| *e != who.user.email) else { return Ok(who.clone()) };
    if !call.has("policyqueryservice:why-others") {
        return Err(ApiError::denied("only administrators ask about others"));
    }
    let user = call.app.store.users_called(email.to_owned()).await?.into_iter().next();
    let user = user.ok_or_else(|| ApiError::not_found("user"))?;
    let login = call.app.store.live_logins(user.id, call.now()).await?.into_iter().next();
    let login = login.ok_or_else(|| {
        ApiError::conflict("this person is not logged in, so the identity provider's groups are not known here")
    })?;
    Ok(LoggedIn { login, user })
}

fn explain(decision: Decision, policies: &[Policy], remedy: Option<String>) -> Why {
    let named = policies.iter().filter(|p| decision.policies.contains(&p.id));
    Why {
        allowed: decision.allowed,
        policies: named.map(|p| WhyPolicy { id: p.id, name: p.name.clone() }).collect(),
        allowed_target_users: decision.users.iter().map(|u| u.user.to_string()).collect(),
        allowed_verbs: decision.verbs,
        reason: decision.reason,
        remedy,
    }
}

fn remedy(who: &LoggedIn, target: &Target, verb: &Verb, user: Option<&str>) -> String {
    let name = quoted(&format!("{} on {}", who.user.name(), target.name));
    let person = quoted(who.user.name());
    let place = quoted(&target.id.to_string());
    let mut command = format!("bz policy create target-access --name {name} --users {person} --targets {place}");
    if !matches!(verb, Verb::Handler { .. }) {
        command.push_str(" --target-users ");
        command.push_str(&quoted(user.unwrap_or("{username}")));
    }
    format!("{command} --verbs {}", quoted(&verb.to_string()))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.@:/".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
