//! The ledger as one file that can be verified anywhere: JSON Lines, streamed both ways.
//!
//! ```text
//! {"countersign_ledger":1,"vkey":"…"}                     which log, for people; nobody has to trust it
//! {"seq":0,"entry":"…","leaf":"…","sig":"…"}              the canonical bytes, their leaf hash, a signature
//! …
//! {"checkpoint":"…"}                                      the signed head that covers them all
//! ```
//!
//! The last line alone decides whether the file is right. `sig` is there so that a wrong file can be
//! told exactly: it signs the checkpoint of the log up to and including its entry, so nobody can
//! change an entry and make its neighbour look guilty. A file written without the signing key has none.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};

use super::note::{NoteError, SigningKey, VerifyingKey};
use super::tree::{Tree, leaf_hash};
use crate::domain::Digest;

/// Version of the file format.
const VERSION: u32 = 1;
/// Longer than any line can be: an entry of 32 KiB, every byte escaped, and what stands around it.
const LONGEST_LINE: u64 = 128 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    countersign_ledger: u32,
    vkey: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entry: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaf: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
}

/// One entry of an export, nothing about it checked yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportedEntry {
    /// The index the line claims.
    pub seq: u64,
    /// The entry's bytes, as text.
    pub entry: String,
    /// The leaf hash the line claims.
    pub leaf: Digest,
    /// Key id and signature over the checkpoint up to and including this entry, in base64.
    pub signature: Option<String>,
}

/// A line of an export after the header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// An entry.
    Entry(ExportedEntry),
    /// The checkpoint over all of them.
    Checkpoint(String),
}

/// Why an export cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The output failed.
    #[error("write the export; make room or choose another place")]
    Write(#[from] io::Error),
    /// A line cannot be JSON.
    #[error("write the export")]
    Json(#[from] serde_json::Error),
    /// The entry is not text.
    #[error("entry {0} is not UTF-8; the store is damaged, restore it")]
    NotText(u64),
    /// The checkpoint is not one of this log.
    #[error("the stored checkpoint cannot be used; the store is damaged, restore it")]
    Checkpoint(#[from] NoteError),
    /// The checkpoint is not the one of these entries.
    #[error(
        "the stored checkpoint covers {covered} entries, {written} were written, or their root differs; export exactly what it covers, and if that fails restore the store"
    )]
    Mismatch {
        /// Entries the checkpoint covers.
        covered: u64,
        /// Entries written.
        written: u64,
    },
}

/// Writes an export.
pub struct ExportWriter<'a, W> {
    out: W,
    tree: Tree,
    key: &'a VerifyingKey,
    signer: Option<&'a SigningKey>,
}

impl<'a, W: Write> ExportWriter<'a, W> {
    /// Begins an export without a signature for each entry.
    ///
    /// # Errors
    /// When the output fails.
    pub fn unsigned(out: W, key: &'a VerifyingKey) -> Result<Self, ExportError> {
        Self::begin(out, key, None)
    }

    /// Begins an export in which each entry is signed for (some 20 µs each).
    ///
    /// # Errors
    /// When the output fails.
    pub fn signed(out: W, key: &'a SigningKey) -> Result<Self, ExportError> {
        Self::begin(out, key.verifying_key(), Some(key))
    }

    fn begin(
        out: W,
        key: &'a VerifyingKey,
        signer: Option<&'a SigningKey>,
    ) -> Result<Self, ExportError> {
        let mut writer = Self {
            out,
            tree: Tree::default(),
            key,
            signer,
        };
        writer.line(&Header {
            countersign_ledger: VERSION,
            vkey: key.to_string(),
        })?;
        Ok(writer)
    }

    fn line<T: Serialize>(&mut self, line: &T) -> Result<(), ExportError> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    /// Writes the next entry.
    ///
    /// # Errors
    /// When the bytes are not UTF-8 or the output fails.
    pub fn entry(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        let seq = self.tree.size();
        let text = str::from_utf8(bytes).map_err(|_| ExportError::NotText(seq))?;
        let leaf = leaf_hash(bytes);
        self.tree.append_leaf(leaf);
        let sig = self.signer.map(|key| {
            let checkpoint = key.checkpoint(self.tree.size(), &self.tree.root());
            key.signature(&checkpoint.text())
        });
        self.line(&RawLine {
            seq: Some(seq),
            entry: Some(text.to_owned()),
            leaf: Some(leaf),
            sig,
            ..RawLine::default()
        })
    }

    /// Writes the checkpoint, after checking that it covers exactly what was written, and flushes.
    ///
    /// # Errors
    /// When it does not, or the output fails.
    pub fn finish(mut self, checkpoint: &str) -> Result<W, ExportError> {
        let opened = self.key.open_checkpoint(checkpoint)?;
        if opened.size != self.tree.size() || opened.root != self.tree.root() {
            return Err(ExportError::Mismatch {
                covered: opened.size,
                written: self.tree.size(),
            });
        }
        self.line(&RawLine {
            checkpoint: Some(checkpoint.to_owned()),
            ..RawLine::default()
        })?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Why a line of an export cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The input failed.
    #[error("read the export")]
    Read(#[from] io::Error),
    /// The file is not an export of this version.
    #[error("the first line is not the header of a countersign ledger, version 1")]
    Header,
    /// A line is not JSON of the right shape.
    #[error("the line is not an entry and not a checkpoint: {0}")]
    Json(#[from] serde_json::Error),
    /// A line is JSON, but says too much or too little.
    #[error("the line is not an entry and not a checkpoint")]
    Shape,
    /// A line is longer than any entry.
    #[error("the line is longer than any entry can be")]
    TooLong,
    /// The last line does not end.
    #[error("the file is cut off in the middle of a line")]
    CutOff,
}

/// Reads an export line by line and checks nothing but its shape. [`verify`](super::verify()) checks the rest.
pub struct ExportReader<R> {
    input: R,
    vkey: String,
}

impl<R: BufRead> ExportReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is not one.
    pub fn new(mut input: R) -> Result<Self, ReadError> {
        let line = read_line(&mut input)?.ok_or(ReadError::Header)?;
        let header: Header = serde_json::from_slice(&line).map_err(|_| ReadError::Header)?;
        if header.countersign_ledger != VERSION {
            return Err(ReadError::Header);
        }
        Ok(Self {
            input,
            vkey: header.vkey,
        })
    }

    /// The verifier key the file claims for itself: a hint for error messages, not to be trusted.
    pub fn claimed_key(&self) -> &str {
        &self.vkey
    }

    /// The next line, or `None` at the end of the file.
    ///
    /// # Errors
    /// When it cannot be read or has another shape.
    pub fn next_line(&mut self) -> Result<Option<Line>, ReadError> {
        let line = self.next_bytes()?;
        line.map(|line| Line::parse(&line)).transpose()
    }

    /// The bytes of the next line, for [`Line::parse`], or `None` at the end of the file.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn next_bytes(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        read_line(&mut self.input)
    }
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// When it has another shape.
    pub(super) fn parse(line: &[u8]) -> Result<Self, ReadError> {
        let line: RawLine = serde_json::from_slice(line)?;
        match line {
            RawLine {
                seq: Some(seq),
                entry: Some(entry),
                leaf: Some(leaf),
                sig: signature,
                checkpoint: None,
            } => Ok(Line::Entry(ExportedEntry {
                seq,
                entry,
                leaf,
                signature,
            })),
            RawLine {
                seq: None,
                entry: None,
                leaf: None,
                sig: None,
                checkpoint: Some(checkpoint),
            } => Ok(Line::Checkpoint(checkpoint)),
            _ => Err(ReadError::Shape),
        }
    }
}

fn read_line<R: BufRead>(input: &mut R) -> Result<Option<Vec<u8>>, ReadError> {
    let mut line = Vec::new();
    Read::take(&mut *input, LONGEST_LINE).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if u64::try_from(line.len() + 1) == Ok(LONGEST_LINE) => Err(ReadError::TooLong),
        Some(_) => Err(ReadError::CutOff),
    }
}
