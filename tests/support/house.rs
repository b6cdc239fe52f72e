//! A whole broker on a memory store and a memory target, which can be killed and started again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::broker::{Broker, Loaded, Ports};
use countersign::domain::{Entry, TargetName, Time};
use countersign::issuers::{Issuer, IssuerSet};
use countersign::ledger::{SigningKey, entry};
use countersign::store::{KnownHead, MemoryHead, MemoryStore, Store};
use countersign::system::{Clock, Entropy, Kept, Machine, OneClock, Sample};

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

/// A machine on tokio's time: it runs on truly, and its wall clock shows what it was set to.
#[derive(Clone)]
pub struct TestMachine {
    time: Arc<TokioClock>,
    wall: Arc<Wall>,
    start: String,
}

/// A wall clock that can be set, in milliseconds.
#[derive(Default)]
pub struct Wall {
    /// How far it is ahead of the true time.
    ahead: AtomicI64,
    /// What it shows while it stands still; 0 when it does not.
    stopped: AtomicI64,
}

impl Wall {
    /// Steps by so much.
    pub fn step(&self, by: i64) {
        self.ahead.fetch_add(by, Ordering::SeqCst);
    }

    /// Shows the true time.
    pub fn set_right(&self) {
        self.ahead.store(0, Ordering::SeqCst);
        self.stopped.store(0, Ordering::SeqCst);
    }

    /// Stands still from `now` on, until it is set right.
    pub fn stop(&self, now: Time) {
        let shows = self.shows(now).millis();
        self.stopped.store(shows, Ordering::SeqCst);
    }

    /// What it shows when the true time is `now`.
    pub fn shows(&self, now: Time) -> Time {
        match self.stopped.load(Ordering::SeqCst) {
            0 => Time::from_millis(now.millis() + self.ahead.load(Ordering::SeqCst)),
            shows => Time::from_millis(shows),
        }
    }
}

impl Machine for TestMachine {
    fn sample(&self) -> Sample {
        let now = self.time.now();
        let running = now.millis() - START + 3_600_000;
        Sample {
            wall: self.wall.shows(now),
            running: Duration::from_millis(u64::try_from(running).unwrap()),
        }
    }

    fn start(&self) -> Option<String> {
        Some(self.start.clone())
    }
}

/// When every story begins.
const START: i64 = 1_795_343_400_000;

/// What survives a broker: its store, its target, its key, the time.
pub struct House {
    pub store: Arc<MemoryStore>,
    pub known_head: Arc<MemoryHead>,
    pub target: FakeTarget,
    pub policy: ShopPolicy,
    pub entropy: Arc<SeededEntropy>,
    /// When the next broker starts.
    pub time: Time,
    /// The wall clock of the machine the brokers run on.
    pub wall: Arc<Wall>,
    /// How often that machine was started.
    pub boots: AtomicU64,
    /// What the last broker kept of its clock.
    pub kept: Mutex<Option<Kept>>,
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
            time: Time::from_millis(START),
            wall: Arc::default(),
            boots: AtomicU64::new(0),
            kept: Mutex::new(None),
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
        let time = self.true_time();
        let (ports, _) = self.ports_on(&time, &self.wall);
        (ports, time)
    }

    /// The true time, from the beginning of this life.
    pub fn true_time(&self) -> Arc<TokioClock> {
        let time = Arc::new(TokioClock::starting_at(self.time));
        self.target.set_clock(Arc::clone(&time) as Arc<dyn Clock>);
        time
    }

    /// The same, on a machine with this wall clock.
    fn ports_on(
        &self,
        time: &Arc<TokioClock>,
        wall: &Arc<Wall>,
    ) -> (Ports, Arc<OneClock<TestMachine>>) {
        let machine = TestMachine {
            time: Arc::clone(time),
            wall: Arc::clone(wall),
            start: format!("boot-{}", self.boots.load(Ordering::SeqCst)),
        };
        let kept = self.kept.lock().unwrap();
        let clock = Arc::new(OneClock::begin(machine, kept.as_ref()));
        self.target
            .set_brokers_clock(Arc::clone(&clock) as Arc<dyn Clock>);
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

    /// Starts another broker on a machine with this wall clock; returns its clock, too.
    pub async fn broker_on(
        &self,
        time: &Arc<TokioClock>,
        wall: &Arc<Wall>,
    ) -> anyhow::Result<(Broker, Arc<OneClock<TestMachine>>)> {
        let (ports, clock) = self.ports_on(time, wall);
        Ok((Broker::start(ports).await?, clock))
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
