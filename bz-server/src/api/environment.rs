//! Environments. One of them is the default: it takes targets that name none, and stays.

use bz_core::api::target::{
    ChangeEnvironment, Environment as EnvironmentBody, EnvironmentMade, EnvironmentTarget, NewEnvironment,
};
use bz_core::id::EnvironmentId;

use crate::api::call::{check_name, check_text};
use crate::api::openapi::Nothing;
use crate::api::page::List;
use crate::api::{Answer, Call};
use crate::error::ApiError;
use crate::store::StoreError;
use crate::store::environment::Environment;

/// The longest a target may be offline before it is removed: 90 days.
const MOST_HOURS: u32 = 2160;

/// `GET environments`.
pub(super) async fn list(call: Call) -> Result<Answer<List<EnvironmentBody>>, ApiError> {
    let placed = call.app.store.placed().await?;
    let all = call.app.store.environments().await?.into_iter();
    Answer::list(&call, all.map(|environment| show(&call, environment, &placed)).collect())
}

/// `GET environments/{id}`.
pub(super) async fn get(call: Call) -> Result<Answer<EnvironmentBody>, ApiError> {
    let environment = find(&call).await?;
    let placed = call.app.store.placed().await?;
    Answer::json(&show(&call, environment, &placed))
}

/// `POST environments`.
pub(super) async fn add(call: Call, new: NewEnvironment) -> Result<Answer<EnvironmentMade>, ApiError> {
    call.note(new.name.clone());
    let id = EnvironmentId::from_random(call.app.random()?);
    let environment = Environment {
        id,
        name: new.name,
        description: new.description,
        is_default: false,
        created: call.now(),
        offline_hours: new.offline_cleanup_timeout_hours.unwrap_or(MOST_HOURS),
    };
    check(&environment)?;
    call.app.store.add_environment(environment).await?;
    Answer::json(&EnvironmentMade { id })
}

/// `PATCH environments/{id}`.
pub(super) async fn edit(call: Call, change: ChangeEnvironment) -> Result<Answer<EnvironmentBody>, ApiError> {
    let old = find(&call).await?;
    let environment = Environment {
        name: change.name.unwrap_or(old.name),
        description: change.description.unwrap_or(old.description),
        offline_hours: change.offline_cleanup_timeout_hours.unwrap_or(old.offline_hours),
        ..old
    };
    check(&environment)?;
    if !call.app.store.change_environment(environment).await? {
        return Err(ApiError::not_found("environment"));
    }
    get(call).await
}

/// `DELETE environments/{id}`: one that nothing is in, nothing is behind and no policy names.
pub(super) async fn delete(call: Call) -> Result<Answer<Nothing>, ApiError> {
    let environment = find(&call).await?;
    if environment.is_default {
        return Err(ApiError::conflict("the default environment stays: targets that name none go there"));
    }
    match call.app.store.delete_environment(environment.id).await {
        Ok(true) => Ok(Answer::empty()),
        Ok(false) => Err(ApiError::not_found("environment")),
        Err(StoreError::InUse) => {
            let name = environment.name;
            let rule = "move or delete its targets, and take it out of policies, first";
            Err(ApiError::conflict(format!("{name} is still in use: {rule}")))
        }
        Err(error) => Err(error.into()),
    }
}

async fn find(call: &Call) -> Result<Environment, ApiError> {
    let found = call.app.store.environment(call.id()?).await?.ok_or_else(|| ApiError::not_found("environment"))?;
    call.note(found.name.clone());
    Ok(found)
}

fn check(environment: &Environment) -> Result<(), ApiError> {
    check_name("name", &environment.name)?;
    check_text("description", &environment.description, 1000)?;
    if (1..=MOST_HOURS).contains(&environment.offline_hours) {
        Ok(())
    } else {
        Err(ApiError::field("offlineCleanupTimeoutHours", "must be 1 to 2160"))
    }
}

fn show(call: &Call, environment: Environment, placed: &[(EnvironmentId, EnvironmentTarget)]) -> EnvironmentBody {
    let own = placed.iter().filter(|(place, _)| *place == environment.id);
    EnvironmentBody {
        id: environment.id,
        name: environment.name,
        description: environment.description,
        is_default: environment.is_default,
        time_created: environment.created.to_string(),
        offline_cleanup_timeout_hours: environment.offline_hours,
        organization_id: Some(call.app.organization),
        targets: own.map(|(_, target)| target.clone()).collect(),
    }
}
