//! Who waits for a request: woken by what happens to it, and by nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::RequestId;

/// Those who wait, by request. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Waiters(Arc<Mutex<HashMap<RequestId, watch::Sender<()>>>>);

impl Waiters {
    fn locked(&self) -> MutexGuard<'_, HashMap<RequestId, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows `request` from now on.
    pub(super) fn follow(&self, request: &RequestId) -> Following {
        let mut waiters = self.locked();
        let sender = waiters
            .entry(request.clone())
            .or_insert_with(|| watch::Sender::new(()));
        Following {
            receiver: Some(sender.subscribe()),
            request: request.clone(),
            waiters: self.clone(),
        }
    }

    /// Something happened to these requests.
    pub(super) fn wake<'a>(&self, requests: impl Iterator<Item = &'a RequestId>) {
        let waiters = self.locked();
        if waiters.is_empty() {
            return;
        }
        for request in requests {
            if let Some(sender) = waiters.get(request) {
                sender.send_replace(());
            }
        }
    }

    /// Anything may have happened.
    pub(super) fn wake_all(&self) {
        for sender in self.locked().values() {
            sender.send_replace(());
        }
    }
}

/// One who waits. Forgotten when it is dropped.
pub(super) struct Following {
    receiver: Option<watch::Receiver<()>>,
    request: RequestId,
    waiters: Waiters,
}

impl Following {
    /// What happened until now does not count.
    pub(super) fn mark_unchanged(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            receiver.mark_unchanged();
        }
    }

    /// Returns when something has happened since.
    pub(super) async fn moved(&mut self) {
        let Some(receiver) = &mut self.receiver else {
            return;
        };
        // The sender lives as long as anybody follows.
        drop(receiver.changed().await);
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.receiver = None;
        let mut waiters = self.waiters.locked();
        let left = waiters
            .get(&self.request)
            .map(watch::Sender::receiver_count);
        if left == Some(0) {
            waiters.remove(&self.request);
        }
    }
}
