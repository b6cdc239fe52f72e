//! A fold of the log as a cache, under the log's own key: whoever can write into the store cannot make one up.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::note::{SigningKey, VerifyingKey};
use super::tree::Tree;
use crate::domain::Digest;

/// A fold of the first `size` entries. Losing it costs time, nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Entries folded.
    pub size: u64,
    /// The edge of the tree over them.
    pub edge: Vec<Digest>,
    /// What they were folded into, serialized.
    pub bytes: Vec<u8>,
    /// A signed note over size, root, how it was folded, and the hash of `bytes`.
    pub seal: String,
}

/// What is signed. Its first line has blanks, so that it can never be taken for a checkpoint: no origin has any.
fn text(origin: &str, tree: &Tree, fold: &str, bytes: &[u8]) -> String {
    format!(
        "countersign snapshot of {origin}\n{}\n{}\n{fold}\n{}\n",
        tree.size(),
        STANDARD.encode(tree.root().0),
        STANDARD.encode(Digest::of(bytes).0),
    )
}

impl Snapshot {
    /// Seals `bytes`, into which the entries of `tree` were folded in the way that `fold` names.
    pub fn seal(key: &SigningKey, tree: &Tree, fold: &str, bytes: Vec<u8>) -> Self {
        let text = text(key.verifying_key().name(), tree, fold, &bytes);
        let seal = key.note(&text, &key.signature(&text));
        Self {
            size: tree.size(),
            edge: tree.edge().to_vec(),
            bytes,
            seal,
        }
    }

    /// The tree it stands for, when `key` has sealed it and it was folded in the way that `fold` names.
    pub fn open(&self, key: &VerifyingKey, fold: &str) -> Option<Tree> {
        (self.fold(key) == Some(fold)).then(|| self.tree())?
    }

    /// How it was folded, when `key` has sealed it as it is.
    pub fn fold(&self, key: &VerifyingKey) -> Option<&str> {
        let sealed = key.open(&self.seal).ok()?;
        let fold = sealed.lines().nth(3)?;
        (sealed == text(key.name(), &self.tree()?, fold, &self.bytes)).then_some(fold)
    }

    fn tree(&self) -> Option<Tree> {
        Tree::from_edge(self.size, &self.edge).ok()
    }
}
