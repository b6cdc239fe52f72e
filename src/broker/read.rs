//! What the surfaces read: open things from the published world, closed ones from the ledger.

use super::keys::KEY_LIFE;
use super::{Broker, BrokerError, ledger_unavailable};
use crate::domain::event::BlobRef;
use crate::domain::world::Recent;
use crate::domain::{
    Agent, AgentName, Digest, Entry, Event, Lease, LeaseId, Outage, Request, RequestId, TargetName,
    Time, World,
};
use crate::ledger::tree::leaf_hash;
use crate::ledger::{VerifyingKey, entry};
use crate::store::{Query, StoreError, StoredEntry};

/// Entries of one request read at a time.
const PAGE: usize = 1000;

impl Broker {
    /// An agent the broker knows and serves (never a disabled one).
    pub fn agent(&self, name: &AgentName) -> Option<Agent> {
        self.calls.shared.world(|world| world.agent(name).cloned())
    }

    /// All agents ever enrolled, with the time they were disabled, if they were.
    pub fn agents(&self) -> Vec<(Agent, Option<Time>)> {
        self.calls
            .shared
            .world(|world| world.agents.values().cloned().collect())
    }

    /// The agents it serves whose API key has this hash. More than one cannot be told apart.
    pub fn agents_with_key(&self, hash: &Digest) -> Vec<Agent> {
        let shared = &self.calls.shared;
        shared.world(|world| world.agents_with_key(hash).cloned().collect())
    }

    /// The agents it serves that present tokens of this issuer and satisfy `wanted`.
    pub fn agents_of_issuer(&self, issuer: &str, wanted: &dyn Fn(&Agent) -> bool) -> Vec<Agent> {
        let shared = &self.calls.shared;
        shared.world(|world| {
            let of_issuer = world.agents_of_issuer(issuer);
            of_issuer.filter(|agent| wanted(agent)).cloned().collect()
        })
    }

    /// A request by id, open or closed.
    ///
    /// # Errors
    /// When the ledger is unavailable.
    pub async fn request(&self, id: &RequestId) -> Result<Option<Request>, BrokerError> {
        let open = self
            .calls
            .shared
            .world(|world| world.requests.get(id).cloned());
        if let Some(request) = open {
            return Ok(Some(Request::clone(&request)));
        }
        Ok(fold(&self.timeline(id).await?))
    }

    /// Where a request stands, in one word; see [`World::stage`].
    pub fn stage(&self, request: &Request) -> &'static str {
        self.calls.shared.world(|world| world.stage(request))
    }

    /// Open requests that satisfy `wanted`, oldest first.
    pub fn open_requests(&self, wanted: &dyn Fn(&Request) -> bool) -> Vec<Request> {
        let mut requests: Vec<Request> = self.calls.shared.world(|world| {
            let open = world.requests.values().filter(|request| wanted(request));
            open.map(|request| Request::clone(request)).collect()
        });
        requests.sort_by(|a, b| a.id().cmp(b.id()));
        requests
    }

    /// Leases not proven ended that satisfy `wanted`, oldest first.
    pub fn leases(&self, wanted: &dyn Fn(&Lease) -> bool) -> Vec<Lease> {
        let mut leases: Vec<Lease> = self.calls.shared.world(|world| {
            let open = world.leases.values().filter(|lease| wanted(lease));
            open.map(|lease| Lease::clone(lease)).collect()
        });
        leases.sort_by(|a, b| a.id.cmp(&b.id));
        leases
    }

    /// A lease that is not proven ended.
    pub fn lease(&self, id: &LeaseId) -> Option<Lease> {
        self.calls
            .shared
            .world(|world| world.leases.get(id).map(|lease| Lease::clone(lease)))
    }

    /// The request a lease served, open or closed.
    ///
    /// # Errors
    /// When the ledger is unavailable.
    pub async fn request_of_lease(&self, id: &LeaseId) -> Result<Option<Request>, BrokerError> {
        let request = match self.lease(id) {
            Some(lease) => Some(lease.request),
            None => {
                let query = Query {
                    lease: Some(id.clone()),
                    limit: 1,
                    ..Query::default()
                };
                self.find(&query)
                    .await?
                    .first()
                    .and_then(|entry| entry.index.request.clone())
            }
        };
        match request {
            Some(request) => self.request(&request).await,
            None => Ok(None),
        }
    }

    /// What an agent's idempotency key led to within the last day. A key that the ledger's index has under another
    /// agent or key is no answer: the store was changed.
    pub(super) async fn earlier(
        &self,
        agent: &AgentName,
        key: &Digest,
    ) -> Result<Option<Recent>, BrokerError> {
        let shared = &self.calls.shared;
        if let Some(recent) = shared.world(|world| world.recent(agent, key).cloned()) {
            return Ok(Some(recent));
        }
        let asked = entry::asked_with(agent, key);
        if !shared.keys.may_have(&asked) {
            return Ok(None);
        }
        let now = shared.clock.now();
        let query = Query {
            key: Some(asked),
            since: Some(now.minus(KEY_LIFE)),
            limit: 1,
            ..Query::default()
        };
        let Some(stored) = self.find(&query).await?.pop() else {
            return Ok(None);
        };
        let asked = entry::decode(&stored.bytes).map(|entry| entry.event);
        match asked {
            Ok(Event::RequestSubmitted { submission, .. })
                if leaf_hash(&stored.bytes) == stored.leaf
                    && submission.sealed.agent == *agent
                    && submission.idempotency_key == Some(*key) =>
            {
                Ok(Some(Recent {
                    fingerprint: submission.fingerprint,
                    request: submission.request,
                }))
            }
            _ => {
                tracing::error!(
                    seq = stored.seq,
                    "an entry is indexed under an idempotency key it does not have; run `countersign ledger verify`"
                );
                Err(ledger_unavailable())
            }
        }
    }

    /// Requests, newest first, of one agent or of all; `before` continues a page.
    ///
    /// # Errors
    /// When the ledger is unavailable.
    pub async fn history(
        &self,
        agent: Option<&AgentName>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Request>, Option<u64>), BrokerError> {
        let query = Query {
            kind: Some("request.submitted".into()),
            agent: agent.map(ToString::to_string),
            before,
            limit,
            ..Query::default()
        };
        let found = self.find(&query).await?;
        let next = if found.len() < limit {
            None
        } else {
            found.last().map(|entry| entry.seq)
        };
        let mut requests = Vec::with_capacity(found.len());
        for id in found.into_iter().filter_map(|entry| entry.index.request) {
            requests.extend(self.request(&id).await?);
        }
        Ok((requests, next))
    }

    /// All entries of a request, oldest first.
    ///
    /// # Errors
    /// When the ledger is unavailable.
    pub async fn timeline(&self, id: &RequestId) -> Result<Vec<Entry>, BrokerError> {
        let mut query = Query {
            request: Some(id.clone()),
            limit: PAGE,
            ..Query::default()
        };
        let mut entries = Vec::new();
        loop {
            let page = self.find(&query).await?;
            for stored in &page {
                let entry = entry::decode(&stored.bytes).map_err(|error| {
                    tracing::error!(seq = stored.seq, %error, "a ledger entry cannot be read");
                    ledger_unavailable()
                })?;
                entries.push(entry);
            }
            if page.len() < PAGE {
                entries.reverse();
                return Ok(entries);
            }
            query.before = page.last().map(|entry| entry.seq);
        }
    }

    /// The text behind a reference, unless it was erased.
    ///
    /// # Errors
    /// When the ledger is unavailable.
    pub async fn text(&self, blob: &BlobRef) -> Result<Option<String>, BrokerError> {
        let blob = self
            .calls
            .shared
            .store
            .blob(&blob.sha256)
            .await
            .map_err(unavailable)?;
        Ok(blob
            .filter(crate::store::Blob::is_intact)
            .and_then(|b| String::from_utf8(b.bytes).ok()))
    }

    /// Why the ledger's store is not believed, if it is not: nothing is decided then, and what has to end ends.
    pub fn doubt(&self) -> Option<String> {
        self.calls.shared.doubt()
    }

    /// Why an end is late, where a target is away: since when, and what is in the way.
    pub fn outage(&self, target: &TargetName) -> Option<Outage> {
        let shared = &self.calls.shared;
        shared.world(|world| world.away.get(target).cloned())
    }

    /// Whether the broker can decide now: its loops run, and its ledger answers, holds what this broker has read, and can
    /// be written.
    ///
    /// # Errors
    /// What is in the way, in words.
    pub async fn ready(&self) -> Result<(), String> {
        let shared = &self.calls.shared;
        let broken = shared.broken().borrow().clone();
        if let Some(trouble) = broken
            .or_else(|| shared.doubt())
            .or_else(|| shared.unkept())
        {
            return Err(trouble);
        }
        if shared.unwritten().is_some() {
            self.can_write().await?;
        }
        let head = shared.store.head().await;
        head.map(drop).map_err(|error| error.in_full())
    }

    /// Whether the store that took no entry takes a note again: nobody sends a broker calls that is not ready, so nothing
    /// else would show it.
    async fn can_write(&self) -> Result<(), String> {
        let shared = &self.calls.shared;
        let now = shared.clock.now();
        let key = format!("probe of {} at {}", shared.name, now.millis());
        let written = shared.store.remember(&key, b"", now, now).await;
        written.map_err(|error| error.in_full())?;
        shared.note_writing(None);
        Ok(())
    }

    /// The newest signed checkpoint (C2SP signed note).
    ///
    /// # Errors
    /// When the ledger is unavailable, or its head is not one that its key signed.
    pub async fn checkpoint(&self) -> Result<String, BrokerError> {
        let head = self.calls.shared.store.head().await.map_err(unavailable)?;
        match self.verifying_key().open_head(&head) {
            Ok(_) => Ok(head.checkpoint),
            Err(problem) => {
                tracing::error!(%problem, "the store's head is not one that the ledger's key signed");
                Err(BrokerError::InDoubt)
            }
        }
    }

    /// The key that checkpoints are verified with.
    pub fn verifying_key(&self) -> &VerifyingKey {
        self.calls.shared.key.verifying_key()
    }

    /// Entries from index `from`, as stored.
    ///
    /// # Errors
    /// When the ledger is unavailable.
    pub async fn entries(&self, from: u64, limit: usize) -> Result<Vec<StoredEntry>, BrokerError> {
        self.calls
            .shared
            .store
            .read(from, limit.min(PAGE))
            .await
            .map_err(unavailable)
    }

    /// Searches what has been published. Rows beyond that are nobody's word: the key does not vouch for them.
    async fn find(&self, query: &Query) -> Result<Vec<StoredEntry>, BrokerError> {
        let shared = &self.calls.shared;
        let size = shared.world(|world| world.size);
        let query = Query {
            before: Some(query.before.map_or(size, |before| before.min(size))),
            ..query.clone()
        };
        shared.store.find(&query).await.map_err(unavailable)
    }
}

fn unavailable(error: StoreError) -> BrokerError {
    tracing::error!(error = error.in_full(), "the ledger could not be read");
    ledger_unavailable()
}

/// The request that `entries` (all of one request, in order) tell of.
fn fold(entries: &[Entry]) -> Option<Request> {
    let mut world = World::default();
    for entry in entries {
        world.size = entry.seq;
        match world.apply(entry) {
            Ok(Some(closed)) => return Some(Request::clone(&closed)),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "the entries of a request do not follow each other");
                return None;
            }
        }
    }
    world
        .requests
        .into_values()
        .next()
        .map(|request| Request::clone(&request))
}
