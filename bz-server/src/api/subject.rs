//! Subjects: whoever a policy or a log may name. People, and the keys that call for themselves.

use bz_core::api::login::{ChangeUser, SubjectDetails};
use bz_core::api::policy::SubjectType;
use bz_core::id::UserId;

use crate::api::openapi::Nothing;
use crate::api::page::List;
use crate::api::{Answer, Call, user};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::store::user::User;

/// `GET subjects`.
pub(super) async fn list(call: Call) -> Result<Answer<List<SubjectDetails>>, ApiError> {
    let all = call.app.store.users().await?;
    Answer::list(&call, all.iter().map(|user| show(&call, user)).collect())
}

/// `GET subjects/me`: also for keys.
pub(super) async fn me(call: Call) -> Result<Answer<SubjectDetails>, ApiError> {
    match &call.caller {
        Caller::Person(who) => Answer::json(&show(&call, &who.user)),
        Caller::Key(by) => Answer::json(&SubjectDetails {
            id: UserId::from_bytes(*by.key.id.as_bytes()),
            organization_id: call.app.organization,
            email: String::new(),
            is_admin: false,
            time_created: by.key.created.to_string(),
            last_login: None,
            kind: SubjectType::ApiKey,
        }),
        Caller::Anonymous | Caller::Hook(_) => Err(ApiError::not_logged_in("log in first: `bz login`")),
    }
}

/// `GET subjects/{id}`, by id or address.
pub(super) async fn get(call: Call) -> Result<Answer<SubjectDetails>, ApiError> {
    Answer::json(&show(&call, &user::find(&call).await?))
}

/// `PATCH subjects/{id}`: the role. Nobody changes their own.
pub(super) async fn edit(call: Call, change: ChangeUser) -> Result<Answer<SubjectDetails>, ApiError> {
    let changed = user::change_role(&call, change).await?;
    Answer::json(&show(&call, &changed))
}

/// `PATCH subjects/{id}/close-connections`.
pub(super) async fn close_connections(call: Call) -> Result<Answer<Nothing>, ApiError> {
    user::close_connections(call).await
}

fn show(call: &Call, user: &User) -> SubjectDetails {
    SubjectDetails {
        id: user.id,
        organization_id: call.app.organization,
        email: user.email.clone(),
        is_admin: user.is_admin,
        time_created: user.created.to_string(),
        last_login: user.last_login.map(|time| time.to_string()),
        kind: SubjectType::User,
    }
}
