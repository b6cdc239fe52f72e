//! The log as files (C2SP tlog-tiles): hash tiles, entry bundles and their paths.
//!
//! A hash tile holds 256 hashes of one level; an entry bundle holds the 256 entries below a level-0
//! tile. The last tile of a level is partial and is asked for with its width. A tile without hashes
//! does not exist.

use std::fmt;
use std::str::FromStr;

use super::tree::Hashes;

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// Levels of the tree that one level of tiles spans.
const TILE_HEIGHT: u32 = 8;
/// The largest level that a tree of 2^64 entries can have.
const LARGEST_LEVEL: u8 = 7;

/// What a tile holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TileKind {
    /// Hashes; level 0 holds leaf hashes, each level above the roots of full tiles below.
    Hashes {
        /// The level.
        level: u8,
    },
    /// Entries.
    Entries,
}

/// One tile of the log. Displays as its path under the log's prefix, such as `tile/0/x001/000.p/3`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile {
    /// What it holds.
    pub kind: TileKind,
    /// Its position in its level, from 0.
    pub index: u64,
    /// How many hashes or entries, 1 to 256.
    pub width: u64,
}

/// A path that names no tile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the path of a tile: ask for tile/LEVEL/INDEX[.p/WIDTH] or tile/entries/INDEX[.p/WIDTH]"
)]
pub struct BadTilePath;

impl Tile {
    /// All tiles of one level in a tree of `size` entries, full ones first, at most one partial.
    pub fn of_level(kind: TileKind, size: u64) -> impl Iterator<Item = Self> {
        let hashes = kind.hashes_in(size);
        (0..hashes.div_ceil(TILE_WIDTH)).map(move |index| Self {
            kind,
            index,
            width: (hashes - index * TILE_WIDTH).min(TILE_WIDTH),
        })
    }

    /// Whether the tile is there in a tree of `size` entries, whole or as an earlier partial one.
    pub fn exists(&self, size: u64) -> bool {
        let end = self
            .index
            .checked_mul(TILE_WIDTH)
            .and_then(|start| start.checked_add(self.width));
        end.is_some_and(|end| end <= self.kind.hashes_in(size))
    }

    /// The index of its first hash or entry in its level.
    pub fn start(&self) -> u64 {
        self.index.saturating_mul(TILE_WIDTH)
    }

    /// The content of a hash tile. Entry bundles are made by [`entry_bundle`].
    ///
    /// # Errors
    /// When a hash cannot be read.
    pub fn hashes<H: Hashes + ?Sized>(&self, hashes: &H) -> Result<Vec<u8>, H::Error> {
        let level = TILE_HEIGHT * u32::from(self.kind.level());
        let mut bytes = Vec::with_capacity(32 * 256);
        for at in self.start()..self.start().saturating_add(self.width) {
            bytes.extend(hashes.complete(level, at)?.0);
        }
        Ok(bytes)
    }
}

impl TileKind {
    fn level(self) -> u8 {
        match self {
            TileKind::Hashes { level } => level,
            TileKind::Entries => 0,
        }
    }

    /// How many hashes (or entries) this level has in a tree of `size` entries.
    fn hashes_in(self, size: u64) -> u64 {
        let shift = TILE_HEIGHT * u32::from(self.level());
        size.checked_shr(shift).unwrap_or(0)
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut divisor = 1;
        while self.index / divisor >= 1000 {
            divisor *= 1000;
        }
        while divisor > 1 {
            write!(f, "x{:03}/", self.index / divisor % 1000)?;
            divisor /= 1000;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if self.width < TILE_WIDTH {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for Tile {
    type Err = BadTilePath;

    fn from_str(path: &str) -> Result<Self, BadTilePath> {
        let rest = path.strip_prefix("tile/").ok_or(BadTilePath)?;
        let (kind, rest) = rest.split_once('/').ok_or(BadTilePath)?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes {
                level: level
                    .parse()
                    .ok()
                    .filter(|level| *level <= LARGEST_LEVEL)
                    .ok_or(BadTilePath)?,
            },
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().map_err(|_| BadTilePath)?),
            None => (rest, TILE_WIDTH),
        };
        let mut index = 0_u64;
        for group in number.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            let digits: u64 = digits.parse().map_err(|_| BadTilePath)?;
            index = index
                .checked_mul(1000)
                .and_then(|index| index.checked_add(digits))
                .ok_or(BadTilePath)?;
        }
        let tile = Self { kind, index, width };
        // One spelling: what does not print as it was read is refused.
        if (1..=TILE_WIDTH).contains(&width) && tile.to_string() == path {
            Ok(tile)
        } else {
            Err(BadTilePath)
        }
    }
}

/// An entry too long for a bundle. Entries are capped far below, so it means a damaged store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry of {0} bytes does not fit an entry bundle; the store is damaged, restore it")]
pub struct EntryTooLong(usize);

/// The content of an entry bundle: each entry behind its length, 16 bits big-endian.
///
/// # Errors
/// When an entry is longer than 65,535 bytes.
pub fn entry_bundle<'a>(
    entries: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, EntryTooLong> {
    let mut bytes = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).map_err(|_| EntryTooLong(entry.len()))?;
        bytes.extend(length.to_be_bytes());
        bytes.extend(entry);
    }
    Ok(bytes)
}

/// The entries in a bundle; `None` when it is cut off or has anything beside entries.
pub fn read_entry_bundle(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        bytes = rest;
    }
    bytes.is_empty().then_some(entries)
}
