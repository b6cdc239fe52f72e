//! A ledger with a past: how long it takes to write, verify and start on, how large it is, and whether asking and
//! searching get slower with what is behind them.
//!
//! ```sh
//! cargo bench --bench history -- build DIR ENTRIES LIVE TAIL   # a ledger with so many leases alive at its end, and a
//!                                                              # snapshot that lacks the last TAIL entries
//! cargo bench --bench history -- start DIR                     # how long until a broker is ready, and its memory
//! cargo bench --bench history -- verify DIR                    # as `countersign ledger verify DIR`
//! cargo bench --bench history -- grow DIR                      # asks and searches with all that behind them
//! cargo bench --bench history -- replicas URL                  # asks of 1, 2 and 4 brokers on one empty database
//! ```
//!
//! `build` takes the URL of a database in place of DIR as well.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

#[path = "common/history.rs"]
mod history;

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use common::{ask, directory, key, ports, rate, row, table};
use countersign::broker::Broker;
use countersign::cli::local::VerifyLedger;
use countersign::domain::World;
use countersign::ledger::{SigningKey, Snapshot};
use countersign::store::{FileHead, MemoryHead, PostgresStore, Query, SqliteStore, Store};
use countersign::system::{Clock, SystemClock};
use countersign::wiring::verify_ledger;
use history::History;
use tokio::time::Instant;

/// Asks and searches timed at each size.
const ROUNDS: usize = 2_000;
/// Clients of each broker that shares a database.
const CLIENTS: usize = 16;
/// How long brokers share it.
const ROUND: Duration = Duration::from_secs(10);

fn number(text: Option<&String>) -> anyhow::Result<u64> {
    Ok(text.context("say how many")?.parse()?)
}

/// A line of `/proc/self/status`, in MiB.
fn memory(what: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let words = line.context("no such line")?.split_whitespace();
    let kibibytes: Vec<&str> = words.collect();
    Ok(kibibytes.first().context("no figure")?.parse::<u64>()? / 1024)
}

async fn build(place: &str, entries: u64, live: u64, tail: u64) -> anyhow::Result<()> {
    let remote = place.starts_with("postgres");
    let store: Arc<dyn Store> = if remote {
        Arc::new(PostgresStore::connect(&place.into()).await?)
    } else {
        std::fs::create_dir_all(place)?;
        Arc::new(SqliteStore::open(&Path::new(place).join("ledger.db")).await?)
    };
    let key = key()?;
    if !remote {
        keep_key(Path::new(place), &key)?;
    }
    let (ports, _) = ports(Arc::clone(&store), Arc::new(MemoryHead::default()), 0)?;
    let started = Instant::now();
    let kept = SigningKey::from_secret_text(&key.to_secret_text())?;
    let now = SystemClock::start().now();
    let bundle = &ports.bundle_bytes;
    let mut history = History::open(ports.bundle, bundle, kept, Arc::clone(&store), now)?;
    history.past(entries.saturating_sub(5 * live), now).await?;
    let snapshot_at = (history.world.size + 9 * live / 2).saturating_sub(tail);
    while history.world.size < snapshot_at && live > 0 {
        let now = SystemClock::start().now();
        let step = (live / 100).max(1);
        history
            .present(step.min(1 + (snapshot_at - history.world.size) / 5), now)
            .await?;
    }
    let bytes = serde_json::to_vec(&history.world)?;
    println!(
        "snapshot of {} entries: {} bytes",
        history.world.size,
        bytes.len()
    );
    let snapshot = Snapshot::seal(&key, &history.tree, World::FOLD, bytes);
    store.put_snapshot(snapshot).await?;
    let now = SystemClock::start().now();
    let missing = live.saturating_sub(u64::try_from(history.world.leases.len())?);
    history.present(missing, now).await?;
    let (size, took) = (history.world.size, started.elapsed());
    store.close().await;
    println!(
        "{size} entries, {} leases alive, written in {:.1} s",
        history.world.leases.len(),
        took.as_secs_f64()
    );
    if !remote {
        let length = std::fs::metadata(Path::new(place).join("ledger.db"))?.len();
        println!("{length} bytes on disk, {} an entry", length / size.max(1));
    }
    Ok(())
}

fn keep_key(directory: &Path, key: &SigningKey) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600);
    let mut file = file.open(directory.join("ledger.key"))?;
    Ok(std::io::Write::write_all(
        &mut file,
        key.to_secret_text().as_bytes(),
    )?)
}

/// A broker on the ledger of a directory.
async fn broker(directory: &Path, new: bool) -> anyhow::Result<(Broker, Arc<dyn Store>)> {
    let store = Arc::new(SqliteStore::open(&directory.join("ledger.db")).await?);
    let store: Arc<dyn Store> = store;
    let head = Arc::new(FileHead::open(&directory.join("ledger.head"))?);
    let (mut ports, _) = ports(Arc::clone(&store), head, 0)?;
    if !new {
        let text = std::fs::read_to_string(directory.join("ledger.key"))?;
        ports.key = SigningKey::from_secret_text(&text)?;
    }
    Ok((Broker::start(ports).await?, store))
}

async fn start(directory: &Path) -> anyhow::Result<()> {
    let before = memory("VmRSS:")?;
    let started = Instant::now();
    let (_broker, store) = broker(directory, false).await?;
    let ready = started.elapsed();
    println!(
        "ready in {:.0} ms with {} entries; memory {before} MiB before, {} MiB now, {} MiB at most",
        ready.as_secs_f64() * 1e3,
        store.head().await?.size,
        memory("VmRSS:")?,
        memory("VmHWM:")?,
    );
    Ok(())
}

async fn verify(directory: &Path) -> anyhow::Result<()> {
    let (source, key, since) = (directory.to_owned(), None, None);
    let started = Instant::now();
    let verified = verify_ledger(VerifyLedger { source, key, since }).await?;
    let took = started.elapsed();
    let size = usize::try_from(verified.size)?;
    println!(
        "{size} entries verified in {:.2} s, {:.0} entries/s; {} decisions replayed, {} not; memory {} MiB at most",
        took.as_secs_f64(),
        rate(size, took),
        verified.decisions_replayed,
        verified.decisions_not_replayed,
        memory("VmHWM:")?,
    );
    Ok(())
}

/// The median time of an ask and of a search for a request, an agent and a kind.
async fn timed(directory: &Path, new: bool) -> anyhow::Result<[Duration; 3]> {
    let (broker, store) = broker(directory, new).await?;
    for _ in 0..ROUNDS / 10 {
        ask(&broker).await?;
    }
    let mut asks = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        asks.push(ask(&broker).await?);
    }
    let newest = store
        .find(&Query {
            limit: 1,
            ..Query::default()
        })
        .await?;
    let request = newest.first().and_then(|entry| entry.index.request.clone());
    let one = Query {
        request,
        limit: 10,
        ..Query::default()
    };
    let page = Query {
        agent: Some("reporter".into()),
        kind: Some("request.submitted".into()),
        limit: 20,
        ..Query::default()
    };
    let mut medians = vec![median(asks)];
    for query in [one, page] {
        let mut searches = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let started = Instant::now();
            ensure!(!store.find(&query).await?.is_empty(), "it is there");
            searches.push(started.elapsed());
        }
        medians.push(median(searches));
    }
    broker.stop().await;
    medians
        .try_into()
        .map_err(|_| anyhow::anyhow!("three of them"))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn grow(place: &Path) -> anyhow::Result<()> {
    let empty = directory()?;
    let before = timed(empty.path(), true).await?;
    let after = timed(place, false).await?;
    table("With a past, against an empty ledger");
    let what = [
        "an ask",
        "the entries of a request",
        "twenty entries of a kind and an agent",
    ];
    for (what, (before, after)) in what.iter().zip(before.iter().zip(&after)) {
        row(
            what,
            &format!("{:.3} ms", after.as_secs_f64() * 1e3),
            &format!("{:.3} ms", before.as_secs_f64() * 1e3),
            &format!(
                "{:.2} x (bar: 1.2 x)",
                after.as_secs_f64() / before.as_secs_f64()
            ),
        );
    }
    Ok(())
}

/// Asks a second of `count` brokers on one database, each with `CLIENTS` clients, and asks that were not taken.
async fn together(url: &str, key: &SigningKey, count: usize) -> anyhow::Result<(f64, usize)> {
    let mut brokers = Vec::new();
    for _ in 0..count {
        let store: Arc<dyn Store> = Arc::new(PostgresStore::connect(&url.into()).await?);
        let (mut ports, _) = ports(store, Arc::new(MemoryHead::default()), 0)?;
        ports.key = SigningKey::from_secret_text(&key.to_secret_text())?;
        brokers.push(Broker::start(ports).await?);
    }
    let started = Instant::now();
    let client = |broker: Broker| async move {
        let (mut done, mut refused) = (0, 0);
        while started.elapsed() < ROUND {
            match ask(&broker).await {
                Ok(_) => done += 1,
                Err(_) => refused += 1,
            }
        }
        (done, refused)
    };
    let clients = brokers
        .iter()
        .flat_map(|broker| vec![broker.clone(); CLIENTS]);
    let mut clients: tokio::task::JoinSet<_> = clients.map(client).collect();
    let (mut done, mut refused) = (0, 0);
    while let Some(client) = clients.join_next().await {
        let (more, lost) = client?;
        done += more;
        refused += lost;
    }
    let took = started.elapsed();
    for broker in brokers {
        broker.stop().await;
    }
    Ok((rate(done, took), refused))
}

async fn replicas(url: &str) -> anyhow::Result<()> {
    let key = key()?;
    table("Brokers on one PostgreSQL, in one process");
    let mut alone = None;
    for count in [1, 2, 4] {
        let (asks, refused) = together(url, &key, count).await?;
        let alone = *alone.get_or_insert(asks);
        row(
            &format!("{count} with {CLIENTS} clients each"),
            &format!("{asks:.0} asks/s in all"),
            &format!("{refused} not taken"),
            &format!("{:.2} x one broker", asks / alone),
        );
    }
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let (command, place) = match words.as_slice() {
        [] => return Ok(()),
        [command, place, ..] => (command.as_str(), place.as_str()),
        _ => bail!("say what, and in which directory"),
    };
    match command {
        "build" => {
            let [entries, live, tail] = [2, 3, 4].map(|at| number(words.get(at)));
            build(place, entries?, live?, tail?).await
        }
        "start" => start(place.as_ref()).await,
        "verify" => verify(place.as_ref()).await,
        "grow" => grow(place.as_ref()).await,
        "replicas" => replicas(place).await,
        _ => bail!("build, start, verify, grow or replicas"),
    }
}
