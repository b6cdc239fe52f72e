//! What SQLite and PostgreSQL share: one text for each statement.
//!
//! `$n` parameters, and only BIGINT, TEXT and BYTEA/BLOB, mean the same on both. Where the two must
//! differ (opening, appending, waiting) an adapter implements [`Dialect`]; everything else is written here once.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};

use super::find::{FIND, Value, find_text};
use super::rows::{
    EntryRow, HeadRow, damaged, edge_bytes, edge_of, entry_of, head_of, id_bytes, to_sql,
};
use super::sqlite::Writer;
use super::{Batch, Blob, Head, Query, Snapshot, Store, StoreError, StoredEntry};
use crate::domain::{Digest, Time};

/// How long a question to PostgreSQL may take before it counts as lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// SQLite's result codes for a read or write the system refused, and for a full disk.
const SQLITE_IOERR: u32 = 10;
const SQLITE_FULL: u32 = 13;

const HEAD: &str = "SELECT size, edge, checkpoint FROM head";
const READ: &str = "SELECT seq, bytes, leaf, sig, kind, time, request, lease, agent, action, actor, outcome, key \
    FROM entries WHERE seq >= $1 ORDER BY seq LIMIT $2";
const BLOB: &str = "SELECT salt, bytes FROM blobs WHERE sha256 = $1";
const ERASE_BLOB: &str = "DELETE FROM blobs WHERE sha256 = $1";
const SNAPSHOT: &str = "SELECT size, edge, bytes, seal FROM snapshot";
const PUT_SNAPSHOT: &str = "INSERT INTO snapshot (id, size, edge, bytes, seal) VALUES (1, $1, $2, $3, $4) \
    ON CONFLICT (id) DO UPDATE SET size = excluded.size, edge = excluded.edge, bytes = excluded.bytes, seal = excluded.seal \
    WHERE snapshot.size <= excluded.size";
const REMEMBER: &str = "INSERT INTO remembered (key, value, expires) VALUES ($1, $2, $3) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires \
    WHERE remembered.expires <= $4";
const RECALL: &str = "SELECT value FROM remembered WHERE key = $1 AND expires > $2";
const TAKE: &str = "DELETE FROM remembered WHERE key = $1 AND expires > $2 RETURNING value";
const SWEEP: &str = "DELETE FROM remembered WHERE expires <= $1";

/// The texts above, for the test that prepares them on both databases.
pub(super) const SHARED: [&str; 11] = [
    HEAD,
    READ,
    FIND,
    BLOB,
    ERASE_BLOB,
    SNAPSHOT,
    PUT_SNAPSHOT,
    REMEMBER,
    RECALL,
    TAKE,
    SWEEP,
];

/// Open connections.
#[derive(Clone, Copy)]
pub(super) enum Database<'a> {
    /// One file: readers see the last commit, the one writer is never interrupted.
    Sqlite {
        /// `query_only` connections.
        readers: &'a SqlitePool,
        /// The only connection that writes.
        writer: &'a Writer,
    },
    /// Connections to the primary.
    Postgres(&'a PgPool),
}

/// Where the two differ. Whoever implements this is a [`Store`].
#[async_trait]
pub(super) trait Dialect: Send + Sync + 'static {
    /// The connections.
    fn database(&self) -> Database<'_>;

    /// [`Store::append`] of a batch that was checked.
    async fn append_checked(&self, batch: Batch) -> Result<(), StoreError>;

    /// After a blob was erased: whatever the database needs to forget it on disk, too.
    async fn forget_erased(&self) -> Result<(), StoreError>;

    /// [`Store::close`].
    async fn tidy(&self) {}

    /// [`Store::changed`].
    async fn wait(&self);
}

/// An error and whether the database may have got the statement.
pub(super) struct Trouble {
    pub(super) sent: bool,
    pub(super) error: sqlx::Error,
}

impl Trouble {
    /// The error of something that only reads.
    fn reading(self, operation: &'static str) -> StoreError {
        let strange = matches!(
            self.error,
            sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::ColumnNotFound(_)
        );
        if strange {
            return damaged(&format!("{operation}: {}", self.error));
        }
        StoreError::Failed {
            operation,
            source: self.error.into(),
        }
    }

    /// The error of a statement that writes, on its own or as a transaction's end. Only a database that
    /// says "no" has certainly not written.
    pub(super) fn writing(self, operation: &'static str) -> StoreError {
        let unknown = self.sent && !refused(&self.error);
        let source = self.error.into();
        if unknown {
            StoreError::Unknown { operation, source }
        } else {
            StoreError::Failed { operation, source }
        }
    }
}

/// Whether the database answered that it did not do it.
///
/// PostgreSQL: a FATAL or PANIC may come between a commit and its acknowledgement by a standby; class 08 is a
/// proxy that lost the server, 40003 is "completion unknown". SQLite: an I/O error or a full disk may come from
/// the commit itself. Those, and everything that is no answer at all, stay unknown.
fn refused(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(answer) = error else {
        return false;
    };
    if let Some(answer) = answer.try_downcast_ref::<PgDatabaseError>() {
        let code = answer.code();
        return answer.severity() == PgSeverity::Error
            && !code.starts_with("08")
            && code != "40003";
    }
    let code = answer.code().and_then(|code| code.parse::<u32>().ok());
    code.is_some_and(|code| !matches!(code & 0xff, SQLITE_IOERR | SQLITE_FULL))
}

/// A PostgreSQL question that took too long.
pub(super) fn too_slow() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}

/// Sends `$query` with `$method` to `$database`, to a reader or to the writer. Written as a macro because sqlx's
/// types differ for each driver; the text and the bindings do not.
macro_rules! ask {
    ($database:expr, $role:ident, $method:ident, $query:expr) => {
        match $database {
            Database::Sqlite { readers, writer } => {
                ask!(@sqlite $role, readers, writer, $method, $query)
            }
            Database::Postgres(pool) => match pool.acquire().await {
                Err(error) => Err(Trouble { sent: false, error }),
                Ok(mut connection) => {
                    let answer = $query.$method(&mut *connection);
                    match tokio::time::timeout(PATIENCE, answer).await {
                        Ok(answer) => ask!(@plain $method, answer)
                            .map_err(|error| Trouble { sent: true, error }),
                        Err(_) => {
                            connection.close_on_drop();
                            Err(Trouble { sent: true, error: too_slow() })
                        }
                    }
                }
            },
        }
    };
    (@sqlite reader, $readers:ident, $writer:ident, $method:ident, $query:expr) => {{
        let _ = $writer;
        let answer = $query.$method($readers).await;
        ask!(@plain $method, answer).map_err(|error| Trouble { sent: true, error })
    }};
    (@sqlite writer, $readers:ident, $writer:ident, $method:ident, $query:expr) => {{
        let _ = $readers;
        match $writer.connection().await {
            Err(error) => Err(Trouble { sent: false, error }),
            Ok(mut connection) => {
                let answer = $query.$method(&mut *connection).await;
                ask!(@plain $method, answer).map_err(|error| Trouble { sent: true, error })
            }
        }
    }};
    (@plain fetch_all, $answer:expr) => {
        $answer
    };
    (@plain execute, $answer:expr) => {
        $answer.map(|done| done.rows_affected())
    };
}

/// Why the tables could not be brought up to date.
pub(super) fn not_migrated(error: MigrateError, what: &str) -> StoreError {
    match error {
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
            StoreError::Refused(format!(
                "{what} was written by a newer Countersign; start that version, or restore a backup of this one"
            ))
        }
        MigrateError::VersionMismatch(_) => StoreError::Refused(format!(
            "{what} was prepared by a Countersign that is not a release; start the one that made it"
        )),
        error => StoreError::Failed {
            operation: "bring the ledger's tables up to date; see the cause, then start again",
            source: error.into(),
        },
    }
}

#[async_trait]
impl<T: Dialect> Store for T {
    async fn head(&self) -> Result<Head, StoreError> {
        let rows = ask!(
            self.database(),
            reader,
            fetch_all,
            sqlx::query_as::<_, HeadRow>(HEAD)
        );
        let rows = rows.map_err(|trouble| trouble.reading("read the ledger's head"))?;
        let [row] = <[HeadRow; 1]>::try_from(rows)
            .map_err(|rows| damaged(&format!("the head has {} rows", rows.len())))?;
        head_of(row)
    }

    async fn read(&self, from: u64, limit: usize) -> Result<Vec<StoredEntry>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = ask!(
            self.database(),
            reader,
            fetch_all,
            sqlx::query_as::<_, EntryRow>(READ)
                .bind(to_sql(from))
                .bind(limit)
        );
        let rows = rows.map_err(|trouble| trouble.reading("read ledger entries"))?;
        let entries = rows.into_iter().zip(from..).map(|(row, seq)| {
            let entry = entry_of(row)?;
            let follows = entry.seq == seq;
            follows
                .then_some(entry)
                .ok_or_else(|| damaged(&format!("entry {seq} is missing")))
        });
        entries.collect()
    }

    async fn find(&self, query: &Query) -> Result<Vec<StoredEntry>, StoreError> {
        let (text, values) = find_text(query);
        let rows = ask!(self.database(), reader, fetch_all, {
            let mut asked = sqlx::query_as::<_, EntryRow>(AssertSqlSafe(text));
            for value in values {
                asked = match value {
                    Value::Text(text) => asked.bind(text.to_owned()),
                    Value::Id(number) => asked.bind(id_bytes(number)),
                    Value::Number(number) => asked.bind(number),
                    Value::Bytes(bytes) => asked.bind(bytes.to_vec()),
                };
            }
            asked
        });
        let rows = rows.map_err(|trouble| trouble.reading("search the ledger"))?;
        rows.into_iter().map(entry_of).collect()
    }

    async fn append(&self, batch: Batch) -> Result<(), StoreError> {
        batch.check()?;
        self.append_checked(batch).await
    }

    async fn blob(&self, sha256: &Digest) -> Result<Option<Blob>, StoreError> {
        let key = sha256.0.to_vec();
        let rows = ask!(
            self.database(),
            reader,
            fetch_all,
            sqlx::query_as::<_, (Vec<u8>, Vec<u8>)>(BLOB).bind(key)
        );
        let rows = rows.map_err(|trouble| trouble.reading("read a text of the ledger"))?;
        let blob = rows.into_iter().next().map(|(salt, bytes)| {
            Ok(Blob {
                sha256: *sha256,
                salt: <[u8; 16]>::try_from(salt).map_err(|_| damaged("a salt is too short"))?,
                bytes,
            })
        });
        blob.transpose()
    }

    async fn erase_blob(&self, sha256: &Digest) -> Result<(), StoreError> {
        let key = sha256.0.to_vec();
        let erased = ask!(
            self.database(),
            writer,
            execute,
            sqlx::query(ERASE_BLOB).bind(key)
        );
        erased.map_err(|trouble| trouble.writing("erase a text of the ledger; erase it again"))?;
        self.forget_erased().await
    }

    async fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        let rows = ask!(
            self.database(),
            reader,
            fetch_all,
            sqlx::query_as::<_, (i64, Vec<u8>, Vec<u8>, String)>(SNAPSHOT)
        );
        let rows = rows.map_err(|trouble| trouble.reading("read the snapshot"))?;
        let snapshot = rows.into_iter().next().map(|(size, edge, bytes, seal)| {
            Ok(Snapshot {
                size: u64::try_from(size).map_err(|_| damaged("a snapshot's size is negative"))?,
                edge: edge_of(&edge)?,
                bytes,
                seal,
            })
        });
        snapshot.transpose()
    }

    async fn put_snapshot(&self, snapshot: Snapshot) -> Result<(), StoreError> {
        let put = ask!(
            self.database(),
            writer,
            execute,
            sqlx::query(PUT_SNAPSHOT)
                .bind(to_sql(snapshot.size))
                .bind(edge_bytes(&snapshot.edge))
                .bind(snapshot.bytes)
                .bind(snapshot.seal)
        );
        put.map_err(|trouble| trouble.writing("keep a snapshot"))?;
        Ok(())
    }

    async fn remember(
        &self,
        key: &str,
        value: &[u8],
        expires: Time,
        now: Time,
    ) -> Result<bool, StoreError> {
        let (key, value) = (key.to_owned(), value.to_vec());
        let (expires, now) = (expires.millis(), now.millis());
        let done = ask!(
            self.database(),
            writer,
            execute,
            sqlx::query(REMEMBER)
                .bind(key)
                .bind(value)
                .bind(expires)
                .bind(now)
        );
        let operation = "remember a session, sign-in or token id";
        let changed = done.map_err(|trouble| trouble.writing(operation))?;
        Ok(changed == 1)
    }

    async fn recall(&self, key: &str, now: Time) -> Result<Option<Vec<u8>>, StoreError> {
        let (key, now) = (key.to_owned(), now.millis());
        let rows = ask!(
            self.database(),
            reader,
            fetch_all,
            sqlx::query_as::<_, (Vec<u8>,)>(RECALL).bind(key).bind(now)
        );
        let rows = rows.map_err(|trouble| trouble.reading("recall a session or sign-in"))?;
        Ok(rows.into_iter().next().map(|(value,)| value))
    }

    async fn take(&self, key: &str, now: Time) -> Result<Option<Vec<u8>>, StoreError> {
        let (key, now) = (key.to_owned(), now.millis());
        let rows = ask!(
            self.database(),
            writer,
            fetch_all,
            sqlx::query_as::<_, (Vec<u8>,)>(TAKE).bind(key).bind(now)
        );
        let rows = rows.map_err(|trouble| trouble.writing("take a session or sign-in"))?;
        Ok(rows.into_iter().next().map(|(value,)| value))
    }

    async fn sweep_remembered(&self, now: Time) -> Result<(), StoreError> {
        let now = now.millis();
        let swept = ask!(
            self.database(),
            writer,
            execute,
            sqlx::query(SWEEP).bind(now)
        );
        swept.map_err(|trouble| trouble.writing("sweep what was remembered"))?;
        Ok(())
    }

    async fn close(&self) {
        self.tidy().await;
    }

    async fn changed(&self) {
        self.wait().await;
    }
}
