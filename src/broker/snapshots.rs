//! Snapshots of the published world. A snapshot is a cache: losing it, or failing to write it, costs time at the
//! next start and nothing else.

use std::sync::Arc;

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

impl Sequencer {
    /// The more is open, the longer it takes to write one, so the rarer it is; but never so rare that a start takes long.
    pub(super) fn snapshot_now_and_then(&mut self) {
        let due = |world: &World| {
            let weight = u64::try_from(world.weight()).unwrap_or(u64::MAX);
            let every = weight.saturating_mul(WEIGHT).clamp(EVERY, AT_MOST);
            (world.size >= self.snapshot_size.saturating_add(every)).then(|| world.clone())
        };
        // The published world: ours may be ahead of what is durable.
        let Some(world) = self.shared.world(due) else {
            return;
        };
        self.snapshot_size = world.size;
        let (shared, tree) = (Arc::clone(&self.shared), self.published.clone());
        self.shared.tasks.spawn(async move {
            if let Err(error) = write(&shared, world, tree).await {
                tracing::warn!(%error, "the snapshot could not be written");
            }
        });
    }
}

async fn write(shared: &Arc<Shared>, world: World, tree: Tree) -> anyhow::Result<()> {
    let signer = Arc::clone(shared);
    let sealed = tokio::task::spawn_blocking(move || {
        let bytes = serde_json::to_vec(&world)?;
        anyhow::Ok(Snapshot::seal(&signer.key, &tree, World::FOLD, bytes))
    });
    Ok(shared.store.put_snapshot(sealed.await??).await?)
}
