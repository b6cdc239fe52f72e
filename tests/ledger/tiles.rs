//! The log as tiles: paths, content, and that a client that knows only the specification accepts them.

use countersign::domain::Digest;
use countersign::ledger::Tree;
use countersign::ledger::tiles::{Tile, TileKind, entry_bundle, read_entry_bundle};
use countersign::ledger::tree::leaf_hash;
use proptest::prelude::*;

const LEAVES: TileKind = TileKind::Hashes { level: 0 };

fn entries(size: usize) -> Vec<Vec<u8>> {
    (0..size)
        .map(|seq| format!("{{\"seq\":{seq}}}").into_bytes())
        .collect()
}

#[test]
fn paths_are_as_specified() {
    for (index, path) in [
        (0, "000"),
        (255, "255"),
        (1000, "x001/000"),
        (1_234_067, "x001/x234/067"),
    ] {
        let mut tile = Tile {
            kind: LEAVES,
            index,
            width: 256,
        };
        assert_eq!(tile.to_string(), format!("tile/0/{path}"));
        tile.kind = TileKind::Entries;
        tile.width = 3;
        assert_eq!(tile.to_string(), format!("tile/entries/{path}.p/3"));
        assert_eq!(tile.to_string().parse::<Tile>().unwrap(), tile);
    }
}

#[test]
fn only_the_one_spelling_of_a_path_is_served() {
    for path in [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/00/000",
        "tile/8/000",
        "tile/-1/000",
        "tile/+1/000",
        "tile/data/000",
        "tile/entries/000.p/0",
        "tile/entries/000.p/256",
        "tile/entries/000.p/03",
        "tile/entries/000.p/",
        "tile/entries/../000",
        "tile/0/+01",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert!(path.parse::<Tile>().is_err(), "{path}");
    }
}

#[test]
fn levels_have_the_tiles_they_should() {
    let shape = |level, size| {
        let tiles: Vec<_> = Tile::of_level(TileKind::Hashes { level }, size).collect();
        let full = tiles.iter().filter(|tile| tile.width == 256).count();
        (full, tiles.last().map_or(0, |tile| tile.width % 256))
    };
    assert_eq!(
        [0, 1, 2, 3].map(|level| shape(level, 70_000)),
        [(273, 112), (1, 17), (0, 1), (0, 0)]
    );
    assert_eq!(
        [0, 1, 2].map(|level| shape(level, 256)),
        [(1, 0), (0, 1), (0, 0)]
    );
    assert_eq!(shape(0, 0), (0, 0));
    assert_eq!(shape(200, u64::MAX), (0, 0));
    let exists = |path: &str, size| path.parse::<Tile>().unwrap().exists(size);
    assert!(
        exists("tile/0/000.p/3", 3) && exists("tile/0/000.p/2", 3) && exists("tile/1/000.p/1", 256)
    );
    assert!(
        !exists("tile/0/000.p/4", 3)
            && !exists("tile/1/000.p/1", 255)
            && !exists("tile/0/000", 255)
    );
    assert!(!exists("tile/0/x999/x999/x999/x999/x999/999", u64::MAX));
}

#[test]
fn contents_are_as_published() {
    let entries = entries(3);
    let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let tile: Tile = "tile/0/000.p/3".parse().unwrap();
    let expected: Vec<u8> = leaves.iter().flat_map(|leaf| leaf.0).collect();
    assert_eq!(tile.hashes(&leaves[..]).unwrap(), expected);
    let bundle = entry_bundle(entries.iter().map(Vec::as_slice)).unwrap();
    assert_eq!(
        hex::encode(&bundle),
        "00097b22736571223a307d00097b22736571223a317d00097b22736571223a327d"
    );
    assert_eq!(read_entry_bundle(&bundle).unwrap(), entries);
    for cut in 1..bundle.len() {
        assert!(read_entry_bundle(&bundle[..cut]).is_none_or(|read| read.len() < 3));
    }
    assert!(entry_bundle([&[0; 65_536][..]]).is_err());
    assert!(read_entry_bundle(&entry_bundle([&[0; 65_535][..]]).unwrap()).is_some());
}

/// The root as a client computes it from tiles alone: the full tiles of each level, and what is left at each.
fn root_from_tiles(size: u64, fetch: impl Fn(&str) -> Vec<u8>) -> Digest {
    let (mut roots, mut level) = (Vec::new(), 0);
    while size >> (8 * level) > 0 {
        let tiles = Tile::of_level(TileKind::Hashes { level }, size);
        let partial = tiles.filter(|tile| tile.width < 256).last();
        if let Some(tile) = partial {
            let mut tree = Tree::default();
            for hash in fetch(&tile.to_string()).chunks(32) {
                tree.append_leaf(Digest(hash.try_into().unwrap()));
            }
            roots.extend(tree.edge().iter().rev().copied());
        }
        level += 1;
    }
    // Smallest first: fold from the right.
    roots
        .into_iter()
        .reduce(|right, left| countersign::ledger::tree::node_hash(&left, &right))
        .unwrap_or_else(|| Digest::of(b""))
}

#[test]
fn l06_a_tree_of_three_levels_has_the_same_root_in_tiles() {
    let leaf = leaf_hash(b"{}");
    let (size, mut tree) = (65_536 + 256 + 1, Tree::default());
    let leaves = vec![leaf; size];
    leaves.iter().for_each(|leaf| tree.append_leaf(*leaf));
    let fetch = |path: &str| path.parse::<Tile>().unwrap().hashes(&leaves[..]).unwrap();
    assert_eq!(root_from_tiles(size as u64, fetch), tree.root());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn l06_a_client_that_knows_only_tiles_finds_the_same_root(size in prop_oneof![1..2000_usize, Just(256), Just(512), Just(513)]) {
        let leaves: Vec<_> = entries(size).iter().map(|entry| leaf_hash(entry)).collect();
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.append_leaf(*leaf));
        let fetch = |path: &str| path.parse::<Tile>().unwrap().hashes(&leaves[..]).unwrap();
        prop_assert_eq!(root_from_tiles(size as u64, fetch), tree.root());
        // A hash of an upper level is the root of the full tile below it.
        for tile in Tile::of_level(TileKind::Hashes { level: 1 }, size as u64) {
            for (hash, below) in fetch(&tile.to_string()).chunks(32).zip(tile.start()..) {
                let below = Tile { kind: LEAVES, index: below, width: 256 };
                let data = fetch(&below.to_string());
                prop_assert_eq!(tlog_tiles::Tile::subtree_hash(&data).0, hash);
            }
        }
    }

    #[test]
    fn paths_agree_with_another_implementation(level in 0..8_u8, index in 0..1_u64 << 50, width in 1..=256_u32) {
        let ours = Tile { kind: TileKind::Hashes { level }, index, width: u64::from(width) };
        let theirs = tlog_tiles::Tile::new(8, level, index, width, false).path();
        prop_assert_eq!(format!("tile/8/{}", ours.to_string().strip_prefix("tile/").unwrap()), theirs);
        prop_assert_eq!(ours.to_string().parse::<Tile>().unwrap(), ours);
    }
}
