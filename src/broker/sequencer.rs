//! The sequencer: one task that owns the way into the ledger.
//!
//! Commands that arrive together are decided one after the other on the same world and appended in one
//! transaction (group commit). While one batch is on its way to the store, the next is decided on the world as
//! that batch leaves it; nothing of it is told or sent before the first is durable. The append is a
//! compare-and-swap on the head: when another broker was first, nothing is written, the world catches up
//! and every command is decided again. When nobody knows whether the append happened, its callers are told
//! so, the world is read again from the store, and what was decided after it is decided again.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::draft::{Draft, Envelope, Flight, Reply, SequenceError, answer, answer_unavailable};
use super::shared::Shared;
use crate::domain::command::Revoker;
use crate::domain::event::BlobRef;
use crate::domain::{
    Command, Digest, Entry, Event, Policy, Refusal, Request, RequestId, Rules, Time, World, decide,
};
use crate::ledger::tree::leaf_hash;
use crate::ledger::{Tree, entry};
use crate::store::{Batch, Blob, Head, Snapshot, StoreError, StoredEntry};

/// Most commands decided and appended together.
const BATCH_MAX: usize = 256;
/// Entries read at once while catching up.
const READ_PAGE: usize = 1000;
/// Least number of entries between snapshots.
const SNAPSHOT_EVERY: u64 = 10_000;
/// Entries between snapshots for each thing in the world.
const SNAPSHOT_WEIGHT: u64 = 4;

/// The sequencer's own state. `world` may be ahead of what is durable while batches are drafted and appended;
/// the published world never is.
pub(super) struct Sequencer {
    shared: Arc<Shared>,
    world: World,
    tree: Tree,
    policy: Arc<dyn Policy>,
    snapshot_size: u64,
    /// The world may differ from the store and must be read again before anything is decided.
    stale: bool,
    /// Whether bundles that other brokers put in force are taken over: not before our own is.
    following: bool,
}

impl Sequencer {
    /// Reads the ledger, opens it if it is new, and puts the bundle in force.
    ///
    /// # Errors
    /// When the store cannot be read or written, or the ledger does not let the bundle in.
    pub(super) async fn start(
        shared: Arc<Shared>,
        policy: Arc<dyn Policy>,
        bundle: Blob,
    ) -> anyhow::Result<Self> {
        let mut sequencer = Self {
            shared,
            world: World::default(),
            tree: Tree::default(),
            policy,
            snapshot_size: 0,
            stale: true,
            following: false,
        };
        let origin = sequencer.shared.key.verifying_key().name().to_owned();
        let content = BlobRef {
            sha256: bundle.sha256,
        };
        let (reply, opened) = oneshot::channel();
        let open = Envelope {
            command: Command::Open { origin },
            blobs: Vec::new(),
            reply,
        };
        let (reply, applied) = oneshot::channel();
        let apply = Envelope {
            command: Command::ApplyBundle { content },
            blobs: vec![bundle],
            reply,
        };
        sequencer.reload().await?;
        let mut draft = Draft::default();
        sequencer.decide_all(vec![open, apply], &mut draft).await;
        while let Some(mut flight) = sequencer.send_off(&mut draft) {
            let outcome = flight.landed().await;
            sequencer.settle(flight, outcome, &mut draft).await;
        }
        for answer in [opened, applied] {
            answer
                .await
                .unwrap_or(Err(SequenceError::Unavailable))
                .map_err(|error| anyhow::anyhow!("put the bundle in force: {error}"))?;
        }
        sequencer.following = true;
        Ok(sequencer)
    }

    /// Serves commands until all senders are gone.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Envelope>) {
        let (mut draft, mut flight) = (Draft::default(), None::<Flight>);
        let mut arrived = Vec::with_capacity(BATCH_MAX);
        let mut open = true;
        loop {
            if flight.is_none() {
                flight = self.send_off(&mut draft);
            }
            if flight.is_none() && !open {
                return;
            }
            let room = BATCH_MAX.saturating_sub(draft.envelopes.len());
            tokio::select! {
                biased;
                outcome = async { match &mut flight {
                    Some(flight) => flight.landed().await,
                    None => std::future::pending().await,
                } } => {
                    if let Some(flight) = flight.take() {
                        self.settle(flight, outcome, &mut draft).await;
                    }
                }
                received = inbox.recv_many(&mut arrived, room), if open && room > 0 => {
                    open = received > 0;
                    self.decide_all(std::mem::take(&mut arrived), &mut draft).await;
                }
                () = self.shared.store.changed(), if flight.is_none() => {
                    let read = if self.stale { self.reload().await } else { self.catch_up().await };
                    if let Err(error) = read {
                        self.stale = true;
                        tracing::warn!(%error, "the ledger could not be read; trying again");
                        self.shared.pause().await;
                    }
                }
            }
        }
    }

    /// Decides `envelopes` on the world as everything before them leaves it, and adds them to `draft`.
    async fn decide_all(&mut self, envelopes: Vec<Envelope>, draft: &mut Draft) {
        // Only after a failure, and then nothing is in flight.
        if self.stale
            && !envelopes.is_empty()
            && let Err(error) = self.reload().await
        {
            tracing::error!(%error, "commands could not be decided");
            answer_unavailable(envelopes);
            return;
        }
        for envelope in envelopes {
            let result = self.draft_one(&envelope, draft);
            draft.results.push(result);
            draft.envelopes.push(envelope);
        }
    }

    /// Sends the draft to the store; nothing else may be in flight. A draft without entries is answered at once:
    /// all it rests on is durable.
    fn send_off(&mut self, draft: &mut Draft) -> Option<Flight> {
        let mut draft = std::mem::take(draft);
        let Some(expected_size) = draft.entries.first().map(|first| first.seq) else {
            answer(draft.envelopes, draft.results);
            return None;
        };
        let (size, root) = (self.tree.size(), self.tree.root());
        let checkpoint = self.shared.key.sign_head(size, &root);
        if let Some(last) = draft.entries.last_mut() {
            last.signature = Some(checkpoint.signature);
        }
        let batch = Batch {
            expected_size,
            entries: draft.entries,
            blobs: draft.blobs,
            head: Head {
                size,
                edge: self.tree.edge().to_vec(),
                checkpoint: checkpoint.note,
            },
        };
        let shared = Arc::clone(&self.shared);
        let append = async move { shared.store.append(batch).await };
        Some(Flight {
            folded: draft.folded,
            envelopes: draft.envelopes,
            results: draft.results,
            append: self.shared.tasks.spawn(append),
        })
    }

    /// Takes in what became of a batch. When it was not written, or nobody knows, the world ran ahead of the
    /// store: it is read again, and what was decided on it in `draft` is decided again.
    async fn settle(&mut self, flight: Flight, outcome: Result<(), StoreError>, draft: &mut Draft) {
        let Err(error) = outcome else {
            self.shared.publish(&flight.folded);
            self.snapshot_now_and_then();
            answer(flight.envelopes, flight.results);
            return;
        };
        self.stale = true;
        let mut again = Vec::new();
        if matches!(error, StoreError::Conflict) {
            tracing::debug!("another broker appended first; deciding again");
            again = flight.envelopes;
        } else {
            tracing::error!(%error, "commands could not be appended");
            answer_unavailable(flight.envelopes);
        }
        again.append(&mut std::mem::take(draft).envelopes);
        self.decide_all(again, draft).await;
    }

    /// Decides one command on the world as the commands before it leave it.
    fn draft_one(
        &mut self,
        envelope: &Envelope,
        draft: &mut Draft,
    ) -> Result<Reply, SequenceError> {
        let now = self.shared.clock.now().max(self.world.time);
        if !self.policy_in_force(&envelope.command) {
            tracing::error!("the bundle in force is not the one this broker has loaded");
            return Err(SequenceError::Unavailable);
        }
        let rules = Rules {
            policy: self.policy.as_ref(),
            targets: self.shared.targets.as_ref(),
            limits: self.shared.limits,
        };
        let (events, refusal) = match decide(&self.world, &envelope.command, &rules, now) {
            Ok(events) => (events, None),
            Err(mut refusal) => (std::mem::take(&mut refusal.record), Some(refusal)),
        };
        let subject = subject(&self.world, &envelope.command);
        let closed = self.fold(&envelope.command, &events, now, draft)?;
        if !events.is_empty() && refusal.is_none() {
            draft.blobs.extend(envelope.blobs.iter().cloned());
        }
        if let Some(refusal) = refusal {
            return Err(refusal.into());
        }
        let request = closed.or_else(|| {
            let id = events.iter().find_map(Event::request).or(subject.as_ref());
            id.and_then(|id| self.world.requests.get(id)).cloned()
        });
        Ok(Reply { events, request })
    }

    /// Writes the entries of one command and folds them into the world. All of them, or none.
    fn fold(
        &mut self,
        command: &Command,
        events: &[Event],
        now: Time,
        draft: &mut Draft,
    ) -> Result<Option<Arc<Request>>, SequenceError> {
        let mut entries = Vec::with_capacity(events.len());
        for (event, seq) in events.iter().zip(self.world.size..) {
            let entry = Entry {
                v: 1,
                seq,
                time: now,
                actor: command.actor(),
                event: event.clone(),
            };
            let bytes = entry::encode(&entry).map_err(|error| {
                tracing::warn!(%error, "an entry cannot be written");
                Refusal::new(
                    crate::domain::command::RefusalCode::Invalid,
                    "this does not fit into a ledger entry",
                    "Make it smaller.",
                )
            })?;
            entries.push((entry, bytes));
        }
        let mut closed = None;
        for (entry, bytes) in entries {
            closed = self.world.apply(&entry).map_err(|error| {
                tracing::error!(%error, "a decision does not fit the world it was made on");
                SequenceError::Unavailable
            })?;
            let leaf = leaf_hash(&bytes);
            self.tree.append_leaf(leaf);
            draft.entries.push(StoredEntry {
                seq: entry.seq,
                leaf,
                signature: None,
                index: entry::index(&entry),
                bytes,
            });
            draft.folded.push(entry);
        }
        Ok(closed)
    }

    /// Drops what may be ahead of the store and reads on from what is published.
    async fn reload(&mut self) -> Result<(), StoreError> {
        let published = self.shared.world(World::clone);
        self.world = published;
        if self.world.size == 0 {
            self.restore_snapshot().await?;
        }
        self.catch_up().await?;
        self.stale = false;
        Ok(())
    }

    async fn restore_snapshot(&mut self) -> Result<(), StoreError> {
        let Some(snapshot) = self.shared.store.snapshot().await? else {
            return Ok(());
        };
        let last = self
            .shared
            .store
            .read(snapshot.size.saturating_sub(1), 1)
            .await?;
        let same_history = last
            .first()
            .is_some_and(|e| Digest::of(&e.bytes) == snapshot.last);
        match serde_json::from_slice::<World>(&snapshot.bytes) {
            Ok(world) if same_history && world.size == snapshot.size => {
                self.world = world.restored();
                self.snapshot_size = snapshot.size;
                self.shared.replace(self.world.clone());
            }
            _ => tracing::warn!(
                "the stored snapshot does not fit; folding the ledger from its start"
            ),
        }
        Ok(())
    }

    /// Reads and publishes what others appended, and takes the tree of the store's head.
    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let head = loop {
            let head = self.shared.store.head().await?;
            if self.world.size > head.size {
                return Err(StoreError::Damaged(format!(
                    "the store has {} entries and had {} before; restore it, then start again",
                    head.size, self.world.size
                )));
            }
            while self.world.size < head.size {
                self.read_page().await?;
            }
            if self.world.size == head.size {
                break head;
            }
        };
        self.tree = Tree::from_head(&head)
            .map_err(|error| StoreError::Damaged(format!("the stored head: {error}")))?;
        if self.following {
            self.follow_bundle().await;
        }
        Ok(())
    }

    async fn read_page(&mut self) -> Result<(), StoreError> {
        let page = self.shared.store.read(self.world.size, READ_PAGE).await?;
        if page.is_empty() {
            return Err(StoreError::Damaged(format!(
                "entry {} is missing; run `countersign ledger verify`",
                self.world.size
            )));
        }
        let mut entries = Vec::with_capacity(page.len());
        for stored in page {
            let damaged = |error: String| {
                StoreError::Damaged(format!(
                    "entry {}: {error}; run `countersign ledger verify`",
                    stored.seq
                ))
            };
            let entry = entry::decode(&stored.bytes).map_err(|error| damaged(error.to_string()))?;
            self.world
                .apply(&entry)
                .map_err(|error| damaged(error.to_string()))?;
            entries.push(entry);
        }
        self.shared.publish(&entries);
        Ok(())
    }

    /// Decisions are made under the bundle in force and no other. What asks no policy, and above all what ends
    /// access, goes on without it.
    fn policy_in_force(&self, command: &Command) -> bool {
        let free = matches!(
            command,
            Command::Open { .. }
                | Command::ApplyBundle { .. }
                | Command::Lapse { .. }
                | Command::ClaimEnd { .. }
                | Command::RecordEnd { .. }
                | Command::RecordMint { .. }
                | Command::LoseAnswer { .. }
                | Command::Finish { .. }
                | Command::Withdraw { .. }
                | Command::DisableAgent { .. }
                | Command::SetFreeze { .. }
                | Command::NoteSession { .. }
                | Command::AcceptClock { .. }
                | Command::FindOrphan { .. }
                | Command::RecordOrphanEnd { .. }
        ) || matches!(
            command,
            Command::Revoke {
                by: Revoker::Agent(_) | Revoker::Operator,
                ..
            }
        );
        free || self.world.bundle.map(|(bundle, _)| bundle) == Some(self.policy.bundle())
    }

    /// Loads the bundle another broker put in force.
    async fn follow_bundle(&mut self) {
        let Some((bundle, content)) = self
            .world
            .bundle
            .filter(|(bundle, _)| *bundle != self.policy.bundle())
        else {
            return;
        };
        match self.shared.load_bundle(&bundle, &content).await {
            Ok(policy) => {
                self.policy = Arc::clone(&policy);
                self.shared.set_policy(policy);
            }
            Err(error) => tracing::error!(%error, "the bundle in force cannot be loaded"),
        }
    }

    /// A snapshot is a cache: losing it, or failing to write it, costs time at the next start and nothing else.
    /// The more is open, the longer it takes to write one, so the rarer it is.
    fn snapshot_now_and_then(&mut self) {
        let due = |world: &World| {
            let weight = u64::try_from(world.weight()).unwrap_or(u64::MAX);
            let every = SNAPSHOT_EVERY.max(weight.saturating_mul(SNAPSHOT_WEIGHT));
            (world.size >= self.snapshot_size.saturating_add(every)).then(|| world.clone())
        };
        // The published world: ours may be ahead of what is durable.
        let Some(world) = self.shared.world(due) else {
            return;
        };
        self.snapshot_size = world.size;
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(async move {
            if let Err(error) = write_snapshot(&shared, world).await {
                tracing::warn!(%error, "the snapshot could not be written");
            }
        });
    }
}

async fn write_snapshot(shared: &Shared, world: World) -> anyhow::Result<()> {
    let last = shared.store.read(world.size.saturating_sub(1), 1).await?;
    let last = last.first().map(|entry| Digest::of(&entry.bytes));
    let size = world.size;
    let bytes = tokio::task::spawn_blocking(move || serde_json::to_vec(&world)).await??;
    if let Some(last) = last {
        shared
            .store
            .put_snapshot(Snapshot { size, last, bytes })
            .await?;
    }
    Ok(())
}

/// The request a command is about, for the reply when the command has no events.
fn subject(world: &World, command: &Command) -> Option<RequestId> {
    match command {
        Command::Submit(submit) => {
            let recent = world.recent(&submit.agent, submit.idempotency_key.as_ref()?)?;
            Some(recent.request.clone())
        }
        Command::Withdraw { request, .. }
        | Command::Collect { request, .. }
        | Command::Finish { request, .. }
        | Command::Revoke { request, .. }
        | Command::Lapse { request } => Some(request.clone()),
        _ => None,
    }
}
