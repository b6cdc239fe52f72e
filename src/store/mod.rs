//! Where the ledger is kept.
//!
//! One narrow trait, three adapters, one conformance suite. The store knows bytes, indexes and a
//! compare-and-swap head; it knows nothing of what entries mean.
//!
//! * [`SqliteStore`] — one file, one broker; nothing to install
//! * [`PostgresStore`] — one database, any number of brokers
//! * [`MemoryStore`] — forgets at exit, and fails on request; for simulation
//!
//! [`Shelf`] is what identity sees of it: it remembers, and cannot append. Outside of it a broker keeps the newest head it knows: [`KnownHead`].
//!
//! What the adapters promise beside the trait: entries cannot be changed or deleted even by somebody with
//! the database in hand (triggers refuse), the head only grows, and an answer that got lost is
//! [`StoreError::Unknown`], never [`StoreError::Failed`].

use async_trait::async_trait;

use crate::domain::{Digest, LeaseId, RequestId, Time};

mod find;
mod known;
mod lock;
mod memory;
mod pages;
mod postgres;
mod rows;
mod shelf;
mod sql;
mod sqlite;

pub use known::{FileHead, KnownHead, MemoryHead};
pub use memory::{Contents, Fault, FaultHook, MemoryStore, Operation};
pub use pages::{Page, Pages};
pub use postgres::PostgresStore;
pub use shelf::Shelf;
pub use sqlite::SqliteStore;

/// The most entries [`Store::find`] answers with.
pub const FIND_LIMIT: usize = 1000;

/// The most bytes an entry has.
pub const ENTRY_BYTES_MAX: usize = 32 * 1024;

pub use crate::ledger::{Blob, EntryIndex, Head, Snapshot, StoredEntry, Tree};

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The head was not the expected one: somebody else appended, or it is the head of another history. Nothing
    /// was written.
    #[error("append ledger entries: another broker appended first")]
    Conflict,
    /// Nobody knows whether the write happened. The caller drops what it believes and reads again. A write on
    /// its way may still arrive after that read: compare-and-swap then answers the next append with `Conflict`.
    #[error("{operation}: the outcome is unknown")]
    Unknown {
        /// What was being done.
        operation: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The operation did not happen.
    #[error("{operation}")]
    Failed {
        /// What was being done.
        operation: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store holds something it should not; needs an operator.
    #[error("{0}")]
    Damaged(String),
    /// The store refuses to be opened as it is set up. Nothing was touched; the text says what to do.
    #[error("{0}")]
    Refused(String),
    /// Another process has it open, and there can be only one. The text says what to do.
    #[error("{0}")]
    InUse(String),
}

impl StoreError {
    /// With all its causes, for the log: what was being done is not what is in the way.
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

fn index_texts(index: &EntryIndex) -> impl Iterator<Item = &str> {
    let some = [Some(index.kind.as_str()), Some(index.actor.as_str())];
    let optional = [&index.agent, &index.action, &index.outcome].map(Option::as_deref);
    some.into_iter().chain(optional).flatten()
}

/// Entries to append together, durably, or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The tree the log must be, by size and edge: the compare of compare-and-swap. Another history of the same
    /// length is not continued.
    pub expected: Tree,
    /// The entries, contiguous from the end of `expected`.
    pub entries: Vec<StoredEntry>,
    /// Blobs the entries refer to; written in the same transaction.
    pub blobs: Vec<Blob>,
    /// The head after them.
    pub head: Head,
}

impl Batch {
    /// Refuses a batch no adapter may write: empty, not contiguous, a head that does not fit, an entry of
    /// no or too many bytes, or a NUL, which PostgreSQL cannot keep in a text. The same rules for every
    /// adapter, so that none accepts what another could not copy.
    fn check(&self) -> Result<(), StoreError> {
        let refused = |source: &str| StoreError::Failed {
            operation: "append ledger entries: the batch is not well-formed; report this as a bug",
            source: source.into(),
        };
        if self.entries.is_empty() {
            return Err(refused("it has no entries"));
        }
        let mut size = self.expected.size();
        for entry in &self.entries {
            if entry.seq != size {
                return Err(refused("its entries do not follow one another"));
            }
            if entry.bytes.is_empty() || entry.bytes.len() > ENTRY_BYTES_MAX {
                return Err(refused("an entry has no bytes or more than 32 KiB"));
            }
            let mut texts = index_texts(&entry.index).chain(entry.signature.as_deref());
            if texts.any(|text| text.contains('\0')) {
                return Err(refused("a text has a NUL character"));
            }
            size += 1;
        }
        if self.head.size != size || self.head.checkpoint.contains('\0') {
            return Err(refused("its head does not cover its entries"));
        }
        Ok(())
    }
}

/// Which entries to find. Members that are `None` do not restrict. Newest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Query {
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this request.
    pub request: Option<RequestId>,
    /// Only this lease.
    pub lease: Option<LeaseId>,
    /// Only this agent.
    pub agent: Option<String>,
    /// Only this action.
    pub action: Option<String>,
    /// Only this actor.
    pub actor: Option<String>,
    /// Only this outcome.
    pub outcome: Option<String>,
    /// Only asks of one agent with one idempotency key.
    pub key: Option<Digest>,
    /// Only at or after.
    pub since: Option<Time>,
    /// Only before.
    pub until: Option<Time>,
    /// Only entries with a smaller index: where the previous page ended.
    pub before: Option<u64>,
    /// At most so many (the store caps it at 1,000).
    pub limit: usize,
}

/// Where the ledger is kept. All methods may be called at any time from any task.
///
/// Every method that writes is atomic: it happens wholly or not at all, and `Ok` means it is durable.
/// [`StoreError::Failed`] from any of them means it did not happen; [`StoreError::Unknown`] that it may have.
/// A future dropped before it answered is the same as `Unknown`. Methods that only read answer
/// `Failed`, never `Unknown`; repeating them is always right.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The durable head. Linearizable: it reflects every append acknowledged before the call.
    async fn head(&self) -> Result<Head, StoreError>;

    /// Entries from index `from`, in order and without a gap, at most `limit`. Fewer than `limit` means the
    /// end was reached. Never capped: callers page. A gap is [`StoreError::Damaged`].
    async fn read(&self, from: u64, limit: usize) -> Result<Vec<StoredEntry>, StoreError>;

    /// Entries by their columns, newest (highest index) first, at most [`FIND_LIMIT`].
    async fn find(&self, query: &Query) -> Result<Vec<StoredEntry>, StoreError>;

    /// Appends a batch in one transaction. `Ok` means durable on disk and visible to every reader.
    /// [`StoreError::Conflict`] and [`StoreError::Failed`] mean nothing was written;
    /// [`StoreError::Unknown`] means it may or may not have been: drop in-memory state and read again.
    /// Repeating a batch that did happen answers `Conflict`. A blob that is there already stays as it is.
    /// A batch without entries is refused (`Failed`): the head moves only with entries.
    async fn append(&self, batch: Batch) -> Result<(), StoreError>;

    /// A blob, or `None` when it was erased or never was.
    async fn blob(&self, sha256: &Digest) -> Result<Option<Blob>, StoreError>;

    /// Erases a blob for good. Erasing twice is fine. SQLite overwrites the text in the file and the WAL;
    /// in PostgreSQL it is gone from every query at once and from disk as `VACUUM`, the WAL archive and backups age.
    async fn erase_blob(&self, sha256: &Digest) -> Result<(), StoreError>;

    /// The newest snapshot, if there is one.
    async fn snapshot(&self) -> Result<Option<Snapshot>, StoreError>;

    /// Replaces the snapshot unless the stored one is newer (covers more entries); then it does nothing.
    async fn put_snapshot(&self, snapshot: Snapshot) -> Result<(), StoreError>;

    /// Remembers `value` under `key` until `expires`, unless the key is there and not yet over at `now`:
    /// `true` exactly once, however many ask at once and on whatever broker. A thing is over from the
    /// instant `expires` on. Sessions, sign-in states and single-use token ids live here.
    async fn remember(
        &self,
        key: &str,
        value: &[u8],
        expires: Time,
        now: Time,
    ) -> Result<bool, StoreError>;

    /// What is remembered under `key` and not over at `now`.
    async fn recall(&self, key: &str, now: Time) -> Result<Option<Vec<u8>>, StoreError>;

    /// Takes `key` out and returns its value if it was there and not over: at most one caller gets it. After
    /// `Unknown` it may be gone with nobody having got it.
    async fn take(&self, key: &str, now: Time) -> Result<Option<Vec<u8>>, StoreError>;

    /// Removes remembered things that were over at `now`.
    async fn sweep_remembered(&self, now: Time) -> Result<(), StoreError>;

    /// Leaves the store tidy at a clean stop: SQLite's file is then whole without its write-ahead log. Nothing rests on it.
    async fn close(&self) {}

    /// Resolves when another broker may have appended, or after a while. A hint, never a promise: an append
    /// between two calls may be missed until "a while" is over.
    async fn changed(&self);
}
