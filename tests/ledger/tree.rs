//! The Merkle tree against published vectors and two independent implementations.

use countersign::domain::Digest;
use countersign::ledger::tree::{
    ProveError, check_consistency, check_inclusion, leaf_hash, prove_consistency, prove_inclusion,
};
use countersign::ledger::{Head, Tree};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;
use tlog_tiles::{Hash, HashReader};

fn entries(size: usize) -> Vec<Vec<u8>> {
    (0..size)
        .map(|seq| format!("{{\"seq\":{seq}}}").into_bytes())
        .collect()
}

fn leaves(size: usize) -> Vec<Digest> {
    entries(size).iter().map(|entry| leaf_hash(entry)).collect()
}

fn tree_over(leaves: &[Digest]) -> Tree {
    let mut tree = Tree::default();
    for leaf in leaves {
        tree.append_leaf(*leaf);
    }
    tree
}

fn base64_of(digest: &Digest) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(digest.0)
}

#[test]
fn roots_and_proofs_are_as_published() {
    let leaves = leaves(3);
    let shown: Vec<_> = leaves.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "a402b0e36f5aae85457360fcf00a2545b87dd47f310553e7b0d32d6d0ac4400d",
            "b119a77a4864308c481efb947ff723d6bd4ea1e7fab902eb8ca98bd759e46aee",
            "d3e0a62a8f7a9256c8beb715afded83e4326d2c47379d259b1709a840ad2f11d",
        ]
    );
    let roots: Vec<_> = (0..=3)
        .map(|size| base64_of(&tree_over(&leaves[..size]).root()))
        .collect();
    assert_eq!(
        roots,
        [
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "pAKw429aroVFc2D88AolRbh91H8xBVPnsNMtbQrEQA0=",
            "/FLXGjaKeY/Zbsflt+5fj5/dEMf/mrFGxOrB5qChsQo=",
            "PbZ2Ze6owm3jQWaMHTGZ9h3kt4CoKFaaiYzkjCjZMfM=",
        ]
    );
    let siblings = [
        "sRmnekhkMIxIHvuUf/cj1r1Ooef6uQLrjKmL11nkau4=",
        "0+CmKo96klbIvrcVr97YPkMm0sRzedJZsXCahArS8R0=",
    ];
    let shown = |proof: Vec<Digest>| proof.iter().map(base64_of).collect::<Vec<_>>();
    assert_eq!(shown(prove_inclusion(&leaves[..], 0, 3).unwrap()), siblings);
    assert_eq!(
        shown(prove_consistency(&leaves[..], 1, 3).unwrap()),
        siblings
    );
    assert_eq!(
        shown(prove_consistency(&leaves[..], 2, 3).unwrap()),
        siblings[1..]
    );
}

#[test]
fn a_tree_continues_from_its_head() {
    let leaves = leaves(300);
    for at in 0..300 {
        let before = tree_over(&leaves[..at]);
        let head = Head {
            size: before.size(),
            edge: before.edge().to_vec(),
            checkpoint: String::new(),
        };
        let mut continued = Tree::from_head(&head).unwrap();
        continued.append_leaf(leaves[at]);
        assert_eq!(continued, tree_over(&leaves[..=at]));
    }
    let damaged = Head {
        size: 3,
        edge: vec![Digest::of(b"")],
        checkpoint: String::new(),
    };
    assert!(Tree::from_head(&damaged).is_err());
}

#[test]
fn nothing_is_proven_about_what_is_not_there() {
    let leaves = leaves(4);
    assert!(matches!(
        prove_inclusion(&leaves[..], 4, 4),
        Err(ProveError::OutOfRange { .. })
    ));
    assert!(matches!(
        prove_consistency(&leaves[..], 0, 4),
        Err(ProveError::OutOfRange { .. })
    ));
    assert!(matches!(
        prove_consistency(&leaves[..], 5, 4),
        Err(ProveError::OutOfRange { .. })
    ));
    assert!(matches!(
        prove_inclusion(&leaves[..], 0, 8),
        Err(ProveError::Read(_))
    ));
    let (root, empty) = (tree_over(&leaves).root(), Digest::of(b""));
    assert!(check_consistency(0, &empty, 4, &root, &[]));
    assert!(!check_consistency(0, &root, 4, &root, &[]));
    assert!(check_consistency(4, &root, 4, &root, &[]));
    assert!(!check_consistency(5, &root, 4, &root, &[]));
    assert!(!check_inclusion(&empty, 0, 0, &[], &empty));
}

/// The other implementation's storage: every node, by its index.
struct Stored(Vec<Hash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        Ok(indexes
            .iter()
            .map(|i| self.0[usize::try_from(*i).unwrap()])
            .collect())
    }
}

fn stored(entries: &[Vec<u8>]) -> Stored {
    let mut stored = Stored(Vec::new());
    for (seq, entry) in (0..).zip(entries) {
        let more = tlog_tiles::stored_hashes(seq, entry, &stored).unwrap();
        stored.0.extend(more);
    }
    stored
}

fn flat(proof: &[Digest]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn l06_two_other_implementations_agree_on_roots_and_proofs(
        size in 1..600_usize, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()
    ) {
        let (entries, leaves) = (entries(size), leaves(size));
        let (index, from) = (a.index(size), b.index(size) + 1);
        let (root, old) = (tree_over(&leaves).root(), tree_over(&leaves[..from]).root());
        let (size64, index64, from64) = (size as u64, index as u64, from as u64);

        let mut ct = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        entries.iter().for_each(|entry| ct.push(entry.clone()));
        let tlog = stored(&entries);
        let ct_root = ct.root();
        prop_assert_eq!(ct_root.as_bytes().as_slice(), root.0);
        prop_assert_eq!(tlog_tiles::tree_hash(size64, &tlog).unwrap().0, root.0);

        let inclusion = prove_inclusion(&leaves[..], index64, size64).unwrap();
        let expected = ct.prove_inclusion(index);
        prop_assert_eq!(flat(&inclusion), expected.as_bytes());
        let theirs = tlog_tiles::prove_record(size64, index64, &tlog).unwrap();
        prop_assert_eq!(theirs.iter().map(|hash| Digest(hash.0)).collect::<Vec<_>>(), inclusion.clone());
        prop_assert!(check_inclusion(&leaves[index], index64, size64, &inclusion, &root));

        let consistency = prove_consistency(&leaves[..], from64, size64).unwrap();
        let theirs = tlog_tiles::prove_tree(size64, from64, &tlog).unwrap();
        prop_assert_eq!(theirs.iter().map(|hash| Digest(hash.0)).collect::<Vec<_>>(), consistency.clone());
        prop_assert!(check_consistency(from64, &old, size64, &root, &consistency));
    }

    #[test]
    fn case_150_a_proof_of_anything_else_is_refused(
        size in 2..200_usize, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(),
        bit in 0..256_usize, c in any::<prop::sample::Index>()
    ) {
        let leaves = leaves(size);
        let (index, from) = (a.index(size), b.index(size - 1) + 1);
        let (root, old) = (tree_over(&leaves).root(), tree_over(&leaves[..from]).root());
        let (size64, index64, from64) = (size as u64, index as u64, from as u64);
        let other = Digest::of(b"other");
        let flip = |proof: &[Digest]| {
            let mut proof = proof.to_vec();
            let at = c.index(proof.len());
            proof[at].0[bit / 8] ^= 1 << (bit % 8);
            proof
        };

        let proof = prove_inclusion(&leaves[..], index64, size64).unwrap();
        prop_assert!(!check_inclusion(&other, index64, size64, &proof, &root));
        prop_assert!(!check_inclusion(&leaves[index], (index64 + 1) % size64, size64, &proof, &root));
        prop_assert!(!check_inclusion(&leaves[index], index64, size64, &proof, &old));
        prop_assert!(!check_inclusion(&leaves[index], index64, size64, &flip(&proof), &root));
        prop_assert!(!check_inclusion(&leaves[index], index64, size64, &proof[1..], &root));
        prop_assert!(!check_inclusion(&leaves[index], index64, size64, &[&proof[..], &[root]].concat(), &root));

        let proof = prove_consistency(&leaves[..], from64, size64).unwrap();
        prop_assert!(!check_consistency(from64, &other, size64, &root, &proof));
        prop_assert!(!check_consistency(from64, &old, size64, &old, &proof));
        prop_assert!(!check_consistency(from64, &old, size64, &root, &flip(&proof)));
        prop_assert!(!check_consistency(from64, &old, size64, &root, &proof[1..]));
        prop_assert!(!check_consistency(from64, &old, size64, &root, &[&proof[..], &[root]].concat()));
    }
}
