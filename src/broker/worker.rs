//! The worker: takes what is due, claims it with an entry, does the I/O, records the outcome.
//!
//! It is woken by appends and by the next deadline and takes no other input, so a crash loses nothing:
//! the next start finds the same duties. Each target has its own bounded queue, so a target that is
//! slow or away delays nobody else.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::calls::Calls;
use super::draft::SequenceError;
use super::guards::Guards;
use crate::domain::command::EndFailure;
use crate::domain::{
    Command, Duty, GuardName, LeaseId, LeaseState, Proof, RequestId, RequestState, Seconds,
    TargetName, Time, due,
};
use crate::issuers::{EndError, Issuer};

/// Leases ended at one target at the same time.
const PER_TARGET: usize = 8;
/// Longest wait between two attempts.
const BACKOFF_MAX_SECONDS: u64 = 60;
/// What is left of a claim to record the outcome in.
const RECORD_MARGIN: Duration = Duration::from_secs(5);
/// How often targets are searched for credentials no lease explains.
const SWEEP_EVERY: Duration = Duration::from_secs(300);
/// How often guards are compared with the ledger.
const KEEP_EVERY: Duration = Duration::from_secs(30);
/// How soon a sweep that failed is tried again.
const SWEEP_RETRY: Duration = Duration::from_secs(15);
/// How soon the worker looks again while what is due is under way.
const BREATH: Duration = Duration::from_millis(200);
/// Longest sleep: also the longest a duty waits when the clock is turned forward.
const NAP: Duration = Duration::from_secs(5);

/// Whether the ledger can be told of the end of a lease.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recording {
    /// As far as is known.
    Possible,
    /// It could not be told that the lease's time is up.
    Impossible,
}

/// The worker. One a broker.
#[derive(Clone)]
pub(super) struct Worker {
    calls: Calls,
    guards: Arc<Guards>,
    queues: Arc<BTreeMap<TargetName, Arc<Semaphore>>>,
    under_way: Arc<Mutex<HashSet<LeaseId>>>,
}

impl Worker {
    pub(super) fn new(calls: Calls, guards: Arc<Guards>) -> Self {
        let queue = |name: &TargetName| (name.clone(), Arc::new(Semaphore::new(PER_TARGET)));
        let queues = calls.shared.issuers.keys().map(queue).collect();
        Self {
            calls,
            guards,
            queues: Arc::new(queues),
            under_way: Arc::default(),
        }
    }

    /// Does what is due until the broker stops. Overdue first.
    pub(super) async fn run(self) {
        let mut size = self.calls.shared.watch();
        loop {
            size.mark_unchanged();
            self.take_what_is_due().await;
            tokio::select! {
                () = self.calls.shared.stop.cancelled() => return,
                _ = size.changed() => {}
                () = tokio::time::sleep(self.until_next_deadline()) => {}
            }
        }
    }

    fn until_next_deadline(&self) -> Duration {
        let now = self.calls.shared.clock.now();
        let next = self.calls.shared.world(crate::domain::World::next_deadline);
        let millis = next.map_or(i64::MAX, |next| next.millis() - now.millis());
        match u64::try_from(millis) {
            Ok(millis) if millis > 0 => Duration::from_millis(millis).min(NAP),
            // What is due and under way, or waits for its turn, needs no spinning.
            _ => BREATH,
        }
    }

    async fn take_what_is_due(&self) {
        let now = self.calls.shared.clock.now();
        for duty in self.calls.shared.world(|world| due(world, now)) {
            match duty {
                Duty::Lapse { request } => {
                    let lapse = Command::Lapse {
                        request: request.clone(),
                    };
                    if let Err(error) = self.calls.send(lapse).await {
                        tracing::warn!(%error, "what is due could not be recorded; trying again");
                        self.queue_expired(&request);
                    }
                }
                Duty::End { lease, target } => self.queue(lease, &target, Recording::Possible),
            }
        }
    }

    /// A lease whose time is up ends although the ledger cannot say so yet.
    fn queue_expired(&self, request: &RequestId) {
        let lease = self.calls.shared.world(|world| {
            let request = world.requests.get(request)?;
            let RequestState::Live { lease, .. } = &request.state else {
                return None;
            };
            world.leases.get(lease).cloned()
        });
        if let Some(lease) = lease {
            self.queue(lease.id.clone(), &lease.target, Recording::Impossible);
        }
    }

    /// Puts a lease on its target's queue, once.
    fn queue(&self, lease: LeaseId, target: &TargetName, recording: Recording) {
        let Some(queue) = self.queues.get(target).cloned() else {
            tracing::error!(%lease, %target, "a lease is to be ended at a target that is not configured");
            return;
        };
        if !self.under_way().insert(lease.clone()) {
            return;
        }
        let (worker, target) = (self.clone(), target.clone());
        self.calls.shared.tasks.spawn(async move {
            if let Ok(_turn) = queue.acquire().await
                && let Some(issuer) = worker.calls.shared.issuers.get(&target)
            {
                worker.end(&lease, issuer.as_ref(), recording).await;
            }
            worker.under_way().remove(&lease);
        });
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashSet<LeaseId>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Claim, end, prove, record. Dying anywhere in here leaves the duty to whoever comes next: the
    /// claim runs out, and ending what is ended already is fine.
    async fn end(&self, id: &LeaseId, issuer: &dyn Issuer, recording: Recording) {
        let shared = &self.calls.shared;
        let broker = shared.name.clone();
        let mut claimed = false;
        if recording == Recording::Possible {
            let claim = Command::ClaimEnd {
                lease: id.clone(),
                broker: broker.clone(),
            };
            match self.calls.send(claim).await {
                Ok(_) => claimed = true,
                Err(SequenceError::Unavailable) => {}
                Err(SequenceError::Refused(refusal)) => {
                    tracing::debug!(lease = %id, %refusal, "left to whoever holds the claim");
                    return;
                }
            }
        }
        let Some(lease) = shared.world(|world| world.leases.get(id).cloned()) else {
            return;
        };
        let result = self
            .end_and_prove(issuer, &lease.handle(), &lease.scope, Some(lease.expires))
            .await;
        if !claimed {
            // The one relaxation of "no state without an entry": access is cut although the ledger cannot
            // be written. The duty stays; once the ledger is back it is claimed, done again and recorded.
            tracing::error!(lease = %id, ended = result.is_ok(), "access is cut without an entry; it follows when the ledger is back");
            tokio::time::sleep(NAP).await;
            return;
        }
        let attempts = match &lease.state {
            LeaseState::Ending { attempts, .. } => *attempts,
            _ => 0,
        };
        let result = result.map_err(|error| {
            tracing::warn!(lease = %id, target_name = %lease.target, attempts, %error, "access is not proven ended; trying again");
            EndFailure { code: error.code, retry_in: self.backoff(attempts) }
        });
        let record = Command::RecordEnd {
            lease: id.clone(),
            broker,
            result,
        };
        if let Err(error) = self.calls.send(record).await {
            tracing::warn!(lease = %id, %error, "the end of a lease could not be recorded; it is done again");
        }
    }

    /// 1, 2, 4 … 60 seconds, half of it by chance so that many leases do not come back at once.
    fn backoff(&self, attempts: u32) -> Seconds {
        let ceiling = (1u64 << attempts.min(6)).min(BACKOFF_MAX_SECONDS);
        let chance = u64::try_from(self.calls.shared.entropy.draw() % 1000).unwrap_or(0);
        Seconds((ceiling / 2 + ceiling * chance / 2000).max(1))
    }

    /// Searches every target for credentials that no lease explains, at start and from time to time.
    pub(super) async fn sweep_for_ever(self, target: TargetName) {
        let Some(issuer) = self.calls.shared.issuers.get(&target).cloned() else {
            return;
        };
        loop {
            let next = match self.sweep(&target, issuer.as_ref()).await {
                Ok(()) => SWEEP_EVERY,
                Err(error) => {
                    tracing::warn!(target_name = %target, %error, "the target could not be searched; trying again");
                    SWEEP_RETRY
                }
            };
            tokio::select! {
                () = self.calls.shared.stop.cancelled() => return,
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// Looks from time to time whether a guard denies what it should.
    pub(super) async fn keep_for_ever(self, guard: GuardName) {
        loop {
            let next = match self.guards.keep(&guard).await {
                Ok(()) => KEEP_EVERY,
                Err(error) => {
                    tracing::warn!(%guard, %error, "the guard could not be brought up to date; trying again");
                    SWEEP_RETRY
                }
            };
            tokio::select! {
                () = self.calls.shared.stop.cancelled() => return,
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    async fn sweep(&self, target: &TargetName, issuer: &dyn Issuer) -> anyhow::Result<()> {
        let known = |handle: &str| {
            let lease = crate::domain::lease::lease_of(handle);
            self.calls
                .shared
                .world(|world| lease.is_some_and(|id| world.leases.contains_key(&id)))
        };
        let mut handles: Vec<String> = self.calls.shared.world(|world| {
            let here = world.orphans.iter().filter(|(name, _)| name == target);
            here.map(|(_, handle)| handle.clone()).collect()
        });
        let pending = handles.len();
        handles.extend(issuer.list().await?);
        for (index, handle) in handles.into_iter().enumerate() {
            // A lease may have ended between the list and this look: only what is still there counts.
            if known(&handle) || (index >= pending && issuer.prove(&handle, None).await.is_ok()) {
                continue;
            }
            let find = Command::FindOrphan {
                target: target.clone(),
                handle: handle.clone(),
            };
            let found = self.calls.send(find).await?;
            if known(&handle) {
                continue;
            }
            if !found.events.is_empty() {
                tracing::warn!(target_name = %target, handle, "found a credential that no lease explains; ending it");
            }
            let nothing = serde_json::Value::Null;
            let proof = self.end_and_prove(issuer, &handle, &nothing, None).await?;
            let Proof::Gone(proof) = proof else {
                anyhow::bail!("{handle} is denied, but lives on at the target");
            };
            let target = target.clone();
            self.calls
                .send(Command::RecordOrphanEnd {
                    target,
                    handle,
                    proof,
                })
                .await?;
        }
        Ok(())
    }

    /// Ends a credential and looks whether it is gone, within the time a claim leaves for it.
    async fn end_and_prove(
        &self,
        issuer: &dyn Issuer,
        handle: &str,
        scope: &serde_json::Value,
        expires: Option<Time>,
    ) -> Result<Proof, EndError> {
        let claim = self.calls.shared.limits.claim_window;
        let within = Duration::from_secs(claim.0).saturating_sub(RECORD_MARGIN);
        let work = async {
            self.guards.cut(issuer, handle, expires).await?;
            issuer.end(handle, scope).await?;
            issuer.prove(handle, expires).await
        };
        tokio::time::timeout(within, work)
            .await
            .unwrap_or_else(|_| {
                Err(EndError {
                    code: "target_timeout".into(),
                    detail: "no answer in time".into(),
                })
            })
    }
}
