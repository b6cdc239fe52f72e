//! Checking a ledger as an outsider: the entries, one trusted verifier key and, best of all, a
//! checkpoint remembered from an earlier time.
//!
//! The promise: a ledger verifies only if its entries are exactly those the signed checkpoint covers,
//! every one reads as an entry of this format at its place, and the remembered checkpoint is one of
//! its past. Anything else is a [`Failure`] that names the first bad entry. Memory use is constant.
//!
//! Signatures beside entries, each over everything up to its entry, are what lets it name one: exactly where
//! each entry has one, and between two of them where only the last entry of each append has.

use std::io::BufRead;
use std::thread;

use super::ahead::{Ahead, Read};
use super::checkpoint::Checkpoint;
use super::export::{ExportReader, ExportedEntry};
use super::failure::{Failure, Problem};
use super::note::VerifyingKey;
use super::reader::{Decoded, Reader};
use super::tree::Tree;
use crate::domain::{Digest, Entry, Seconds, Time};

/// After so many entries one signature is checked. Others are looked at only to find the first bad entry.
const WINDOW: usize = 256;
/// Entries looked at together at most, when none of them has a signature.
const WINDOW_MAX: usize = 16 * WINDOW;

/// A ledger that verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// The checkpoint it was verified against: origin, size and root.
    pub checkpoint: Checkpoint,
    /// The size of the earlier checkpoint it was found to continue.
    pub continues: Option<u64>,
    /// The largest step back in time between entries: no forgery, but an auditor may ask about the clock.
    pub set_back: Option<SetBack>,
}

/// A place where the broker's clock went back by a second or more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetBack {
    /// The entry that is earlier than one before it.
    pub seq: u64,
    /// By how much.
    pub by: Seconds,
}

/// Checks entries one by one, then the checkpoint. [`verify`] drives it over an export.
pub struct Verifier<'a> {
    reader: Reader<'a>,
    since: Option<Checkpoint>,
    proven: u64,
    /// The tree before the entries of `window`.
    base: Tree,
    /// Leaf hash and signature of the latest entries.
    window: Vec<(Digest, Option<String>)>,
    /// The entries after the proven ones up to the first that has a signature which is not over them, while
    /// none later proves them.
    suspect: Option<(u64, u64)>,
    /// Whether every signature is checked, and what is wrong with one is a failure.
    strict: bool,
    /// Entries up to the last right signature that was checked at once.
    signed: u64,
    /// The first entry that was proven by a later signature and not by its own.
    spoilt: Option<u64>,
    /// The first entry that something is wrong with beside its bytes, and what.
    objection: Option<(u64, Problem)>,
    /// Whether no signature of the last full window was right, so that looking closely is a waste of time.
    lost: bool,
    latest: Time,
    set_back: Option<SetBack>,
}

impl<'a> Verifier<'a> {
    /// Begins, trusting `key`; the ledger must continue the checkpoint `since`, if there is one.
    ///
    /// # Errors
    /// When `since` is not a checkpoint signed by `key`.
    pub fn new(key: &'a VerifyingKey, since: Option<&str>) -> Result<Self, Failure> {
        let since = since.map(|note| key.open_checkpoint(note)).transpose();
        Ok(Self {
            reader: Reader::new(key, Tree::default()),
            since: since.map_err(|error| Failure {
                first_bad: 0,
                last_bad: 0,
                proven: 0,
                problem: Problem::Remembered(error),
            })?,
            proven: 0,
            base: Tree::default(),
            window: Vec::new(),
            suspect: None,
            strict: false,
            signed: 0,
            spoilt: None,
            objection: None,
            lost: false,
            latest: Time::default(),
            set_back: None,
        })
    }

    /// From here on checks every signature. A changed one is then a failure, too, although the entry beside it
    /// is proven by the others, and so is a missing one at the end: for a store, in which nothing is ever changed.
    #[must_use]
    pub fn strict(self) -> Self {
        Self {
            strict: true,
            ..self
        }
    }

    /// Notes that something is wrong with entry `at` that does not show in its bytes. The ledger is read on: what
    /// follows may prove that this is the first bad entry, or show that it comes from an earlier one.
    pub fn object(&mut self, at: u64, problem: Problem) {
        if self.objection.is_none() {
            self.objection = Some((at, problem));
        }
    }

    /// Whether [`Verifier::object`] was called.
    pub fn objected(&self) -> bool {
        self.objection.is_some()
    }

    /// The key that is trusted.
    pub fn key(&self) -> &'a VerifyingKey {
        self.reader.key()
    }

    /// The tree over the entries so far.
    pub fn tree(&self) -> &Tree {
        self.reader.tree()
    }

    /// Takes the next entry and returns what it says.
    ///
    /// # Errors
    /// When it is bad, or shows that an earlier one was.
    pub fn entry(&mut self, line: ExportedEntry) -> Result<Entry, Failure> {
        let decoded = Decoded::of(line.entry.as_bytes());
        self.decoded((line.seq, line.leaf, line.signature), decoded)
    }

    /// As [`Verifier::entry`], of bytes that were hashed and read already; beside them what their line claims: index,
    /// leaf hash and signature.
    ///
    /// # Errors
    /// As [`Verifier::entry`].
    pub fn decoded(
        &mut self,
        (seq, leaf, signature): (u64, Digest, Option<String>),
        decoded: Decoded,
    ) -> Result<Entry, Failure> {
        let place = self.reader.tree().size();
        let entry = self
            .reader
            .decoded(seq, decoded, &leaf)
            .map_err(|problem| self.fail(place, problem))?;
        self.note_time(&entry);
        if self.strict {
            self.check_signature(signature.as_deref());
            self.compare_with_remembered()?;
            return Ok(entry);
        }
        let signed = signature.is_some();
        self.window.push((leaf, signature));
        self.compare_with_remembered()?;
        // Best closed where a signature proves all of it.
        if self.window.len() >= if signed { WINDOW } else { WINDOW_MAX } {
            self.close_window();
        }
        Ok(entry)
    }

    /// Checks the signature over the entries so far at once.
    fn check_signature(&mut self, signature: Option<&str>) {
        let Some(signature) = signature else { return };
        let size = self.reader.tree().size();
        if self.reader.signed(signature) {
            self.proven = size;
            self.signed = size;
            let own = self.suspect.take().map(|(_, last)| last);
            self.spoilt = self.spoilt.or(own);
        } else if self.suspect.is_none() {
            self.suspect = Some((self.proven, size - 1));
        }
    }

    fn note_time(&mut self, entry: &Entry) {
        let by = self.latest.since(entry.time);
        if by > self.set_back.map_or(Seconds(0), |largest| largest.by) {
            self.set_back = Some(SetBack { seq: entry.seq, by });
        }
        self.latest = self.latest.max(entry.time);
    }

    fn compare_with_remembered(&mut self) -> Result<(), Failure> {
        let Some(since) = &self.since else {
            return Ok(());
        };
        if since.size != self.reader.tree().size() {
            return Ok(());
        }
        if since.root == self.reader.tree().root() {
            self.proven = since.size;
            return Ok(());
        }
        let size = since.size;
        let failure = self.fail(size, Problem::Forked(size));
        Err(match failure.problem {
            // Every entry is signed for, and still it is not what was remembered: it can be any of them.
            Problem::Forked(_) => Failure {
                first_bad: 0,
                last_bad: size.saturating_sub(1),
                proven: 0,
                ..failure
            },
            _ => failure,
        })
    }

    /// Checks the newest signature of a full window and begins the next. A wrong one is not the end, for
    /// only the checkpoint decides, but from here on it is known where to point.
    fn close_window(&mut self) {
        let newest = self
            .window
            .last()
            .and_then(|(_, signature)| signature.as_deref());
        if newest.is_some_and(|signature| self.reader.signed(signature)) {
            self.proven = self.reader.tree().size();
            self.lost = false;
        } else if !self.lost {
            let before = self.proven;
            self.search_window();
            self.lost = self.proven == before;
        }
        self.base = self.reader.tree().clone();
        self.window.clear();
    }

    /// Proves as much as the signatures in the window can prove, and finds who is suspect.
    fn search_window(&mut self) {
        let mut tree = self.base.clone();
        let (mut proven, mut suspect) = (self.proven, self.suspect);
        for (leaf, signature) in &self.window {
            tree.append_leaf(*leaf);
            let Some(signature) = signature else { continue };
            if tree.size() <= proven {
                continue;
            }
            if self.reader.signed_over(&tree, signature) {
                proven = tree.size();
            } else if suspect.is_none_or(|(first, _)| first != proven) {
                suspect = Some((proven, tree.size() - 1));
            }
        }
        (self.proven, self.suspect) = (proven, suspect);
    }

    /// The failure for a `problem` seen at entry `at`, unless signatures show that an earlier one is bad.
    pub fn fail(&mut self, at: u64, problem: Problem) -> Failure {
        self.search_window();
        let suspect = self
            .suspect
            .filter(|(first, _)| *first == self.proven && *first <= at);
        // An entry that is not in its place may have been pushed there by one that was added before.
        let displaced = matches!(
            problem,
            Problem::Order(_) | Problem::Place(_) | Problem::Opening
        );
        let (first_bad, last_bad, problem) = match suspect {
            Some((first, last)) => (first, last, Problem::Signature),
            None if displaced => (self.proven.min(at), at, problem),
            None => (at, at, problem),
        };
        if let Some((seq, objection)) = self.objection.take_if(|(seq, _)| *seq < first_bad) {
            let first_bad = seq.min(self.proven);
            return Failure {
                first_bad,
                last_bad: seq,
                proven: first_bad,
                problem: objection,
            };
        }
        Failure {
            first_bad,
            last_bad,
            proven: self.proven.min(first_bad),
            problem,
        }
    }

    /// Takes the checkpoint after the last entry.
    ///
    /// # Errors
    /// When it does not cover exactly these entries, or is older than the remembered one.
    pub fn finish(mut self, checkpoint: &str) -> Result<Verified, Failure> {
        let size = self.reader.tree().size();
        let checkpoint = self
            .reader
            .key()
            .open_checkpoint(checkpoint)
            .map_err(|error| self.fail(size, Problem::Checkpoint(error)))?;
        let remembered = self.since.as_ref().map(|since| since.size);
        if let Some(before) = remembered.filter(|before| *before > checkpoint.size) {
            return Err(self.fail(checkpoint.size.min(size), Problem::RolledBack(before)));
        }
        if checkpoint.size > size {
            return Err(self.fail(size, Problem::Truncated(checkpoint.size)));
        }
        if checkpoint.size < size {
            return Err(self.fail(checkpoint.size, Problem::NotCovered));
        }
        if checkpoint.root != self.reader.tree().root() {
            self.search_window();
            let mut failure = self.fail(self.proven, Problem::Root);
            if matches!(failure.problem, Problem::Root) {
                failure.last_bad = failure.first_bad.max(size.saturating_sub(1));
            }
            return Err(failure);
        }
        let own = self.suspect.map(|(_, last)| last);
        let spoilt = self.spoilt.or(own).filter(|_| self.strict);
        let spoilt = spoilt.map(|seq| (seq, Problem::SpoiltSignature));
        let unsigned = self.strict && self.signed < size;
        let spoilt = spoilt.or(unsigned.then_some((self.signed, Problem::Unsigned)));
        if let Some((seq, problem)) = self.objection.or(spoilt) {
            return Err(Failure {
                first_bad: seq,
                last_bad: seq,
                proven: seq,
                problem,
            });
        }
        Ok(Verified {
            checkpoint,
            continues: remembered,
            set_back: self.set_back,
        })
    }
}

/// Verifies an export against `key` and, if given, a remembered checkpoint. `visit` sees each entry in order, before
/// the checkpoint has vouched for it, until it objects to one.
///
/// # Errors
/// The first bad entry and what is wrong with it. Whatever happens to the file, an error is all it can lead to.
pub fn verify(
    export: impl BufRead,
    key: &VerifyingKey,
    since: Option<&str>,
    mut visit: impl FnMut(Entry) -> Result<(), String>,
) -> Result<Verified, Failure> {
    let mut verifier = Verifier::new(key, since)?;
    let reader =
        ExportReader::new(export).map_err(|error| verifier.fail(0, Problem::Read(error)))?;
    // An export may leave open which log it is; it is the key that decides.
    if !reader.claimed_key().is_empty() && reader.claimed_key() != key.to_string() {
        let claimed = reader.claimed_key().chars().take(200).collect();
        return Err(verifier.fail(0, Problem::OtherKey(claimed)));
    }
    thread::scope(|scope| {
        let mut lines = Ahead::new(reader, scope);
        loop {
            let at = verifier.tree().size();
            match lines.next() {
                Some(Ok(Read::Entry(claimed, decoded))) => {
                    let entry = verifier.decoded(claimed, decoded)?;
                    if !verifier.objected()
                        && let Err(text) = visit(entry)
                    {
                        verifier.object(at, Problem::Refused(text));
                    }
                }
                Some(Ok(Read::Checkpoint(note))) => {
                    // What follows the checkpoint is looked at first: `finish` takes the verifier.
                    if lines.next().is_some() {
                        return Err(verifier.fail(at, Problem::Trailing));
                    }
                    return verifier.finish(&note);
                }
                None => return Err(verifier.fail(at, Problem::CutOff)),
                Some(Err(error)) => return Err(verifier.fail(at, Problem::Read(error))),
            }
        }
    })
}
