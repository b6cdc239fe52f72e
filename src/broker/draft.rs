//! What travels between callers, the sequencer and the store: commands, drafts, batches in flight.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::domain::{Command, Entry, Event, Refusal, Request};
use crate::store::{Blob, Head, StoreError, StoredEntry, Tree};

/// A command on its way to the ledger.
pub(super) struct Envelope {
    pub(super) command: Command,
    /// Texts its entries refer to.
    pub(super) blobs: Vec<Blob>,
    pub(super) reply: oneshot::Sender<Result<Reply, SequenceError>>,
}

/// What a command led to. It is durable and visible when the reply arrives.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// Its events; empty when it had been carried out before.
    pub(super) events: Vec<Event>,
    /// The request it was about, as it stands right after.
    pub(super) request: Option<Arc<Request>>,
}

/// Why a command led to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum SequenceError {
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    #[error("the ledger is unavailable")]
    Unavailable,
    #[error("the ledger is in doubt")]
    InDoubt,
}

/// A batch being put together.
#[derive(Default)]
pub(super) struct Draft {
    /// The tree before its first entry; none as long as it has no entries.
    pub(super) base: Option<Tree>,
    pub(super) entries: Vec<StoredEntry>,
    pub(super) folded: Vec<Entry>,
    pub(super) blobs: Vec<Blob>,
    pub(super) envelopes: Vec<Envelope>,
    /// One for each envelope.
    pub(super) results: Vec<Result<Reply, SequenceError>>,
}

/// A batch on its way to the store.
pub(super) struct Flight {
    pub(super) folded: Vec<Entry>,
    /// The tree after its last entry, and the head that says so.
    pub(super) tree: Tree,
    pub(super) head: Head,
    pub(super) envelopes: Vec<Envelope>,
    pub(super) results: Vec<Result<Reply, SequenceError>>,
    pub(super) append: JoinHandle<Result<(), StoreError>>,
}

impl Flight {
    pub(super) async fn landed(&mut self) -> Result<(), StoreError> {
        (&mut self.append).await.unwrap_or_else(|error| {
            Err(StoreError::Unknown {
                operation: "append ledger entries",
                source: error.into(),
            })
        })
    }
}

/// Tells callers. One that went away does not undo what was decided.
pub(super) fn answer(envelopes: Vec<Envelope>, results: Vec<Result<Reply, SequenceError>>) {
    for (envelope, result) in envelopes.into_iter().zip(results) {
        drop(envelope.reply.send(result));
    }
}

pub(super) fn answer_unavailable(envelopes: Vec<Envelope>) {
    for envelope in envelopes {
        drop(envelope.reply.send(Err(SequenceError::Unavailable)));
    }
}
