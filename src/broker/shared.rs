//! What the broker's parts share: the ports, and the published world.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::keys::Keys;
use super::waiters::{Following, Waiters};
use crate::domain::event::BlobRef;
use crate::domain::{Digest, Entry, Policy, RequestId, Rules, TargetName, Targets, World};
use crate::issuers::Issuer;
use crate::ledger::SigningKey;
use crate::store::{KnownHead, Store, StoreError};
use crate::system::{Clock, Entropy};

/// Longest wait for the published world to reach the ledger's head.
const CATCH_UP: Duration = Duration::from_secs(3);

/// A bundle and the targets it speaks of, as the rules ask them.
#[derive(Clone)]
pub struct Loaded {
    /// The bundle.
    pub policy: Arc<dyn Policy>,
    /// Its targets.
    pub targets: Arc<dyn Targets>,
}

impl Loaded {
    /// What `decide` needs beside the world.
    pub(super) fn rules(&self) -> Rules<'_> {
        Rules {
            policy: self.policy.as_ref(),
            targets: self.targets.as_ref(),
        }
    }
}

/// Restores a bundle from the bytes kept beside the ledger.
pub type BundleLoader = Arc<dyn Fn(&[u8]) -> Result<Loaded, String> + Send + Sync>;

/// What a broker is made of. Built in `wiring`.
pub struct Ports {
    /// Where the ledger is kept.
    pub store: Arc<dyn Store>,
    /// Where the newest known head is kept, out of reach of whoever has the store.
    pub known_head: Arc<dyn KnownHead>,
    /// The bundle to put in force at start.
    pub bundle: Loaded,
    /// The bytes of that bundle.
    pub bundle_bytes: Vec<u8>,
    /// Restores the bundle another broker put in force.
    pub load_bundle: BundleLoader,
    /// The issuers, by target.
    pub issuers: BTreeMap<TargetName, Arc<dyn Issuer>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Signs checkpoints; its name is the log's origin.
    pub key: SigningKey,
    /// This broker's name in claims; unique for each start.
    pub name: String,
}

pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) known_head: Arc<dyn KnownHead>,
    pub(super) load: BundleLoader,
    pub(super) issuers: BTreeMap<TargetName, Arc<dyn Issuer>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) key: SigningKey,
    pub(super) name: String,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    bundle: RwLock<Loaded>,
    world: RwLock<World>,
    doubt: RwLock<Option<String>>,
    unkept: RwLock<Option<String>>,
    unwritten: RwLock<Option<String>>,
    size: watch::Sender<u64>,
    waiters: Waiters,
    pub(super) keys: Keys,
    broken: watch::Sender<Option<String>>,
}

impl Shared {
    /// The shared part of a new broker, and its bundle's bytes.
    pub(super) fn new(ports: Ports) -> (Arc<Self>, Vec<u8>) {
        let shared = Arc::new(Self {
            store: ports.store,
            known_head: ports.known_head,
            load: ports.load_bundle,
            issuers: ports.issuers,
            clock: ports.clock,
            entropy: ports.entropy,
            key: ports.key,
            name: ports.name,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            bundle: RwLock::new(ports.bundle),
            world: RwLock::new(World::default()),
            doubt: RwLock::new(None),
            unkept: RwLock::new(None),
            unwritten: RwLock::new(None),
            size: watch::Sender::new(0),
            waiters: Waiters::default(),
            keys: Keys::default(),
            broken: watch::Sender::new(None),
        });
        (shared, ports.bundle_bytes)
    }

    /// Looks at the published world. It holds nothing that is not durable.
    pub(super) fn world<R>(&self, look: impl FnOnce(&World) -> R) -> R {
        look(&self.world.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Folds durable entries into the published world and wakes whoever waits.
    pub(super) fn publish(&self, entries: &[Entry]) {
        // Before anybody can see the size that they are part of.
        self.keys.take(entries);
        let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
        let known = world.size;
        for entry in entries.iter().filter(|entry| entry.seq >= known) {
            if let Err(error) = world.apply(entry) {
                tracing::error!(%error, "a durable entry does not fit the published world");
            }
        }
        let size = world.size;
        self.clock.follow(world.time, world.clock);
        drop(world);
        let fresh = entries.iter().filter(|entry| entry.seq >= known);
        self.waiters
            .wake(fresh.filter_map(|entry| entry.event.request()));
        self.size.send_replace(size);
    }

    /// Replaces the published world, at start.
    pub(super) fn replace(&self, world: World) {
        let size = world.size;
        self.clock.follow(world.time, world.clock);
        let mut published = self.world.write().unwrap_or_else(PoisonError::into_inner);
        // Nobody may fill them in again from the world that goes.
        self.keys.lose();
        *published = world;
        drop(published);
        self.waiters.wake_all();
        self.size.send_replace(size);
    }

    /// Why the ledger's store is not believed, as long as it is not. Nothing is decided then, and what ends access goes on.
    pub(super) fn doubt(&self) -> Option<String> {
        let doubt = self.doubt.read().unwrap_or_else(PoisonError::into_inner);
        doubt.clone()
    }

    /// Takes in how reading the ledger went.
    pub(super) fn note_reading<T>(&self, read: &Result<T, StoreError>) {
        let doubt = match read {
            Ok(_) => None,
            Err(StoreError::Damaged(text)) => Some(text.clone()),
            // Nothing new is known.
            Err(_) => return,
        };
        let mut kept = self.doubt.write().unwrap_or_else(PoisonError::into_inner);
        match &doubt {
            Some(text) if *kept != doubt => tracing::error!(
                doubt = text,
                "the ledger's store is not believed: nothing is decided, access still ends; \
                 restore the store, or see `countersign ledger accept`"
            ),
            None if kept.is_some() => tracing::warn!("the ledger's store is believed again"),
            _ => {}
        }
        *kept = doubt;
    }

    /// Takes in whether the newest head was kept outside the store.
    pub(super) fn note_keeping(&self, kept: Result<(), StoreError>) {
        let failed = kept.err().map(|error| error.in_full());
        let mut before = self.unkept.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = failed.as_ref().filter(|_| before.is_none()) {
            tracing::error!(
                error,
                "the newest head of the ledger is not kept: a store that is rolled back would go unnoticed"
            );
        }
        *before = failed;
    }

    /// Why the newest head is not kept outside the store, if it is not.
    pub(super) fn unkept(&self) -> Option<String> {
        let unkept = self.unkept.read().unwrap_or_else(PoisonError::into_inner);
        unkept.clone()
    }

    /// Runs one of the broker's loops. Only a broker that stops may end it: half a broker would forget duties.
    pub(super) fn supervise(
        self: &Arc<Self>,
        name: String,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let (shared, work) = (Arc::clone(self), self.tasks.spawn(work));
        self.tasks.spawn(async move {
            let ended = work.await;
            shared.ended(&name, ended.err().map(|error| error.to_string()));
        });
    }

    /// Takes in that one of the broker's loops has ended.
    pub(super) fn ended(&self, name: &str, error: Option<String>) {
        if self.stop.is_cancelled() {
            return;
        }
        let how = error.unwrap_or_else(|| "it ended".into());
        tracing::error!(
            name,
            how,
            "one of the broker's loops has ended; the broker stops"
        );
        self.broken
            .send_replace(Some(format!("the broker cannot go on: {name}: {how}")));
    }

    /// Follows why the broker cannot go on, if it cannot.
    pub(super) fn broken(&self) -> watch::Receiver<Option<String>> {
        self.broken.subscribe()
    }

    /// Follows one request: woken by its own entries and nobody else's.
    pub(super) fn follow(&self, request: &RequestId) -> Following {
        self.waiters.follow(request)
    }

    /// Takes in how the last write to the ledger went.
    pub(super) fn note_writing(&self, error: Option<String>) {
        *self
            .unwritten
            .write()
            .unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Why the last write to the ledger failed, if it did.
    pub(super) fn unwritten(&self) -> Option<String> {
        let unwritten = self
            .unwritten
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        unwritten.clone()
    }

    /// Follows the size of the published world.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    /// The bundle that decisions are made under, as far as it could be loaded.
    pub(super) fn bundle(&self) -> Loaded {
        self.bundle
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_bundle(&self, bundle: Loaded) {
        *self.bundle.write().unwrap_or_else(PoisonError::into_inner) = bundle;
    }

    pub(super) async fn load_bundle(
        &self,
        bundle: &Digest,
        content: &BlobRef,
    ) -> anyhow::Result<Loaded> {
        let blob = self.store.blob(&content.sha256).await?;
        let blob = blob.ok_or_else(|| anyhow::anyhow!("bundle {bundle} is not in the store"))?;
        let loaded = (self.load)(&blob.bytes).map_err(anyhow::Error::msg)?;
        anyhow::ensure!(
            loaded.policy.bundle() == *bundle,
            "bundle {bundle} was altered in the store"
        );
        Ok(loaded)
    }

    /// Waits until the published world reflects every entry that was durable when this was called.
    pub(super) async fn caught_up(&self) -> anyhow::Result<()> {
        let head = tokio::time::timeout(CATCH_UP, self.store.head()).await??;
        let mut size = self.watch();
        tokio::time::timeout(CATCH_UP, size.wait_for(|size| *size >= head.size)).await??;
        Ok(())
    }

    /// A short wait before something that failed is tried again.
    pub(super) async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
