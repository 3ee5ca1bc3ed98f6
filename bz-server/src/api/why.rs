//! Why something is allowed, or not, and what an administrator would do about it.

use bz_core::access::Verb;
use bz_core::api::access::{Cluster, Why, WhyPolicy, WhyQuestion};
use bz_core::api::target::TargetKind;

use crate::api::{Answer, Call};
use crate::auth::LoggedIn;
use crate::connection::aim::{self, Aim};
use crate::connection::question;
use crate::error::ApiError;
use crate::mfa::Standing;
use crate::policy::{AccessQuestion, Decision, Reach};
use crate::store::policy::Policy;

/// `POST policy-query/why`.
pub(super) async fn why(call: Call, ask: WhyQuestion) -> Result<Answer<Why>, ApiError> {
    let who = about(&call, ask.user_email.as_deref()).await?;
    let names = (ask.target_name, ask.environment_name);
    let aim = aim::find(&call.app, ask.target_id, names).await?;
    call.note(aim.name());
    let verb = ask.verb_type.unwrap_or_else(|| aim.verb());
    let what = (verb.clone(), ask.target_user.clone(), aim.mode());
    let policies = call.app.policies().await?;
    let asked =
        AccessQuestion { cluster: ask.cluster.clone(), ..question(&who, &aim, what, call.now()) }.about(&policies);
    let (decision, reach) = (call.app.engine.access(&asked), call.app.engine.reach(&asked));
    let user = ask.target_user.map(|u| u.to_string());
    let remedy = (!decision.allowed).then(|| remedy(&who, &aim, &verb, (user.as_deref(), ask.cluster)));
    Answer::json(&explain((decision, reach), policies.all(), remedy))
}

/// The person the question is about. Another's username and groups are those of a live login, where there is one.
pub(super) async fn about(call: &Call, email: Option<&str>) -> Result<LoggedIn, ApiError> {
    let email = match (call.person(), email) {
        (Ok(who), None) => return Ok(who.clone()),
        (Ok(who), Some(email)) if email == who.user.email => return Ok(who.clone()),
        (Ok(_) | Err(_), Some(email)) => email,
        (Err(error), None) => return Err(error),
    };
    if !call.has("policyqueryservice:why-others") {
        return Err(ApiError::denied("only administrators ask about others"));
    }
    let user = call.app.store.users_called(email.to_owned()).await?.into_iter().next();
    let user = user.ok_or_else(|| ApiError::not_found("user"))?;
    let login = call.app.store.live_logins(user.id, call.now()).await?.into_iter().next();
    let login = login.ok_or_else(|| {
        ApiError::conflict("this person is not logged in, so the identity provider's groups are not known here")
    })?;
    Ok(LoggedIn { login, user, standing: Standing::FREE })
}

fn explain((decision, reach): (Decision, Reach), policies: &[Policy], remedy: Option<String>) -> Why {
    let named = policies.iter().filter(|p| decision.policies.contains(&p.id));
    Why {
        allowed: decision.allowed,
        policies: named.map(|p| WhyPolicy { id: p.id, name: p.name.clone() }).collect(),
        allowed_target_users: decision.users.iter().map(|u| u.user.to_string()).collect(),
        allowed_verbs: reach.verbs,
        reason: decision.reason,
        remedy,
    }
}

fn remedy(who: &LoggedIn, aim: &Aim, verb: &Verb, (user, cluster): (Option<&str>, Option<Cluster>)) -> String {
    let name = quoted(&format!("{} on {}", who.user.name(), aim.name()));
    let (person, place) = (quoted(who.user.name()), quoted(&aim.id().to_string()));
    let about = format!("--name {name} --users {person} --targets {place}");
    match aim.kind() {
        TargetKind::Bzero => {
            let acts_as_user = !matches!(verb, Verb::Handler { .. });
            let user = acts_as_user.then(|| format!(" --target-users {}", quoted(user.unwrap_or("{username}"))));
            let user = user.unwrap_or_default();
            format!("bz policy create target-access {about}{user} --verbs {}", quoted(&verb.to_string()))
        }
        TargetKind::Db | TargetKind::Web => {
            let user = user.map(|user| format!(" --target-users {}", quoted(user))).unwrap_or_default();
            format!("bz policy create proxy {about}{user}")
        }
        TargetKind::Cluster => {
            let Cluster { user, groups } =
                cluster.unwrap_or_else(|| Cluster { user: "USER".to_owned(), groups: vec![] });
            let groups: String = groups.iter().map(|group| format!(" --cluster-groups {}", quoted(group))).collect();
            format!("bz policy create kubernetes {about} --cluster-users {}{groups}", quoted(&user))
        }
    }
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
