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
use tokio::task::JoinHandle;

use super::draft::{Draft, Envelope, Flight, Reply, SequenceError, answer, answer_unavailable};
use super::shared::{Loaded, Shared};
use super::snapshots::Snapshots;
use crate::domain::event::BlobRef;
use crate::domain::{Command, Entry, Event, Refusal, Request, Time, World, decide};
use crate::ledger::tree::leaf_hash;
use crate::ledger::{Tree, entry};
use crate::store::{Batch, Blob, Head, StoreError, StoredEntry};

/// Most commands decided and appended together.
const BATCH_MAX: usize = 256;
/// Conflicts in a row on one tree, after which a store does not take appends.
const CONFLICTS_MAX: u32 = 20;

/// The sequencer's own state. `world` may be ahead of what is durable while batches are drafted and appended;
/// the published world never is.
pub(super) struct Sequencer {
    pub(super) shared: Arc<Shared>,
    pub(super) world: World,
    /// The tree of the entries in `world`.
    pub(super) tree: Tree,
    /// The tree of the entries in the published world.
    pub(super) published: Tree,
    /// The newest head of an earlier start, until what is read was found to continue it.
    pub(super) known: Option<Tree>,
    /// The newest durable head, being kept outside the store.
    keeping: Option<JoinHandle<()>>,
    /// The published tree at the latest conflict, and how many there were on it.
    contested: (Tree, u32),
    bundle: Loaded,
    pub(super) snapshots: Snapshots,
    /// The world may differ from the store and must be read again before anything is decided.
    pub(super) stale: bool,
    /// Whether bundles that other brokers put in force are taken over: not before our own is.
    pub(super) following: bool,
}

impl Sequencer {
    /// Reads the ledger, opens it if it is new, and puts the bundle in force. When the store is not to be believed, it
    /// serves all the same: nothing is decided until the next start, and what the key vouches for is ended.
    ///
    /// # Errors
    /// When the store cannot be read or written, or the ledger does not let the bundle in.
    pub(super) async fn start(shared: Arc<Shared>, content: Blob) -> anyhow::Result<Self> {
        let (bundle, snapshots) = (shared.bundle(), Snapshots::new(&shared));
        let mut sequencer = Self {
            shared,
            world: World::default(),
            tree: Tree::default(),
            published: Tree::default(),
            known: None,
            keeping: None,
            contested: (Tree::default(), 0),
            bundle,
            snapshots,
            stale: true,
            following: false,
        };
        let read = sequencer.first_reading().await;
        sequencer.shared.note_reading(&read);
        match read {
            Ok(()) => sequencer.open(content).await?,
            Err(StoreError::Damaged(_)) => sequencer.salvage().await,
            Err(error) => return Err(error.into()),
        }
        Ok(sequencer)
    }

    /// Opens the ledger if it is new, and puts the bundle in force.
    async fn open(&mut self, content: Blob) -> anyhow::Result<()> {
        let origin = self.shared.key.verifying_key().name().to_owned();
        let blob = BlobRef {
            sha256: content.sha256,
        };
        let (reply, opened) = oneshot::channel();
        let open = Envelope {
            command: Command::Open { origin },
            blobs: Vec::new(),
            reply,
        };
        let (reply, applied) = oneshot::channel();
        let apply = Envelope {
            command: Command::ApplyBundle { content: blob },
            blobs: vec![content],
            reply,
        };
        let mut draft = Draft::default();
        self.decide_all(vec![open, apply], &mut draft).await;
        while let Some(mut flight) = self.send_off(&mut draft) {
            let outcome = flight.landed().await;
            self.settle(flight, outcome, &mut draft).await;
        }
        for answer in [opened, applied] {
            answer
                .await
                .unwrap_or(Err(SequenceError::Unavailable))
                .map_err(|error| anyhow::anyhow!("put the bundle in force: {error}"))?;
        }
        self.following = true;
        Ok(())
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
                () = self.shared.stop.cancelled(), if self.snapshots.go_on() => self.last_snapshot(),
                () = self.shared.store.changed(), if flight.is_none() && self.following => {
                    let read = if self.stale { self.reload().await } else { self.catch_up().await };
                    self.shared.note_reading(&read);
                    if let Err(error) = read {
                        self.stale = true;
                        tracing::warn!(error = error.in_full(), "the ledger could not be read; trying again");
                        self.shared.pause().await;
                    }
                }
            }
        }
    }

    /// Decides `envelopes` on the world as everything before them leaves it, and adds them to `draft`.
    async fn decide_all(&mut self, envelopes: Vec<Envelope>, draft: &mut Draft) {
        // Only after a failure, and then nothing is in flight.
        if self.stale && !envelopes.is_empty() && !self.reread().await {
            answer_unavailable(envelopes);
            return;
        }
        for envelope in envelopes {
            let result = self.draft_one(&envelope, draft);
            draft.results.push(result);
            draft.envelopes.push(envelope);
        }
    }

    /// Whether the world is what the store holds, again. What could not be believed at the start is not until the next.
    async fn reread(&mut self) -> bool {
        if self.shared.doubt().is_some() && !self.following {
            return false;
        }
        let read = self.reload().await;
        self.shared.note_reading(&read);
        read.inspect_err(|error| {
            tracing::error!(error = error.in_full(), "commands could not be decided")
        })
        .is_ok()
    }

    /// Sends the draft to the store; nothing else may be in flight. Answers leave once the head before this one is kept
    /// outside the store, which is under way since that one was durable. A draft without entries is answered at once:
    /// all it rests on is durable.
    fn send_off(&mut self, draft: &mut Draft) -> Option<Flight> {
        let mut draft = std::mem::take(draft);
        let Some(expected) = draft.base else {
            answer(draft.envelopes, draft.results);
            return None;
        };
        let (size, root) = (self.tree.size(), self.tree.root());
        let checkpoint = self.shared.key.sign_head(size, &root);
        if let Some(last) = draft.entries.last_mut() {
            last.signature = Some(checkpoint.signature);
        }
        let head = Head {
            size,
            edge: self.tree.edge().to_vec(),
            checkpoint: checkpoint.note,
        };
        let batch = Batch {
            expected,
            entries: draft.entries,
            blobs: draft.blobs,
            head: head.clone(),
        };
        let shared = Arc::clone(&self.shared);
        let keeping = self.keeping.take();
        let append = async move {
            let outcome = shared.store.append(batch).await;
            if let Some(keeping) = keeping {
                drop(keeping.await);
            }
            outcome
        };
        Some(Flight {
            folded: draft.folded,
            tree: self.tree.clone(),
            head,
            envelopes: draft.envelopes,
            results: draft.results,
            append: self.shared.tasks.spawn(append),
        })
    }

    /// Begins to keep `head` outside the store.
    pub(super) fn keep(&mut self, head: Head) {
        let shared = Arc::clone(&self.shared);
        self.keeping = Some(self.shared.tasks.spawn(async move {
            let kept = shared.known_head.keep(head).await;
            shared.note_keeping(kept);
        }));
    }

    /// Takes in what became of a batch. When it was not written, or nobody knows, the world ran ahead of the
    /// store: it is read again, and what was decided on it in `draft` is decided again.
    async fn settle(&mut self, flight: Flight, outcome: Result<(), StoreError>, draft: &mut Draft) {
        let Err(error) = outcome else {
            self.shared.note_writing(None);
            self.shared.publish(&flight.folded);
            self.published = flight.tree;
            self.keep(flight.head);
            self.snapshot_now_and_then();
            answer(flight.envelopes, flight.results);
            return;
        };
        self.stale = true;
        let mut again = Vec::new();
        if matches!(error, StoreError::Conflict) && self.may_be_contested() {
            tracing::debug!("another broker appended first; deciding again");
            again = flight.envelopes;
        } else {
            tracing::error!(error = error.in_full(), "commands could not be appended");
            self.shared.note_writing(Some(error.in_full()));
            answer_unavailable(flight.envelopes);
        }
        again.append(&mut std::mem::take(draft).envelopes);
        self.decide_all(again, draft).await;
    }

    /// Whether a conflict may mean that another broker was first. A store that goes on saying so and holds what it held
    /// does not take appends; its callers are told, and it is not asked without end.
    fn may_be_contested(&mut self) -> bool {
        let (tree, times) = &mut self.contested;
        if *tree != self.published {
            *tree = self.published.clone();
            *times = 0;
        }
        *times += 1;
        *times <= CONFLICTS_MAX
    }

    /// Decides one command on the world as the commands before it leave it.
    fn draft_one(
        &mut self,
        envelope: &Envelope,
        draft: &mut Draft,
    ) -> Result<Reply, SequenceError> {
        let now = self.shared.clock.now().max(self.world.time);
        if envelope.command.asks_policy() && !self.policy_in_force() {
            tracing::error!("the bundle in force is not the one this broker has loaded");
            return Err(SequenceError::Unavailable);
        }
        let decided = decide(&self.world, &envelope.command, &self.bundle.rules(), now);
        let (events, refusal) = match decided {
            Ok(events) => (events, None),
            Err(mut refusal) => (std::mem::take(&mut refusal.record), Some(refusal)),
        };
        let subject = envelope.command.subject(&self.world).cloned();
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
                v: entry::VERSION,
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
        if draft.base.is_none() && !entries.is_empty() {
            draft.base = Some(self.tree.clone());
        }
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

    /// Decisions are made under the bundle in force and no other.
    fn policy_in_force(&self) -> bool {
        self.world.bundle.map(|(bundle, _)| bundle) == Some(self.bundle.policy.bundle())
    }

    /// Loads the bundle another broker put in force.
    pub(super) async fn follow_bundle(&mut self) {
        let Some((bundle, content)) = self
            .world
            .bundle
            .filter(|(bundle, _)| *bundle != self.bundle.policy.bundle())
        else {
            return;
        };
        match self.shared.load_bundle(&bundle, &content).await {
            Ok(loaded) => {
                self.bundle = loaded.clone();
                self.shared.set_bundle(loaded);
            }
            Err(error) => tracing::error!(%error, "the bundle in force cannot be loaded"),
        }
    }
}
