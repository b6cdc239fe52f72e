//! Verifying a ledger: an export file, the store in a state directory whose broker does not run, or the store
//! that a `countersign.toml` names.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::audit::{Audit, Decisions};
use super::files;
use super::setup::Setup;
use crate::cli::local::{VerifiedLedger, VerifyLedger};
use crate::config::StoreConfig;
use crate::domain::{Entry, Event, World};
use crate::ledger::export::ExportReader;
use crate::ledger::{
    Decoded, Problem, Reader, SigningKey, Snapshot, Tree, Verified, Verifier, VerifyingKey, entry,
    verify,
};
use crate::store::{
    FileHead, Head, KnownHead as _, Pages, SqliteStore, Store, StoreError, StoredEntry,
};

/// Entries read at once.
const PAGE: usize = 1000;
/// The largest checkpoint file.
const LARGEST_CHECKPOINT: usize = 64 * 1024;

/// The ledger could not be looked at: nothing is known of it, good or bad.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotRead(String);

impl NotRead {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

fn not_read(what: impl Into<String>) -> NotRead {
    NotRead::new(what)
}

/// Verifies an export file or the ledger of a directory, and that its entries follow each other.
///
/// # Errors
/// What does not verify (a [`Failure`](crate::ledger::Failure) that names the first bad entry), or
/// [`NotRead`] with what could not be read.
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
    let (verified, decisions, texts_erased) = if what.source.is_dir() {
        let (verified, decisions, erased) =
            verify_directory(&what.source, given, since.as_deref()).await?;
        (verified, decisions, Some(erased))
    } else {
        let (verified, decisions) = verify_file(&what.source, given, since.as_deref())?;
        (verified, decisions, None)
    };
    Ok(VerifiedLedger {
        size: verified.checkpoint.size,
        root: STANDARD.encode(verified.checkpoint.root.0),
        origin: verified.checkpoint.origin,
        key_given,
        since_size: verified.continues,
        texts_erased,
        decisions_replayed: decisions.replayed,
        decisions_not_replayed: decisions.not_replayed,
        why_not_replayed: decisions.why_not,
    })
}

fn verify_file(
    path: &Path,
    given: Option<VerifyingKey>,
    since: Option<&str>,
) -> anyhow::Result<(Verified, Decisions)> {
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
    // The audit is part of the proof: entries that are signed and claim what is not so are no history.
    let mut audit = Audit::default();
    let file = BufReader::new(fs::File::open(path)?);
    let verified = verify(file, &key, since, |entry| audit.take(entry))?;
    Ok((verified, audit.decisions))
}

/// Verifies the store of a directory. Also tells what was decided again, and how many texts were erased.
async fn verify_directory(
    dir: &Path,
    given: Option<VerifyingKey>,
    since: Option<&str>,
) -> anyhow::Result<(Verified, Decisions, u64)> {
    let ledger = Kept::of(dir, given).await?;
    // What the broker knew is as good as a checkpoint kept elsewhere, for whoever trusts its directory.
    let kept = FileHead::open_existing(&ledger.state_dir.join("ledger.head"))?;
    let known = match &kept {
        Some(kept) if since.is_none() => kept
            .head(&ledger.key)
            .context(not_read("read the newest known head"))?,
        _ => None,
    };
    let since = since.or(known.as_ref().map(|head| head.checkpoint.as_str()));
    ledger.audit(since).await
}

fn own_key(state_dir: &Path) -> anyhow::Result<VerifyingKey> {
    let text = files::secret(&state_dir.join("ledger.key")).context(not_read(
        "find the log's key; give its verifier key with --key",
    ))?;
    let key = SigningKey::from_secret_text(text.expose_secret())?;
    Ok(key.verifying_key().clone())
}

/// A store with its key and state directory.
pub(super) struct Kept {
    pub(super) store: Arc<dyn Store>,
    pub(super) key: VerifyingKey,
    pub(super) state_dir: PathBuf,
}

impl Kept {
    /// The store of `dir`, with the key that is given, or else the one in its state directory.
    pub(super) async fn of(dir: &Path, given: Option<VerifyingKey>) -> anyhow::Result<Self> {
        let (store, state_dir) = store_of(dir).await?;
        let key = match given {
            Some(key) => key,
            None => own_key(&state_dir)?,
        };
        Ok(Self {
            store,
            key,
            state_dir,
        })
    }

    /// Verifies it. Also tells what was decided again, and how many texts were erased.
    async fn audit(&self, since: Option<&str>) -> anyhow::Result<(Verified, Decisions, u64)> {
        let verifier = Verifier::new(&self.key, since)?.strict();
        let audit = StoreAudit::new(Arc::clone(&self.store), verifier).await?;
        audit.run().await
    }

    /// Whether it continues the newest head that is known here; says how many entries it has, and how many were known.
    ///
    /// # Errors
    /// It does not, or one of the two cannot be read.
    pub(super) async fn continues(&self) -> anyhow::Result<(u64, Option<u64>)> {
        let head = self.store.head().await?;
        let kept = FileHead::open_existing(&self.state_dir.join("ledger.head"))?;
        let known = kept.map(|kept| kept.newest(&self.key)).transpose()?;
        let Some(known) = known.flatten() else {
            self.key.open_head(&head)?;
            return Ok((head.size, None));
        };
        let size = known.size();
        if head.size < size {
            bail!(
                "the store has {} entries, and {size} are known here: it was rolled back, or is another one",
                head.size
            );
        }
        let mut reader = Reader::new(&self.key, known);
        while reader.tree().size() < head.size {
            let page = self.store.read(reader.tree().size(), PAGE).await?;
            ensure!(
                !page.is_empty(),
                "entry {} is missing",
                reader.tree().size()
            );
            for stored in page.iter().take_while(|stored| stored.seq < head.size) {
                let entry = reader.stored(stored);
                entry.with_context(|| format!("entry {}", stored.seq))?;
            }
        }
        reader.head(&head).context(
            "its entries are not those that are known here: the log has two histories, or was rewritten",
        )?;
        Ok((head.size, Some(size)))
    }

    /// Verifies it.
    pub(super) async fn verify(&self, since: Option<&str>) -> anyhow::Result<Verified> {
        Ok(self.audit(since).await?.0)
    }
}

/// The store of a directory, which has a `countersign.toml` or is a state directory itself; and that directory.
async fn store_of(dir: &Path) -> anyhow::Result<(Arc<dyn Store>, PathBuf)> {
    let config = dir.join("countersign.toml");
    let state_dir = if config.exists() {
        let setup = Setup::read(&config).context(not_read("read countersign.toml"))?;
        if let StoreConfig::Postgres { .. } = setup.config.store {
            let store = setup.store().await;
            let store = store.context(not_read("open the ledger's PostgreSQL"))?;
            return Ok((store, setup.state_dir()));
        }
        setup.state_dir()
    } else {
        dir.to_owned()
    };
    let path = state_dir.join("ledger.db");
    ensure!(
        path.exists(),
        not_read(format!(
            "there is no ledger.db in {}; name a state directory, or one with a countersign.toml",
            state_dir.display()
        ))
    );
    let store = SqliteStore::open(&path).await.context(not_read(
        "open the ledger; while its broker runs, verify an export made with `countersign ledger export`",
    ))?;
    Ok((Arc::new(store), state_dir))
}

/// A store being verified: every row, every text that is still there, and the head.
struct StoreAudit<'a> {
    store: Arc<dyn Store>,
    verifier: Verifier<'a>,
    audit: Audit,
    /// The stored fold.
    snapshot: Option<Snapshot>,
    erased: u64,
}

impl<'a> StoreAudit<'a> {
    async fn new(store: Arc<dyn Store>, mut verifier: Verifier<'a>) -> anyhow::Result<Self> {
        let snapshot = match store.snapshot().await {
            Err(StoreError::Damaged(text)) => {
                return Err(verifier.fail(0, Problem::Store(text)).into());
            }
            snapshot => snapshot.context(not_read("read the store's snapshot"))?,
        };
        Ok(Self {
            snapshot,
            store,
            verifier,
            audit: Audit::default(),
            erased: 0,
        })
    }

    async fn run(mut self) -> anyhow::Result<(Verified, Decisions, u64)> {
        let head = match self.store.head().await {
            Err(StoreError::Damaged(text)) => {
                return Err(self.verifier.fail(0, Problem::Store(text)).into());
            }
            head => head.context(not_read("read the store's head"))?,
        };
        let mut pages = Pages::new(Arc::clone(&self.store), head.size);
        let read = self.entries(&mut pages, &head).await;
        pages.stop().await;
        read?;
        let size = self.verifier.tree().size();
        if let Err(missing) = self.audit.finish() {
            self.verifier.object(size, Problem::Refused(missing));
        }
        if Tree::from_head(&head).ok().as_ref() != Some(self.verifier.tree()) {
            self.verifier.object(size, Problem::Head);
        }
        if self.snapshot.is_some() && !self.verifier.objected() {
            self.verifier.object(size, Problem::Snapshot);
        }
        let verified = self.verifier.finish(&head.checkpoint)?;
        Ok((verified, self.audit.decisions, self.erased))
    }

    /// Takes all that is there.
    async fn entries(&mut self, pages: &mut Pages, head: &Head) -> anyhow::Result<()> {
        let mut page_size = PAGE;
        loop {
            let from = self.verifier.tree().size();
            let page = match pages.next(from, page_size).await {
                Ok(page) => page,
                // One by one, to verify what comes before the place that cannot be read.
                Err(_) if page_size > 1 => {
                    page_size = 1;
                    continue;
                }
                Err(StoreError::Damaged(text)) => {
                    return Err(self.verifier.fail(from, Problem::Store(text)).into());
                }
                Err(error) => {
                    return Err(error)
                        .with_context(|| not_read(format!("read entry {from} of the store")));
                }
            };
            // Entries beyond the head are bad, unless a broker that runs has just appended them.
            let beyond = from + page.len() as u64 > head.size;
            let running = beyond && self.store.head().await?.size > head.size;
            let last = running || page.len() < page_size;
            for (stored, decoded) in page {
                if running && stored.seq == head.size {
                    break;
                }
                self.entry(stored, decoded).await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    async fn entry(&mut self, stored: StoredEntry, decoded: Decoded) -> anyhow::Result<()> {
        let claimed = (stored.seq, stored.leaf, stored.signature);
        let read = self.verifier.decoded(claimed, decoded)?;
        if self.verifier.objected() {
            return Ok(());
        }
        if entry::index(&read) != stored.index {
            self.verifier.object(stored.seq, Problem::Columns);
        }
        let mut kept = None;
        if let Some(text) = read.event.text() {
            match self.store.blob(&text.sha256).await {
                Ok(Some(blob)) if blob.is_intact() => kept = Some(blob),
                Ok(None) => self.erased += 1,
                Ok(Some(_)) | Err(StoreError::Damaged(_)) => {
                    let problem = Problem::Text(text.sha256);
                    self.verifier.object(stored.seq, problem);
                }
                Err(error) => return Err(error).context(not_read("read a text of the ledger")),
            }
        }
        let bytes = kept.as_ref().map(|blob| blob.bytes.as_slice());
        if let Err(problem) = self.audited(read, bytes) {
            self.verifier.object(stored.seq, Problem::Refused(problem));
        }
        let folded = self.snapshot.take_if(|kept| kept.size == stored.seq + 1);
        if folded.is_some_and(|snapshot| !self.is_the_fold(&snapshot)) {
            self.verifier.object(stored.seq, Problem::Snapshot);
        }
        Ok(())
    }

    /// Whether a broker of this ledger made `snapshot`, and from the entries so far as far as this version can tell.
    fn is_the_fold(&self, snapshot: &Snapshot) -> bool {
        let folded: Option<Value> = match snapshot.fold(self.verifier.key()) {
            None => return false,
            Some(World::FOLD) => serde_json::from_slice(&snapshot.bytes).ok(),
            Some(_) => return true,
        };
        let world = serde_json::to_value(self.audit.world());
        snapshot.edge == self.verifier.tree().edge() && folded == world.ok()
    }

    /// Audits an entry, whose text is `kept` unless it was erased.
    fn audited(&mut self, entry: Entry, kept: Option<&[u8]>) -> Result<(), String> {
        if let Event::BundleApplied { bundle, .. } = &entry.event {
            self.audit.load(*bundle, kept)?;
        }
        self.audit.take(entry)
    }
}
