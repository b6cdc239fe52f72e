//! The worker: takes what is due, claims it with an entry, does the I/O, records the outcome.
//!
//! It is woken by appends and by the next deadline and takes no other input, so a crash loses nothing:
//! the next start finds the same duties. Each target has its own bounded queue, so a target that is
//! slow or away delays nobody else.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::calls::Calls;
use super::draft::SequenceError;
use super::guards::Guards;
use crate::domain::command::EndFailure;
use crate::domain::{
    Command, Duty, GuardName, LeaseId, LeaseState, OrphanKey, Proof, RequestId, RequestState,
    Seconds, ServerId, TargetName, Time, World, due,
};
use crate::issuers::{EndError, Ending, Issuer};

/// Batches ended at one target at the same time.
const PER_TARGET: usize = 8;
/// Those of a batch that fight their end and are fought at the same time.
const FIGHTS: usize = 4;
/// Longest wait between two attempts.
const BACKOFF_MAX_SECONDS: u64 = 60;
/// What is left of a claim to record the outcome in.
const RECORD_MARGIN: Duration = Duration::from_secs(5);
/// How often guards are compared with the ledger.
const KEEP_EVERY: Duration = Duration::from_secs(30);
/// How soon that is tried again when it failed.
const KEEP_RETRY: Duration = Duration::from_secs(15);
/// How long a claim may take.
const CLAIM_PATIENCE: Duration = Duration::from_secs(30);
/// How soon the worker looks again while what is due is under way.
const BREATH: Duration = Duration::from_millis(200);
/// Longest sleep: also the longest a duty waits when the clock is turned forward.
const NAP: Duration = Duration::from_secs(5);
/// How much of a failure's words goes into the ledger.
const LONGEST_DETAIL: usize = 500;

/// Whether the ledger can be told of the end of a lease.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recording {
    /// As far as is known.
    Possible,
    /// It could not be told that the lease's time is up.
    Impossible,
}

/// A credential whose end is owed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Owed {
    Lease(LeaseId),
    Orphan(OrphanKey),
}

impl Owed {
    /// Its name at the target.
    fn handle(&self) -> String {
        match self {
            Owed::Lease(id) => crate::domain::lease::handle_of(id),
            Owed::Orphan((_, handle)) => handle.clone(),
        }
    }

    fn claim(&self, broker: String) -> Command {
        match self.clone() {
            Owed::Lease(lease) => Command::ClaimEnd { lease, broker },
            Owed::Orphan((target, handle)) => Command::ClaimOrphan {
                target,
                handle,
                broker,
            },
        }
    }

    fn record(&self, broker: String, result: Result<Proof, EndFailure>) -> Command {
        match self.clone() {
            Owed::Lease(lease) => Command::RecordEnd {
                lease,
                broker,
                result,
            },
            Owed::Orphan((target, handle)) => Command::RecordOrphanEnd {
                target,
                handle,
                broker,
                result,
            },
        }
    }
}

/// What is known of a credential whose end is owed.
struct Known {
    owed: Owed,
    handle: String,
    scope: Value,
    server: Option<ServerId>,
    expires: Option<Time>,
    over: Option<Time>,
    attempts: u32,
    /// Whether the ledger has our claim.
    claimed: bool,
}

impl Known {
    fn of(owed: Owed, world: &World, claimed: bool) -> Option<Self> {
        let handle = owed.handle();
        Some(match &owed {
            Owed::Lease(id) => {
                let lease = world.leases.get(id)?;
                Self {
                    handle,
                    scope: lease.scope.clone(),
                    server: Some(lease.server.clone()),
                    expires: Some(lease.expires),
                    over: Some(world.clock.end_of(lease)),
                    attempts: match lease.state {
                        LeaseState::Ending { attempts, .. } => attempts,
                        LeaseState::Issuing { .. } | LeaseState::Live => 0,
                    },
                    owed,
                    claimed,
                }
            }
            Owed::Orphan(key) => Self {
                handle,
                scope: Value::Null,
                server: None,
                expires: None,
                over: None,
                attempts: world.orphans.get(key)?.attempts,
                owed,
                claimed,
            },
        })
    }

    fn ending(&self) -> Ending<'_> {
        Ending {
            handle: &self.handle,
            scope: &self.scope,
            server: self.server.as_ref(),
            expires: self.expires,
            over: self.over,
        }
    }
}

/// The worker. One a broker.
#[derive(Clone)]
pub(super) struct Worker {
    calls: Calls,
    guards: Arc<Guards>,
    queues: Arc<BTreeMap<TargetName, Arc<Semaphore>>>,
    under_way: Arc<Mutex<HashSet<Owed>>>,
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
        let next = self.calls.shared.world(World::next_deadline);
        let millis = next.map_or(i64::MAX, |next| next.millis() - now.millis());
        match u64::try_from(millis) {
            Ok(millis) if millis > 0 => Duration::from_millis(millis).min(NAP),
            // What is due and under way, or waits for its turn, needs no spinning.
            _ => BREATH,
        }
    }

    /// Ends before lapses: access that must go does not wait for bookkeeping.
    async fn take_what_is_due(&self) {
        let now = self.calls.shared.clock.now();
        let mut lapsed = Vec::new();
        let mut owed: BTreeMap<TargetName, Vec<Owed>> = BTreeMap::new();
        for duty in self.calls.shared.world(|world| due(world, now)) {
            match duty {
                Duty::Lapse { request } => lapsed.push(request),
                Duty::End { lease, target } => {
                    owed.entry(target).or_default().push(Owed::Lease(lease));
                }
                Duty::EndOrphan { orphan } => {
                    let here = owed.entry(orphan.0.clone()).or_default();
                    here.push(Owed::Orphan(orphan));
                }
            }
        }
        for (target, owed) in owed {
            self.queue(&target, owed, Recording::Possible);
        }
        join_all(lapsed.iter().map(|request| self.lapse(request))).await;
    }

    async fn lapse(&self, request: &RequestId) {
        let lapse = Command::Lapse {
            request: request.clone(),
        };
        if let Err(error) = self.calls.send(lapse).await {
            tracing::warn!(%error, "what is due could not be recorded; trying again");
            self.queue_expired(request);
        }
    }

    /// A lease whose time is up, or its mint's, ends although the ledger cannot say so yet.
    fn queue_expired(&self, request: &RequestId) {
        let lease = self.calls.shared.world(|world| {
            let request = world.requests.get(request)?;
            match &request.state {
                RequestState::Issuing { lease, .. } | RequestState::Live { lease, .. } => {
                    world.leases.get(lease).cloned()
                }
                _ => None,
            }
        });
        if let Some(lease) = lease {
            let owed = vec![Owed::Lease(lease.id.clone())];
            self.queue(&lease.target, owed, Recording::Impossible);
        }
    }

    /// Puts credentials on their target's queue, each once, in batches as the issuer takes them.
    fn queue(&self, target: &TargetName, owed: Vec<Owed>, recording: Recording) {
        let (Some(queue), Some(issuer)) = (
            self.queues.get(target),
            self.calls.shared.issuers.get(target),
        ) else {
            tracing::error!(%target, count = owed.len(), "leases are to be ended at a target that is not configured");
            return;
        };
        let mut together: BTreeMap<u32, Vec<Owed>> = BTreeMap::new();
        for owed in owed {
            if self.under_way().insert(owed.clone()) {
                let batch = issuer.batch_of(&owed.handle());
                together.entry(batch).or_default().push(owed);
            }
        }
        for batch in together.values() {
            for batch in batch.chunks(issuer.batch().max(1)) {
                let (worker, batch) = (self.clone(), batch.to_vec());
                let (queue, issuer) = (Arc::clone(queue), Arc::clone(issuer));
                self.calls.shared.tasks.spawn(async move {
                    if let Ok(_turn) = queue.acquire().await {
                        worker.end(&batch, issuer.as_ref(), recording).await;
                    }
                    let mut under_way = worker.under_way();
                    for owed in &batch {
                        under_way.remove(owed);
                    }
                });
            }
        }
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashSet<Owed>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Claim, end, prove, record. Dying anywhere in here leaves the duty to whoever comes next: the
    /// claim runs out, and ending what is ended already is fine.
    async fn end(&self, batch: &[Owed], issuer: &dyn Issuer, recording: Recording) {
        let claims = join_all(batch.iter().map(|owed| self.claim(owed, recording))).await;
        let batch: Vec<Known> = claims.into_iter().flatten().collect();
        if batch.is_empty() {
            return;
        }
        let ended = self.end_and_record(issuer, &batch).await;
        if batch.iter().any(|known| !known.claimed) {
            // The one relaxation of "no state without an entry": access is cut although the ledger cannot
            // be written. The duty stays; once the ledger is back it is claimed, done again and recorded.
            tracing::error!(
                count = batch.len(),
                ended,
                "access is cut without an entry; it follows when the ledger is back"
            );
            tokio::time::sleep(NAP).await;
        }
    }

    /// What is to be ended, if it is ours to end.
    async fn claim(&self, owed: &Owed, recording: Recording) -> Option<Known> {
        let shared = &self.calls.shared;
        let mut claimed = false;
        if recording == Recording::Possible {
            let claim = self.calls.send(owed.claim(shared.name.clone()));
            // What ends access waits for nobody: a ledger that does not answer is one that cannot be written.
            let answer = tokio::time::timeout(CLAIM_PATIENCE, claim).await;
            match answer.unwrap_or(Err(SequenceError::Unavailable)) {
                Ok(_) => claimed = true,
                Err(SequenceError::Unavailable) => {}
                Err(SequenceError::Refused(refusal)) => {
                    tracing::debug!(?owed, %refusal, "left to whoever holds the claim");
                    return None;
                }
            }
        }
        shared.world(|world| Known::of(owed.clone(), world, claimed))
    }

    async fn record(&self, known: &Known, result: Result<Proof, EndError>) {
        let (handle, attempts) = (&known.handle, known.attempts);
        let result = result.map_err(|error| {
            tracing::warn!(handle, attempts, %error, "access is not proven ended; trying again");
            EndFailure {
                code: error.code,
                detail: error.detail.chars().take(LONGEST_DETAIL).collect(),
                retry_in: self.backoff(attempts),
            }
        });
        let record = known.owed.record(self.calls.shared.name.clone(), result);
        if let Err(error) = self.calls.send(record).await {
            tracing::warn!(handle, %error, "an end could not be recorded; it is done again");
        }
    }

    /// 1, 2, 4 … 60 seconds, half of it by chance so that many leases do not come back at once.
    fn backoff(&self, attempts: u32) -> Seconds {
        let ceiling = (1u64 << attempts.min(6)).min(BACKOFF_MAX_SECONDS);
        let chance = u64::try_from(self.calls.shared.entropy.draw() % 1000).unwrap_or(0);
        Seconds((ceiling / 2 + ceiling * chance / 2000).max(1))
    }

    /// Looks from time to time whether a guard denies what it should.
    pub(super) async fn keep_for_ever(self, guard: GuardName) {
        loop {
            let next = match self.guards.keep(&guard).await {
                Ok(()) => KEEP_EVERY,
                Err(error) => {
                    tracing::warn!(%guard, %error, "the guard could not be brought up to date; trying again");
                    KEEP_RETRY
                }
            };
            tokio::select! {
                () = self.calls.shared.stop.cancelled() => return,
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// Ends credentials, looks whether they are gone, within the time a claim leaves for it, and records what is claimed:
    /// each as soon as it is known. How many ended.
    async fn end_and_record(&self, issuer: &dyn Issuer, batch: &[Known]) -> usize {
        let claim = self.calls.shared.bundle().policy.limits().claim_window;
        let until = Instant::now() + Duration::from_secs(claim.0).saturating_sub(RECORD_MARGIN);
        let work = async {
            let cuts = batch.iter().map(|known| {
                self.guards
                    .cut(issuer, &known.handle, known.expires, known.attempts)
            });
            let cuts = join_all(cuts).await;
            let endings: Vec<_> = batch.iter().map(Known::ending).collect();
            // What a guard did not cut off is ended all the same, and not called so.
            let ended = issuer.end_willing(&endings).await;
            cuts.into_iter().zip(ended).collect()
        };
        let late = |_| {
            batch
                .iter()
                .map(|_| (Ok(()), Some(Err(no_answer()))))
                .collect()
        };
        let ended: Vec<_> = timeout_at(until, work).await.unwrap_or_else(late);
        let fights = Semaphore::new(FIGHTS);
        let outcomes = batch.iter().zip(ended).map(async |(known, (cut, ended))| {
            let fight = async {
                let _turn = fights.acquire().await;
                issuer.end_and_prove(&known.ending()).await
            };
            let ended = match ended {
                Some(ended) => ended,
                None => timeout_at(until, fight)
                    .await
                    .unwrap_or_else(|_| Err(no_answer())),
            };
            let result = cut.and(ended);
            let is_ended = result.is_ok();
            if known.claimed {
                self.record(known, result).await;
            }
            is_ended
        });
        let ended = join_all(outcomes).await;
        ended.into_iter().filter(|ended| *ended).count()
    }
}

fn no_answer() -> EndError {
    EndError {
        code: "target_timeout".into(),
        detail: "no answer in time".into(),
    }
}
