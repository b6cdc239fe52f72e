//! The newest head a broker knows, kept outside the store: whoever can roll the store back, or put another in its
//! place, cannot make the broker forget what it has seen.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::lock;
use super::rows::{edge_bytes, edge_of};
use super::{Head, StoreError, Tree};
use crate::ledger::VerifyingKey;

/// Where the newest known head is kept.
#[async_trait]
pub trait KnownHead: Send + Sync + 'static {
    /// The tree of the newest head that was kept, if there is one. It counts only under `key`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when something is there and is no head that `key` signed, else
    /// [`StoreError::Failed`].
    fn newest(&self, key: &VerifyingKey) -> Result<Option<Tree>, StoreError>;

    /// Keeps `head`, durably, unless what is kept is newer.
    ///
    /// # Errors
    /// [`StoreError::Failed`]: the one before is still there.
    async fn keep(&self, head: Head) -> Result<(), StoreError>;
}

/// Forgets at exit; for simulation, and where there is no directory to keep it in.
#[derive(Debug, Default)]
pub struct MemoryHead(Mutex<Option<Head>>);

#[async_trait]
impl KnownHead for MemoryHead {
    fn newest(&self, key: &VerifyingKey) -> Result<Option<Tree>, StoreError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(kept.as_ref().and_then(|head| key.open_head(head).ok()))
    }

    async fn keep(&self, head: Head) -> Result<(), StoreError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|kept| kept.size < head.size) {
            *kept = Some(head);
        }
        Ok(())
    }
}

/// Bytes of one slot. A head has at most 64 hashes, and a log in this world fewer than 40.
const SLOT: usize = 4096;

/// A file of two slots, written in turn: a write that is torn by a crash leaves the other.
#[derive(Debug)]
pub struct FileHead {
    path: PathBuf,
    slots: Arc<Mutex<Slots>>,
}

#[derive(Debug)]
struct Slots {
    file: File,
    /// The slot to write next.
    next: u64,
    /// The size of the newest head that is kept.
    size: u64,
}

impl Slots {
    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; SLOT];
        let mut read = 0;
        // A file that is too short, after a full disk, has what is missing as nothing.
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self
                .file
                .read_at(rest, number * SLOT as u64 + read as u64)?
            {
                0 => break,
                more => read += more,
            }
        }
        let end = bytes.iter().rposition(|byte| *byte != 0);
        bytes.truncate(end.map_or(0, |end| end + 1));
        Ok(bytes)
    }

    fn write(&mut self, head: &Head) -> io::Result<()> {
        self.file
            .write_all_at(&encode(head)?, self.next * SLOT as u64)?;
        self.file.sync_data()?;
        self.next = 1 - self.next;
        self.size = head.size;
        Ok(())
    }
}

impl FileHead {
    /// Opens the file to look at it, if there is one; a broker may be writing it.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn open_existing(path: &Path) -> Result<Option<Self>, StoreError> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self::of(path, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// The newest head that was kept, if `key` signed it.
    ///
    /// # Errors
    /// As [`KnownHead::newest`].
    pub fn head(&self, key: &VerifyingKey) -> Result<Option<Head>, StoreError> {
        let mut kept = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = [kept.read(0).map_err(failed)?, kept.read(1).map_err(failed)?];
        let [first, second] = slots.each_ref().map(|slot| decode(slot, key));
        let size = |head: &Option<Head>| head.as_ref().map(|head| head.size);
        let (newest, older) = if size(&first) > size(&second) {
            (first, 1)
        } else {
            (second, 0)
        };
        if newest.is_none() && slots.iter().any(|slot| !slot.is_empty()) {
            return Err(StoreError::Damaged(format!(
                "{} is no head of this ledger: it was changed, or comes from another one; see `countersign ledger accept`",
                self.path.display()
            )));
        }
        kept.next = older;
        kept.size = size(&newest).unwrap_or(0);
        Ok(newest)
    }

    /// Opens the file, or makes it, for its owner only, and for nobody else to write while it is open.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when a broker has it open, or [`StoreError::Failed`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)?;
            if file.metadata()?.len() == 0 {
                file.write_all_at(&[0; 2 * SLOT], 0)?;
                file.sync_all()?;
                let directory = path.parent().unwrap_or(Path::new("."));
                File::open(directory)?.sync_all()?;
            }
            Ok(file)
        };
        let file = open().map_err(failed)?;
        if lock::alone(&file).map_err(failed)? {
            Ok(Self::of(path, file))
        } else {
            let directory = path.parent().unwrap_or(Path::new(".")).display();
            Err(StoreError::InUse(format!(
                "another process uses the state directory {directory}: stop that broker first, or give each broker a state_dir of its own"
            )))
        }
    }

    fn of(path: &Path, file: File) -> Self {
        Self {
            path: path.to_owned(),
            slots: Arc::new(Mutex::new(Slots {
                file,
                next: 0,
                size: 0,
            })),
        }
    }

    /// Forgets what was kept and keeps `head` instead, whether it is newer or not.
    ///
    /// # Errors
    /// [`StoreError::Failed`]; it may then be the one before, or none.
    pub fn replace(&self, head: &Head) -> Result<(), StoreError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots
            .write(head)
            .and_then(|()| slots.write(head))
            .map_err(failed)
    }
}

fn failed(error: io::Error) -> StoreError {
    StoreError::Failed {
        operation: "keep the newest head of the ledger in ledger.head of the state directory",
        source: error.into(),
    }
}

/// The edge in base64, then the checkpoint.
fn encode(head: &Head) -> io::Result<Vec<u8>> {
    let edge = STANDARD.encode(edge_bytes(&head.edge));
    let mut bytes = format!("{edge}\n{}", head.checkpoint).into_bytes();
    if bytes.len() > SLOT {
        return Err(io::Error::other("the ledger's head is too long"));
    }
    bytes.resize(SLOT, 0);
    Ok(bytes)
}

fn decode(bytes: &[u8], key: &VerifyingKey) -> Option<Head> {
    let (edge, checkpoint) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
    let head = Head {
        size: key.open_checkpoint(checkpoint).ok()?.size,
        edge: edge_of(&STANDARD.decode(edge).ok()?).ok()?,
        checkpoint: checkpoint.to_owned(),
    };
    key.open_head(&head).is_ok().then_some(head)
}

#[async_trait]
impl KnownHead for FileHead {
    fn newest(&self, key: &VerifyingKey) -> Result<Option<Tree>, StoreError> {
        let head = self.head(key)?;
        Ok(head.and_then(|head| Tree::from_head(&head).ok()))
    }

    async fn keep(&self, head: Head) -> Result<(), StoreError> {
        let slots = Arc::clone(&self.slots);
        let write = move || {
            let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
            if head.size > slots.size {
                slots.write(&head)?;
            }
            Ok(())
        };
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(io::Error::other).flatten().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_has_one_broker_and_anybody_may_look() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.head");
        assert!(FileHead::open_existing(&path).unwrap().is_none());
        let first = FileHead::open(&path).unwrap();
        let second = FileHead::open(&path).unwrap_err().to_string();
        assert!(second.contains("state_dir of its own"), "{second}");
        assert!(FileHead::open_existing(&path).unwrap().is_some());
        drop(first);
        drop(FileHead::open(&path).unwrap());
    }
}
