//! Scripts that make hosts targets, each with a token of the right registration key, and without pins: a server does not
//! vouch for itself. `bz generate` puts them in where the organization's trust bundle is.

use std::time::Duration;

use bz_core::api::autodiscovery::{AutodiscoveryScript, RegistrationToken};
use bz_core::api::policy::SubjectType;
use bz_core::id::{ApiKeyId, EnvironmentId};
use bz_core::script::{IMAGE, Kind, Naming, Script, ScriptError};

use crate::api::agent::check_target_name;
use crate::api::openapi::ScriptText;
use crate::api::query::{Param, Takes, one};
use crate::api::registration_key::spare;
use crate::api::{Answer, Call, api_key};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::store::api_key::ApiKey;
use crate::store::registration_key::Of;

const NAMING: &[&str] = &["Timestamp", "DigitalOceanMetadata", "AwsEc2Metadata", "BashHostName"];

/// What a script takes in the query.
pub(super) const QUERY: &[Param] = &[
    one(
        "targetNameOption",
        Takes::OneOf(NAMING),
        "How the host is called as a target; as it calls itself when absent.",
    ),
    one("targetName", Takes::Text, "What it is called, instead."),
    one("environmentId", Takes::Id, "Where it goes; to the default environment when absent."),
    one(
        "registrationKeyId",
        Takes::Id,
        "Of which registration key the token is; of the one that the settings say when absent.",
    ),
    one("uses", Takes::Number(1, 1000), "How many targets the token registers: 1 when absent."),
    one("validMinutes", Takes::Number(5, 10_080), "For how long it does: 60 when absent."),
];

/// The usual minutes of a token.
const MINUTES: u64 = 60;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $kind:expr;)*) => {$(
        $(#[$doc])*
        pub(super) async fn $name(call: Call) -> Result<Answer<AutodiscoveryScript>, ApiError> {
            Ok(Answer::json(&made(&call, $kind).await?)?.kept_nowhere())
        }
    )*};
}

kinds! {
    /// `GET autodiscovery-scripts/bzero/bash`.
    bash = Kind::Bash;
    /// `GET autodiscovery-scripts/windows/powershell`.
    powershell = Kind::PowerShell;
    /// `GET autodiscovery-scripts/bzero/ansible`.
    ansible = Kind::Ansible;
    /// `GET autodiscovery-scripts/bzero/kube`.
    kube = Kind::Kube;
}

/// `GET autodiscovery-scripts/container`: the text itself.
pub(super) async fn container(call: Call) -> Result<Answer<ScriptText>, ApiError> {
    let script = made(&call, Kind::Container).await?.autodiscovery_script;
    Ok(Answer::of(ScriptText::MEDIA, script.into_bytes()).kept_nowhere())
}

/// The objects of an agent in a cluster, which registers under this name: what the original's `POST targets/kube` makes.
pub(super) async fn cluster(
    call: &Call,
    name: String,
    environment: Option<EnvironmentId>,
) -> Result<AutodiscoveryScript, ApiError> {
    if !call.has("autodiscoveryservice:script") {
        return Err(ApiError::denied("no policy lets this API key have scripts: it needs the scope keys, too"));
    }
    check_target_name(&name)?;
    written(call, Kind::Kube, (Naming::Given(name), existing(call, environment).await?)).await
}

async fn made(call: &Call, kind: Kind) -> Result<AutodiscoveryScript, ApiError> {
    let asked = call.ids::<EnvironmentId>("environmentId")?.pop();
    written(call, kind, (naming(call)?, existing(call, asked).await?)).await
}

async fn written(
    call: &Call,
    kind: Kind,
    (naming, asked): (Naming, Option<(EnvironmentId, String)>),
) -> Result<AutodiscoveryScript, ApiError> {
    let artifacts = call.app.artifacts.list().await.map_err(ApiError::internal)?;
    let token = token(call, asked.as_ref().map(|(id, _)| *id)).await?;
    let environment = match token.as_ref().and_then(|(_, token)| token.environment) {
        None => asked.map(|(_, name)| name),
        Some(id) => call.app.store.environment(id).await?.map(|environment| environment.name),
    };
    let registration_token = token.map(|(token, _)| token);
    let script = Script {
        server: call.app.config().public_url.as_str().trim_end_matches('/').to_owned(),
        pins: None,
        key: registration_token.as_ref().map(|token| token.secret.clone()),
        environment: environment.clone(),
        naming,
        artifacts: artifacts.clone(),
        image: IMAGE.to_owned(),
    };
    let autodiscovery_script = script.render(kind).map_err(|error: ScriptError| ApiError::internal(error))?;
    Ok(AutodiscoveryScript { autodiscovery_script, registration_token, environment_name: environment, artifacts })
}

fn naming(call: &Call) -> Result<Naming, ApiError> {
    if let Some(name) = call.query("targetName").pop() {
        check_target_name(&name)?;
        return Ok(Naming::Given(name));
    }
    Ok(match call.query("targetNameOption").pop().as_deref() {
        Some("Timestamp") => Naming::Timestamp,
        Some("DigitalOceanMetadata") => Naming::DigitalOcean,
        Some("AwsEc2Metadata") => Naming::Aws,
        _ => Naming::Host,
    })
}

async fn existing(call: &Call, id: Option<EnvironmentId>) -> Result<Option<(EnvironmentId, String)>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    let found = call.app.store.environment(id).await?.ok_or_else(|| ApiError::not_found("environment"))?;
    Ok(Some((id, found.name)))
}

/// A token of the registration key that the settings say, or the caller. Nothing where the caller has none.
async fn token(
    call: &Call,
    environment: Option<EnvironmentId>,
) -> Result<Option<(RegistrationToken, ApiKey)>, ApiError> {
    let asked = |name| if call.takes(name) { call.query(name) } else { Vec::new() };
    let named = asked("registrationKeyId").pop().and_then(|id| id.parse::<ApiKeyId>().ok());
    let global = call.app.store.registration_settings().await?.global;
    let of = match (named, global, &call.caller) {
        (Some(id), _, _) => Of::Key(id),
        (None, true, _) => Of::Default,
        (None, false, Caller::Person(person)) if person.user.kind == SubjectType::User => Of::Personal(person.user.id),
        (None, false, _) => return Ok(None),
    };
    let number = |name| asked(name).pop().and_then(|text| text.parse::<u32>().ok());
    let uses = number("uses").unwrap_or(1);
    let minutes = number("validMinutes").map_or(MINUTES, u64::from);
    let (secret, hash) = api_key::secret(call, true)?;
    let expires = call.now().after(Duration::from_secs(minutes * 60));
    let draft = ApiKey {
        environment,
        uses_left: Some(uses),
        expires: Some(expires),
        ..ApiKey::new(ApiKeyId::from_random(call.app.random()?), String::new(), call.now())
    };
    let made = call.app.store.add_token(of, (draft, hash), spare(call)?).await?;
    let rule = "this registration key makes no tokens: it is not there, no registration key, disabled, has ended, is for \
                a number of targets, or for another environment";
    let (token, parent) = made.ok_or_else(|| ApiError::conflict(rule))?;
    call.note(parent.id.to_string());
    call.note_context(format!("token {} for {uses} targets, of the registration key {}", token.id, parent.name));
    let shown = RegistrationToken {
        id: token.id,
        secret: secret.as_str().to_owned(),
        registration_key_id: parent.id,
        registration_key_name: parent.name,
        expires_at: token.expires.unwrap_or(expires).to_string(),
        uses,
    };
    Ok(Some((shown, token)))
}
