//! What the fold keeps beside what entries say: what is due when, what an order stops, how many there are.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::World;
use crate::domain::decide::is_stoppable;
use crate::domain::due::Owed;
use crate::domain::freeze::Stop;
use crate::domain::ids::{LeaseId, RequestId, TargetName};
use crate::domain::lease::{EndCause, Lease, LeaseState};
use crate::domain::orphan::Orphan;
use crate::domain::queues::Queues;
use crate::domain::request::{Request, RequestState};
use crate::domain::roster::Roster;
use crate::domain::time::Time;

impl World {
    /// Stores a lease and what is due for it, or forgets one that is over.
    pub(super) fn put_lease(&mut self, id: Option<&LeaseId>, lease: Option<Lease>) {
        let Some(id) = id else { return };
        let (due, before) = (lease.as_ref().and_then(end_due), self.leases.get(id));
        if let Some(either) = lease.as_ref().or(before.map(AsRef::as_ref)) {
            let owed = Owed::Lease(id.clone());
            self.queues.set_end(&either.target, owed, due);
        }
        let (old, counted) = match lease {
            Some(lease) => {
                let target = lease.target.clone();
                (
                    self.leases.insert(id.clone(), Arc::new(lease)),
                    Some(target),
                )
            }
            None => (self.leases.remove(id), None),
        };
        match (old, counted) {
            (None, Some(target)) => *self.leases_at.entry(target).or_insert(0) += 1,
            (Some(old), None) => one_less(&mut self.leases_at, &old.target),
            _ => {}
        }
    }

    /// Stores a request and when time moves it; a closed one leaves and is returned.
    pub(super) fn put(&mut self, request: Request) -> Option<Arc<Request>> {
        let id = request.id().clone();
        let agent = request.sealed().agent.clone();
        if !is_stoppable(&request) {
            self.stops.remove(&id);
        }
        self.queues.set_lapse(&id, self.lapse_due(&request));
        let request = Arc::new(request);
        if let RequestState::Closed { .. } = request.state {
            if self.requests.remove(&id).is_some() {
                one_less(&mut self.open_by_agent, &agent);
            }
            return Some(request);
        }
        if self.requests.insert(id, request).is_none() {
            *self.open_by_agent.entry(agent).or_insert(0) += 1;
        }
        None
    }

    /// Marks what an order stops: the broker closes or ends it as soon as it gets to it, and until then nothing of it is
    /// handed out. An order that was given earlier stands.
    pub(super) fn stop_all(
        &mut self,
        cause: EndCause,
        since: Time,
        covered: impl Fn(&Request) -> bool,
    ) {
        let requests = self.requests.values();
        let covered = requests.filter(|request| is_stoppable(request) && covered(request));
        for request in covered {
            let id = request.id();
            let stop = self.stops.entry(id.clone());
            let stop = stop.or_insert(Stop { cause, since });
            self.queues.set_lapse(id, Some(stop.since));
        }
    }

    /// The order that stops an open request, until it is closed or its credential is being ended for good.
    pub fn stop_of(&self, request: &RequestId) -> Option<Stop> {
        self.stops.get(request).copied()
    }

    /// Gives back what `broker` had claimed at a target that it cannot reach.
    pub(super) fn release(&mut self, target: &TargetName, broker: &str, at: Time) {
        for owed in self.queues.all_ends(target) {
            match &owed {
                Owed::Lease(id) => {
                    let Some(lease) = self.leases.get_mut(id) else {
                        continue;
                    };
                    if lease.is_claimed_by(broker) {
                        Arc::make_mut(lease).release(at);
                        let due = end_due(lease);
                        self.queues.set_end(target, owed, due);
                    }
                }
                Owed::Orphan(key) => {
                    let orphan = self.orphans.get_mut(key);
                    let ours = |orphan: &&mut Orphan| orphan.claimed_by.as_deref() == Some(broker);
                    if let Some(orphan) = orphan.filter(ours) {
                        orphan.release(at);
                        self.queues.set_end(target, owed, Some(at));
                    }
                }
            }
        }
    }

    /// The instant at which time alone, or an order, moves a request or the lease it has in force.
    fn lapse_due(&self, request: &Request) -> Option<Time> {
        if let Some(stop) = self.stops.get(request.id()) {
            return Some(stop.since);
        }
        match &request.state {
            RequestState::Pending => Some(request.submission.pending_until),
            RequestState::Approved { collect_until } => Some(*collect_until),
            RequestState::Issuing { lease, .. } | RequestState::Live { lease, .. } => {
                self.leases.get(lease).and_then(|lease| match lease.state {
                    LeaseState::Issuing { mint_until } => Some(mint_until),
                    LeaseState::Live => Some(lease.acknowledge_by.unwrap_or(lease.expires)),
                    LeaseState::Ending { .. } => None,
                })
            }
            RequestState::Ending { .. } | RequestState::Closed { .. } => None,
        }
    }

    /// A world read back from a snapshot, with what is derived computed again.
    pub fn restored(mut self) -> Self {
        self.queues = Queues::default();
        self.open_by_agent.clear();
        self.leases_at.clear();
        self.roster = Roster::default();
        let serving = self.agents.values().filter(|(_, over)| over.is_none());
        serving.for_each(|(agent, _)| self.roster.add(agent));
        for lease in self.leases.values() {
            *self.leases_at.entry(lease.target.clone()).or_insert(0) += 1;
            let owed = Owed::Lease(lease.id.clone());
            self.queues.set_end(&lease.target, owed, end_due(lease));
        }
        for (key, orphan) in &self.orphans {
            let owed = Owed::Orphan(key.clone());
            self.queues.set_end(&key.0, owed, Some(orphan.not_before));
        }
        for request in self.requests.values().cloned().collect::<Vec<_>>() {
            let agent = request.sealed().agent.clone();
            *self.open_by_agent.entry(agent).or_insert(0) += 1;
            self.queues
                .set_lapse(request.id(), self.lapse_due(&request));
        }
        self
    }
}

/// When a lease is to be ended at its target, if it is.
fn end_due(lease: &Lease) -> Option<Time> {
    match lease.state {
        LeaseState::Ending { not_before, .. } => Some(not_before),
        LeaseState::Issuing { .. } | LeaseState::Live => None,
    }
}

/// Counts one less of `key`, of which none is not listed.
fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
