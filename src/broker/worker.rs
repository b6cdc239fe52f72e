//! The worker: does what is due, and records it.
//!
//! Each target has a [`lane`] of its own, which ends what is owed there; one more loop lets requests lapse, a batch at a
//! time. So an end waits for no other target, and for one batch of lapses at most. They are woken by appends and by the
//! next deadline and take no other input, so a crash loses nothing: the next start finds the same duties.

mod ends;
mod lane;
mod outage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::lane::Lane;
use super::calls::Calls;
use super::draft::SequenceError;
use super::guards::Guards;
use crate::domain::due::{lapses, next_lapse};
use crate::domain::{Command, GuardName, LeaseId, RequestId, TargetName, Time};

/// Requests that lapse together.
const LAPSES: usize = 64;
/// How often guards are compared with the ledger.
const KEEP_EVERY: Duration = Duration::from_secs(30);
/// How soon that is tried again when it failed.
const KEEP_RETRY: Duration = Duration::from_secs(15);
/// How soon what could not be recorded is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest sleep: also the longest a duty waits when the clock is turned forward.
const NAP: Duration = Duration::from_secs(5);

/// The worker. One a broker.
#[derive(Clone)]
pub(super) struct Worker {
    calls: Calls,
    guards: Arc<Guards>,
    lanes: Arc<BTreeMap<TargetName, Arc<Lane>>>,
}

impl Worker {
    pub(super) fn new(calls: Calls, guards: Arc<Guards>) -> Self {
        let issuers = calls.shared.issuers.iter();
        let lanes = issuers.map(|(target, issuer)| {
            let lane = Lane::new(calls.clone(), Arc::clone(&guards), target, issuer);
            (target.clone(), Arc::new(lane))
        });
        let lanes = Arc::new(lanes.collect());
        Self {
            calls,
            guards,
            lanes,
        }
    }

    /// Starts the loops. Each ends when the broker stops; one that ends earlier ends the broker.
    pub(super) fn start(&self) {
        let shared = &self.calls.shared;
        for (target, lane) in self.lanes.iter() {
            let name = format!("ending what is owed at {target}");
            shared.supervise(name, Arc::clone(lane).run());
        }
        shared.supervise("lapses".into(), self.clone().lapse_for_ever());
        for guard in self.guards.names() {
            let name = format!("keeping guard {guard}");
            shared.supervise(name, self.clone().keep_for_ever(guard.clone()));
        }
    }

    /// Lets requests and leases lapse whose time is up, or that an order stops.
    async fn lapse_for_ever(self) {
        let shared = &self.calls.shared;
        let mut size = shared.watch();
        while !shared.stop.is_cancelled() {
            size.mark_unchanged();
            let now = shared.clock.now();
            let due = |world: &_| lapses(world, now).take(LAPSES).cloned().collect::<Vec<_>>();
            let due = shared.world(due);
            let wait = if due.is_empty() {
                self.until_next_lapse(now)
            } else {
                match self.lapse(due).await {
                    Ok(true) => continue,
                    Ok(false) => AGAIN,
                    Err(error) => {
                        tracing::warn!(%error, "what is due could not be recorded; trying again");
                        self.end_what_has_expired(now);
                        AGAIN
                    }
                }
            };
            tokio::select! {
                () = shared.stop.cancelled() => return,
                _ = size.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Whether it led to anything.
    async fn lapse(&self, requests: Vec<RequestId>) -> Result<bool, SequenceError> {
        let events = self.calls.tell(Command::Lapse { requests }).await?;
        Ok(!events.is_empty())
    }

    fn until_next_lapse(&self, now: Time) -> Duration {
        let next = self.calls.shared.world(next_lapse);
        next.map_or(NAP, |next| next.left_at(now)).min(NAP)
    }

    /// Leases whose time is up, or that an order stops, end although the ledger cannot say so yet.
    fn end_what_has_expired(&self, now: Time) {
        let expired: Vec<(TargetName, LeaseId)> = self.calls.shared.world(|world| {
            let leases = lapses(world, now).filter_map(|id| {
                let lease = world.requests.get(id)?.lease()?;
                world.leases.get(lease)
            });
            let named = leases.map(|lease| (lease.target.clone(), lease.id.clone()));
            named.collect()
        });
        for (target, lease) in expired {
            if let Some(lane) = self.lanes.get(&target) {
                lane.end_without_entry(lease);
            }
        }
    }

    /// Looks from time to time whether a guard denies what it should.
    async fn keep_for_ever(self, guard: GuardName) {
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
}
