//! What is owed at one target: pulled from the world, in order, as permits free up.
//!
//! Nothing waits in memory: a batch is taken from the published world when there is a permit for it. Permit and batch are
//! given back when the batch is dropped, also by a panic, so no duty is forgotten.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::super::calls::Calls;
use super::super::guards::Guards;
use super::outage::Away;
use super::{AGAIN, NAP};
use crate::domain::due::{ends, next_end};
use crate::domain::{LeaseId, LeaseState, Owed, TargetName, Time, World};
use crate::issuers::Issuer;

/// Batches ended at one target at the same time.
const PER_TARGET: usize = 8;
/// How long what panicked is left alone.
const AFTER_PANIC: Duration = Duration::from_secs(5);

/// The lane of one target.
pub(super) struct Lane {
    pub(super) calls: Calls,
    pub(super) guards: Arc<Guards>,
    pub(super) target: TargetName,
    pub(super) issuer: Arc<dyn Issuer>,
    permits: Arc<Semaphore>,
    state: Mutex<State>,
    freed: Notify,
}

/// What this broker alone knows of its duties at the target.
#[derive(Default)]
pub(super) struct State {
    under_way: HashSet<Owed>,
    /// What is left alone for a while.
    held: HashMap<Owed, Held>,
    /// Leases that must end although the ledger cannot say so yet.
    unrecorded: BTreeSet<LeaseId>,
    /// The breaker, while it is open.
    pub(super) away: Option<Away>,
    /// The outage, by the instant it began, that was seen to be over, and when the ledger was last told so.
    pub(super) over: Option<(Time, Instant)>,
}

/// Something that failed, and when it is tried again.
#[derive(Clone, Copy)]
struct Held {
    attempts: u32,
    until: Instant,
}

/// A batch that is under way, and its permit.
pub(super) struct Turn {
    lane: Arc<Lane>,
    pub(super) owed: Vec<Owed>,
    finished: bool,
    _permit: OwnedSemaphorePermit,
}

impl Turn {
    /// It went to its end.
    pub(super) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.lane.locked();
        for owed in &self.owed {
            state.under_way.remove(owed);
            if !self.finished {
                let attempts = state.held.get(owed).map_or(0, |held| held.attempts);
                let until = Instant::now() + AFTER_PANIC;
                state.held.insert(owed.clone(), Held { attempts, until });
            }
        }
        drop(state);
        self.lane.freed.notify_one();
    }
}

impl Lane {
    pub(super) fn new(
        calls: Calls,
        guards: Arc<Guards>,
        target: &TargetName,
        issuer: &Arc<dyn Issuer>,
    ) -> Self {
        Self {
            calls,
            guards,
            target: target.clone(),
            issuer: Arc::clone(issuer),
            permits: Arc::new(Semaphore::new(PER_TARGET)),
            state: Mutex::default(),
            freed: Notify::new(),
        }
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what is owed here until the broker stops.
    pub(super) async fn run(self: Arc<Self>) {
        let shared = &self.calls.shared;
        let mut size = shared.watch();
        loop {
            size.mark_unchanged();
            if self.is_away() {
                self.wait_until_it_is_back().await;
            } else {
                self.tell_it_is_back();
            }
            let permit = tokio::select! {
                () = shared.stop.cancelled() => return,
                permit = Arc::clone(&self.permits).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { return };
            if let Some(turn) = self.pull(permit, self.issuer.batch()) {
                let lane = Arc::clone(&self);
                shared.tasks.spawn(async move {
                    lane.end(&turn.owed).await;
                    turn.finish();
                });
                continue;
            }
            tokio::select! {
                () = shared.stop.cancelled() => return,
                _ = size.changed() => {}
                () = self.freed.notified() => {}
                () = tokio::time::sleep(self.until_next()) => {}
            }
        }
    }

    /// The next batch: at most `most` that may be ended together, the longest overdue first.
    pub(super) fn pull(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        most: usize,
    ) -> Option<Turn> {
        let shared = &self.calls.shared;
        let (now, instant) = (shared.clock.now(), Instant::now());
        let mut state = self.locked();
        let owed = shared.world(|world| {
            state.forget_what_is_over(world, instant);
            let unrecorded = state.unrecorded.iter().cloned().map(Owed::Lease);
            let due = unrecorded.chain(ends(world, &self.target, now).cloned());
            let mut ready = due.filter(|owed| state.is_ready(owed, instant));
            let first = ready.next()?;
            let number = self.issuer.batch_of(&handle_of(&first));
            let like = ready.filter(|owed| self.issuer.batch_of(&handle_of(owed)) == number);
            let mut batch = vec![first];
            batch.extend(like.take(most.saturating_sub(1)));
            Some(batch)
        })?;
        state.under_way.extend(owed.iter().cloned());
        Some(Turn {
            lane: Arc::clone(self),
            owed,
            finished: false,
            _permit: permit,
        })
    }

    pub(super) fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.permits)
    }

    fn until_next(&self) -> Duration {
        let shared = &self.calls.shared;
        let now = shared.clock.now();
        let next = shared.world(|world| next_end(world, &self.target, now));
        let next = next.map_or(NAP, |next| next.left_at(now));
        let state = self.locked();
        let held = state.held.values().map(|held| held.until);
        let held = held.filter(|until| *until > Instant::now()).min();
        let held = held.map_or(NAP, |until| until.saturating_duration_since(Instant::now()));
        next.min(held).min(NAP)
    }

    /// A lease whose time is up ends although the ledger cannot say so yet.
    pub(super) fn end_without_entry(&self, lease: LeaseId) {
        self.locked().unrecorded.insert(lease);
        self.freed.notify_one();
    }

    /// How many attempts have failed that are in no entry yet, and those that are.
    pub(super) fn attempts(&self, owed: &Owed, recorded: u32) -> u32 {
        let state = self.locked();
        let held = state.held.get(owed).map_or(0, |held| held.attempts);
        held.max(recorded)
    }

    /// Leaves what failed alone for a while.
    pub(super) fn hold(&self, owed: &Owed, attempts: u32, pause: Duration) {
        let until = Instant::now() + pause;
        let held = Held { attempts, until };
        self.locked().held.insert(owed.clone(), held);
    }

    /// Nothing is known of it any more.
    pub(super) fn let_go(&self, owed: &Owed) {
        self.locked().held.remove(owed);
    }

    /// What was ended without an entry is done again once the ledger may be back.
    pub(super) fn hold_unrecorded(&self, owed: &Owed, attempts: u32) {
        self.hold(owed, attempts, NAP.max(AGAIN));
    }
}

impl State {
    fn is_ready(&self, owed: &Owed, now: Instant) -> bool {
        let held = self.held.get(owed);
        !self.under_way.contains(owed) && held.is_none_or(|held| held.until <= now)
    }

    fn forget_what_is_over(&mut self, world: &World, now: Instant) {
        self.unrecorded.retain(|id| {
            let lease = world.leases.get(id);
            lease.is_some_and(|lease| !matches!(lease.state, LeaseState::Ending { .. }))
        });
        self.held.retain(|owed, held| {
            held.until > now
                || match owed {
                    Owed::Lease(id) => world.leases.contains_key(id),
                    Owed::Orphan(key) => world.orphans.contains_key(key),
                }
        });
    }
}

/// The name at the target of a credential whose end is owed.
pub(super) fn handle_of(owed: &Owed) -> String {
    match owed {
        Owed::Lease(id) => crate::domain::lease::handle_of(id),
        Owed::Orphan((_, handle)) => handle.clone(),
    }
}
