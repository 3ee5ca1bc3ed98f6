//! API keys, registration keys and tokens made of them, by the keyed hash of their secret.

use std::net::IpAddr;

use bz_core::api::api_key::cidr::Cidr;
use bz_core::api::api_key::{KeyOwner, OwnerType, Scope};
use bz_core::api::policy::SubjectType;
use bz_core::digest::Digest;
use bz_core::id::{ApiKeyId, EnvironmentId, UserId};
use bz_core::time::UnixTime;
use rusqlite::{Row, Transaction, params};

use crate::store::{
    Store, StoreError, exists, first, json, millis, optional, optional_time, rows, text, time, to_json, user,
};

/// A key; its secret is nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The key.
    pub id: ApiKeyId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: UnixTime,
    /// Whether it can register targets and nothing else.
    pub is_registration: bool,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Whether it opens anything.
    pub enabled: bool,
    /// When it ends by itself.
    pub expires: Option<UnixTime>,
    /// From where it is taken; from anywhere when empty.
    pub ranges: Vec<Cidr>,
    /// Whose it is.
    pub owner: Owner,
    /// The registration key that this token was made of.
    pub parent: Option<ApiKeyId>,
    /// The only environment it registers in.
    pub environment: Option<EnvironmentId>,
    /// How many targets it still registers.
    pub uses_left: Option<u32>,
    /// When it was last used, and from where.
    pub last_used: Option<(UnixTime, IpAddr)>,
}

/// Whose a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The organization's.
    Organization,
    /// A program's.
    Application(String),
    /// A person's or service account's, with which it ends.
    User(UserId),
    /// The same, as the one registration key that this administrator has.
    Personal(UserId),
}

impl ApiKey {
    /// A key that everybody may have from everywhere, for ever.
    #[must_use]
    pub const fn new(id: ApiKeyId, name: String, created: UnixTime) -> Self {
        Self {
            id,
            name,
            created,
            is_registration: false,
            scopes: Vec::new(),
            enabled: true,
            expires: None,
            ranges: Vec::new(),
            owner: Owner::Organization,
            parent: None,
            environment: None,
            uses_left: None,
            last_used: None,
        }
    }
}

impl Store {
    /// All of them, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.transact(|tx| rows(tx, "SELECT * FROM api_key ORDER BY name, id", &[], read)).await
    }

    /// One.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        self.transact(move |tx| by_id(tx, id)).await
    }

    /// The one whose secret has this hash, or had it until lately.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn api_key_of(&self, hash: Digest, now: UnixTime) -> Result<Option<ApiKey>, StoreError> {
        self.transact(move |tx| {
            let sql = "SELECT * FROM api_key WHERE hash = ?1
                 UNION ALL SELECT * FROM api_key WHERE old_hash = ?1 AND old_until > ?2";
            first(tx, sql, &[&hash.to_string(), &millis(now)], read)
        })
        .await
    }

    /// The owner of a key, as people see one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn key_owner(&self, owner: Owner) -> Result<Option<KeyOwner>, StoreError> {
        let id = match owner {
            Owner::Organization => return Ok(None),
            Owner::Application(name) => return Ok(Some(KeyOwner { kind: OwnerType::Application, id: None, name })),
            Owner::User(id) | Owner::Personal(id) => id,
        };
        self.transact(move |tx| {
            Ok(user::by_id(tx, id)?.map(|user| {
                let kind = match (user.kind, user.is_admin) {
                    (SubjectType::ServiceAccount | SubjectType::ApiKey, _) => OwnerType::Application,
                    (SubjectType::User, true) => OwnerType::Administrator,
                    (SubjectType::User, false) => OwnerType::EndUser,
                };
                KeyOwner { kind, id: Some(id), name: user.name().to_owned() }
            }))
        })
        .await
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_api_key(&self, key: ApiKey, hash: Digest) -> Result<(), StoreError> {
        self.transact(move |tx| insert(tx, &key, hash)).await
    }

    /// Writes what of one can be changed; whether it was there. What was made of one that is disabled is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_api_key(&self, key: ApiKey) -> Result<bool, StoreError> {
        self.transact(move |tx| {
            let id = key.id.to_string();
            let (scopes, ranges) = (to_json(&key.scopes)?, to_json(&key.ranges)?);
            let changed = tx.execute(
                "UPDATE api_key SET name = ?2, enabled = ?3, scopes = ?4, expires = ?5, ranges = ?6 WHERE id = ?1",
                params![id, key.name, key.enabled, scopes, key.expires.map(millis), ranges],
            )?;
            if !key.enabled {
                tx.execute("DELETE FROM api_key WHERE parent = ?1", [id])?;
            }
            Ok(changed == 1)
        })
        .await
    }

    /// Gives one another secret, the old one being good until `overlap`; whether it was there. What was made of it is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rotate_api_key(
        &self,
        id: ApiKeyId,
        hash: Digest,
        overlap: Option<UnixTime>,
    ) -> Result<bool, StoreError> {
        self.transact(move |tx| {
            let id = id.to_string();
            tx.execute("DELETE FROM api_key WHERE parent = ?1", [&id])?;
            let sql = "UPDATE api_key SET old_hash = CASE WHEN ?3 IS NULL THEN NULL ELSE hash END, old_until = ?3,
                 hash = ?2 WHERE id = ?1";
            Ok(tx.execute(sql, params![id, hash.to_string(), overlap.map(millis)])? == 1)
        })
        .await
    }

    /// Deletes one, and what was made of it; whether it was there.
    ///
    /// # Errors
    /// [`StoreError::InUse`] for the default registration key.
    pub async fn delete_api_key(&self, id: ApiKeyId) -> Result<bool, StoreError> {
        self.transact(move |tx| {
            let is_default = "SELECT 1 FROM organization WHERE default_registration_key = ?1";
            if first(tx, is_default, &[&id.to_string()], |_| Ok(()))?.is_some() {
                return Err(StoreError::InUse);
            }
            Ok(tx.execute("DELETE FROM api_key WHERE id = ?1", [id.to_string()])? == 1)
        })
        .await
    }

    /// Deletes tokens that have ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_ended_tokens(&self, now: UnixTime) -> Result<usize, StoreError> {
        self.transact(move |tx| {
            let sql = "DELETE FROM api_key WHERE parent IS NOT NULL AND expires <= ?1";
            Ok(tx.execute(sql, [millis(now)])?)
        })
        .await
    }

    /// Keeps when keys were last used, and from where.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keys_used(&self, uses: Vec<(ApiKeyId, (UnixTime, IpAddr))>) -> Result<(), StoreError> {
        self.transact(move |tx| {
            for (id, (at, from)) in uses {
                let sql = "UPDATE api_key SET last_used = ?2, last_used_from = ?3 WHERE id = ?1";
                tx.execute(sql, params![id.to_string(), millis(at), from.to_string()])?;
            }
            Ok(())
        })
        .await
    }

    /// Puts the hashes from before there was a key for them under it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn key_old_hashes(&self, keyed: impl Fn(Digest) -> Digest + Send + 'static) -> Result<(), StoreError> {
        self.transact(move |tx| {
            let plain = rows(tx, "SELECT id, hash FROM api_key WHERE keyed = 0", &[], |row| {
                Ok((text::<ApiKeyId>(row, "id")?, text::<Digest>(row, "hash")?))
            })?;
            for (id, hash) in plain {
                let sql = "UPDATE api_key SET hash = ?2, keyed = 1 WHERE id = ?1";
                tx.execute(sql, params![id.to_string(), keyed(hash).to_string()])?;
            }
            Ok(())
        })
        .await
    }
}

pub(super) fn by_id(tx: &Transaction<'_>, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
    first(tx, "SELECT * FROM api_key WHERE id = ?1", &[&id.to_string()], read)
}

/// The one registration key that this administrator has.
pub(super) fn personal(tx: &Transaction<'_>, owner: UserId) -> Result<Option<ApiKey>, StoreError> {
    first(tx, "SELECT * FROM api_key WHERE owner = ?1 AND personal = 1", &[&owner.to_string()], read)
}

/// Uses one target of a key up; whether it had any left.
pub(super) fn use_up(tx: &Transaction<'_>, id: ApiKeyId) -> Result<bool, StoreError> {
    let sql = "UPDATE api_key SET uses_left = uses_left - 1 WHERE id = ?1 AND (uses_left IS NULL OR uses_left > 0)";
    Ok(tx.execute(sql, [id.to_string()])? == 1)
}

pub(super) fn insert(tx: &Transaction<'_>, key: &ApiKey, hash: Digest) -> Result<(), StoreError> {
    let (owner, application, personal) = match &key.owner {
        Owner::Organization => (None, None, false),
        Owner::Application(name) => (None, Some(name), false),
        Owner::User(id) => (Some(id.to_string()), None, false),
        Owner::Personal(id) => (Some(id.to_string()), None, true),
    };
    tx.execute(
        "INSERT INTO api_key (id, name, created, is_registration, hash, scopes, enabled, expires, ranges, owner,
             application, personal, parent, environment, uses_left, keyed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, 1)",
        params![
            key.id.to_string(),
            key.name,
            millis(key.created),
            key.is_registration,
            hash.to_string(),
            to_json(&key.scopes)?,
            key.enabled,
            key.expires.map(millis),
            to_json(&key.ranges)?,
            owner,
            application,
            personal,
            key.parent.map(|id| id.to_string()),
            key.environment.map(|id| id.to_string()),
            key.uses_left,
        ],
    )
    .map_err(exists("this key"))?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<ApiKey, StoreError> {
    let owner = match (optional(row, "owner")?, row.get::<_, Option<String>>("application")?) {
        (Some(id), _) if row.get("personal")? => Owner::Personal(id),
        (Some(id), _) => Owner::User(id),
        (None, Some(name)) => Owner::Application(name),
        (None, None) => Owner::Organization,
    };
    let is_registration = row.get("is_registration")?;
    Ok(ApiKey {
        id: text(row, "id")?,
        name: row.get("name")?,
        created: time(row, "created")?,
        is_registration,
        scopes: if is_registration { Vec::new() } else { json(row, "scopes")? },
        enabled: row.get("enabled")?,
        expires: optional_time(row, "expires")?,
        ranges: json(row, "ranges")?,
        owner,
        parent: optional(row, "parent")?,
        environment: optional(row, "environment")?,
        uses_left: row.get("uses_left")?,
        last_used: optional_time(row, "last_used")?.zip(optional(row, "last_used_from")?),
    })
}
