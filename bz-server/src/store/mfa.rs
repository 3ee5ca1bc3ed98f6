//! Second factors, and the organization's rules about them.

use std::time::Duration;

use bz_core::grant::Mfa;
use bz_core::id::{LoginId, UserId};
use bz_core::time::UnixTime;
use rusqlite::{Row, Transaction, params};
use serde_json::Value;

use crate::mfa::{Controls, Enrolment, Factor, SealedSecret};
use crate::store::policy::{self, PolicyKind};
use crate::store::{Store, StoreError, first, json, millis, optional, optional_time, to_json};

impl Store {
    /// The rules and this person's factor.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn factor(&self, user: UserId) -> Result<Factor, StoreError> {
        self.transact(move |tx| factor(tx, user)).await
    }

    /// Changes a person's factor by what it is now; `change` says what the caller hears. Nobody comes between.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn change_factor<T: Send + 'static>(
        &self,
        user: UserId,
        change: impl FnOnce(&Enrolment) -> (Enrolment, T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.transact(move |tx| {
            let before = enrolment(tx, user)?;
            let (after, answer) = change(&before);
            if after != before {
                write(tx, user, &after)?;
            }
            Ok(answer)
        })
        .await
    }

    /// The same, and the login has passed when `change` says how.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn pass_factor<T: Send + 'static>(
        &self,
        (user, login): (UserId, LoginId),
        change: impl FnOnce(&Enrolment) -> (Enrolment, Option<Mfa>, T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.transact(move |tx| {
            let before = enrolment(tx, user)?;
            let (after, passed, answer) = change(&before);
            if after != before {
                write(tx, user, &after)?;
            }
            if let Some(passed) = passed {
                let sql = "UPDATE login SET mfa_method = ?2, mfa_at = ?3 WHERE id = ?1";
                tx.execute(sql, params![login.to_string(), passed.method, millis(passed.at)])?;
            }
            Ok(answer)
        })
        .await
    }

    /// Forgets a person's factor: secret, recovery codes and what each login passed. The next login enrolls anew, at once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn clear_factor(&self, user: UserId, now: UnixTime) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let before = enrolment(tx, user)?;
            let after = Enrolment { enabled: before.enabled, grace_ends: Some(now), ..Enrolment::default() };
            write(tx, user, &after)?;
            tx.execute("UPDATE login SET mfa_method = NULL, mfa_at = NULL WHERE user = ?1", [user.to_string()])?;
            Ok(())
        })
        .await
    }
}

fn factor(tx: &Transaction<'_>, user: UserId) -> Result<Factor, StoreError> {
    Ok(Factor { controls: controls(tx)?, enrolment: enrolment(tx, user)? })
}

fn controls(tx: &Transaction<'_>) -> Result<Controls, StoreError> {
    let Some(policy) = policy::of_kind(tx, PolicyKind::OrganizationControls)?.into_iter().next() else {
        return Ok(Controls::default());
    };
    let hours = policy.content.get("mfaDuration").and_then(Value::as_u64);
    Ok(Controls {
        enabled: policy.content.get("mfaEnabled").and_then(Value::as_bool).unwrap_or_default(),
        lasts: hours.map(|hours| Duration::from_secs(hours.saturating_mul(3600))),
    })
}

fn enrolment(tx: &Transaction<'_>, user: UserId) -> Result<Enrolment, StoreError> {
    Ok(first(tx, "SELECT * FROM mfa WHERE user = ?1", &[&user.to_string()], read)?.unwrap_or_default())
}

pub(super) fn write(tx: &Transaction<'_>, user: UserId, enrolment: &Enrolment) -> Result<(), StoreError> {
    let proposed = enrolment.proposed.as_ref();
    tx.execute(
        "INSERT OR REPLACE INTO mfa (user, enabled, secret, proposed, proposed_to, last_step, failures, locked_until,
             grace_ends, recovery)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            user.to_string(),
            enrolment.enabled,
            enrolment.secret.as_ref().map(SealedSecret::as_str),
            proposed.map(|(secret, _)| secret.as_str()),
            proposed.map(|(_, login)| login.to_string()),
            i64::try_from(enrolment.last_step).unwrap_or(i64::MAX),
            enrolment.failures,
            enrolment.locked_until.map(millis),
            enrolment.grace_ends.map(millis),
            to_json(&enrolment.recovery.iter().map(ToString::to_string).collect::<Vec<_>>())?,
        ],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Enrolment, StoreError> {
    let (proposed, to): (Option<SealedSecret>, _) = (optional(row, "proposed")?, optional(row, "proposed_to")?);
    let last_step: i64 = row.get("last_step")?;
    let recovery: Vec<String> = json(row, "recovery")?;
    let recovery = recovery.iter().map(|digest| digest.parse()).collect::<Result<_, _>>();
    Ok(Enrolment {
        enabled: row.get("enabled")?,
        secret: optional(row, "secret")?,
        proposed: proposed.zip(to),
        last_step: u64::try_from(last_step).unwrap_or_default(),
        failures: row.get("failures")?,
        locked_until: optional_time(row, "locked_until")?,
        grace_ends: optional_time(row, "grace_ends")?,
        recovery: recovery.map_err(|_| StoreError::Unreadable("a recovery".to_owned()))?,
    })
}
