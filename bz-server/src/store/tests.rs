//! The store: versions, transactions, and what a full disk or another program says.

use super::*;

#[tokio::test]
async fn a_database_opens_again_and_a_newer_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    Store::open(folder.path()).unwrap().ping().await.unwrap();
    Store::open(folder.path()).unwrap().ping().await.unwrap();
    Connection::open(folder.path().join(FILE)).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let newer = Store::open(folder.path()).map(|_| ());
    assert_eq!(newer, Err(StoreError::Newer { found: 99, known: MIGRATIONS.len(), copy: None }));
}

/// Before the first step to a newer version the database is copied, the last few such copies are kept, and an older
/// server that meets the newer database names the copy that it can read.
#[tokio::test]
async fn an_upgrade_leaves_a_copy_and_an_older_server_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let at_version = |version: usize| {
        drop(std::fs::remove_file(&path));
        let connection = Connection::open(&path).unwrap();
        for step in &MIGRATIONS[..version] {
            connection.execute_batch(step).unwrap();
        }
        connection.execute("INSERT INTO claim (hash, expires) VALUES ('kept', 1)", []).unwrap();
        connection.pragma_update(None, "user_version", u32::try_from(version).unwrap()).unwrap();
    };
    for version in [1, 2, 3, 4] {
        at_version(version);
        Store::open(folder.path()).unwrap().ping().await.unwrap();
    }
    let copy = |version: usize| folder.path().join(format!("{FILE}.version-{version}"));
    assert_eq!(
        [1, 2, 3, 4].map(|version| copy(version).exists()),
        [false, true, true, true],
        "the last {}",
        copy::KEPT
    );
    let copied = Connection::open(copy(4)).unwrap();
    assert_eq!(version(&copied), Ok(4));
    let claims: String = copied.query_row("SELECT hash FROM claim", [], |row| row.get(0)).unwrap();
    assert_eq!(claims, "kept");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(copy(4)).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let newer = Store::open(folder.path()).map(|_| ()).unwrap_err();
    assert_eq!(newer, StoreError::Newer { found: 99, known: MIGRATIONS.len(), copy: Some(copy(4)) });
    assert!(newer.to_string().contains("bz-server.db.version-4 by moving it to bz-server.db"), "{newer}");
}

/// No room for the copy: nothing is migrated.
#[test]
fn without_a_copy_there_is_no_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(MIGRATIONS[0]).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    // A folder in its place stands for every reason why a copy cannot be written.
    std::fs::create_dir(folder.path().join(format!("{FILE}.version-1"))).unwrap();
    std::fs::create_dir(folder.path().join(format!("{FILE}.version-1/x"))).unwrap();
    assert!(matches!(Store::open(folder.path()).map(|_| ()), Err(StoreError::Failed(_))));
    assert_eq!(version(&connection), Ok(1));
}

#[tokio::test]
async fn a_failed_transaction_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let failed = store
        .transact(|tx| {
            tx.execute("INSERT INTO claim (hash, expires) VALUES ('x', 1)", [])?;
            Err::<(), _>(StoreError::InUse)
        })
        .await;
    assert_eq!(failed, Err(StoreError::InUse));
    let count: i64 =
        store.transact(|tx| Ok(tx.query_row("SELECT count(*) FROM claim", [], |r| r.get(0))?)).await.unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn a_full_disk_says_so_and_the_store_lives_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let fill = |bytes: i64| {
        store.transact(move |tx| {
            let sql = "INSERT INTO claim (hash, expires) VALUES (hex(randomblob(?1)), 1)";
            tx.execute(sql, [bytes])?;
            Ok(())
        })
    };
    let pages: i64 = store.transact(|tx| Ok(tx.query_row("PRAGMA page_count", [], |r| r.get(0))?)).await.unwrap();
    store.transact(at_most(pages + 4)).await.unwrap();
    assert_eq!(fill(1 << 20).await, Err(StoreError::Full));
    store.ping().await.unwrap();
    fill(10).await.unwrap();
}

/// Pages that are damaged, a file that is none, and one that was cut off: refused at the start, and left as they are.
#[tokio::test]
async fn a_damaged_database_is_refused_and_left_as_it_is() {
    let damage: [fn(Vec<u8>) -> Vec<u8>; 3] = [
        |_| b"this is no database, but long enough to look like a file that could be one".repeat(20),
        |mut bytes| {
            bytes[..16].fill(0);
            bytes
        },
        |mut bytes| {
            bytes[100..4096].fill(0xff);
            bytes
        },
    ];
    for (case, damage) in damage.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        drop(Store::open(folder.path()).unwrap().ping().await);
        let connection = Connection::open(&path).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        drop(connection);
        let bytes = damage(std::fs::read(&path).unwrap());
        std::fs::write(&path, &bytes).unwrap();
        let refused = Store::open(folder.path()).map(|_| ()).unwrap_err();
        assert!(matches!(refused, StoreError::Unreadable(_)), "case {case}: {refused}");
        assert!(refused.to_string().contains("restore it from a copy"), "{refused}");
        assert!(std::fs::read(&path).unwrap() == bytes, "case {case}: the damaged file was changed");
    }
}

/// A program that holds the database is waited for, and named when it does not let go; then all goes on.
#[tokio::test]
async fn a_locked_database_says_so_and_goes_on_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let other = Connection::open(folder.path().join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(store.ping().await, Err(StoreError::Locked));
    other.execute_batch("ROLLBACK").unwrap();
    store.ping().await.unwrap();
}

#[test]
fn another_program_is_named() {
    let locked = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None);
    assert_eq!(StoreError::from(locked), StoreError::Locked);
    let full = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
    assert_eq!(StoreError::from(full), StoreError::Full);
    let fixed = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY), None);
    assert!(StoreError::from(fixed).to_string().contains("must be the server's user's own, and writable"));
}

/// Bounds the database, as a full disk does.
fn at_most(pages: i64) -> impl FnOnce(&Transaction<'_>) -> Result<(), StoreError> + Send {
    move |tx| Ok(tx.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
}
