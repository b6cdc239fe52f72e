//! The Merkle tree of RFC 6962 (SHA-256): appending through its right edge, roots, and proofs.
//!
//! The tree over `n` entries is told by its *edge*, the roots of its complete subtrees from left to
//! right, one for each bit set in `n`. Appending and the root cost O(log n) and read nothing else.

use aws_lc_rs::digest::{Context, SHA256};

use super::stored::Head;
use crate::domain::Digest;

pub(super) fn finish(context: Context) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Digest(out)
}

/// The hash of an entry in the tree.
pub fn leaf_hash(bytes: &[u8]) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(bytes);
    finish(context)
}

/// The hash of an inner node.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(&[1]);
    context.update(&left.0);
    context.update(&right.0);
    finish(context)
}

/// Joins neighbouring subtree roots, largest first, into the root over all of them.
fn join(roots: &[Digest]) -> Option<Digest> {
    let (last, before) = roots.split_last()?;
    Some(
        before
            .iter()
            .rev()
            .fold(*last, |right, left| node_hash(left, &right)),
    )
}

/// An edge that does not fit its size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the ledger's head is damaged: a tree of {size} entries has {expected} edge hashes, not {found}; restore the store"
)]
pub struct BadEdge {
    size: u64,
    expected: u32,
    found: usize,
}

/// The tree over the first `size` entries, as its right edge.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    size: u64,
    edge: Vec<Digest>,
}

impl Tree {
    /// The tree of a stored head.
    ///
    /// # Errors
    /// When the number of edge hashes cannot belong to the size.
    pub fn from_head(head: &Head) -> Result<Self, BadEdge> {
        Self::from_edge(head.size, &head.edge)
    }

    /// The tree over `size` entries with this right edge.
    ///
    /// # Errors
    /// When the number of edge hashes cannot belong to the size.
    pub fn from_edge(size: u64, edge: &[Digest]) -> Result<Self, BadEdge> {
        let expected = size.count_ones();
        if u32::try_from(edge.len()) != Ok(expected) {
            return Err(BadEdge {
                size,
                expected,
                found: edge.len(),
            });
        }
        Ok(Self {
            size,
            edge: edge.to_vec(),
        })
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first.
    pub fn edge(&self) -> &[Digest] {
        &self.edge
    }

    /// Appends an entry by its bytes.
    pub fn append(&mut self, bytes: &[u8]) {
        self.append_leaf(leaf_hash(bytes));
    }

    /// Appends an entry by its leaf hash.
    pub fn append_leaf(&mut self, leaf: Digest) {
        let mut root = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.edge.pop() {
                root = node_hash(&left, &root);
            }
        }
        self.edge.push(root);
        self.size += 1;
    }

    /// The root; SHA-256 of nothing for the empty tree.
    pub fn root(&self) -> Digest {
        join(&self.edge).unwrap_or_else(|| Digest::of(b""))
    }
}

/// Where proofs and tiles get their hashes from.
pub trait Hashes {
    /// What reading can fail with.
    type Error;

    /// The root of the complete subtree over the 2^`level` leaves from `index` * 2^`level`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn complete(&self, level: u32, index: u64) -> Result<Digest, Self::Error>;
}

/// A leaf that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hash of entry {0} is missing; read the ledger up to it first")]
pub struct MissingLeaf(pub u64);

/// All leaf hashes in memory.
impl Hashes for [Digest] {
    type Error = MissingLeaf;

    fn complete(&self, level: u32, index: u64) -> Result<Digest, MissingLeaf> {
        let start = index << level;
        let end = start + (1 << level);
        let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
            return Err(MissingLeaf(start));
        };
        let leaves = self
            .get(from..to)
            .ok_or(MissingLeaf(self.len().try_into().unwrap_or(u64::MAX)))?;
        let mut tree = Tree::default();
        for leaf in leaves {
            tree.append_leaf(*leaf);
        }
        Ok(tree.root())
    }
}

/// Why no proof can be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveError<E> {
    /// There is nothing to prove.
    #[error("prove from {from} in a tree of {size} entries: ask for something the tree has")]
    OutOfRange {
        /// The entry's index, or the earlier size.
        from: u64,
        /// The size of the tree.
        size: u64,
    },
    /// A hash could not be read.
    #[error("read hashes for a proof")]
    Read(#[source] E),
}

/// The root over the leaves from `start` (a multiple of a power of two at least as long as the range) to `end`.
fn range_root<H: Hashes + ?Sized>(
    hashes: &H,
    start: u64,
    end: u64,
) -> Result<Digest, ProveError<H::Error>> {
    let mut roots = Vec::new();
    let mut at = start;
    while at < end {
        let level = (end - at).ilog2();
        let root = hashes
            .complete(level, at >> level)
            .map_err(ProveError::Read)?;
        roots.push(root);
        at += 1 << level;
    }
    Ok(join(&roots).unwrap_or_else(|| Digest::of(b"")))
}

/// The largest power of two smaller than `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// Proof that entry `index` is in the tree of `size` entries: sibling hashes, the leaf's first.
///
/// # Errors
/// When the tree has no such entry, or a hash cannot be read.
pub fn prove_inclusion<H: Hashes + ?Sized>(
    hashes: &H,
    index: u64,
    size: u64,
) -> Result<Vec<Digest>, ProveError<H::Error>> {
    if index >= size {
        return Err(ProveError::OutOfRange { from: index, size });
    }
    let (mut start, mut end) = (0, size);
    let mut proof = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(range_root(hashes, middle, end)?);
            end = middle;
        } else {
            proof.push(range_root(hashes, start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Proof that the tree of `size` entries continues the tree of its first `from` entries.
///
/// # Errors
/// When `from` is 0 or more than `size`, or a hash cannot be read.
pub fn prove_consistency<H: Hashes + ?Sized>(
    hashes: &H,
    from: u64,
    size: u64,
) -> Result<Vec<Digest>, ProveError<H::Error>> {
    if from == 0 || from > size {
        return Err(ProveError::OutOfRange { from, size });
    }
    let (mut start, mut end) = (0, size);
    let mut proof = Vec::new();
    while from != end {
        let middle = start + split(end - start);
        if from <= middle {
            proof.push(range_root(hashes, middle, end)?);
            end = middle;
        } else {
            proof.push(range_root(hashes, start, middle)?);
            start = middle;
        }
    }
    // The old tree itself needs no telling when it is a left part of the new one.
    if start != 0 {
        proof.push(range_root(hashes, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `proof` shows `leaf` at `index` of the tree of `size` entries with `root` (RFC 9162 §2.1.3.2).
#[must_use]
pub fn check_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
    root: &Digest,
) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree of `size` entries with `root` continues the one of `from` entries
/// with `from_root` (RFC 9162 §2.1.4.2). Every tree continues the empty one.
#[must_use]
pub fn check_consistency(
    from: u64,
    from_root: &Digest,
    size: u64,
    root: &Digest,
    proof: &[Digest],
) -> bool {
    if from == 0 {
        return proof.is_empty() && *from_root == Digest::of(b"");
    }
    if from >= size {
        return from == size && proof.is_empty() && from_root == root;
    }
    let mut path = proof.iter();
    let first = if from.is_power_of_two() {
        Some(from_root)
    } else {
        path.next()
    };
    let Some(first) = first else { return false };
    let shift = (from - 1).trailing_ones();
    let (mut node, mut last) = ((from - 1) >> shift, (size - 1) >> shift);
    let (mut old, mut new) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old == *from_root && new == *root
}
