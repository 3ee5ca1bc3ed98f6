//! Agents: which there are, and registering one, with a registration key and the proofs of its own two keys.

use std::time::Duration;

use bz_core::api::reach::{Agent, ControlChannel};
use bz_core::api::register::{AgentRegistered, RegisterAgent};
use bz_core::api::target::TargetStatus;
use bz_core::id::{ApiKeyId, TargetId};
use bz_core::label;

use crate::api::call::{check_name, check_text};
use crate::api::page::List;
use crate::api::{Answer, Call};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::store::StoreError;
use crate::store::target::{NewTarget, Target, TargetRegistration};

/// How long a registration's proofs are taken.
const WINDOW: Duration = Duration::from_secs(600);

/// `GET agents`: the agents of hosts, without those that were removed.
pub(super) async fn list(call: Call) -> Result<Answer<List<Agent>>, ApiError> {
    let (kinds, statuses, ids) = (call.query("agentTypes"), call.query("agentStatuses"), call.query("agentIds"));
    let part = |name: &str| call.query(name).pop().unwrap_or_default();
    let (environment, name) = (part("environmentName"), part("name"));
    let any = |asked: &[String], own: &str| asked.is_empty() || asked.iter().any(|one| one == own);
    let asked = |agent: &Agent| {
        any(&kinds, &agent.kind)
            && any(&statuses, &format!("{:?}", agent.status))
            && any(&ids, &agent.id.to_string())
            && agent.environment_name.contains(&environment)
            && agent.name.contains(&name)
    };
    let all = call.app.store.targets().await?.into_iter();
    Answer::list(&call, all.map(|target| show(&call, target)).filter(asked).collect())
}

fn show(call: &Call, target: Target) -> Agent {
    let start_time = target.status_changed.to_string();
    let node = call.app.config().node.clone();
    let channel = |boot| ControlChannel { control_channel_id: boot, connection_node_id: node, start_time };
    Agent {
        id: target.id,
        name: target.name,
        environment_id: target.environment,
        environment_name: target.environment_name,
        kind: "Linux".to_owned(),
        status: target.status,
        last_status_update: target.status_changed.to_string(),
        version: target.version,
        region: "self-hosted".to_owned(),
        public_key: target.identity_key,
        control_channel: target.boot.filter(|_| target.status == TargetStatus::Online).map(channel),
    }
}

/// `POST agent/register`.
pub(super) async fn register(call: Call, body: RegisterAgent) -> Result<Answer<AgentRegistered>, ApiError> {
    call.note(body.target_name.clone());
    let now = call.now();
    check(&call, &body)?;
    let (by, environment) = place(&call, body.environment_name.clone()).await?;
    let new = NewTarget {
        id: TargetId::from_random(call.app.random()?),
        replaces: body.target_id,
        name: body.target_name,
        environment,
        identity_key: body.public_key,
        control_key: body.control_key,
        host_name: body.target_host_name,
        version: body.version,
        local_policy: body.local_policy,
        by,
        agent_labels: body.labels,
    };
    let registered = match call.app.store.register_target(new, now).await {
        Err(StoreError::Exists(what)) => Err(ApiError::conflict(format!(
            "{what} exists already: register under another name, or have an administrator delete that target"
        ))),
        registered => Ok(registered?),
    };
    match registered? {
        TargetRegistration::Done(target) => Answer::json(&AgentRegistered {
            target_id: target.id,
            target_name: target.name,
            environment_name: target.environment_name,
        }),
        TargetRegistration::NoEnvironment => Err(ApiError::not_found("environment")),
        TargetRegistration::UsedUp => Err(ApiError::denied("this token has registered all that it may: get another")),
        TargetRegistration::NotYours => Err(ApiError::denied(
            "the target to replace is not registered, or under another identity key: register without its id",
        )),
    }
}

/// By which key the target comes, and into which environment: the key's own, where it has one.
async fn place(call: &Call, asked: Option<String>) -> Result<(ApiKeyId, Option<String>), ApiError> {
    let Caller::Key(by) = &call.caller else { return Err(ApiError::denied("only registration keys register")) };
    let Some(own) = by.key.environment else { return Ok((by.key.id, asked)) };
    let own = call.app.store.environment(own).await?.ok_or_else(|| ApiError::not_found("environment"))?.name;
    match asked {
        Some(asked) if asked != own => {
            Err(ApiError::denied(format!("this registration key registers in the environment {own} alone")))
        }
        Some(_) | None => Ok((by.key.id, Some(own))),
    }
}

fn check(call: &Call, body: &RegisterAgent) -> Result<(), ApiError> {
    let now = call.now();
    if body.organization_id != call.app.organization {
        return Err(ApiError::field("organizationId", "is another organization than this server's"));
    }
    if body.time.since(now) > WINDOW || now.since(body.time) > WINDOW {
        return Err(ApiError::field("time", "is not within ten minutes of the server's: check the clock"));
    }
    body.check().map_err(|_| ApiError::denied("the registration is not signed by both of the agent's keys"))?;
    check_target_name(&body.target_name)?;
    check_text("targetHostName", &body.target_host_name, 255)?;
    check_text("version", &body.version, 64)?;
    label::check_all(&body.labels).map_err(|error| ApiError::field("labels", &error.to_string()))?;
    body.environment_name.as_deref().map_or(Ok(()), |name| check_name("environmentName", name))
}

/// Names are typed as `user@target`, after `--` and in shells, so they are plain.
pub(super) fn check_target_name(name: &str) -> Result<(), ApiError> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if plain && begins && name.len() <= 100 {
        Ok(())
    } else {
        Err(ApiError::field(
            "targetName",
            "must be 1 to 100 letters, digits, '-', '_' or '.', beginning with a letter or digit",
        ))
    }
}
