//! `policies:evaluate` and `policies:simulate`: what is decided, and what would be. Nothing is changed by asking.

use std::sync::Arc;

use bz_core::access::{Mode, Verb};
use bz_core::api::access::WhyPolicy;
use bz_core::api::policy::question::{Considered, EvaluateQuestion, Evaluation, SimulateQuestion, Simulation};
use bz_core::id::PolicyId;
use bz_core::target::TargetUser;
use bz_core::time::UnixTime;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::call::parse_time;
use crate::api::policy::simulate::Difference;
use crate::api::policy::{Authored, Kubernetes, Proxy, SessionRecording, TargetConnect, authored};
use crate::api::{Answer, Call, user};
use crate::app::App;
use crate::connection::aim::{self, Aim};
use crate::connection::question_of;
use crate::error::ApiError;
use crate::policy::{AccessQuestion, Index, PersonInput};
use crate::store::policy::{Policies, Policy, PolicyKind};
use crate::store::user::User;

/// `POST policies:evaluate`.
pub(in crate::api) async fn evaluate(call: Call, question: EvaluateQuestion) -> Result<Answer<Evaluation>, ApiError> {
    let asked = Asked::read(&call, question).await?;
    Answer::json(&asked.answer(&call.app, call.app.policies().await?.as_ref()))
}

/// `POST policies:simulate`.
pub(in crate::api) async fn simulate(call: Call, question: SimulateQuestion) -> Result<Answer<Simulation>, ApiError> {
    let before = call.app.policies().await?;
    let (old, new) = drafted(&call, &before, &question).await?;
    let named = new.as_ref().or(old.as_ref()).map(|policy| policy.name.clone());
    call.note(named.unwrap_or_default());
    let mut all: Vec<Policy> = before.all().to_vec();
    all.retain(|policy| Some(policy.id) != question.policy_id);
    all.extend(new.clone());
    let after = Arc::new(Index::of(Policies { all, version: before.version() }));
    let asked = match question.question {
        Some(question) => Some(Asked::read(&call, question).await?),
        None => None,
    };
    let answer = |index: &Index| asked.as_ref().map(|asked| asked.answer(&call.app, index));
    let (was, would) = (answer(&before), answer(&after));
    let concerned: Vec<_> = old.into_iter().chain(new).collect();
    let difference = Difference::between(&call, (before, after), &concerned).await?;
    let (changes, looked_at, complete) = (difference.changes, difference.looked_at, difference.complete);
    Answer::json(&Simulation { before: was, after: would, changes, looked_at, complete })
}

/// The policy as it is, and as the draft has it; checked as one that is made.
async fn drafted(
    call: &Call,
    index: &Index,
    question: &SimulateQuestion,
) -> Result<(Option<Policy>, Option<Policy>), ApiError> {
    let rule = "must be TargetConnect, Proxy, Kubernetes or SessionRecording";
    let kind: PolicyKind = question.kind.parse().map_err(|_| ApiError::field("type", rule))?;
    let find = |id: PolicyId| {
        let found = index.all().iter().find(|policy| policy.id == id && policy.kind == kind);
        found.cloned().ok_or_else(|| ApiError::not_found("policy"))
    };
    let old = question.policy_id.map(find).transpose()?;
    let id = match &old {
        Some(old) => old.id,
        None => PolicyId::from_random(call.app.random()?),
    };
    let Some(draft) = question.policy.clone() else {
        let absent = || ApiError::field("policy", "give a draft, or the id of a policy that would be deleted");
        return old.ok_or_else(absent).map(|old| (Some(old), None));
    };
    let new = match kind {
        PolicyKind::TargetConnect => draft_of::<TargetConnect>(call, id, draft).await?,
        PolicyKind::Proxy => draft_of::<Proxy>(call, id, draft).await?,
        PolicyKind::Kubernetes => draft_of::<Kubernetes>(call, id, draft).await?,
        PolicyKind::SessionRecording => draft_of::<SessionRecording>(call, id, draft).await?,
        PolicyKind::OrganizationControls => return Err(ApiError::field("type", rule)),
    };
    if index.all().iter().any(|policy| policy.name == new.name && policy.id != id) {
        return Err(ApiError::conflict("a policy of that name exists already"));
    }
    Ok((old, Some(new)))
}

async fn draft_of<K: Authored>(call: &Call, id: PolicyId, draft: Value) -> Result<Policy, ApiError> {
    authored::<K>(call, id, &read::<K::Content>(draft)?).await
}

fn read<T: DeserializeOwned>(draft: Value) -> Result<T, ApiError> {
    if !draft.is_object() {
        return Err(ApiError::field("policy", "must be an object, as the body that makes one"));
    }
    serde_json::from_value(draft).map_err(|error| ApiError::field("policy", &error.to_string()))
}

/// A question, as far as the server can make it out.
pub(super) struct Asked {
    person: PersonInput,
    aim: Aim,
    what: (Verb, Option<TargetUser>, Mode),
    cluster: Option<bz_core::api::access::Cluster>,
    at: UnixTime,
    notes: Vec<String>,
}

impl Asked {
    async fn read(call: &Call, question: EvaluateQuestion) -> Result<Self, ApiError> {
        let user = whom(call, &question).await?;
        let names = (question.target_name, question.environment_name);
        let aim = aim::find(&call.app, question.target_id, names).await?;
        call.note(format!("{} on {}", user.name(), aim.name()));
        let at = question
            .time
            .map(|text| parse_time(&text).ok_or_else(|| ApiError::field("time", "must be a time as in RFC 3339")));
        let (mut person, mut notes) = as_known(call, &user).await?;
        if let Some(groups) = question.groups {
            person.groups = groups;
            notes.retain(|note| !note.starts_with("groups"));
        }
        let verb = question.verb_type.unwrap_or_else(|| aim.verb());
        let what = (verb, question.target_user, aim.mode());
        let at = at.transpose()?.unwrap_or_else(|| call.now());
        Ok(Self { person, aim, what, cluster: question.cluster, at, notes })
    }

    fn answer(&self, app: &App, index: &Index) -> Evaluation {
        let asked = question_of(self.person.clone(), &self.aim, self.what.clone(), self.at);
        let asked = AccessQuestion { cluster: self.cluster.clone(), ..asked }.about(index);
        let (decision, reach) = (app.engine.access(&asked), app.engine.reach(&asked));
        let judged = app.engine.judge(&asked.about_all(index));
        let name = |id: &PolicyId| index.names(&[*id]).first().map(|name| (*name).to_owned()).unwrap_or_default();
        let considered = judged.into_iter().map(|(id, verdict)| Considered { id, name: name(&id), verdict });
        Evaluation {
            allowed: decision.allowed,
            reason: decision.reason,
            policies: decision.policies.iter().map(|id| WhyPolicy { id: *id, name: name(id) }).collect(),
            allowed_target_users: decision.users.iter().map(|user| user.user.to_string()).collect(),
            allowed_verbs: reach.verbs,
            recorded: decision.recording.output,
            input_recorded: decision.recording.input,
            considered: considered.collect(),
            notes: self.notes.clone(),
        }
    }
}

async fn whom(call: &Call, question: &EvaluateQuestion) -> Result<User, ApiError> {
    let name = match (question.subject_id, &question.user_email) {
        (Some(id), None) => id.to_string(),
        (None, Some(email)) => email.clone(),
        (None, None) | (Some(_), Some(_)) => {
            return Err(ApiError::field("subjectId", "say who by id, or by address as userEmail: one of them"));
        }
    };
    user::called(call, name).await
}

/// Somebody as policies see them now: by a login that lives, where there is one. And what is not known.
pub(super) async fn as_known(call: &Call, user: &User) -> Result<(PersonInput, Vec<String>), ApiError> {
    let login = call.app.store.live_logins(user.id, call.now()).await?.into_iter().next();
    let mut notes = Vec::new();
    if login.is_none() {
        notes.push("groups: this subject is not logged in, so none are known here".to_owned());
    }
    if login.as_ref().is_none_or(|login| login.username.is_none()) {
        notes.push("{username}: means nobody for this subject, as far as is known here".to_owned());
    }
    let (username, groups) = login.map(|login| (login.username, login.groups)).unwrap_or_default();
    Ok((PersonInput { id: user.id, kind: user.kind, username, groups }, notes))
}
