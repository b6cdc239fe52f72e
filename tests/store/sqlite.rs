//! What only the SQLite store promises: about its file, its lock and its triggers.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use countersign::domain::{Digest, Time};
use countersign::store::{Snapshot, SqliteStore, Store, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Executor, SqlSafeStr};
use tempfile::TempDir;

use super::{batch, blob, entry, head_at};

async fn started() -> (TempDir, SqliteStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&file(&directory)).await.unwrap();
    (directory, store)
}

fn file(directory: &TempDir) -> std::path::PathBuf {
    directory.path().join("ledger.db")
}

/// Somebody with the file in hand.
async fn raw(directory: &TempDir) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file(directory));
    options.connect().await.unwrap()
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
    match outcome {
        Err(StoreError::Refused(text) | StoreError::InUse(text)) => text,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let (directory, store) = started().await;
    let mut first = batch(0, 70, "kept");
    first.blobs.push(blob("why"));
    store.append(first).await.unwrap();
    let end = Time::from_millis(100);
    store
        .remember("k", b"v", end, Time::default())
        .await
        .unwrap();
    let snapshot = Snapshot {
        size: 70,
        edge: vec![Digest::of(b"root")],
        bytes: b"world".to_vec(),
        seal: "sealed".into(),
    };
    store.put_snapshot(snapshot.clone()).await.unwrap();
    for _ in 0..3 {
        let before = store.read(0, 100).await.unwrap();
        assert_eq!(before.len(), 70);
    }
    drop(store);
    let store = SqliteStore::open(&file(&directory)).await.unwrap();
    assert_eq!(store.head().await.unwrap(), head_at(70));
    assert_eq!(store.read(69, 100).await.unwrap(), [entry(69, "kept")]);
    let why = store.blob(&blob("why").sha256).await.unwrap();
    assert_eq!(why, Some(blob("why")));
    let kept = store.recall("k", Time::from_millis(99)).await.unwrap();
    assert_eq!(kept.unwrap(), b"v");
    assert_eq!(store.snapshot().await.unwrap(), Some(snapshot));
    store.append(batch(70, 1, "goes on")).await.unwrap();
}

#[tokio::test]
async fn case_141_a_second_process_on_the_same_file_is_refused() {
    let (directory, store) = started().await;
    let text = refusal(SqliteStore::open(&file(&directory)).await);
    assert!(text.contains("another process has"), "{text}");
    assert!(text.contains("stop it first"), "{text}");
    // By another name, too.
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(file(&directory), &link).unwrap();
    refusal(SqliteStore::open(&link).await);
    // The lock is one that other processes see, and it is gone with the store.
    let lock = directory.path().join("ledger.db.lock");
    assert!(!other_process_can_lock(&lock));
    store.append(batch(0, 1, "still ours")).await.unwrap();
    drop(store);
    assert!(other_process_can_lock(&lock));
    SqliteStore::open(&link).await.unwrap();
}

fn other_process_can_lock(lock: &Path) -> bool {
    let status = Command::new("flock")
        .arg("--nonblock")
        .arg(lock)
        .arg("true")
        .status();
    status.unwrap().success()
}

#[tokio::test]
async fn case_141_commits_wait_for_the_disk_and_the_library_is_not_an_old_one() {
    let (directory, store) = started().await;
    store.append(batch(0, 1, "x")).await.unwrap();
    let mut raw = raw(&directory).await;
    let (mode,): (String,) = sqlx::query_as("PRAGMA journal_mode")
        .fetch_one(&mut raw)
        .await
        .unwrap();
    assert_eq!(mode, "wal");
    let (version,): (String,) = sqlx::query_as("SELECT sqlite_version()")
        .fetch_one(&mut raw)
        .await
        .unwrap();
    let parts: Vec<u32> = version
        .split('.')
        .map(|part| part.parse().unwrap())
        .collect();
    assert!(parts >= vec![3, 51, 3], "{version} corrupts WAL files");
}

#[tokio::test]
async fn case_160_every_file_is_ours_alone() {
    let (directory, store) = started().await;
    store.append(batch(0, 5, "x")).await.unwrap();
    let mut names = Vec::new();
    for found in fs::read_dir(directory.path()).unwrap() {
        let found = found.unwrap();
        let mode = found.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", found.path());
        names.push(found.file_name().into_string().unwrap());
    }
    names.sort();
    let expected = [
        "ledger.db",
        "ledger.db-shm",
        "ledger.db-wal",
        "ledger.db.lock",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn case_160_a_file_that_others_can_read_is_refused() {
    for mode in [0o640, 0o604, 0o620, 0o666] {
        let (directory, store) = started().await;
        drop(store);
        fs::set_permissions(file(&directory), Permissions::from_mode(mode)).unwrap();
        let text = refusal(SqliteStore::open(&file(&directory)).await);
        assert!(text.contains("chmod 600"), "{text}");
        assert!(text.contains(&format!("{mode:04o}")), "{text}");
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_a_ledger_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    refusal(SqliteStore::open(directory.path()).await);
    let nowhere = directory.path().join("missing").join("ledger.db");
    let missing = SqliteStore::open(&nowhere).await;
    assert!(
        matches!(missing, Err(StoreError::Failed { .. })),
        "{missing:?}"
    );
    let foreign = directory.path().join("notes.txt");
    fs::write(&foreign, "these are notes, and no database at all").unwrap();
    fs::set_permissions(&foreign, Permissions::from_mode(0o600)).unwrap();
    let outcome = SqliteStore::open(&foreign).await;
    assert!(
        matches!(outcome, Err(StoreError::Failed { .. })),
        "{outcome:?}"
    );
    assert!(fs::read_to_string(&foreign).unwrap().starts_with("these"));
}

#[tokio::test]
async fn l06_the_database_refuses_to_change_history() {
    let (directory, store) = started().await;
    store.append(batch(0, 5, "x")).await.unwrap();
    let mut raw = raw(&directory).await;
    let attempts = [
        "UPDATE entries SET bytes = x'00' WHERE seq = 1",
        "UPDATE entries SET actor = 'broker'",
        "DELETE FROM entries WHERE seq = 4",
        "DELETE FROM entries",
        "REPLACE INTO entries (seq, bytes, leaf, kind, time, actor) VALUES (4, x'00', zeroblob(32), 'k', 1, 'a')",
        "INSERT INTO entries (seq, bytes, leaf, kind, time, actor) VALUES (9, x'00', zeroblob(32), 'k', 1, 'a')",
        "UPDATE head SET size = 4",
        "UPDATE head SET checkpoint = 'another'",
        "DELETE FROM head",
        "REPLACE INTO head (id, size, edge, checkpoint) VALUES (1, 0, x'', '')",
    ];
    for attempt in attempts {
        let error = raw.execute(attempt).await.unwrap_err().to_string();
        assert!(error.contains("append-only"), "{attempt}: {error}");
    }
    assert_eq!(store.head().await.unwrap(), head_at(5));
    assert_eq!(store.read(0, 10).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_batch_that_fails_half_way_leaves_nothing() {
    let (directory, store) = started().await;
    store.append(batch(0, 2, "x")).await.unwrap();
    let mut raw = raw(&directory).await;
    raw.execute(
        "INSERT INTO entries (seq, bytes, leaf, kind, time, actor) VALUES (2, x'00', zeroblob(32), 'k', 1, 'a')",
    )
    .await
    .unwrap();
    let mut next = batch(2, 3, "y");
    next.blobs.push(blob("y"));
    let outcome = store.append(next).await;
    assert!(
        matches!(outcome, Err(StoreError::Failed { .. })),
        "{outcome:?}"
    );
    assert_eq!(store.head().await.unwrap(), head_at(2));
    assert_eq!(store.read(3, 10).await.unwrap(), []);
    assert_eq!(store.blob(&blob("y").sha256).await.unwrap(), None);
}

#[tokio::test]
async fn l06_a_missing_entry_is_noticed_when_read() {
    let (directory, store) = started().await;
    store.append(batch(0, 5, "x")).await.unwrap();
    let mut raw = raw(&directory).await;
    raw.execute("DROP TRIGGER entries_are_not_deleted")
        .await
        .unwrap();
    raw.execute("DELETE FROM entries WHERE seq = 3")
        .await
        .unwrap();
    let read = store.read(0, 10).await;
    assert!(
        matches!(&read, Err(StoreError::Damaged(text)) if text.contains("entry 3 is missing")),
        "{read:?}"
    );
}

#[tokio::test]
async fn an_erased_text_is_in_no_file() {
    let (directory, store) = started().await;
    let secret = "the-reason-nobody-may-read-any-more";
    let mut first = batch(0, 1, "x");
    first.blobs = vec![blob(secret), blob("something that stays")];
    store.append(first).await.unwrap();
    assert!(in_some_file(&directory, secret));
    store.erase_blob(&blob(secret).sha256).await.unwrap();
    assert!(!in_some_file(&directory, secret));
    assert!(in_some_file(&directory, "something that stays"));
}

fn in_some_file(directory: &TempDir, text: &str) -> bool {
    fs::read_dir(directory.path()).unwrap().any(|found| {
        let bytes = fs::read(found.unwrap().path()).unwrap();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[tokio::test]
async fn a_ledger_of_a_newer_version_is_refused() {
    let (directory, store) = started().await;
    drop(store);
    let mut raw = raw(&directory).await;
    raw.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (99, 'later', 1, x'00', 0)",
    )
    .await
    .unwrap();
    let text = refusal(SqliteStore::open(&file(&directory)).await);
    assert!(text.contains("newer Countersign"), "{text}");
}

#[tokio::test]
async fn an_append_that_is_abandoned_does_not_block_the_next() {
    let (_directory, store) = started().await;
    for polls in 1..12_u64 {
        let size = store.head().await.unwrap().size;
        let mut abandoned = Box::pin(store.append(batch(size, 300, "abandoned")));
        for _ in 0..polls {
            let _ = futures::poll!(abandoned.as_mut());
            tokio::task::yield_now().await;
        }
        drop(abandoned);
        let size = loop {
            let size = store.head().await.unwrap().size;
            match store.append(batch(size, 1, "next")).await {
                Ok(()) => break size + 1,
                Err(StoreError::Conflict) => {}
                Err(error) => panic!("{error:?}"),
            }
        };
        assert_eq!(store.read(0, usize::MAX).await.unwrap().len() as u64, size);
    }
}

#[tokio::test]
async fn every_statement_is_one_sqlite_understands() {
    let (directory, _store) = started().await;
    let mut raw = raw(&directory).await;
    for statement in SqliteStore::statements() {
        let prepared = raw.prepare(statement.into_sql_str()).await;
        prepared.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}
