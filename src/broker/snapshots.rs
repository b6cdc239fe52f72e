//! Snapshots of the published world. A snapshot is a cache: losing it, or failing to write it, costs time at the
//! next start and nothing else. One is written at a time, now and then and when the broker stops.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::sequencer::Sequencer;
use super::shared::Shared;
use crate::domain::World;
use crate::ledger::{Snapshot, Tree};

/// Least number of entries between snapshots.
const EVERY: u64 = 10_000;
/// Most entries between snapshots, and so to fold at a start: they take a fraction of a second.
const AT_MOST: u64 = 100_000;
/// Entries between snapshots for each thing in the world.
const WEIGHT: u64 = 4;

/// What the sequencer knows of its snapshots.
pub(super) struct Snapshots {
    /// How many entries the newest one covers, written or being written.
    pub(super) size: u64,
    writing: Option<JoinHandle<()>>,
    /// Keeps a broker that stops waiting for its last one.
    last: Option<TaskTrackerToken>,
}

impl Snapshots {
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            size: 0,
            writing: None,
            last: Some(shared.tasks.token()),
        }
    }

    /// Whether the last one is still to come.
    pub(super) fn go_on(&self) -> bool {
        self.last.is_some()
    }
}

impl Sequencer {
    /// The more is open, the longer it takes to write one, so the rarer it is; but never so rare that a start takes long.
    pub(super) fn snapshot_now_and_then(&mut self) {
        let (size, writing) = (self.snapshots.size, &self.snapshots.writing);
        if writing.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let due = |world: &World| {
            let weight = u64::try_from(world.weight()).unwrap_or(u64::MAX);
            let every = weight.saturating_mul(WEIGHT).clamp(EVERY, AT_MOST);
            (world.size >= size.saturating_add(every)).then(|| world.clone())
        };
        // The published world: ours may be ahead of what is durable.
        if let Some(world) = self.shared.world(due) {
            self.snapshot(world, None);
        }
    }

    /// The last one, so that the next start has little to read. What is appended while the broker stops is read then.
    pub(super) fn last_snapshot(&mut self) {
        let (last, size) = (self.snapshots.last.take(), self.snapshots.size);
        let fresh = |world: &World| (world.size > size).then(|| world.clone());
        let believed = self.shared.doubt().is_none();
        if let Some(world) = self.shared.world(fresh).filter(|_| believed) {
            self.snapshot(world, last);
        }
    }

    fn snapshot(&mut self, world: World, last: Option<TaskTrackerToken>) {
        self.snapshots.size = world.size;
        let before = self.snapshots.writing.take();
        let (shared, tree) = (Arc::clone(&self.shared), self.published.clone());
        let write = async move {
            if let Some(before) = before {
                drop(before.await);
            }
            if let Err(error) = write(&shared, world, tree).await {
                tracing::warn!(%error, "the snapshot could not be written");
            }
            drop(last);
        };
        self.snapshots.writing = Some(self.shared.tasks.spawn(write));
    }
}

async fn write(shared: &Arc<Shared>, world: World, tree: Tree) -> anyhow::Result<()> {
    // One of entries that the store does not have would stand in the way of a ledger that was restored meanwhile.
    let head = shared.store.head().await?;
    anyhow::ensure!(
        head.size > tree.size() || Tree::from_head(&head).ok().as_ref() == Some(&tree),
        "the ledger in the store is not the one that was folded"
    );
    let signer = Arc::clone(shared);
    let sealed = tokio::task::spawn_blocking(move || {
        let bytes = serde_json::to_vec(&world)?;
        anyhow::Ok(Snapshot::seal(&signer.key, &tree, World::FOLD, bytes))
    });
    Ok(shared.store.put_snapshot(sealed.await??).await?)
}
