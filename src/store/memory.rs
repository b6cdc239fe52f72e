//! The store for simulation: in memory, deterministic, and it fails on request.
//!
//! It outlives a simulated broker: keep the `Arc` and start another broker on it. A [`FaultHook`] decides for each
//! operation whether it happens, whether its answer arrives, or whether nothing more is ever heard.
//! `changed` apart, it never waits; it reads no clock and draws no randomness.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Batch, Blob, FIND_LIMIT, Head, Query, Snapshot, Store, StoreError, StoredEntry, Tree};
use crate::domain::{Digest, Time};

/// The methods of [`Store`], as a [`FaultHook`] is told of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// [`Store::head`]
    Head,
    /// [`Store::read`]
    Read,
    /// [`Store::find`]
    Find,
    /// [`Store::append`]
    Append,
    /// [`Store::blob`]
    Blob,
    /// [`Store::erase_blob`]
    EraseBlob,
    /// [`Store::snapshot`]
    Snapshot,
    /// [`Store::put_snapshot`]
    PutSnapshot,
    /// [`Store::remember`]
    Remember,
    /// [`Store::recall`]
    Recall,
    /// [`Store::take`]
    Take,
    /// [`Store::sweep_remembered`]
    Sweep,
}

impl Operation {
    /// Whether it changes what is stored.
    pub fn writes(self) -> bool {
        matches!(
            self,
            Self::Append
                | Self::EraseBlob
                | Self::PutSnapshot
                | Self::Remember
                | Self::Take
                | Self::Sweep
        )
    }
}

/// What becomes of one operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// It happens and is answered.
    Proceed,
    /// It does not happen; the caller gets [`StoreError::Failed`].
    Fail,
    /// It does not happen; the caller of `append` gets [`StoreError::Conflict`], any other `Failed`.
    Conflict,
    /// It does not happen, and the caller of a write gets [`StoreError::Unknown`]; of a read, `Failed`.
    LoseRequest,
    /// It happens, and the caller of a write gets [`StoreError::Unknown`]; of a read, `Failed`.
    LoseAnswer,
    /// It does not happen, and no answer ever comes. A crash just before.
    HangBefore,
    /// It happens, and no answer ever comes. A crash just after.
    HangAfter,
}

/// Asked once for each operation, before it.
pub type FaultHook = Box<dyn Fn(Operation) -> Fault + Send + Sync>;

/// How long [`Store::changed`] waits for another append.
const A_WHILE: Duration = Duration::from_secs(60);

/// The store for simulation.
pub struct MemoryStore {
    state: Mutex<Contents>,
    hook: Mutex<Option<FaultHook>>,
    appended: watch::Sender<u64>,
}

/// What a store holds, as somebody with the database in hand sees it.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The head.
    pub head: Head,
    /// The entries, from 0.
    pub entries: Vec<StoredEntry>,
    /// The texts, by hash.
    pub blobs: BTreeMap<Digest, Blob>,
    /// The snapshot.
    pub snapshot: Option<Snapshot>,
    /// What is remembered, and until when.
    pub remembered: BTreeMap<String, (Vec<u8>, Time)>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// A panic elsewhere leaves the state as it was between two operations: each is one step under the lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStore {
    /// An empty store without faults.
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            hook: Mutex::new(None),
            appended: watch::Sender::new(0),
        }
    }

    /// From now on `hook` decides what becomes of each operation; `None` ends all faults.
    pub fn set_faults(&self, hook: Option<FaultHook>) {
        *locked(&self.hook) = hook;
    }

    /// Lets somebody with the database in hand look at it and change it, past every rule.
    pub fn tamper<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> T {
        let result = change(&mut locked(&self.state));
        self.appended.send_modify(|count| *count += 1);
        result
    }

    async fn run<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut Contents) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let fault = match &*locked(&self.hook) {
            Some(hook) => hook(operation),
            None => Fault::Proceed,
        };
        let happens = matches!(fault, Fault::Proceed | Fault::LoseAnswer | Fault::HangAfter);
        let answer = happens.then(|| act(&mut locked(&self.state)));
        if let (Operation::Append, Some(Ok(_))) = (operation, &answer) {
            self.appended.send_modify(|count| *count += 1);
        }
        let (operation_name, source) = ("use the simulated store", "a fault was injected".into());
        match (fault, answer) {
            (Fault::HangBefore | Fault::HangAfter, _) => std::future::pending().await,
            (Fault::Proceed, Some(answer)) => answer,
            (Fault::Conflict, _) if operation == Operation::Append => Err(StoreError::Conflict),
            (Fault::LoseRequest | Fault::LoseAnswer, _) if operation.writes() => {
                Err(StoreError::Unknown {
                    operation: operation_name,
                    source,
                })
            }
            _ => Err(StoreError::Failed {
                operation: operation_name,
                source,
            }),
        }
    }
}

fn matches(query: &Query, entry: &StoredEntry) -> bool {
    fn same<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
        wanted.is_none() || wanted == found
    }
    let index = &entry.index;
    same(query.kind.as_ref(), Some(&index.kind))
        && same(query.request.as_ref(), index.request.as_ref())
        && same(query.lease.as_ref(), index.lease.as_ref())
        && same(query.agent.as_ref(), index.agent.as_ref())
        && same(query.action.as_ref(), index.action.as_ref())
        && same(query.actor.as_ref(), Some(&index.actor))
        && same(query.outcome.as_ref(), index.outcome.as_ref())
        && same(query.key.as_ref(), index.key.as_ref())
        && query.since.is_none_or(|since| index.time >= since)
        && query.until.is_none_or(|until| index.time < until)
        && query.before.is_none_or(|before| entry.seq < before)
}

#[async_trait]
impl Store for MemoryStore {
    async fn head(&self) -> Result<Head, StoreError> {
        self.run(Operation::Head, |state| Ok(state.head.clone()))
            .await
    }

    async fn read(&self, from: u64, limit: usize) -> Result<Vec<StoredEntry>, StoreError> {
        self.run(Operation::Read, |state| {
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            Ok(state
                .entries
                .iter()
                .skip(from)
                .take(limit)
                .cloned()
                .collect())
        })
        .await
    }

    async fn find(&self, query: &Query) -> Result<Vec<StoredEntry>, StoreError> {
        self.run(Operation::Find, |state| {
            let found = state
                .entries
                .iter()
                .rev()
                .filter(|entry| matches(query, entry));
            Ok(found.take(query.limit.min(FIND_LIMIT)).cloned().collect())
        })
        .await
    }

    async fn append(&self, batch: Batch) -> Result<(), StoreError> {
        batch.check()?;
        self.run(Operation::Append, |state| {
            if Tree::from_head(&state.head).as_ref() != Ok(&batch.expected) {
                return Err(StoreError::Conflict);
            }
            state.head = batch.head;
            state.entries.extend(batch.entries);
            for blob in batch.blobs {
                state.blobs.entry(blob.sha256).or_insert(blob);
            }
            Ok(())
        })
        .await
    }

    async fn blob(&self, sha256: &Digest) -> Result<Option<Blob>, StoreError> {
        self.run(Operation::Blob, |state| {
            Ok(state.blobs.get(sha256).cloned())
        })
        .await
    }

    async fn erase_blob(&self, sha256: &Digest) -> Result<(), StoreError> {
        self.run(Operation::EraseBlob, |state| {
            state.blobs.remove(sha256);
            Ok(())
        })
        .await
    }

    async fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        self.run(Operation::Snapshot, |state| Ok(state.snapshot.clone()))
            .await
    }

    async fn put_snapshot(&self, snapshot: Snapshot) -> Result<(), StoreError> {
        self.run(Operation::PutSnapshot, |state| {
            let newer = |kept: &Snapshot| kept.size > snapshot.size;
            if !state.snapshot.as_ref().is_some_and(newer) {
                state.snapshot = Some(snapshot);
            }
            Ok(())
        })
        .await
    }

    async fn remember(
        &self,
        key: &str,
        value: &[u8],
        expires: Time,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.run(Operation::Remember, |state| {
            let there = state.remembered.get(key).is_some_and(|(_, end)| *end > now);
            if !there {
                let kept = (value.to_vec(), expires);
                state.remembered.insert(key.to_owned(), kept);
            }
            Ok(!there)
        })
        .await
    }

    async fn recall(&self, key: &str, now: Time) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(Operation::Recall, |state| {
            let kept = state.remembered.get(key).filter(|(_, end)| *end > now);
            Ok(kept.map(|(value, _)| value.clone()))
        })
        .await
    }

    async fn take(&self, key: &str, now: Time) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(Operation::Take, |state| {
            let there = state.remembered.get(key).is_some_and(|(_, end)| *end > now);
            let taken = there.then(|| state.remembered.remove(key)).flatten();
            Ok(taken.map(|(value, _)| value))
        })
        .await
    }

    async fn sweep_remembered(&self, now: Time) -> Result<(), StoreError> {
        self.run(Operation::Sweep, |state| {
            state.remembered.retain(|_, (_, end)| *end > now);
            Ok(())
        })
        .await
    }

    async fn changed(&self) {
        let mut appended = self.appended.subscribe();
        tokio::select! {
            _ = appended.changed() => {}
            () = tokio::time::sleep(A_WHILE) => {}
        }
    }
}
