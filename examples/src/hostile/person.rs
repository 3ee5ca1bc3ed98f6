//! A person with the real client: logged in, and asking for exactly what a scenario wants.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bz_client::client::{Asked, Client};
use bz_client::login::Login;
use bz_client::pins::{FirstContact, KnownBy, MemoryPins};
use bz_client::server::Server;
use bz_client::session::{Session, SessionError};
use bz_client::target_name::TargetRef;
use bz_client::terminal::farewell;
use bz_client::trust::Trust;
use bz_core::api::Bytes;
use bz_core::api::access::ConnectionMade;
use bz_core::grant::MAX_GRANT;
use bz_core::wire;
use bz_protocol::carrier::Carrier;
use bz_protocol::hostile::{Asking, ISSUER, PERSON, Parts, TARGET_NAME, Told};
use bz_protocol::session::End;
use serde_json::json;

/// Opens the session, or says what the person reads instead.
pub(super) async fn session(carrier: &Arc<dyn Carrier>, parts: &Parts, asking: &Asking) -> Result<Session, Told> {
    let nothing = |error: anyhow::Error| Told { end: None, words: format!("{error:#}"), early: false };
    let client = client(carrier, parts, asking).map_err(nothing)?;
    let asked = asked(parts, asking).map_err(nothing)?;
    client.session(asked).await.map_err(|error| {
        let words = error.to_string();
        let end = if let SessionError::Ended { end, .. } = error { Some(end) } else { None };
        Told { end, words, early: false }
    })
}

/// What a terminal says about an end.
pub(super) fn words(end: &End) -> String {
    farewell(end).unwrap_or_else(|| end.to_string())
}

fn client(carrier: &Arc<dyn Carrier>, parts: &Parts, asking: &Asking) -> Result<Client> {
    // Nobody listens there: a session needs no REST call.
    let server = Server::new("https://127.0.0.1:9")?;
    let trust = Trust::given(parts.organization.bundle())?;
    let client = Client::new(&server, trust, login(parts, asking)?)?.with_clock(Arc::clone(&parts.clock))?;
    let client = client.with_known_agents(Arc::new(MemoryPins::default()), FirstContact::Accept);
    Ok(client.with_carrier(Arc::clone(carrier)))
}

fn login(parts: &Parts, asking: &Asking) -> Result<Login> {
    let (case, of) = (&asking.case, &parts.organization);
    let now = serde_json::to_value(case.now)?;
    let end = serde_json::to_value(case.now.after(std::time::Duration::from_secs(24 * 3600)))?;
    let login = json!({
        "version": 1,
        "login_id": bz_core::id::LoginId::from_bytes([3; 16]),
        "organization": of.id,
        "issuer": ISSUER,
        "key": hex(&*case.key.to_bytes()),
        "random": hex(&case.random),
        "initial_token": case.initial.sign(),
        "current_token": case.current.sign(),
        "refresh_token": null,
        "started_at": now,
        "obtained_at": now,
        "token_expires_at": end,
        "expires_at": end,
        "user": {
            "id": bz_core::id::UserId::from_bytes([4; 16]),
            "organizationId": of.id,
            "email": "alice@example.com",
            "fullName": "Alice",
            "isAdmin": false,
            "timeCreated": "2026-01-01T00:00:00Z",
            "issuer": ISSUER,
            "subject": PERSON,
        },
        "mfa": serde_json::to_value(bz_core::api::login::MfaActionRequired::None)?,
    });
    Login::from_text(&login.to_string()).context("the login of the scenario")
}

/// What the server answered, taken as it is: no question was asked of it here.
fn asked(parts: &Parts, asking: &Asking) -> Result<Asked> {
    let (case, of) = (&asking.case, &parts.organization);
    let grant = wire::decode(&asking.opening.grant, MAX_GRANT)
        .map_err(|_| anyhow::anyhow!("the server's grant is no grant"))?;
    let made = ConnectionMade {
        connection_id: case.connection,
        target_id: of.target,
        target_name: TARGET_NAME.to_owned(),
        environment_name: "Default".to_owned(),
        target_user: None,
        target_type: "Bzero".to_owned(),
        proxy: None,
        verb_type: case.request.verb(),
        agent_public_key: case.agent_key,
        agent_version: String::new(),
        mode: case.request.mode,
        recorded: false,
        grant: Bytes(asking.opening.grant.clone()),
        shell_id: None,
        directory_entry: None,
    };
    Ok(Asked {
        made,
        request: case.request.clone(),
        request_bytes: asking.opening.request.clone(),
        grant,
        known_by: KnownBy::FirstUse,
        name: TargetRef::Name { name: TARGET_NAME.to_owned(), environment: None },
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
