//! How values stand in the databases, and what a row of them says.

use super::{EntryIndex, Head, StoreError, StoredEntry};
use crate::domain::{Digest, LeaseId, RequestId, Time};
use crate::ledger::packed::unpack;

/// The head.
pub(super) type HeadRow = (i64, Vec<u8>, String);
/// An entry with its columns.
pub(super) type EntryRow = (
    i64,
    Vec<u8>,
    Vec<u8>,
    Option<String>,
    String,
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<String>,
    Option<String>,
    String,
    Option<String>,
    Option<Vec<u8>>,
);

/// What the database has cannot be read.
pub(super) fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(format!(
        "the ledger's database is damaged: {what}; stop every broker and restore it from a backup"
    ))
}

/// A number as the databases keep it. What does not fit is beyond every index that exists.
pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An id as the databases keep it: the number behind its prefix.
pub(super) fn id_bytes(number: u128) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// The edge as one run of bytes.
pub(super) fn edge_bytes(edge: &[Digest]) -> Vec<u8> {
    edge.iter().flat_map(|root| root.0).collect()
}

fn digest_of(bytes: &[u8], what: &str) -> Result<Digest, StoreError> {
    Ok(Digest(bytes.try_into().map_err(|_| damaged(what))?))
}

/// The edge of one run of bytes.
pub(super) fn edge_of(bytes: &[u8]) -> Result<Vec<Digest>, StoreError> {
    let roots = bytes.chunks(32);
    roots
        .map(|root| digest_of(root, "the edge of a tree is no run of hashes"))
        .collect()
}

/// The head of its row.
pub(super) fn head_of((size, edge, checkpoint): HeadRow) -> Result<Head, StoreError> {
    Ok(Head {
        size: u64::try_from(size).map_err(|_| damaged("the head has a negative size"))?,
        edge: edge_of(&edge)?,
        checkpoint,
    })
}

/// The entry of its row.
pub(super) fn entry_of(row: EntryRow) -> Result<StoredEntry, StoreError> {
    let (
        seq,
        bytes,
        leaf,
        signature,
        kind,
        time,
        request,
        lease,
        agent,
        action,
        actor,
        outcome,
        key,
    ) = row;
    let number = |id: Vec<u8>| {
        let strange = |_| damaged(&format!("entry {seq} is indexed under a malformed id"));
        Ok::<_, StoreError>(u128::from_be_bytes(id.try_into().map_err(strange)?))
    };
    let (request, lease) = (
        request.map(number).transpose()?,
        lease.map(number).transpose()?,
    );
    Ok(StoredEntry {
        seq: u64::try_from(seq).map_err(|_| damaged("an entry has a negative index"))?,
        bytes: unpack(bytes),
        leaf: digest_of(&leaf, "a leaf hash is no hash")?,
        signature,
        index: EntryIndex {
            kind,
            time: Time::from_millis(time),
            request: request.map(RequestId::of_number),
            lease: lease.map(LeaseId::of_number),
            agent,
            action,
            actor,
            outcome,
            key: key
                .map(|key| digest_of(&key, "an entry is indexed under a malformed key"))
                .transpose()?,
        },
    })
}
