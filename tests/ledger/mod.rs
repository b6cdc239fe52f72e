//! The ledger as a format: entries, tree, notes, tiles, export and verification.

mod audit;
mod blobs;
mod book;
mod entries;
mod exports;
mod independent;
mod kinds;
mod notes;
mod samples;
mod tamper;
mod tiles;
mod tree;

use countersign::ledger::SigningKey;

/// The log of the published test vectors: origin, and the key with the seed 00 01 … 1f.
pub(crate) const ORIGIN: &str = "broker.example.com/audit";

pub(crate) fn log_key() -> SigningKey {
    key_counting_from(ORIGIN, 0)
}

pub(crate) fn key_counting_from(name: &str, first: u8) -> SigningKey {
    let fill = |seed: &mut [u8]| {
        for (byte, value) in seed.iter_mut().zip(first..) {
            *byte = value;
        }
    };
    SigningKey::generate(name, fill).unwrap()
}
