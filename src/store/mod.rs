//! Where the ledger is kept.
//!
//! One narrow trait, three adapters, one conformance suite. The store knows bytes, indexes and a
//! compare-and-swap head; it knows nothing of what entries mean.

use async_trait::async_trait;

use crate::domain::{Digest, LeaseId, RequestId, Time};

pub use crate::ledger::{Blob, EntryIndex, Head, StoredEntry};

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The head was not the expected one: somebody else appended. Nothing was written.
    #[error("append ledger entries: another broker appended first")]
    Conflict,
    /// Nobody knows whether the write happened. The caller drops what it believes and reads again.
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
}

/// Entries to append together, durably, or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The size the log must have; the compare of compare-and-swap.
    pub expected_size: u64,
    /// The entries, contiguous from `expected_size`.
    pub entries: Vec<StoredEntry>,
    /// Blobs the entries refer to; written in the same transaction.
    pub blobs: Vec<Blob>,
    /// The head after them.
    pub head: Head,
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
    /// Only at or after.
    pub since: Option<Time>,
    /// Only before.
    pub until: Option<Time>,
    /// Only entries with a smaller index: where the previous page ended.
    pub before: Option<u64>,
    /// At most so many (the store caps it at 1,000).
    pub limit: usize,
}

/// A cached fold of the ledger up to `size`. Losing it costs time, nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Entries folded.
    pub size: u64,
    /// SHA-256 of the last folded entry's bytes, so that a snapshot of another history is noticed.
    pub root: Digest,
    /// The folded world, serialized.
    pub bytes: Vec<u8>,
}

/// Where the ledger is kept. All methods may be called at any time from any task.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The durable head. Linearizable: it reflects every append acknowledged before the call.
    async fn head(&self) -> Result<Head, StoreError>;

    /// Entries from index `from`, in order, at most `limit`. Fewer than `limit` means the end was reached.
    async fn read(&self, from: u64, limit: usize) -> Result<Vec<StoredEntry>, StoreError>;

    /// Entries by their columns, newest first.
    async fn find(&self, query: &Query) -> Result<Vec<StoredEntry>, StoreError>;

    /// Appends a batch in one transaction. `Ok` means durable on disk and visible to every reader.
    /// [`StoreError::Conflict`] and [`StoreError::Failed`] mean nothing was written;
    /// [`StoreError::Unknown`] means it may or may not have been: drop in-memory state and read again.
    /// Repeating a batch that did happen answers `Conflict`.
    async fn append(&self, batch: Batch) -> Result<(), StoreError>;

    /// A blob, or `None` when it was erased or never was.
    async fn blob(&self, sha256: &Digest) -> Result<Option<Blob>, StoreError>;

    /// Erases a blob for good. Erasing twice is fine.
    async fn erase_blob(&self, sha256: &Digest) -> Result<(), StoreError>;

    /// The newest snapshot, if there is one.
    async fn snapshot(&self) -> Result<Option<Snapshot>, StoreError>;

    /// Replaces the snapshot unless the stored one is newer.
    async fn put_snapshot(&self, snapshot: Snapshot) -> Result<(), StoreError>;

    /// Remembers `value` under `key` until `expires`, unless the key is there and not yet over at `now`:
    /// `true` exactly once. Sessions, sign-in states and single-use token ids live here.
    async fn remember(
        &self,
        key: &str,
        value: &[u8],
        expires: Time,
        now: Time,
    ) -> Result<bool, StoreError>;

    /// What is remembered under `key` and not over at `now`.
    async fn recall(&self, key: &str, now: Time) -> Result<Option<Vec<u8>>, StoreError>;

    /// Takes `key` out and returns its value if it was there and not over: at most one caller gets it.
    async fn take(&self, key: &str, now: Time) -> Result<Option<Vec<u8>>, StoreError>;

    /// Removes remembered things that were over at `now`.
    async fn sweep_remembered(&self, now: Time) -> Result<(), StoreError>;

    /// Resolves when another broker may have appended, or after a while. A hint, never a promise.
    async fn changed(&self);
}
