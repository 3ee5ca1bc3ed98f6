//! Environments.

use bz_core::api::target::{Environment as EnvironmentBody, EnvironmentMade, NewEnvironment};
use bz_core::id::EnvironmentId;

use crate::api::call::{check_name, check_text};
use crate::api::page::List;
use crate::api::{Answer, Call};
use crate::error::ApiError;
use crate::store::environment::Environment;

/// The longest a target may be offline before it is removed: 90 days.
const MOST_HOURS: u32 = 2160;

/// `GET environments`.
pub(super) async fn list(call: Call) -> Result<Answer<List<EnvironmentBody>>, ApiError> {
    let all = call.app.store.environments().await?;
    Answer::list(&call, all.into_iter().map(show).collect())
}

/// `POST environments`.
pub(super) async fn add(call: Call, new: NewEnvironment) -> Result<Answer<EnvironmentMade>, ApiError> {
    check_name("name", &new.name)?;
    check_text("description", &new.description, 1000)?;
    call.note(new.name.clone());
    let offline_hours = new.offline_cleanup_timeout_hours.unwrap_or(MOST_HOURS);
    if !(1..=MOST_HOURS).contains(&offline_hours) {
        return Err(ApiError::field("offlineCleanupTimeoutHours", "must be 1 to 2160"));
    }
    let id = EnvironmentId::from_random(call.app.random()?);
    let environment = Environment {
        id,
        name: new.name,
        description: new.description,
        is_default: false,
        created: call.now(),
        offline_hours,
    };
    call.app.store.add_environment(environment).await?;
    Answer::json(&EnvironmentMade { id })
}

fn show(environment: Environment) -> EnvironmentBody {
    EnvironmentBody {
        id: environment.id,
        name: environment.name,
        description: environment.description,
        is_default: environment.is_default,
        time_created: environment.created.to_string(),
        offline_cleanup_timeout_hours: environment.offline_hours,
    }
}
