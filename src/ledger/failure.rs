//! Why a ledger does not verify, and which entry is the first bad one.

use std::fmt;

use super::entry::EntryError;
use super::export::ReadError;
use super::note::NoteError;
use crate::domain::Digest;

/// Why a ledger does not verify, and from where.
#[derive(Debug)]
pub struct Failure {
    /// The first entry that is bad; where an entry is missing, its index.
    pub first_bad: u64,
    /// The same, or greater: then the first bad entry is one of those from `first_bad` to this one, which
    /// were signed for together.
    pub last_bad: u64,
    /// Entries before this one are proven by a signature to be the log's own. When it is less than
    /// `first_bad`, an earlier entry may be bad too, and the file has nothing left to tell by.
    pub proven: u64,
    /// What is wrong there.
    pub problem: Problem,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            first_bad,
            last_bad,
            proven,
            problem,
        } = self;
        if first_bad < last_bad {
            write!(
                f,
                "the ledger does not verify: the first bad entry is one of entries {first_bad} to {last_bad}: "
            )?;
        } else {
            write!(f, "the ledger does not verify from entry {first_bad} on: ")?;
        }
        write!(f, "{problem}")?;
        if proven < first_bad {
            write!(
                f,
                " (what comes before is proven for the first {proven} entries only)"
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The problem itself is in the message already.
        self.problem.source()
    }
}

/// What is wrong with a ledger.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file is broken at this place.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file says it belongs to another log.
    #[error("the export is of another log or key ({0}); verify it with that log's key")]
    OtherKey(String),
    /// Lines are missing, doubled or in another order.
    #[error("the line there is numbered {0}: entries were removed, added or reordered")]
    Order(u64),
    /// Text and hash differ.
    #[error("the entry's text does not have the leaf hash beside it")]
    Leaf,
    /// Not an entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// An entry at another place than its own.
    #[error("the entry itself says it is number {0}")]
    Place(u64),
    /// A log opens with `ledger.opened` for its own origin, once.
    #[error("a ledger opens with one ledger.opened entry of its own origin")]
    Opening,
    /// The signature beside the entry is not over these entries.
    #[error("what is there is not what was signed for")]
    Signature,
    /// The signature was changed, the entry was not.
    #[error("the entry is proven, but the signature beside it was changed")]
    SpoiltSignature,
    /// The signature that the last entry of each append has is missing.
    #[error(
        "no entry from here on has a signature, and the last of each append has one: signatures were removed"
    )]
    Unsigned,
    /// The store cannot give the entry.
    #[error("{0}")]
    Store(String),
    /// What the store finds the entry by is not what the entry says.
    #[error("the columns it is found by say something else than the entry")]
    Columns,
    /// A text outside the log is not the one the entry is about.
    #[error("the text {0} that it refers to was changed")]
    Text(Digest),
    /// The store's head is not the one of its entries.
    #[error("the head beside the entries is not theirs")]
    Head,
    /// The stored fold was not sealed by the log's key, or is not the fold of the entries.
    #[error("the snapshot beside the entries was not made from them by a broker of this ledger")]
    Snapshot,
    /// The checkpoint is no good.
    #[error("the checkpoint at the end: {0}")]
    Checkpoint(#[source] NoteError),
    /// No checkpoint.
    #[error("the export ends here without its checkpoint")]
    CutOff,
    /// Entries are missing at the end.
    #[error("the export ends here, but its checkpoint covers {0} entries")]
    Truncated(u64),
    /// Entries were added at the end.
    #[error("the checkpoint does not cover this entry")]
    NotCovered,
    /// Something was changed, and nothing tells where.
    #[error("the entries do not have the signed root")]
    Root,
    /// Something follows the checkpoint.
    #[error("something follows the checkpoint")]
    Trailing,
    /// The checkpoint given as remembered is no good.
    #[error("the remembered checkpoint: {0}")]
    Remembered(#[source] NoteError),
    /// Entries that were there are gone.
    #[error("the ledger was rolled back: a remembered checkpoint covers {0} entries")]
    RolledBack(u64),
    /// A history other than the remembered one.
    #[error(
        "the first {0} entries are not those of the remembered checkpoint: one of them was changed, or the log has two histories"
    )]
    Forked(u64),
    /// The caller objects to what the entry says.
    #[error("{0}")]
    Refused(String),
}
