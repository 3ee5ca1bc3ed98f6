//! The step from logs in tables of their own, of which one was chained, to one chain.

use bz_core::digest::Digest;
use bz_core::id::{EventId, OrganizationId};
use bz_core::time::UnixTime;
use rusqlite::Transaction;
use serde_json::json;

use crate::store::event::{Log, chain, find};
use crate::store::{StoreError, first, millis};

/// Chains what the migration copied, says in the log of calls whether its old chain held, and drops the old tables.
pub(in crate::store) fn into_one_chain(tx: &Transaction<'_>) -> Result<(), StoreError> {
    let broken = chain::broken_before(tx)?;
    let last = first(tx, "SELECT max(at) AS at, count(*) AS count FROM event", &[], |row| {
        Ok((row.get::<_, Option<i64>>("at")?, row.get::<_, i64>("count")?))
    })?;
    chain::chain_all(tx)?;
    find::name_all(tx)?;
    if let Some((Some(at), count)) = last {
        let at = UnixTime::from_millis(u64::try_from(at).unwrap_or_default());
        if broken.is_some() {
            tracing::error!(row = broken, "the log of calls had been changed before it became part of one chain");
        }
        let mut chain = chain::Chain::open(tx)?;
        chain.append(Log::Calls, at, &note(tx, at, (count, broken))?)?;
        chain.close()?;
    }
    for log in ["user", "connection", "command", "file", "query", "web", "kube"] {
        tx.execute_batch(&format!("DROP TABLE {log}_event"))?;
    }
    find::index(tx)
}

/// An event as the API gives it. Its id is made of what it says: a migration has no randomness.
fn note(tx: &Transaction<'_>, at: UnixTime, (rows, broken): (i64, Option<i64>)) -> Result<String, StoreError> {
    let organization = first(tx, "SELECT id FROM organization", &[], |row| Ok(row.get::<_, String>("id")?))?;
    let id = Digest::of(format!("{organization:?} {rows} {} {broken:?}", millis(at)).as_bytes());
    let random: [u8; 16] = std::array::from_fn(|at| id.as_bytes().get(at).copied().unwrap_or_default());
    let context = json!({ "rows": rows, "callsHeld": broken.is_none(), "firstChangedCall": broken });
    Ok(json!({
        "id": EventId::from_random(random),
        "organizationId": organization.unwrap_or_else(|| OrganizationId::from_bytes([0; 16]).to_string()),
        "subjectId": null,
        "subjectType": "User",
        "subjectName": "the server itself",
        "isAdmin": true,
        "serviceAction": "auditservice:chain",
        "resource": "logs",
        "evaluation": true,
        "timestamp": at.to_string(),
        "ipAddress": "",
        "context": context.to_string(),
    })
    .to_string())
}
