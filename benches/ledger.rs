//! The ledger by itself: writing entries, appending them in batches, verifying an export.
//!
//! The peer of each is what it cannot do without: SHA-256 of the same bytes, and a plain file that gets the
//! same bytes with an fsync for each batch.
//!
//! `cargo bench --bench ledger`
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod common;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use common::{ask, key, ports, rate, row, table};
use countersign::broker::Broker;
use countersign::domain::{Digest, Entry, Event, RequestId, Time};
use countersign::ledger::tree::leaf_hash;
use countersign::ledger::{ExportWriter, SigningKey, Tree, entry, verify};
use countersign::store::{Batch, Head, MemoryHead, MemoryStore, SqliteStore, Store, StoredEntry};
use countersign::system::{Entropy, SystemEntropy};
use tokio::time::Instant;

/// Requests whose entries are written.
const REQUESTS: usize = 60_000;
/// Entries appended at once.
const BATCH: usize = 1024;

/// The entries of one routine request, as a broker writes them.
async fn sample() -> anyhow::Result<Vec<Entry>> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (ports, _) = ports(Arc::clone(&store), Arc::new(MemoryHead::default()), 0)?;
    let broker = Broker::start(ports).await?;
    let before = store.head().await?.size;
    ask(&broker).await?;
    let stored = store.read(before, 1).await?;
    broker.stop().await;
    stored
        .iter()
        .map(|stored| Ok(entry::decode(&stored.bytes)?))
        .collect()
}

/// A ledger of `REQUESTS` requests like the sample, each with an id of its own.
fn entries(sample: &[Entry]) -> anyhow::Result<Vec<Entry>> {
    let first = sample.first().context("a sample")?;
    let opened = Event::LedgerOpened {
        origin: common::ORIGIN.into(),
    };
    let mut entries = vec![Entry {
        seq: 0,
        event: opened,
        ..first.clone()
    }];
    for _ in 0..REQUESTS {
        let time = Time::from_millis(first.time.millis() + i64::try_from(entries.len())?);
        let id = RequestId::draw(time, SystemEntropy.draw());
        for entry in sample {
            let mut entry = entry.clone();
            entry.seq = u64::try_from(entries.len())?;
            entry.time = time;
            match &mut entry.event {
                Event::RequestSubmitted { submission, .. } => submission.request = id.clone(),
                _ => anyhow::bail!("a routine request has another entry"),
            }
            entries.push(entry);
        }
    }
    Ok(entries)
}

fn write(entries: &[Entry]) -> anyhow::Result<(Vec<StoredEntry>, Tree)> {
    let mut tree = Tree::default();
    let mut stored = Vec::with_capacity(entries.len());
    for entry in entries {
        let bytes = entry::encode(entry)?;
        let leaf = leaf_hash(&bytes);
        tree.append_leaf(leaf);
        stored.push(StoredEntry {
            seq: entry.seq,
            leaf,
            signature: None,
            index: entry::index(entry),
            bytes,
        });
    }
    Ok((stored, tree))
}

async fn append(stored: &[StoredEntry], key: &SigningKey) -> anyhow::Result<Duration> {
    let directory = common::directory()?;
    let store = SqliteStore::open(&directory.path().join("ledger.db")).await?;
    let mut tree = Tree::default();
    let mut took = Duration::ZERO;
    for entries in stored.chunks(BATCH) {
        let expected = tree.clone();
        for entry in entries {
            tree.append(&entry.bytes);
        }
        let batch = Batch {
            expected,
            entries: entries.to_vec(),
            blobs: Vec::new(),
            head: Head {
                size: tree.size(),
                edge: tree.edge().to_vec(),
                checkpoint: key.sign_checkpoint(tree.size(), &tree.root()),
            },
        };
        let started = Instant::now();
        store.append(batch).await?;
        took += started.elapsed();
    }
    Ok(took)
}

fn append_plainly(stored: &[StoredEntry]) -> anyhow::Result<Duration> {
    let directory = common::directory()?;
    let mut file = std::fs::File::create(directory.path().join("plain"))?;
    let started = Instant::now();
    for entries in stored.chunks(BATCH) {
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|entry| &entry.bytes)
            .copied()
            .collect();
        file.write_all(&bytes)?;
        file.sync_data()?;
    }
    Ok(started.elapsed())
}

fn verify_export(
    stored: &[StoredEntry],
    tree: &Tree,
    key: &SigningKey,
) -> anyhow::Result<Duration> {
    let mut export = ExportWriter::unsigned(Vec::new(), key.verifying_key())?;
    for entry in stored {
        export.entry(&entry.bytes)?;
    }
    let export = export.finish(&key.sign_checkpoint(tree.size(), &tree.root()))?;
    let started = Instant::now();
    let verified = verify(export.as_slice(), key.verifying_key(), None, |_| Ok(()))?;
    let took = started.elapsed();
    anyhow::ensure!(verified.checkpoint.size == tree.size(), "all of it");
    Ok(took)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let key = key()?;
    let entries = entries(&sample().await?)?;
    let count = entries.len();

    let started = Instant::now();
    let (stored, tree) = write(&entries)?;
    let written = started.elapsed();

    let started = Instant::now();
    for entry in &stored {
        std::hint::black_box(Digest::of(&entry.bytes));
    }
    let hashed = started.elapsed();
    let appended = append(&stored, &key).await?;
    let plain = append_plainly(&stored)?;
    let verified = verify_export(&stored, &tree, &key)?;

    let a_second = |time| format!("{:.0} entries/s", rate(count, time));
    let ratio = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64();
    table(&format!("Ledger, {count} entries"));
    row(
        "encode, index, grow the tree (1 core)",
        &a_second(written),
        &format!("SHA-256 of the same bytes {}", a_second(hashed)),
        &format!("{:.1} x the time", ratio(written, hashed)),
    );
    row(
        &format!("append to SQLite, {BATCH} at once"),
        &a_second(appended),
        &format!("a plain file with fsync {}", a_second(plain)),
        &format!(
            "{:.1} x the time (bar: 50,000 entries/s)",
            ratio(appended, plain)
        ),
    );
    row(
        "verify an export (1 core)",
        &a_second(verified),
        &format!("SHA-256 of the same bytes {}", a_second(hashed)),
        &format!(
            "{:.1} x the time (bar: 500,000 entries/s)",
            ratio(verified, hashed)
        ),
    );
    Ok(())
}
