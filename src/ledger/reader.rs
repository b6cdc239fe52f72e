//! Reading on in a log that somebody else may have written into. The broker and `verify` share it.
//!
//! Nothing that is read counts before the log's key has vouched for it: each entry is hashed into a tree of the
//! reader's own, and only [`Reader::head`] or [`Reader::signed`] say that this tree is the log's.

use super::checkpoint::Checkpoint;
use super::entry::{self, EntryError};
use super::failure::Problem;
use super::note::VerifyingKey;
use super::stored::{Head, StoredEntry};
use super::tree::{Tree, leaf_hash};
use crate::domain::{Digest, Entry, Event};

/// Bytes that were hashed and read. It needs nothing of what comes before them, so that it can be done anywhere.
#[derive(Debug)]
pub struct Decoded {
    leaf: Digest,
    entry: Result<Entry, EntryError>,
}

impl Decoded {
    /// Hashes and reads `bytes`. Nothing of it counts before a [`Reader`] has taken it.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            leaf: leaf_hash(bytes),
            entry: entry::decode(bytes),
        }
    }
}

/// Reads entries in order, from the end of a tree that is known to be the log's.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    key: &'a VerifyingKey,
    tree: Tree,
}

impl<'a> Reader<'a> {
    /// Begins at the end of `tree`, in the log of `key`.
    pub fn new(key: &'a VerifyingKey, tree: Tree) -> Self {
        Self { key, tree }
    }

    /// The log's key.
    pub fn key(&self) -> &'a VerifyingKey {
        self.key
    }

    /// The tree over everything read.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Takes the bytes that stand at place `seq` with `leaf` beside them, and returns what they say.
    ///
    /// # Errors
    /// When they are not the next entry, or no entry of this format.
    pub fn entry(&mut self, seq: u64, bytes: &[u8], leaf: &Digest) -> Result<Entry, Problem> {
        self.decoded(seq, Decoded::of(bytes), leaf)
    }

    /// As [`Reader::entry`], of bytes that were hashed and read already.
    ///
    /// # Errors
    /// As [`Reader::entry`].
    pub fn decoded(&mut self, seq: u64, decoded: Decoded, leaf: &Digest) -> Result<Entry, Problem> {
        let place = self.tree.size();
        if seq != place {
            return Err(Problem::Order(seq));
        }
        if decoded.leaf != *leaf {
            return Err(Problem::Leaf);
        }
        let entry = decoded.entry?;
        if entry.seq != place {
            return Err(Problem::Place(entry.seq));
        }
        let opens =
            matches!(&entry.event, Event::LedgerOpened { origin } if origin == self.key.name());
        if opens != (place == 0) {
            return Err(Problem::Opening);
        }
        self.tree.append_leaf(*leaf);
        Ok(entry)
    }

    /// As [`Reader::entry`], for a row of a store: it must also be found by what it says.
    ///
    /// # Errors
    /// As [`Reader::entry`], or when the row's columns are not the entry's.
    pub fn stored(&mut self, stored: &StoredEntry) -> Result<Entry, Problem> {
        self.stored_decoded(stored, Decoded::of(&stored.bytes))
    }

    /// As [`Reader::stored`], of a row whose bytes were hashed and read already.
    ///
    /// # Errors
    /// As [`Reader::stored`].
    pub fn stored_decoded(
        &mut self,
        stored: &StoredEntry,
        decoded: Decoded,
    ) -> Result<Entry, Problem> {
        let entry = self.decoded(stored.seq, decoded, &stored.leaf)?;
        if entry::index(&entry) == stored.index {
            Ok(entry)
        } else {
            Err(Problem::Columns)
        }
    }

    /// Whether `signature` (key id and signature, in base64) is the key's over everything read.
    pub fn signed(&self, signature: &str) -> bool {
        self.signed_over(&self.tree, signature)
    }

    /// Whether `signature` is the key's over the checkpoint of `tree`.
    pub(super) fn signed_over(&self, tree: &Tree, signature: &str) -> bool {
        let checkpoint = Checkpoint {
            origin: self.key.name().to_owned(),
            size: tree.size(),
            root: tree.root(),
        };
        self.key.accepts(&checkpoint.text(), signature)
    }

    /// Holds everything read against the head of the log: its size, its edge, and what the key signed.
    ///
    /// # Errors
    /// When one of them is another.
    pub fn head(&self, head: &Head) -> Result<(), Problem> {
        if self.key.open_head(head)? == self.tree {
            Ok(())
        } else {
            Err(Problem::Head)
        }
    }
}

impl VerifyingKey {
    /// The tree that `head` promises, once this key has vouched for it: known before any entry is read.
    ///
    /// # Errors
    /// When size, edge and what the key signed do not agree.
    pub fn open_head(&self, head: &Head) -> Result<Tree, Problem> {
        let tree = Tree::from_head(head).map_err(|_| Problem::Head)?;
        if head.size == 0 && head.checkpoint.is_empty() {
            return Ok(tree);
        }
        let checkpoint = self
            .open_checkpoint(&head.checkpoint)
            .map_err(Problem::Checkpoint)?;
        if checkpoint.size != tree.size() {
            return Err(Problem::Head);
        }
        if checkpoint.root != tree.root() {
            return Err(Problem::Root);
        }
        Ok(tree)
    }
}
