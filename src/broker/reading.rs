//! How the sequencer reads the ledger: nothing in the store is believed that the log's key does not vouch for.
//!
//! Rows are hashed into a tree of the broker's own, from the end of what it knows. They are published once that tree is
//! the store's head in size, edge and signed checkpoint, and continues the newest head this broker remembers outside
//! the store. Anything else is [`StoreError::Damaged`]: nothing is decided, ends go on.

use std::sync::Arc;

use super::sequencer::Sequencer;
use crate::domain::{Entry, World};
use crate::ledger::tree::leaf_hash;
use crate::ledger::{Head, Problem, Reader, Tree};
use crate::store::{Pages, StoreError};

/// Entries read at once, and published one by one; a longer run is published as the world it leads to.
const PAGE: usize = 1000;
/// Entries in a row without a signature. No broker appends as many at once.
const UNSIGNED_MAX: usize = 100 * PAGE;

fn damaged(text: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(text.to_string())
}

fn at(seq: u64, problem: impl std::fmt::Display) -> StoreError {
    damaged(format_args!(
        "entry {seq} of the ledger's store: {problem}; run `countersign ledger verify` on it"
    ))
}

impl Sequencer {
    /// Reads the ledger from its start, or the snapshot, and holds it against what an earlier start knew.
    pub(super) async fn first_reading(&mut self) -> Result<(), StoreError> {
        let (shared, key) = (&self.shared, self.shared.key.verifying_key());
        self.known = shared.known_head.newest(key)?;
        let new = self.known.is_none();
        self.reload().await?;
        if new && self.tree.size() > 0 {
            tracing::warn!(
                entries = self.tree.size(),
                "this broker remembers no head of the ledger; it begins with the store's"
            );
        }
        Ok(())
    }

    /// Drops what may be ahead of the store and reads on from what is published.
    pub(super) async fn reload(&mut self) -> Result<(), StoreError> {
        self.world = self.shared.world(World::clone);
        self.tree = self.published.clone();
        if self.world.size == 0 {
            self.restore_snapshot().await?;
        }
        self.catch_up().await?;
        self.nothing_beyond().await?;
        self.stale = false;
        Ok(())
    }

    /// Rows beyond the head are nobody's entries, and take the places of the next ones.
    async fn nothing_beyond(&self) -> Result<(), StoreError> {
        let (store, size) = (&self.shared.store, self.tree.size());
        let is_there = match store.read(size, 1).await {
            Ok(rows) => !rows.is_empty(),
            Err(StoreError::Damaged(_)) => true,
            Err(error) => return Err(error),
        };
        if is_there && store.head().await?.size == size {
            return Err(damaged(format_args!(
                "the ledger's store has rows beyond its {size} entries, which no broker wrote; restore it without them"
            )));
        }
        Ok(())
    }

    /// Begins with the stored fold, if it is the log's own.
    async fn restore_snapshot(&mut self) -> Result<(), StoreError> {
        let snapshot = match self.shared.store.snapshot().await {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(
                    error = error.in_full(),
                    "the stored snapshot cannot be read; folding the ledger from its start"
                );
                return Ok(());
            }
        };
        let tree = snapshot.open(self.shared.key.verifying_key(), World::FOLD);
        let world = tree
            .is_some()
            .then(|| serde_json::from_slice::<World>(&snapshot.bytes));
        match (tree, world) {
            (Some(tree), Some(Ok(world))) if world.size == tree.size() => {
                self.hold_against_known(&tree).await?;
                self.world = world.restored();
                self.tree = tree;
                self.snapshots.size = snapshot.size;
                self.publish_world();
            }
            _ => tracing::warn!(
                "the stored snapshot is not this version's, or not sealed by the log's key; folding the ledger from its start"
            ),
        }
        Ok(())
    }

    /// Reads on from the newest known head to a snapshot that is ahead of it.
    async fn hold_against_known(&mut self, snapshot: &Tree) -> Result<(), StoreError> {
        let Some(mut tree) = self.known.clone() else {
            return Ok(());
        };
        while tree.size() < snapshot.size() {
            let rest = usize::try_from(snapshot.size() - tree.size()).unwrap_or(PAGE);
            let page = self.shared.store.read(tree.size(), rest.min(PAGE)).await?;
            if page.is_empty() {
                return Err(missing(tree.size()));
            }
            for stored in page {
                tree.append_leaf(leaf_hash(&stored.bytes));
            }
        }
        if tree.size() > snapshot.size() {
            return Ok(());
        }
        if tree != *snapshot {
            return Err(forked(snapshot.size()));
        }
        self.known = None;
        Ok(())
    }

    /// Reads, checks and publishes what others appended.
    pub(super) async fn catch_up(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let head = shared.store.head().await?;
        let known = self.known.as_ref().map_or(0, Tree::size);
        let had = self.tree.size().max(known);
        if head.size < had {
            return Err(damaged(format_args!(
                "the ledger's store has {} entries and had {had} before: it was rolled back, or is another one",
                head.size
            )));
        }
        let mut reader = Reader::new(shared.key.verifying_key(), self.tree.clone());
        // Before anything is read: a head that nobody signed for may promise more than there is time for.
        reader
            .key()
            .open_head(&head)
            .map_err(|problem| self.not_ours(&head, &problem))?;
        self.continues_known(reader.tree())?;
        let mut pages = Pages::new(Arc::clone(&shared.store), head.size);
        let read = self.read_on(&mut reader, &mut pages, head.size).await;
        pages.stop().await;
        let fresh = read?;
        reader
            .head(&head)
            .map_err(|problem| self.not_ours(&head, &problem))?;
        self.known = None;
        self.tree = reader.tree().clone();
        // Who waits for the published world is woken only when it changed.
        if self.tree != self.published {
            if fresh.len() <= PAGE {
                shared.publish(&fresh);
                self.published = self.tree.clone();
            } else {
                self.publish_world();
            }
            self.keep(head);
        } else if !self.following && head.size > 0 {
            self.keep(head);
        }
        if self.following {
            self.follow_bundle().await;
        }
        Ok(())
    }

    /// Folds what is there up to `end`. Returns it, as far as it is to be published one by one.
    async fn read_on(
        &mut self,
        reader: &mut Reader<'_>,
        pages: &mut Pages,
        end: u64,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut fresh = Vec::new();
        while reader.tree().size() < end {
            let from = reader.tree().size();
            let rest = usize::try_from(end - from).unwrap_or(PAGE);
            let page = pages.next(from, PAGE).await?;
            if page.is_empty() {
                return Err(missing(from));
            }
            for (stored, decoded) in page.into_iter().take(rest) {
                let entry = reader
                    .stored_decoded(&stored, decoded)
                    .map_err(|problem| at(stored.seq, problem))?;
                self.world
                    .apply(&entry)
                    .map_err(|error| at(stored.seq, error))?;
                self.continues_known(reader.tree())?;
                if fresh.len() <= PAGE {
                    fresh.push(entry);
                }
            }
        }
        Ok(fresh)
    }

    fn publish_world(&mut self) {
        self.shared.replace(self.world.clone());
        self.published = self.tree.clone();
    }

    fn continues_known(&self, tree: &Tree) -> Result<(), StoreError> {
        match &self.known {
            Some(known) if known.size() == tree.size() && known != tree => {
                Err(forked(known.size()))
            }
            _ => Ok(()),
        }
    }

    fn not_ours(&self, head: &Head, problem: &Problem) -> StoreError {
        if head.size == self.tree.size() {
            return forked(head.size);
        }
        damaged(format_args!(
            "the ledger's store has {} entries that its head does not vouch for: {problem}; run `countersign ledger verify` on it",
            head.size
        ))
    }

    /// Takes in what the key vouches for of a store that is not to be believed as a whole, so that ends go on.
    pub(super) async fn salvage(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut reader = Reader::new(shared.key.verifying_key(), self.published.clone());
        let mut pending = Vec::new();
        while pending.len() < UNSIGNED_MAX {
            let Ok(page) = shared.store.read(reader.tree().size(), PAGE).await else {
                return;
            };
            if page.is_empty() {
                return;
            }
            for stored in page {
                let Ok(entry) = reader.stored(&stored) else {
                    return;
                };
                pending.push(entry);
                let signature = stored.signature.as_deref();
                if signature.is_some_and(|signature| reader.signed(signature)) {
                    shared.publish(&pending);
                    self.published = reader.tree().clone();
                    pending.clear();
                }
            }
        }
    }
}

fn missing(seq: u64) -> StoreError {
    at(seq, "it is missing")
}

fn forked(size: u64) -> StoreError {
    damaged(format_args!(
        "the first {size} entries of the ledger's store are not those this broker knows: the log has two histories, or was rewritten"
    ))
}
