//! Texts kept outside the log by a salted hash, so that they can be erased while every proof still holds.
//!
//! The log holds SHA-256 of 16 random bytes and the text. While the blob is there, anyone can check
//! the text against the log; once salt and text are erased, the hash says nothing about a text that
//! could be guessed.

use aws_lc_rs::digest::{Context, SHA256};

use super::tree::finish;
use crate::domain::Digest;

/// A text outside the ledger, by the salted hash the entry holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blob {
    /// SHA-256 of salt and text.
    pub sha256: Digest,
    /// The salt; 16 random bytes.
    pub salt: [u8; 16],
    /// The text (or the bundle's bytes).
    pub bytes: Vec<u8>,
}

impl Blob {
    /// A blob of `bytes` under `salt`, which must be fresh randomness for texts that could be guessed.
    pub fn new(salt: [u8; 16], bytes: Vec<u8>) -> Self {
        let sha256 = salted_hash(&salt, &bytes);
        Self {
            sha256,
            salt,
            bytes,
        }
    }

    /// Whether salt and text are still the ones that `sha256` was made from.
    pub fn is_intact(&self) -> bool {
        salted_hash(&self.salt, &self.bytes) == self.sha256
    }
}

fn salted_hash(salt: &[u8; 16], bytes: &[u8]) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(salt);
    context.update(bytes);
    finish(context)
}
