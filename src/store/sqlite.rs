//! The embedded store: one SQLite file, one broker, nothing to install.
//!
//! Promises beside the trait's: an `Ok` survives the loss of power (WAL, `synchronous=FULL`); a second
//! process on the same file is refused; the file is never readable by others; an erased text is
//! overwritten, in the file and in the WAL.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqlSafeStr, SqlitePool};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::lock;
use super::rows::{edge_bytes, id_bytes, to_sql};
use super::sql::{self, Database, Dialect, not_migrated};
use super::{Batch, Blob, StoreError, StoredEntry};
use crate::ledger::packed::pack;

const BEGIN: &str = "BEGIN IMMEDIATE";
const MOVE_HEAD: &str =
    "UPDATE head SET size = $3, edge = $4, checkpoint = $5 WHERE size = $1 AND edge = $2";
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// Rows of one INSERT, largest first. A batch is cut into such runs, so that a few texts, prepared once,
/// serve every batch: rows sent one by one are eight times slower.
const RUNS: [usize; 5] = [256, 64, 16, 4, 1];

static ENTRIES: LazyLock<[(usize, String); 5]> = LazyLock::new(|| {
    RUNS.map(|rows| {
        let values = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"; rows].join(", ");
        let text = format!(
            "INSERT INTO entries (seq, bytes, leaf, sig, kind, time, request, lease, agent, action, actor, outcome, key) \
             VALUES {values}"
        );
        (rows, text)
    })
});

static BLOBS: LazyLock<[(usize, String); 5]> = LazyLock::new(|| {
    RUNS.map(|rows| {
        let values = vec!["(?, ?, ?)"; rows].join(", ");
        let text = format!(
            "INSERT INTO blobs (sha256, salt, bytes) VALUES {values} ON CONFLICT (sha256) DO NOTHING"
        );
        (rows, text)
    })
});

/// File systems on which locks and shared memory do not hold between machines, by `statfs` type.
const NETWORK_FILE_SYSTEMS: [(u32, &str); 7] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
    (0x00c3_6400, "Ceph"),
];

/// How often [`super::Store::changed`] resolves: no other broker can append here.
const NOBODY_ELSE: Duration = Duration::from_secs(30);

/// The embedded store. One for each file and machine.
#[derive(Debug)]
pub struct SqliteStore {
    readers: SqlitePool,
    writer: Writer,
    /// Held as long as the store lives; dropped after the connections.
    _lock: File,
}

impl SqliteStore {
    /// Opens the ledger at `path`, or starts one there (mode 0600). Its directory must exist.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open; [`StoreError::Refused`] when others may read it, it is on a
    /// network file system, or a newer Countersign wrote it; [`StoreError::Failed`] when the system refuses.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let path = protected_file(path)?;
        let lock = start_lock(&path)?;
        let failed = |error: sqlx::Error| StoreError::Failed {
            operation: "open the ledger file; check that it is a ledger and the disk is healthy",
            source: error.into(),
        };
        let mut writer = writing(&path).connect().await.map_err(failed)?;
        let migrated = migrator().run(&mut writer).await;
        migrated.map_err(|error| not_migrated(error, "the ledger file"))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options(&path).pragma("query_only", "ON"))
            .await
            .map_err(failed)?;
        Ok(Self {
            readers,
            writer: Writer {
                options: writing(&path),
                connection: Mutex::new(Some(writer)),
            },
            _lock: lock,
        })
    }

    /// Every text this adapter sends, for the test that prepares them.
    pub fn statements() -> Vec<&'static str> {
        let own = [BEGIN, MOVE_HEAD, CHECKPOINT];
        let inserts = ENTRIES.iter().chain(BLOBS.iter());
        let inserts = inserts.map(|(_, text)| text.as_str());
        sql::SHARED.into_iter().chain(own).chain(inserts).collect()
    }
}

/// The one connection that writes. After an error in a transaction it is closed and opened anew: SQLite may
/// have rolled back by itself, and then the driver and the database disagree about where they are.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    connection: Mutex<Option<SqliteConnection>>,
}

impl Writer {
    /// The connection, for a single statement.
    pub(super) async fn connection(
        &self,
    ) -> Result<MappedMutexGuard<'_, SqliteConnection>, sqlx::Error> {
        let mut kept = self.connection.lock().await;
        if kept.is_none() {
            *kept = Some(self.options.connect().await?);
        }
        MutexGuard::try_map(kept, Option::as_mut).map_err(|_| sqlx::Error::PoolClosed)
    }

    async fn append(&self, batch: Batch) -> Result<(), StoreError> {
        let mut kept = self.connection.lock().await;
        // Taken out, so that a caller who goes away in the middle leaves none behind in an unknown state.
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(not_appended)?,
        };
        let outcome = append(&mut connection, batch).await;
        match outcome {
            Ok(()) | Err(StoreError::Conflict) => *kept = Some(connection),
            Err(_) => drop(connection.close_hard().await),
        }
        outcome
    }
}

fn not_appended(error: sqlx::Error) -> StoreError {
    StoreError::Failed {
        operation: "append ledger entries; check the disk's space and health",
        source: error.into(),
    }
}

/// A trigger of somebody else's kept rows out, which would be missing for ever.
fn swallowed() -> sqlx::Error {
    sqlx::Error::Protocol("the database kept fewer rows than it was given".into())
}

async fn append(connection: &mut SqliteConnection, batch: Batch) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with(BEGIN).await.map_err(not_appended)?;
    let moved = sqlx::query(MOVE_HEAD)
        .bind(to_sql(batch.expected.size()))
        .bind(edge_bytes(batch.expected.edge()))
        .bind(to_sql(batch.head.size))
        .bind(edge_bytes(&batch.head.edge))
        .bind(batch.head.checkpoint)
        .execute(&mut *transaction)
        .await
        .map_err(not_appended)?;
    if moved.rows_affected() == 0 {
        transaction.rollback().await.map_err(not_appended)?;
        return Err(StoreError::Conflict);
    }
    insert_entries(&mut transaction, batch.entries)
        .await
        .map_err(not_appended)?;
    insert_blobs(&mut transaction, batch.blobs)
        .await
        .map_err(not_appended)?;
    // Crash before this: nothing happened. Crash after: all of it did. An error from it: read and see.
    let committed = transaction.commit().await;
    committed.map_err(|error| StoreError::Unknown {
        operation: "append ledger entries; check the disk's space and health",
        source: error.into(),
    })
}

#[async_trait]
impl Dialect for SqliteStore {
    fn database(&self) -> Database<'_> {
        Database::Sqlite {
            readers: &self.readers,
            writer: &self.writer,
        }
    }

    async fn append_checked(&self, batch: Batch) -> Result<(), StoreError> {
        self.writer.append(batch).await
    }

    /// `secure_delete` has overwritten the text in the file's pages; the WAL still has older ones.
    async fn forget_erased(&self) -> Result<(), StoreError> {
        let failed = |source| StoreError::Unknown {
            operation: "overwrite an erased text in the write-ahead log; erase it again",
            source,
        };
        let mut connection = self
            .writer
            .connection()
            .await
            .map_err(|e| failed(e.into()))?;
        let answer = sqlx::query_as::<_, (i64, i64, i64)>(CHECKPOINT)
            .fetch_one(&mut *connection)
            .await;
        match answer {
            Ok((0, _, _)) => Ok(()),
            Ok(_) => Err(failed("readers kept the write-ahead log busy".into())),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// What makes an erased text gone from the write-ahead log empties it.
    async fn tidy(&self) {
        if self.forget_erased().await.is_err() {
            tracing::warn!("the write-ahead log stays beside the ledger; copy both");
        }
    }

    async fn wait(&self) {
        tokio::time::sleep(NOBODY_ELSE).await;
    }
}

async fn insert_entries(
    writer: &mut SqliteConnection,
    entries: Vec<StoredEntry>,
) -> Result<(), sqlx::Error> {
    let mut left = entries.len();
    let mut entries = entries.into_iter();
    for (rows, text) in ENTRIES.iter() {
        while left >= *rows {
            let mut query = sqlx::query(text.as_str());
            for entry in entries.by_ref().take(*rows) {
                let index = entry.index;
                query = query
                    .bind(to_sql(entry.seq))
                    .bind(pack(entry.bytes))
                    .bind(entry.leaf.0.to_vec())
                    .bind(entry.signature)
                    .bind(index.kind)
                    .bind(index.time.millis())
                    .bind(index.request.map(|id| id_bytes(id.number())))
                    .bind(index.lease.map(|id| id_bytes(id.number())))
                    .bind(index.agent)
                    .bind(index.action)
                    .bind(index.actor)
                    .bind(index.outcome)
                    .bind(index.key.map(|key| key.0.to_vec()));
            }
            let written = query.execute(&mut *writer).await?.rows_affected();
            if usize::try_from(written) != Ok(*rows) {
                return Err(swallowed());
            }
            left -= rows;
        }
    }
    Ok(())
}

async fn insert_blobs(writer: &mut SqliteConnection, blobs: Vec<Blob>) -> Result<(), sqlx::Error> {
    let mut left = blobs.len();
    let mut blobs = blobs.into_iter();
    for (rows, text) in BLOBS.iter() {
        while left >= *rows {
            let mut query = sqlx::query(text.as_str());
            for blob in blobs.by_ref().take(*rows) {
                query = query
                    .bind(blob.sha256.0.to_vec())
                    .bind(blob.salt.to_vec())
                    .bind(blob.bytes);
            }
            query.execute(&mut *writer).await?;
            left -= rows;
        }
    }
    Ok(())
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .row_buffer_size(1024)
        .pragma("secure_delete", "ON")
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging()
}

/// A batch touches a page in each index for each agent and actor in it: a larger cache and fewer, larger
/// checkpoints write such a page once instead of again and again.
fn writing(path: &Path) -> SqliteConnectOptions {
    options(path)
        .pragma("cache_size", "-16000")
        .pragma("wal_autocheckpoint", "4000")
}

fn migrator() -> Migrator {
    Migrator::with_migrations(vec![Migration::new(
        1,
        "ledger".into(),
        MigrationType::Simple,
        include_str!("../../migrations/sqlite/0001_ledger.sql").into_sql_str(),
        false,
    )])
}

/// Creates the file so that nobody else may read it, or makes sure that nobody can. Its real path, so that
/// two links to one file meet at one lock.
fn protected_file(path: &Path) -> Result<PathBuf, StoreError> {
    let failed = |error: std::io::Error| StoreError::Failed {
        operation: "create or look at the ledger file; its directory must exist and be ours to write",
        source: error.into(),
    };
    let created = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match created {
        Ok(file) => file.sync_all().map_err(failed)?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let path = fs::canonicalize(path).map_err(failed)?;
    if let Some(directory) = path.parent() {
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(failed)?;
    }
    let metadata = fs::metadata(&path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(StoreError::Refused(format!(
            "{} is not a file; name a file for the ledger",
            path.display()
        )));
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StoreError::Refused(format!(
            "the ledger file {0} has mode {mode:04o}, so others can read or change it; find out who did, then run: chmod 600 {0}",
            path.display()
        )));
    }
    refuse_network(&path)?;
    Ok(path)
}

#[cfg(target_os = "linux")]
fn refuse_network(path: &Path) -> Result<(), StoreError> {
    let found = nix::sys::statfs::statfs(path).map_err(|errno| StoreError::Failed {
        operation: "ask for the ledger's file system; check that its disk is healthy",
        source: errno.into(),
    })?;
    match network_file_system(found.filesystem_type().0 as u32) {
        None => Ok(()),
        Some(name) => Err(StoreError::Refused(format!(
            "the ledger file {} is on {name}, where SQLite's locks do not hold between machines; set server.state_dir to a local disk, or [store] kind = \"postgres\"",
            path.display()
        ))),
    }
}

#[cfg(not(target_os = "linux"))]
fn refuse_network(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}

fn network_file_system(kind: u32) -> Option<&'static str> {
    let known = NETWORK_FILE_SYSTEMS.iter();
    known
        .filter(|(network, _)| *network == kind)
        .map(|(_, name)| *name)
        .next()
}

/// A lock on a file of its own beside the ledger: closing any descriptor of the ledger itself would drop
/// the locks SQLite has on it. The system drops it when the process ends, however it ends.
fn start_lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |error: std::io::Error| StoreError::Failed {
        operation: "lock the ledger file; its directory must be ours to write",
        source: error.into(),
    };
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(PathBuf::from(name))
        .map_err(failed)?;
    match lock::alone(&lock).map_err(failed)? {
        true => Ok(lock),
        false => Err(StoreError::InUse(format!(
            "another process has the ledger {} open; stop it first, or set [store] kind = \"postgres\" \
             to run several brokers",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, Time};
    use crate::store::{EntryIndex, Head, Store, Tree};

    #[test]
    fn case_141_network_file_systems_are_known() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(0xef53), None);
    }

    /// The one error no test can provoke from outside: the commit itself fails.
    #[tokio::test]
    async fn case_141_a_commit_that_fails_is_unknown_and_the_store_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("ledger.db"))
            .await
            .unwrap();
        let batch = Batch {
            expected: Tree::default(),
            entries: vec![StoredEntry {
                seq: 0,
                bytes: b"{}".to_vec(),
                leaf: Digest::of(b"leaf"),
                signature: None,
                index: EntryIndex {
                    time: Time::from_millis(1),
                    ..EntryIndex::default()
                },
            }],
            blobs: Vec::new(),
            head: Head {
                size: 1,
                ..Head::default()
            },
        };
        let refuse_commits = async || {
            let mut writer = store.writer.connection().await.unwrap();
            let mut handle = writer.lock_handle().await.unwrap();
            handle.set_commit_hook(|| false);
        };
        refuse_commits().await;
        let answer = store.append(batch.clone()).await;
        assert!(
            matches!(answer, Err(StoreError::Unknown { .. })),
            "{answer:?}"
        );
        assert_eq!(store.head().await.unwrap(), Head::default());
        store.append(batch).await.unwrap();
        assert_eq!(store.read(0, 10).await.unwrap().len(), 1);
    }
}
