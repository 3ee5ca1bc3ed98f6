//! Which registration key scripts register by: the organization's default one, or each administrator's own; and tokens
//! made of them.

use bz_core::digest::Digest;
use bz_core::id::{ApiKeyId, UserId};
use bz_core::time::UnixTime;
use rusqlite::{Transaction, params};

use crate::store::api_key::{self, ApiKey, Owner};
use crate::store::{Store, StoreError, first, optional, rows, text};

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether everybody registers by the default key.
    pub global: bool,
    /// The default key, once there is one.
    pub default: Option<ApiKeyId>,
}

/// A key that is made where none is there yet: nobody ever has this secret.
#[derive(Debug, Clone, Copy)]
pub struct Spare {
    /// Its id.
    pub id: ApiKeyId,
    /// The hash of its secret.
    pub hash: Digest,
    /// When.
    pub now: UnixTime,
}

/// What a token is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The default key.
    Default,
    /// The own key of an administrator.
    Personal(UserId),
    /// This one.
    Key(ApiKeyId),
}

impl Store {
    /// The settings.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn registration_settings(&self) -> Result<Settings, StoreError> {
        self.transact(settings).await
    }

    /// Has everybody register by this key; whether it is a registration key that is no token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enforce_global_key(&self, id: ApiKeyId) -> Result<bool, StoreError> {
        self.transact(move |tx| {
            let key = api_key::by_id(tx, id)?;
            if !key.is_some_and(|key| key.is_registration && key.enabled && key.parent.is_none()) {
                return Ok(false);
            }
            let sql = "UPDATE organization SET global_registration_key = 1, default_registration_key = ?1";
            tx.execute(sql, [id.to_string()])?;
            Ok(true)
        })
        .await
    }

    /// Has each administrator register by a key of their own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release_global_key(&self) -> Result<(), StoreError> {
        self.transact(move |tx| {
            tx.execute("UPDATE organization SET global_registration_key = 0", [])?;
            Ok(())
        })
        .await
    }

    /// Administrators, people alone, without a registration key of their own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn without_own_key(&self) -> Result<Vec<UserId>, StoreError> {
        self.transact(|tx| {
            let sql = "SELECT id FROM user WHERE is_admin = 1 AND kind = 'User'
                 AND id NOT IN (SELECT owner FROM api_key WHERE personal = 1)";
            rows(tx, sql, &[], |row| text(row, "id"))
        })
        .await
    }

    /// The own registration key of an administrator, made out of `spare` where there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn own_key(&self, owner: UserId, spare: Spare) -> Result<ApiKey, StoreError> {
        self.transact(move |tx| own(tx, owner, spare)).await
    }

    /// Makes a token: what `token` says, as far as the key it is made of allows. Nothing when there is no such key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_token(
        &self,
        of: Of,
        (token, hash): (ApiKey, Digest),
        spare: Spare,
    ) -> Result<Option<(ApiKey, ApiKey)>, StoreError> {
        self.transact(move |tx| {
            let parent = match of {
                Of::Key(id) => api_key::by_id(tx, id)?,
                Of::Personal(owner) => Some(own(tx, owner, spare)?),
                Of::Default => Some(default(tx, spare)?),
            };
            let usable = |key: &ApiKey| {
                let live = key.expires.is_none_or(|end| end > token.created) && key.uses_left.is_none();
                let here =
                    key.environment.is_none() || token.environment.is_none() || key.environment == token.environment;
                key.is_registration && key.enabled && key.parent.is_none() && live && here
            };
            let Some(parent) = parent.filter(usable) else { return Ok(None) };
            let ends = [token.expires, parent.expires].into_iter().flatten().min();
            let token = ApiKey {
                is_registration: true,
                name: format!("token of {}", parent.name),
                parent: Some(parent.id),
                expires: ends,
                ranges: parent.ranges.clone(),
                environment: parent.environment.or(token.environment),
                ..token
            };
            api_key::insert(tx, &token, hash)?;
            Ok(Some((token, parent)))
        })
        .await
    }
}

fn settings(tx: &Transaction<'_>) -> Result<Settings, StoreError> {
    let sql = "SELECT global_registration_key, default_registration_key FROM organization";
    let found = first(tx, sql, &[], |row| {
        Ok(Settings {
            global: row.get("global_registration_key")?,
            default: optional(row, "default_registration_key")?,
        })
    })?;
    found.ok_or_else(|| StoreError::Failed("there is no organization".to_owned()))
}

fn own(tx: &Transaction<'_>, owner: UserId, spare: Spare) -> Result<ApiKey, StoreError> {
    if let Some(key) = api_key::personal(tx, owner)? {
        return Ok(key);
    }
    let key = ApiKey {
        is_registration: true,
        owner: Owner::Personal(owner),
        ..ApiKey::new(spare.id, "Own".to_owned(), spare.now)
    };
    api_key::insert(tx, &key, spare.hash)?;
    Ok(key)
}

fn default(tx: &Transaction<'_>, spare: Spare) -> Result<ApiKey, StoreError> {
    if let Some(id) = settings(tx)?.default {
        return api_key::by_id(tx, id)?.ok_or_else(|| StoreError::Failed("the default key is not there".to_owned()));
    }
    let key = ApiKey { is_registration: true, ..ApiKey::new(spare.id, "Default".to_owned(), spare.now) };
    api_key::insert(tx, &key, spare.hash)?;
    tx.execute("UPDATE organization SET default_registration_key = ?1", params![key.id.to_string()])?;
    Ok(key)
}
