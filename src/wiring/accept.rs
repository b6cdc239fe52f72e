//! The operator's word that a ledger goes on although it is not the one this broker knew: an old backup, or a standby
//! that had not heard of everything. Given on the machine, while the broker is stopped; an entry from the next start on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::files;
use super::ledger::{Kept, NotRead};
use crate::broker::Broker;
use crate::cli::local::AcceptedLedger;
use crate::domain::Digest;
use crate::ledger::{Failure, Tree, VerifyingKey};
use crate::store::{FileHead, Head, KnownHead as _, StoreError};

/// The file that the next start makes an entry of.
const FILE: &str = "ledger.accepted";
/// Its largest size.
const LARGEST: usize = 64 * 1024;

/// The ledger in the store is the one that is known.
#[derive(Debug, thiserror::Error)]
#[error("the ledger continues what this broker knew: there is nothing to accept")]
pub struct NothingToAccept;

/// What was accepted, until it is an entry.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Word {
    /// The newest head that was known, as the ledger's key signed it; empty when none could be read.
    known: String,
    reason: String,
}

impl Word {
    /// Size and root of what was given up.
    fn known(&self, key: &VerifyingKey) -> anyhow::Result<(u64, Digest)> {
        if self.known.is_empty() {
            return Ok((0, Tree::default().root()));
        }
        let known = key.open_checkpoint(&self.known)?;
        Ok((known.size, known.root))
    }
}

/// Accepts the ledger in the store of `dir` instead of the one its broker knew. It has to verify.
///
/// # Errors
/// When it does not verify, continues what was known anyway, or something cannot be read or written.
pub async fn accept_ledger(dir: &Path, reason: String) -> anyhow::Result<AcceptedLedger> {
    ensure!(
        !reason.trim().is_empty(),
        NotRead::new("say why with --reason: it becomes an entry")
    );
    let ledger = Kept::of(dir, None).await?;
    let kept = FileHead::open(&ledger.state_dir.join("ledger.head"));
    let kept = kept.map_err(|error| NotRead::new(error.to_string()))?;
    let known = match kept.head(&ledger.key) {
        Err(StoreError::Damaged(_)) => Some(Head::default()),
        known => known?,
    };
    let known = known.ok_or(NothingToAccept)?;
    let since = (known.size > 0).then_some(known.checkpoint.as_str());
    if since.is_some() {
        match ledger.verify(since).await {
            Ok(_) => return Err(NothingToAccept.into()),
            // Found wrong, not just unreadable.
            Err(error) => ensure!(error.is::<Failure>(), error),
        }
    }
    let verified = ledger.verify(None).await?;
    let found = ledger.store.head().await?;
    ensure!(
        found.size == verified.checkpoint.size,
        NotRead::new("the ledger was written to meanwhile; stop its brokers first")
    );
    let word = Word {
        known: known.checkpoint,
        reason,
    };
    let (known_size, known_root) = word.known(&ledger.key)?;
    // In this order: a crash in between leaves a word that counts for nothing, never a ledger accepted without one.
    files::replace(&ledger.state_dir.join(FILE), &serde_json::to_vec(&word)?)?;
    kept.replace(&found)?;
    Ok(AcceptedLedger {
        known_size,
        known_root: STANDARD.encode(known_root.0),
        size: found.size,
        root: STANDARD.encode(verified.checkpoint.root.0),
    })
}

/// A word that was given and is no entry yet.
pub(super) struct Accepted {
    /// Size and root of what was given up.
    known: (u64, Digest),
    reason: String,
    path: PathBuf,
}

impl Accepted {
    /// Looks for one before a broker starts. A word without its deed, after a crash between the two, is forgotten: the head
    /// that it gives up is still the one that is known.
    ///
    /// # Errors
    /// It cannot be read, or not be removed.
    pub(super) fn find(
        state_dir: &Path,
        kept: &FileHead,
        key: &VerifyingKey,
    ) -> anyhow::Result<Option<Self>> {
        let path = state_dir.join(FILE);
        match fs::symlink_metadata(&path) {
            Ok(found) => ensure!(found.is_file(), "{} is no file", path.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(format!("read {}", path.display())),
        }
        let read = || format!("read {}", path.display());
        let text = files::text(&path, LARGEST)?;
        let word: Word = serde_json::from_str(&text).with_context(read)?;
        let given_up = word.known(key).with_context(read)?;
        let is_given_up = |known: &Tree| (known.size(), known.root()) == given_up;
        match kept.newest(key) {
            Ok(Some(known)) if !is_given_up(&known) => Ok(Some(Self {
                known: given_up,
                reason: word.reason,
                path,
            })),
            _ => {
                tracing::warn!(
                    "the ledger was not accepted to the end, so it is not; say so again if it still has to be: countersign ledger accept"
                );
                fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
                Ok(None)
            }
        }
    }

    /// Makes it an entry. What cannot be written now is at the next start.
    ///
    /// # Errors
    /// It is not an entry yet, or would be one again.
    pub(super) async fn record(self, broker: &Broker) -> anyhow::Result<()> {
        let (size, root) = self.known;
        broker.accept_ledger(size, root, self.reason).await?;
        let path = self.path;
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
    }
}
