//! The fold of the ledger: what is open now. Closed requests leave it, so it grows with what is open,
//! not with history.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::agent::Agent;
use super::event::{BlobRef, Entry, Event, Freeze};
use super::ids::{AgentName, Digest, LeaseId, RequestId, TargetName};
use super::lease::{Lease, LeaseState};
use super::request::{Request, RequestState, Submission};
use super::time::{Seconds, Time};
use super::transition::step;

/// What is open.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct World {
    /// Entries folded so far; also the index of the next one.
    pub size: u64,
    /// The time of the last entry. Never goes back.
    pub time: Time,
    /// The log's origin, once it is opened.
    pub origin: Option<String>,
    /// The bundle in force, and where its files are kept.
    pub bundle: Option<(Digest, BlobRef)>,
    /// All agents ever enrolled, and since when they are disabled. A name is never given out twice.
    pub agents: BTreeMap<AgentName, (Agent, Option<Time>)>,
    /// Open requests.
    pub requests: HashMap<RequestId, Arc<Request>>,
    /// Leases not proven ended.
    pub leases: HashMap<LeaseId, Arc<Lease>>,
    /// Standing orders.
    pub freezes: BTreeSet<Freeze>,
    /// Credentials found at targets that no lease explains, not yet proven gone.
    pub orphans: BTreeSet<(TargetName, String)>,
    /// Idempotency keys of late, by agent.
    pub recent: HashMap<AgentName, HashMap<Digest, Recent>>,
    recent_order: VecDeque<(Time, AgentName, Digest)>,
    #[serde(skip)]
    deadlines: BTreeSet<(Time, RequestId)>,
    #[serde(skip)]
    deadline_of: HashMap<RequestId, Time>,
    #[serde(skip)]
    open_by_agent: HashMap<AgentName, usize>,
}

/// What an idempotency key led to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recent {
    /// Hash of the body it came with.
    pub fingerprint: Digest,
    /// The request it made.
    pub request: RequestId,
}

/// An entry that cannot follow the world it is applied to. Carries both sides.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "entry {seq} ({event}) cannot follow {state}; the ledger is damaged or was written by other code"
)]
pub struct IllegalTransition {
    /// The entry's index.
    pub seq: u64,
    /// The event's kind.
    pub event: &'static str,
    /// The state it met.
    pub state: String,
}

/// How long idempotency keys are kept in the world.
const RECENT_WINDOW: Seconds = Seconds(24 * 3600);

impl World {
    /// Folds one entry in. On `Ok(Some(request))` that request closed and left the world.
    ///
    /// # Errors
    /// When the entry cannot follow; the world is then as it was.
    pub fn apply(&mut self, entry: &Entry) -> Result<Option<Arc<Request>>, IllegalTransition> {
        if entry.seq != self.size {
            return Err(illegal(entry, format!("a ledger of {} entries", self.size)));
        }
        let closed = self.apply_event(entry)?;
        self.size += 1;
        self.time = self.time.max(entry.time);
        self.forget_old_keys();
        Ok(closed)
    }

    fn apply_event(&mut self, entry: &Entry) -> Result<Option<Arc<Request>>, IllegalTransition> {
        match &entry.event {
            Event::LedgerOpened { origin } => {
                if self.origin.is_some() || self.size != 0 {
                    return Err(illegal(entry, "an open ledger"));
                }
                self.origin = Some(origin.clone());
            }
            Event::BundleApplied { bundle, content } => self.bundle = Some((*bundle, *content)),
            Event::AgentEnrolled { agent } => {
                self.agents
                    .insert(agent.name.clone(), (agent.clone(), None));
            }
            Event::AgentDisabled { agent } => match self.agents.get_mut(agent) {
                Some((_, disabled @ None)) => *disabled = Some(entry.time),
                _ => return Err(illegal(entry, format!("no serving agent {agent}"))),
            },
            Event::RequestSubmitted { submission } => {
                if self.requests.contains_key(&submission.request) {
                    return Err(illegal(entry, "a request with this id"));
                }
                self.remember_key(entry.time, submission);
                let request = Request {
                    submission: Arc::new((**submission).clone()),
                    submitted_at: entry.time,
                    verdict: None,
                    reviews: Vec::new(),
                    ground: None,
                    state: RequestState::Submitted,
                    collect_key: None,
                };
                self.put(request);
            }
            Event::FreezeSet { freeze } => {
                self.freezes.insert(freeze.clone());
            }
            Event::FreezeLifted { freeze } => {
                self.freezes.remove(freeze);
            }
            Event::OrphanFound { target, handle } => {
                self.orphans.insert((target.clone(), handle.clone()));
            }
            Event::OrphanEnded { target, handle, .. } => {
                self.orphans.remove(&(target.clone(), handle.clone()));
            }
            Event::ReviewRefused { .. }
            | Event::PersonSignedIn { .. }
            | Event::PersonSignedOut { .. } => {}
            event => return self.apply_to_request(entry, event),
        }
        Ok(None)
    }

    /// Events that move a request, its lease, or both.
    fn apply_to_request(
        &mut self,
        entry: &Entry,
        event: &Event,
    ) -> Result<Option<Arc<Request>>, IllegalTransition> {
        let id = event
            .request()
            .ok_or_else(|| illegal(entry, "no request"))?;
        let request = self
            .requests
            .get(id)
            .ok_or_else(|| illegal(entry, "no open request"))?;
        let mut request = Request::clone(request);
        let lease = match event.lease() {
            Some(id) => self.leases.get(id).map(|lease| Lease::clone(lease)),
            None => None,
        };
        let state = |request: &Request| format!("request in state {}", request.state.word());
        let moved = step(&mut request, lease, event, entry.time);
        let lease = moved.map_err(|()| illegal(entry, state(&request)))?;
        if let Some(id) = event.lease() {
            match lease {
                Some(lease) => self.leases.insert(id.clone(), Arc::new(lease)),
                None => self.leases.remove(id),
            };
        }
        Ok(self.put(request))
    }

    /// Stores a request and its deadline; a closed one leaves and is returned.
    fn put(&mut self, request: Request) -> Option<Arc<Request>> {
        let id = request.id().clone();
        let agent = request.sealed().agent.clone();
        self.set_deadline(&id, self.deadline(&request));
        let request = Arc::new(request);
        if let RequestState::Closed { .. } = request.state {
            self.requests.remove(&id);
            if let Some(count) = self.open_by_agent.get_mut(&agent) {
                *count -= 1;
                if *count == 0 {
                    self.open_by_agent.remove(&agent);
                }
            }
            return Some(request);
        }
        if self.requests.insert(id, request).is_none() {
            *self.open_by_agent.entry(agent).or_insert(0) += 1;
        }
        None
    }

    /// The instant at which something is due for `request`, if time alone can make it so.
    fn deadline(&self, request: &Request) -> Option<Time> {
        match &request.state {
            RequestState::Pending => Some(request.submission.pending_until),
            RequestState::Approved { collect_until } => Some(*collect_until),
            RequestState::Submitted | RequestState::Closed { .. } => None,
            RequestState::Issuing { lease, .. }
            | RequestState::Live { lease, .. }
            | RequestState::Ending { lease, .. } => {
                self.leases.get(lease).map(|lease| match &lease.state {
                    LeaseState::Issuing { mint_until, .. } => *mint_until,
                    LeaseState::Live { expires } => *expires,
                    LeaseState::Ending { not_before, .. } => *not_before,
                })
            }
        }
    }

    fn set_deadline(&mut self, id: &RequestId, deadline: Option<Time>) {
        let old = match deadline {
            Some(time) => {
                self.deadlines.insert((time, id.clone()));
                self.deadline_of.insert(id.clone(), time)
            }
            None => self.deadline_of.remove(id),
        };
        if let Some(old) = old.filter(|old| Some(*old) != deadline) {
            self.deadlines.remove(&(old, id.clone()));
        }
    }

    /// Requests for which something is due at `now`, the longest overdue first.
    pub fn overdue(&self, now: Time) -> impl Iterator<Item = &Arc<Request>> {
        self.deadlines
            .iter()
            .take_while(move |(time, _)| *time <= now)
            .filter_map(|(_, id)| self.requests.get(id))
    }

    /// When something will next be due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(time, _)| *time)
    }

    /// An agent that is served now.
    pub fn agent(&self, name: &AgentName) -> Option<&Agent> {
        self.agents
            .get(name)
            .and_then(|(agent, disabled)| disabled.is_none().then_some(agent))
    }

    /// How many things it holds: what writing it down costs.
    pub fn weight(&self) -> usize {
        self.agents.len() + self.requests.len() + self.leases.len() + self.recent_order.len()
    }

    /// Requests the agent has open.
    pub fn open_requests_of(&self, agent: &AgentName) -> usize {
        self.open_by_agent.get(agent).copied().unwrap_or(0)
    }

    /// What the agent's idempotency key led to, while it is remembered.
    pub fn recent(&self, agent: &AgentName, key: &Digest) -> Option<&Recent> {
        self.recent.get(agent)?.get(key)
    }

    fn remember_key(&mut self, now: Time, submission: &Submission) {
        let Some(key) = submission.idempotency_key else {
            return;
        };
        let agent = submission.sealed.agent.clone();
        let recent = Recent {
            fingerprint: submission.fingerprint,
            request: submission.request.clone(),
        };
        self.recent
            .entry(agent.clone())
            .or_default()
            .insert(key, recent);
        self.recent_order.push_back((now, agent, key));
    }

    fn forget_old_keys(&mut self) {
        while let Some((time, ..)) = self.recent_order.front() {
            if time.plus(RECENT_WINDOW) > self.time {
                return;
            }
            if let Some((_, agent, key)) = self.recent_order.pop_front() {
                let emptied = self.recent.get_mut(&agent).is_some_and(|keys| {
                    keys.remove(&key);
                    keys.is_empty()
                });
                if emptied {
                    self.recent.remove(&agent);
                }
            }
        }
    }

    /// A world read back from a snapshot, with what is derived computed again.
    pub fn restored(mut self) -> Self {
        self.deadlines.clear();
        self.deadline_of.clear();
        self.open_by_agent.clear();
        for request in self.requests.values().cloned().collect::<Vec<_>>() {
            *self
                .open_by_agent
                .entry(request.sealed().agent.clone())
                .or_insert(0) += 1;
            self.set_deadline(request.id(), self.deadline(&request));
        }
        self
    }
}

fn illegal(entry: &Entry, state: impl Into<String>) -> IllegalTransition {
    IllegalTransition {
        seq: entry.seq,
        event: entry.event.kind(),
        state: state.into(),
    }
}
