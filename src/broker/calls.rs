//! How the surfaces and the worker reach the sequencer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::draft::{Envelope, Reply, SequenceError};
use super::shared::Shared;
use crate::domain::{Command, Event};
use crate::store::Blob;

/// How long the ledger may take to answer those who end access.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way into the ledger. Cheap to clone.
#[derive(Clone)]
pub(super) struct Calls {
    pub(super) shared: Arc<Shared>,
    inbox: mpsc::Sender<Envelope>,
}

impl Calls {
    pub(super) fn new(shared: Arc<Shared>, inbox: mpsc::Sender<Envelope>) -> Self {
        Self { shared, inbox }
    }

    /// Sends a command and waits until what it led to is durable.
    pub(super) async fn send(&self, command: Command) -> Result<Reply, SequenceError> {
        self.send_with(command, Vec::new()).await
    }

    /// The same, with the texts its entries refer to.
    pub(super) async fn send_with(
        &self,
        command: Command,
        blobs: Vec<Blob>,
    ) -> Result<Reply, SequenceError> {
        let (reply, answer) = oneshot::channel();
        let envelope = Envelope {
            command,
            blobs,
            reply,
        };
        self.inbox
            .send(envelope)
            .await
            .map_err(|_| SequenceError::Unavailable)?;
        let answer = answer.await.unwrap_or(Err(SequenceError::Unavailable));
        answer.map_err(|error| match error {
            SequenceError::Unavailable if self.shared.doubt().is_some() => SequenceError::InDoubt,
            other => other,
        })
    }

    /// Sends a command of whoever ends access, who waits for nobody: a ledger that does not answer in time counts as one
    /// that cannot be written.
    pub(super) async fn tell(&self, command: Command) -> Result<Vec<Event>, SequenceError> {
        let reply = timeout(PATIENCE, self.send(command)).await;
        let reply = reply.unwrap_or(Err(SequenceError::Unavailable))?;
        Ok(reply.events)
    }
}
