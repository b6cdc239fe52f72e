//! Ask → verdict of a routine request, durable, against the store's own append of the same bytes.
//!
//! Beside each broker's store stands a mirror: a second store of the same kind on the same disk that gets the
//! very same entries, texts and heads through `Store::append` and nothing else. Rounds of the two alternate, so
//! that whatever else the machine does meets both.
//!
//! `cargo bench --bench ask`; with PostgreSQL, too, when `COUNTERSIGN_TEST_POSTGRES` names a server.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use common::{ask, ports, rate, row, table};
use countersign::broker::Broker;
use countersign::domain::Event;
use countersign::ledger::{Tree, entry};
use countersign::store::{Batch, FileHead, Head, PostgresStore, SqliteStore, Store, StoredEntry};
use tokio::time::Instant;

/// Agents that ask at the same time in the throughput rounds.
const CLIENTS: usize = 64;
/// What each asks in one round.
const EACH: usize = 50;
/// Rounds of each kind, taken in turns.
const ROUNDS: usize = 5;
/// Asks of the lone client in one round.
const ALONE: usize = 200;
/// Policies of the large bundle.
const POLICIES: usize = 1000;

/// `clients` at once, each asking `each` times, one after the other: how long each ask took, and all of it.
async fn ask_at_once(
    broker: &Broker,
    clients: usize,
    each: usize,
) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let broker = broker.clone();
        tasks.spawn(async move {
            let mut took = Vec::with_capacity(each);
            for _ in 0..each {
                took.push(ask(&broker).await?);
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(done) = tasks.join_next().await {
        took.extend(done??);
    }
    Ok((took, started.elapsed()))
}

/// The value below which `percent` of `times` are.
fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let place = times.len() * percent / 100;
    times
        .get(place.min(times.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// Processor time this process has used, on all cores.
fn processor_time() -> anyhow::Result<Duration> {
    use nix::sys::resource::{UsageWho, getrusage};
    let used = getrusage(UsageWho::RUSAGE_SELF).context("ask for the processor time used")?;
    let spent = [used.user_time(), used.system_time()];
    let micros: i64 = spent
        .iter()
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec())
        .sum();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}

/// Milliseconds with three decimals.
fn ms(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1000.0)
}

/// A broker on its store, and the mirror.
struct Pair {
    broker: Broker,
    store: Arc<dyn Store>,
    mirror: Arc<dyn Store>,
    /// Where the broker keeps the newest head.
    _directory: tempfile::TempDir,
    tree: Tree,
    policies: usize,
}

impl Pair {
    async fn new(
        store: Arc<dyn Store>,
        mirror: Arc<dyn Store>,
        policies: usize,
    ) -> anyhow::Result<Self> {
        let directory = common::directory()?;
        let known_head = Arc::new(FileHead::open(&directory.path().join("ledger.head"))?);
        let (ports, policies) = ports(Arc::clone(&store), known_head, policies)?;
        let broker = Broker::start(ports).await?;
        let mut pair = Self {
            _directory: directory,
            broker,
            store,
            mirror,
            tree: Tree::default(),
            policies,
        };
        pair.reflect(usize::MAX).await?;
        Ok(pair)
    }

    /// Appends to the mirror what the broker appended, `entries` at once; how long each append took.
    async fn reflect(&mut self, entries: usize) -> anyhow::Result<Vec<Duration>> {
        let head = self.store.head().await?;
        let mut took = Vec::new();
        while self.tree.size() < head.size {
            let limit = usize::try_from(head.size - self.tree.size())?.min(entries);
            let batch = self.batch(limit, &head.checkpoint).await?;
            let started = Instant::now();
            self.mirror.append(batch).await?;
            took.push(started.elapsed());
        }
        Ok(took)
    }

    async fn batch(&mut self, limit: usize, checkpoint: &str) -> anyhow::Result<Batch> {
        let expected = self.tree.clone();
        let entries = self.store.read(expected.size(), limit).await?;
        let mut blobs = Vec::new();
        for stored in &entries {
            self.tree.append(&stored.bytes);
            if let Some(sha256) = text_of(stored)? {
                blobs.push(self.store.blob(&sha256).await?.context("a text is gone")?);
            }
        }
        Ok(Batch {
            expected,
            entries,
            blobs,
            head: Head {
                size: self.tree.size(),
                edge: self.tree.edge().to_vec(),
                checkpoint: checkpoint.to_owned(),
            },
        })
    }
}

fn text_of(stored: &StoredEntry) -> anyhow::Result<Option<countersign::domain::Digest>> {
    Ok(match entry::decode(&stored.bytes)?.event {
        Event::BundleApplied { content, .. } => Some(content.sha256),
        Event::RequestSubmitted { submission, .. } => submission.context.map(|text| text.sha256),
        _ => None,
    })
}

/// What was measured with one bundle.
#[derive(Default)]
struct Measured {
    alone: Vec<Duration>,
    alone_mirror: Vec<Duration>,
    crowd: Vec<Duration>,
    crowd_time: Duration,
    crowd_processor: Duration,
    crowd_mirror: Duration,
}

impl Measured {
    async fn round(&mut self, pair: &mut Pair) -> anyhow::Result<()> {
        for _ in 0..ALONE {
            self.alone.push(ask(&pair.broker).await?);
            self.alone_mirror.extend(pair.reflect(usize::MAX).await?);
        }
        let before = processor_time()?;
        let (crowd, time) = ask_at_once(&pair.broker, CLIENTS, EACH).await?;
        self.crowd_processor += processor_time()? - before;
        self.crowd.extend(crowd);
        self.crowd_time += time;
        let mirrored = pair.reflect(CLIENTS * 3).await?;
        self.crowd_mirror += mirrored.iter().sum::<Duration>();
        Ok(())
    }

    fn asks_a_second(&self) -> f64 {
        rate(self.crowd.len(), self.crowd_time)
    }

    fn asks_a_core_second(&self) -> f64 {
        rate(self.crowd.len(), self.crowd_processor)
    }
}

fn over(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

fn report(title: &str, small: &mut Measured, large: &mut Measured, policies: usize) {
    table(title);
    let (p50, mirror) = (
        percentile(&mut small.alone, 50),
        percentile(&mut small.alone_mirror, 50),
    );
    row(
        "1 client, p50",
        &ms(p50),
        &format!("append of the same batch {}", ms(mirror)),
        &format!("{:.2} x (bar: at most 1.5 x)", over(p50, mirror)),
    );
    let (p99, mirror) = (
        percentile(&mut small.alone, 99),
        percentile(&mut small.alone_mirror, 99),
    );
    row(
        "1 client, p99",
        &ms(p99),
        &format!("append of the same batch {}", ms(mirror)),
        &format!("{:.2} x", over(p99, mirror)),
    );
    row(
        &format!("{CLIENTS} clients"),
        &format!("{:.0} asks/s", small.asks_a_second()),
        &format!(
            "append of {CLIENTS} asks at once {:.0} asks/s",
            rate(small.crowd.len(), small.crowd_mirror)
        ),
        &format!(
            "{:.2} x the time (bar: 10,000 asks/s)",
            over(small.crowd_time, small.crowd_mirror)
        ),
    );
    row(
        &format!("{CLIENTS} clients, processor time"),
        &format!("{:.0} asks a core-second", small.asks_a_core_second()),
        "wall clock times 2 cores",
        &format!(
            "{:.1} cores busy on average",
            over(small.crowd_processor, small.crowd_time)
        ),
    );
    let (few, many) = (
        percentile(&mut small.alone, 50),
        percentile(&mut large.alone, 50),
    );
    row(
        &format!("{policies} policies, 1 client, p50"),
        &ms(many),
        &format!("the shop's bundle {}", ms(few)),
        &format!("{:.2} x (bar: at most 1.2 x)", over(many, few)),
    );
    row(
        &format!("{policies} policies, {CLIENTS} clients"),
        &format!("{:.0} asks/s", large.asks_a_second()),
        &format!("the shop's bundle {:.0} asks/s", small.asks_a_second()),
        &format!(
            "{:.2} x (bar: at least 0.8 x)",
            large.asks_a_second() / small.asks_a_second()
        ),
    );
}

async fn measure(title: &str, small: &mut Pair, large: &mut Pair) -> anyhow::Result<()> {
    let (mut with_few, mut with_many) = (Measured::default(), Measured::default());
    // One round to warm both up, not counted.
    Measured::default().round(small).await?;
    Measured::default().round(large).await?;
    for _ in 0..ROUNDS {
        with_few.round(small).await?;
        with_many.round(large).await?;
    }
    report(title, &mut with_few, &mut with_many, large.policies);
    small.broker.stop().await;
    large.broker.stop().await;
    Ok(())
}

async fn on_sqlite() -> anyhow::Result<()> {
    let directory = common::directory()?;
    let open = async |name: &str| {
        let store = SqliteStore::open(&directory.path().join(name)).await?;
        anyhow::Ok(Arc::new(store) as Arc<dyn Store>)
    };
    let mut small = Pair::new(open("a.db").await?, open("b.db").await?, 0).await?;
    let mut large = Pair::new(open("c.db").await?, open("d.db").await?, POLICIES).await?;
    measure("SQLite, synchronous=FULL", &mut small, &mut large).await
}

async fn on_postgres(version: &str, url: &str) -> anyhow::Result<()> {
    use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
    let mut admin = PgConnection::connect(url).await?;
    let mut url: url::Url = url.parse()?;
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    let names = ["a", "b", "c", "d"].map(|name| format!("bench_ask_{name}"));
    for name in &names {
        for text in [
            format!("DROP DATABASE IF EXISTS {name}"),
            format!("CREATE DATABASE {name}"),
        ] {
            admin.execute(AssertSqlSafe(text)).await?;
        }
        url.set_path(name);
        let store = PostgresStore::connect(&url.as_str().into()).await?;
        stores.push(Arc::new(store));
    }
    let mut next = stores.into_iter();
    let mut pair = async |policies| {
        let (store, mirror) = next.next().zip(next.next()).context("four stores")?;
        Pair::new(store, mirror, policies).await
    };
    let (mut small, mut large) = (pair(0).await?, pair(POLICIES).await?);
    measure(&format!("PostgreSQL {version}"), &mut small, &mut large).await?;
    drop((small, large));
    for name in &names {
        let text = format!("DROP DATABASE {name} WITH (FORCE)");
        admin.execute(AssertSqlSafe(text)).await?;
    }
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    on_sqlite().await?;
    #[expect(
        clippy::disallowed_methods,
        reason = "benches learn of servers this way, as tests do"
    )]
    let servers = std::env::var("COUNTERSIGN_TEST_POSTGRES").unwrap_or_default();
    for server in servers.split(';').filter(|server| !server.is_empty()) {
        let (version, url) = server.split_once('=').context("VERSION=URL")?;
        on_postgres(version, url).await?;
    }
    Ok(())
}
