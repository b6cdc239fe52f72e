//! The fold of the ledger: what is open now. Closed requests leave it, so it grows with what is open,
//! not with history.

mod kept;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::agent::Agent;
use super::clock::Accepted;
use super::due::Owed;
use super::event::{BlobRef, Entry, Event, Freeze};
use super::freeze::Stop;
use super::ids::{
    AgentName, Digest, GroupName, GuardName, LeaseId, RequestId, ServerId, TargetName,
};
use super::lease::{EndCause, Lease};
use super::orphan::{Orphan, OrphanKey};
use super::outage::Outage;
use super::person::Person;
use super::queues::Queues;
use super::request::{Request, Submission};
use super::roster::Roster;
use super::time::{Seconds, Time};
use super::transition::{step, step_ending};

/// What is open.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// Entries folded so far; also the index of the next one.
    pub size: u64,
    /// The highest instant of the ledger. Never goes back.
    pub time: Time,
    /// The operator's last word on the wall clock.
    pub clock: Accepted,
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
    /// Open requests that an order stops and that the broker has not got to yet.
    stops: HashMap<RequestId, Stop>,
    /// Credentials found at targets that no lease explains, not yet proven gone.
    #[serde(with = "super::pairs")]
    pub orphans: BTreeMap<OrphanKey, Orphan>,
    /// Which server each target stands for.
    pub servers: BTreeMap<TargetName, ServerId>,
    /// Targets that nothing can be ended at for now.
    pub away: BTreeMap<TargetName, Outage>,
    /// Kill switches: sessions of a guard's targets issued before then are denied.
    pub shut: BTreeMap<GuardName, Time>,
    /// The groups of each person as of their newest sign-in.
    #[serde(with = "super::pairs")]
    pub groups: BTreeMap<Person, BTreeSet<GroupName>>,
    /// Idempotency keys of late, by agent.
    pub recent: HashMap<AgentName, HashMap<Digest, Recent>>,
    recent_order: VecDeque<(Time, AgentName, Digest)>,
    #[serde(skip)]
    roster: Roster,
    #[serde(skip)]
    queues: Queues,
    #[serde(skip)]
    open_by_agent: HashMap<AgentName, usize>,
    #[serde(skip)]
    leases_at: HashMap<TargetName, usize>,
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

/// How long idempotency keys are kept in the world, for asks that race. Older ones are looked up in the ledger.
pub(super) const RECENT_WINDOW: Seconds = Seconds(600);

impl World {
    /// How this version folds, as it stands in the seal of a snapshot: one that was folded otherwise is not used.
    /// The number changes whenever `World`, or anything in it, or the fold does.
    pub const FOLD: &'static str = concat!("countersign ", env!("CARGO_PKG_VERSION"), " fold 8");

    /// Folds one entry in. On `Ok(Some(request))` that request closed and left the world.
    ///
    /// # Errors
    /// When the entry cannot follow; the world is then as it was.
    pub fn apply(&mut self, entry: &Entry) -> Result<Option<Arc<Request>>, IllegalTransition> {
        if entry.seq != self.size {
            return Err(illegal(entry, format!("a ledger of {} entries", self.size)));
        }
        if entry.time < self.time {
            return Err(illegal(entry, format!("an entry of {}", self.time)));
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
            Event::AgentEnrolled { agent } => self.serve(agent),
            Event::RequestSubmitted {
                submission,
                verdict,
            } => {
                if self.requests.contains_key(&submission.request) {
                    return Err(illegal(entry, "a request with this id"));
                }
                self.remember_key(entry.time, submission);
                return Ok(self.put(Request::submitted(submission, verdict, entry.time)));
            }
            Event::ClockAccepted { wall, ledger, .. } => self.accept_clock(*wall, *ledger),
            Event::AgentDisabled { .. }
            | Event::GuardShut { .. }
            | Event::FreezeSet { .. }
            | Event::FreezeLifted { .. } => self.apply_order(entry)?,
            Event::TargetIdentified { .. }
            | Event::TargetMoved { .. }
            | Event::TargetAway { .. }
            | Event::TargetBack { .. } => self.apply_to_target(entry)?,
            Event::OrphanFound { target, handle }
            | Event::OrphanEndClaimed { target, handle, .. }
            | Event::OrphanEndFailed { target, handle, .. }
            | Event::OrphanEnded { target, handle, .. } => {
                self.apply_to_orphan(entry, (target.clone(), handle.clone()))?;
            }
            Event::PersonSignedIn { person, groups } => {
                self.groups.insert(person.clone(), groups.clone());
            }
            Event::ReviewRefused { .. }
            | Event::PersonSignedOut { .. }
            | Event::LedgerAccepted { .. } => {}
            event => return self.apply_to_request(entry, event),
        }
        Ok(None)
    }

    /// Events that stop what is open, or no longer do.
    fn apply_order(&mut self, entry: &Entry) -> Result<(), IllegalTransition> {
        match &entry.event {
            Event::AgentDisabled { agent } => match self.agents.get_mut(agent) {
                Some((known, disabled @ None)) => {
                    *disabled = Some(entry.time);
                    self.roster.remove(known);
                    let held = |request: &Request| &request.sealed().agent == agent;
                    self.stop_all(EndCause::AgentDisabled, entry.time, held);
                }
                _ => return Err(illegal(entry, format!("no serving agent {agent}"))),
            },
            Event::GuardShut {
                guard,
                issued_before,
                targets,
            } => {
                self.shut.insert(guard.clone(), *issued_before);
                let held = |request: &Request| {
                    request.lease().is_some() && targets.contains(&request.sealed().target)
                };
                self.stop_all(EndCause::Revoked, entry.time, held);
            }
            Event::FreezeSet { freeze } => {
                self.freezes.insert(freeze.clone());
                let covered = |request: &Request| {
                    let sealed = request.sealed();
                    freeze.covers(&sealed.agent, &sealed.action, &sealed.target)
                };
                self.stop_all(EndCause::Frozen, entry.time, covered);
            }
            Event::FreezeLifted { freeze } => {
                self.freezes.remove(freeze);
            }
            _ => return Err(illegal(entry, "no order")),
        }
        Ok(())
    }

    fn apply_to_target(&mut self, entry: &Entry) -> Result<(), IllegalTransition> {
        match &entry.event {
            Event::TargetIdentified { target, server } => {
                if self.servers.contains_key(target) {
                    return Err(illegal(entry, format!("target {target}, identified")));
                }
                self.servers.insert(target.clone(), server.clone());
            }
            Event::TargetMoved {
                target, from, to, ..
            } => {
                if self.servers.get(target) != Some(from) {
                    return Err(illegal(entry, format!("target {target} elsewhere")));
                }
                self.move_target(target, from, to);
            }
            Event::TargetAway {
                target,
                broker,
                code,
                detail,
            } => {
                let known = self.away.get(target);
                if known.is_some_and(|known| known.code == *code) {
                    return Err(illegal(entry, format!("target {target}, away")));
                }
                let since = known.map_or(entry.time, |known| known.since);
                let outage = Outage::new(since, code, detail);
                self.away.insert(target.clone(), outage);
                self.release(target, broker, entry.time);
            }
            Event::TargetBack { target } => {
                if self.away.remove(target).is_none() {
                    return Err(illegal(entry, format!("target {target}, not away")));
                }
            }
            _ => return Err(illegal(entry, "no target")),
        }
        Ok(())
    }

    fn serve(&mut self, agent: &Agent) {
        let serving = (agent.clone(), None);
        if let Some((old, _)) = self.agents.insert(agent.name.clone(), serving) {
            self.roster.remove(&old);
        }
        self.roster.add(agent);
    }

    fn accept_clock(&mut self, wall: Time, ledger: Time) {
        self.clock = Accepted::of(wall, ledger);
        self.time = self.time.max(wall);
    }

    /// What was minted at `from` is to be ended and proven at `to`.
    fn move_target(&mut self, target: &TargetName, from: &ServerId, to: &ServerId) {
        self.servers.insert(target.clone(), to.clone());
        let moved = |lease: &&mut Arc<Lease>| &lease.target == target && &lease.server == from;
        for lease in self.leases.values_mut().filter(moved) {
            Arc::make_mut(lease).server = to.clone();
        }
    }

    fn apply_to_orphan(&mut self, entry: &Entry, key: OrphanKey) -> Result<(), IllegalTransition> {
        let orphan = match (&entry.event, self.orphans.get(&key)) {
            (Event::OrphanFound { .. }, None) => Some(Orphan::found(entry.time)),
            (Event::OrphanEnded { .. }, Some(_)) => None,
            (event, Some(orphan)) => Some(
                orphan
                    .after(event)
                    .ok_or_else(|| illegal(entry, "another claim on the orphan"))?,
            ),
            (_, None) => return Err(illegal(entry, "no such orphan")),
        };
        let due = orphan.as_ref().map(|orphan| orphan.not_before);
        let owed = Owed::Orphan(key.clone());
        self.queues.set_end(&key.0, owed, due);
        match orphan {
            Some(orphan) => self.orphans.insert(key, orphan),
            None => self.orphans.remove(&key),
        };
        Ok(())
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
        let lease = event.lease().and_then(|id| self.leases.get(id));
        if let Some(lease) = lease.filter(|lease| self.is_alone(lease)) {
            let word = lease.state.word();
            let moved = step_ending(Lease::clone(lease), event, entry.time);
            let lease =
                moved.map_err(|()| illegal(entry, format!("lease alone in state {word}")))?;
            self.put_lease(event.lease(), lease);
            return Ok(None);
        }
        let request = self
            .requests
            .get(id)
            .ok_or_else(|| illegal(entry, "no open request"))?;
        let mut request = Request::clone(request);
        let lease = lease.map(|lease| Lease::clone(lease));
        let state = |request: &Request| format!("request in state {}", request.state.word());
        let moved = step(&mut request, lease, event, entry.time);
        let lease = moved.map_err(|()| illegal(entry, state(&request)))?;
        self.put_lease(event.lease(), lease);
        Ok(self.put(request))
    }

    /// Whether the grant of a lease was handed back when it was cut off, so that its request goes its own way.
    pub fn is_alone(&self, lease: &Lease) -> bool {
        let request = self.requests.get(&lease.request);
        request.and_then(|request| request.lease()) != Some(&lease.id)
    }

    pub(super) fn queues(&self) -> &Queues {
        &self.queues
    }

    /// When something will next be due, anywhere.
    pub fn next_deadline(&self) -> Option<Time> {
        self.queues.next()
    }

    /// Where an open request stands, in one word: that of its state, or `cut_off` when its credential is denied
    /// everything and only has to run out.
    pub fn stage(&self, request: &Request) -> &'static str {
        let lease = request.lease().and_then(|lease| self.leases.get(lease));
        match lease.and_then(|lease| lease.cut_off_at()) {
            Some(_) => "cut_off",
            None => request.state.word(),
        }
    }

    /// How many leases, in any state, are at the targets that satisfy `wanted`.
    pub fn leases_at(&self, wanted: &dyn Fn(&TargetName) -> bool) -> usize {
        let here = self.leases_at.iter().filter(|(target, _)| wanted(target));
        here.map(|(_, count)| count).sum()
    }

    /// An agent that is served now.
    pub fn agent(&self, name: &AgentName) -> Option<&Agent> {
        self.agents
            .get(name)
            .and_then(|(agent, disabled)| disabled.is_none().then_some(agent))
    }

    /// The agents that are served and whose API key has this hash.
    pub fn agents_with_key(&self, hash: &Digest) -> impl Iterator<Item = &Agent> {
        let names = self.roster.with_key(hash);
        names.filter_map(|name| self.agent(name))
    }

    /// The agents that are served and present tokens of this issuer, by its name in the configuration.
    pub fn agents_of_issuer(&self, issuer: &str) -> impl Iterator<Item = &Agent> {
        let names = self.roster.of_issuer(issuer);
        names.filter_map(|name| self.agent(name))
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
}

fn illegal(entry: &Entry, state: impl Into<String>) -> IllegalTransition {
    IllegalTransition {
        seq: entry.seq,
        event: entry.event.kind(),
        state: state.into(),
    }
}
