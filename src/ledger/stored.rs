//! What is kept of the log: its head, and each entry with the columns it can be found by.

use crate::domain::{Digest, LeaseId, RequestId, Time};

/// The state of the log: how many entries, and the right edge of the Merkle tree over them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// Number of entries.
    pub size: u64,
    /// Roots of the complete subtrees, largest first (RFC 6962); empty for an empty log.
    pub edge: Vec<Digest>,
    /// The newest signed checkpoint (C2SP signed note), covering exactly `size` entries. Empty when `size` is 0.
    pub checkpoint: String,
}

/// One entry as stored: canonical bytes, and the columns it can be found by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredEntry {
    /// Its index.
    pub seq: u64,
    /// The canonical bytes (RFC 8785), at most 32 KiB.
    pub bytes: Vec<u8>,
    /// Their leaf hash (RFC 6962), kept beside them so that a change to the bytes alone shows at once.
    pub leaf: Digest,
    /// Key id and signature over the checkpoint up to and including this entry, in base64. Only the last entry
    /// of an append has one: the signature of the checkpoint that was the head then.
    pub signature: Option<String>,
    /// Columns for queries, derived from the bytes.
    pub index: EntryIndex,
}

/// What an entry can be found by. Derived from the entry; never authoritative.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntryIndex {
    /// The event's kind.
    pub kind: String,
    /// When.
    pub time: Time,
    /// The request it belongs to.
    pub request: Option<RequestId>,
    /// The lease it belongs to.
    pub lease: Option<LeaseId>,
    /// The agent concerned.
    pub agent: Option<String>,
    /// The action concerned.
    pub action: Option<String>,
    /// Who caused it: `agent:NAME`, `person:SUBJECT ISSUER`, `operator`, `broker`.
    pub actor: String,
    /// The outcome, when the event has one.
    pub outcome: Option<String>,
    /// The agent and the idempotency key it asked with, in one hash ([`super::entry::asked_with`]).
    pub key: Option<Digest>,
}
