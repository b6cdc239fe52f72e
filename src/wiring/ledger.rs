//! Verifying a ledger: an export file, or the store in a state directory whose broker does not run.

use std::fs;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;

use super::files;
use crate::cli::local::{VerifiedLedger, VerifyLedger};
use crate::domain::{Entry, World};
use crate::ledger::export::{ExportReader, ExportedEntry};
use crate::ledger::tree::leaf_hash;
use crate::ledger::{SigningKey, Verified, Verifier, VerifyingKey, verify};
use crate::store::{SqliteStore, Store};

/// Entries read at once.
const PAGE: usize = 1000;
/// The largest checkpoint file.
const LARGEST_CHECKPOINT: usize = 64 * 1024;

/// The ledger could not be looked at: nothing is known of it, good or bad.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotRead(String);

fn not_read(what: impl Into<String>) -> NotRead {
    NotRead(what.into())
}

/// Verifies an export file or the ledger of a state directory, and that its entries follow each other.
///
/// # Errors
/// What does not verify, or [`NotRead`] with what could not be read.
pub async fn verify_ledger(what: VerifyLedger) -> anyhow::Result<VerifiedLedger> {
    let since = match &what.since {
        Some(path) => Some(
            files::text(path, LARGEST_CHECKPOINT)
                .context(not_read("read the earlier checkpoint"))?,
        ),
        None => None,
    };
    let given: Option<VerifyingKey> = match &what.key {
        Some(text) => Some(text.parse().context(not_read("read the key"))?),
        None => None,
    };
    let key_given = given.is_some();
    let mut world = World::default();
    // The fold is part of the proof: entries that are signed but cannot follow each other are no history.
    let mut follow = |entry: &Entry| world.apply(entry).map(drop).map_err(|e| e.to_string());
    let verified = if what.source.is_dir() {
        verify_store(&what.source, given, since.as_deref(), &mut follow).await?
    } else {
        verify_file(&what.source, given, since.as_deref(), &mut follow)?
    };
    Ok(VerifiedLedger {
        size: verified.checkpoint.size,
        root: STANDARD.encode(verified.checkpoint.root.0),
        origin: verified.checkpoint.origin,
        key_given,
        since_size: verified.continues,
    })
}

type Follow<'a> = &'a mut dyn FnMut(&Entry) -> Result<(), String>;

fn verify_file(
    path: &Path,
    given: Option<VerifyingKey>,
    since: Option<&str>,
    follow: Follow<'_>,
) -> anyhow::Result<Verified> {
    let file =
        fs::File::open(path).with_context(|| not_read(format!("open {}", path.display())))?;
    let reader = ExportReader::new(BufReader::new(file))
        .with_context(|| format!("read {}", path.display()))?;
    let key = match given {
        Some(key) => key,
        None if reader.claimed_key().is_empty() => bail!(not_read(
            "the file names no key; give the log's own with --key (the broker keeps it in ledger.vkey of its state directory)"
        )),
        None => reader
            .claimed_key()
            .parse()
            .context("read the key the file names")?,
    };
    Ok(verify(
        BufReader::new(fs::File::open(path)?),
        &key,
        since,
        follow,
    )?)
}

async fn verify_store(
    dir: &Path,
    given: Option<VerifyingKey>,
    since: Option<&str>,
    follow: Follow<'_>,
) -> anyhow::Result<Verified> {
    let path = dir.join("ledger.db");
    ensure!(
        path.exists(),
        not_read(format!("there is no ledger.db in {}", dir.display()))
    );
    let key = match given {
        Some(key) => key,
        None => {
            let text = files::secret(&dir.join("ledger.key")).context(not_read("read the key"))?;
            SigningKey::from_secret_text(text.expose_secret())?
                .verifying_key()
                .clone()
        }
    };
    let store = SqliteStore::open(&path).await.context(not_read(
        "open the ledger; while its broker runs, verify an export made with `countersign ledger export`",
    ))?;
    let head = store.head().await?;
    let mut verifier = Verifier::new(&key, since)?;
    let mut from = 0;
    loop {
        let page = store.read(from, PAGE).await?;
        for stored in &page {
            let line = ExportedEntry {
                seq: stored.seq,
                entry: String::from_utf8_lossy(&stored.bytes).into_owned(),
                leaf: leaf_hash(&stored.bytes),
                signature: None,
            };
            let entry = verifier.entry(line)?;
            if let Err(problem) = follow(&entry) {
                bail!(
                    "the ledger does not verify from entry {} on: {problem}",
                    entry.seq
                );
            }
            from = stored.seq + 1;
        }
        if page.len() < PAGE {
            return Ok(verifier.finish(&head.checkpoint)?);
        }
    }
}
