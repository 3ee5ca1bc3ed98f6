//! The store: versions, transactions, and what a full disk or another program says.

use super::*;

#[tokio::test]
async fn a_database_opens_again_and_a_newer_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    Store::open(folder.path()).unwrap().ping().await.unwrap();
    Store::open(folder.path()).unwrap().ping().await.unwrap();
    Connection::open(folder.path().join(FILE)).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let newer = Store::open(folder.path()).map(|_| ());
    assert_eq!(newer, Err(StoreError::Newer { found: 99, known: MIGRATIONS.len() }));
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

#[test]
fn another_program_is_named() {
    let locked = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None);
    assert_eq!(StoreError::from(locked), StoreError::Locked);
    let full = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
    assert_eq!(StoreError::from(full), StoreError::Full);
}

/// Bounds the database, as a full disk does.
fn at_most(pages: i64) -> impl FnOnce(&Transaction<'_>) -> Result<(), StoreError> + Send {
    move |tx| Ok(tx.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
}
