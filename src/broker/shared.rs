//! What the broker's parts share: the ports, and the published world.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::event::BlobRef;
use crate::domain::rules::Limits;
use crate::domain::{Digest, Entry, Policy, TargetName, Targets, World};
use crate::issuers::Issuer;
use crate::ledger::SigningKey;
use crate::store::Store;
use crate::system::{Clock, Entropy};

/// Longest wait for the published world to reach the ledger's head.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Restores a bundle from the bytes kept beside the ledger.
pub type BundleLoader = Arc<dyn Fn(&[u8]) -> Result<Arc<dyn Policy>, String> + Send + Sync>;

/// What a broker is made of. Built in `wiring`.
pub struct Ports {
    /// Where the ledger is kept.
    pub store: Arc<dyn Store>,
    /// The bundle to put in force at start, and its bytes.
    pub policy: Arc<dyn Policy>,
    /// The bytes of that bundle.
    pub bundle_bytes: Vec<u8>,
    /// Restores the bundle another broker put in force.
    pub load_bundle: BundleLoader,
    /// The issuers, by target.
    pub issuers: BTreeMap<TargetName, Arc<dyn Issuer>>,
    /// The same targets, as the rules see them.
    pub targets: Arc<dyn Targets>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Signs checkpoints; its name is the log's origin.
    pub key: SigningKey,
    /// The bounds.
    pub limits: Limits,
    /// This broker's name in claims; unique for each start.
    pub name: String,
}

pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) load: BundleLoader,
    pub(super) issuers: BTreeMap<TargetName, Arc<dyn Issuer>>,
    pub(super) targets: Arc<dyn Targets>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) key: SigningKey,
    pub(super) limits: Limits,
    pub(super) name: String,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    policy: RwLock<Arc<dyn Policy>>,
    world: RwLock<World>,
    size: watch::Sender<u64>,
}

impl Shared {
    /// The shared part of a new broker, and its bundle's bytes.
    pub(super) fn new(ports: Ports) -> (Arc<Self>, Vec<u8>) {
        let shared = Arc::new(Self {
            store: ports.store,
            load: ports.load_bundle,
            issuers: ports.issuers,
            targets: ports.targets,
            clock: ports.clock,
            entropy: ports.entropy,
            key: ports.key,
            limits: ports.limits,
            name: ports.name,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            policy: RwLock::new(ports.policy),
            world: RwLock::new(World::default()),
            size: watch::Sender::new(0),
        });
        (shared, ports.bundle_bytes)
    }

    /// Looks at the published world. It holds nothing that is not durable.
    pub(super) fn world<R>(&self, look: impl FnOnce(&World) -> R) -> R {
        look(&self.world.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Folds durable entries into the published world and wakes whoever waits.
    pub(super) fn publish(&self, entries: &[Entry]) {
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
        self.size.send_replace(size);
    }

    /// Replaces the published world, at start.
    pub(super) fn replace(&self, world: World) {
        let size = world.size;
        self.clock.follow(world.time, world.clock);
        *self.world.write().unwrap_or_else(PoisonError::into_inner) = world;
        self.size.send_replace(size);
    }

    /// Follows the size of the published world.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    pub(super) fn policy(&self) -> Arc<dyn Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_policy(&self, policy: Arc<dyn Policy>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    pub(super) async fn load_bundle(
        &self,
        bundle: &Digest,
        content: &BlobRef,
    ) -> anyhow::Result<Arc<dyn Policy>> {
        let blob = self.store.blob(&content.sha256).await?;
        let blob = blob.ok_or_else(|| anyhow::anyhow!("bundle {bundle} is not in the store"))?;
        let policy = (self.load)(&blob.bytes).map_err(anyhow::Error::msg)?;
        anyhow::ensure!(
            policy.bundle() == *bundle,
            "bundle {bundle} was altered in the store"
        );
        Ok(policy)
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
