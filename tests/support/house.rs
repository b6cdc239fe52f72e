//! A whole broker on a memory store and a memory target, which can be killed and started again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign::broker::{Broker, Loaded, Ports};
use countersign::domain::{Entry, TargetName, Time};
use countersign::issuers::{Issuer, IssuerSet};
use countersign::ledger::{SigningKey, entry};
use countersign::store::{KnownHead, MemoryHead, MemoryStore, Store};
use countersign::system::{Clock, Entropy};

use super::SeededEntropy;
use super::rules::ShopPolicy;
use super::target::FakeTarget;

/// Tokio's time, which stands still in tests, as the broker's clock. Goes on over several runtimes.
pub struct TokioClock {
    base_millis: i64,
    started: tokio::time::Instant,
}

impl TokioClock {
    pub fn starting_at(base: Time) -> Self {
        Self {
            base_millis: base.millis(),
            started: tokio::time::Instant::now(),
        }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Time {
        let passed = i64::try_from(self.started.elapsed().as_millis()).unwrap();
        Time::from_millis(self.base_millis + passed)
    }
}

/// What survives a broker: its store, its target, its key, the time.
pub struct House {
    pub store: Arc<MemoryStore>,
    pub known_head: Arc<MemoryHead>,
    pub target: FakeTarget,
    pub policy: ShopPolicy,
    pub entropy: Arc<SeededEntropy>,
    /// When the next broker starts.
    pub time: Time,
    starts: AtomicU64,
}

impl House {
    pub fn new(seed: u64) -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            known_head: Arc::default(),
            target: FakeTarget::default(),
            policy: ShopPolicy::new(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            time: Time::from_millis(1_795_343_400_000),
            starts: AtomicU64::new(0),
        }
    }

    /// The same, with a target whose guard has room for `room` leases.
    pub fn guarded(seed: u64, room: usize) -> Self {
        Self {
            target: FakeTarget::guarded(room),
            ..Self::new(seed)
        }
    }

    /// The parts of another broker on the same store. Call inside its runtime.
    pub fn ports(&self) -> (Ports, Arc<TokioClock>) {
        let clock = Arc::new(TokioClock::starting_at(self.time));
        self.target.set_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let target: TargetName = "shop".parse().unwrap();
        let issuer: Arc<dyn Issuer> = Arc::new(self.target.clone());
        let issuers = BTreeMap::from([(target, issuer)]);
        let name = format!("broker-{}", self.starts.fetch_add(1, Ordering::SeqCst));
        let bundle = Loaded {
            policy: Arc::new(self.policy.clone()),
            targets: Arc::new(IssuerSet(issuers.clone())),
        };
        let loaded = bundle.clone();
        let key = SigningKey::generate("countersign.example", |seed| seed.fill(7)).unwrap();
        let ports = Ports {
            store: Arc::clone(&self.store) as Arc<dyn Store>,
            known_head: Arc::clone(&self.known_head) as Arc<dyn KnownHead>,
            bundle_bytes: self.policy.bytes(),
            bundle,
            load_bundle: Arc::new(move |_| Ok(loaded.clone())),
            issuers,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::clone(&self.entropy) as Arc<dyn Entropy>,
            key,
            name,
        };
        (ports, clock)
    }

    /// Starts another broker.
    pub async fn broker(&self) -> anyhow::Result<(Broker, Arc<TokioClock>)> {
        let (ports, clock) = self.ports();
        Ok((Broker::start(ports).await?, clock))
    }

    /// Every entry of the ledger, read back from its bytes.
    pub async fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            let page = self.store.read(entries.len() as u64, 1000).await.unwrap();
            if page.is_empty() {
                return entries;
            }
            entries.extend(
                page.iter()
                    .map(|stored| entry::decode(&stored.bytes).unwrap()),
            );
        }
    }
}
