//! The two loops, and the calls the surfaces make.
//!
//! * the sequencer: commands that arrive together are decided and appended together (group commit)
//! * the worker: takes what is due, claims it with an entry, does the I/O, records the outcome
//!
//! A call that returns `Ok` is durable. A call that fails with [`BrokerError::Unavailable`] granted nothing;
//! repeating it with the same idempotency key is safe.

mod agents;
mod calls;
mod clock;
mod collect;
mod draft;
mod guards;
mod keys;
mod people;
mod read;
mod reading;
mod sequencer;
mod shared;
mod snapshots;
mod targets;
mod waiters;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc;

pub use self::guards::GuardShut;
pub use self::shared::{BundleLoader, Loaded, Ports};
pub use self::targets::{Seen, Standing};

use self::calls::Calls;
use self::draft::{Reply, SequenceError};
use self::guards::Guards;
use self::sequencer::Sequencer;
use self::shared::Shared;
use self::targets::TargetWatch;
use self::worker::Worker;
use crate::domain::command::{GiveReview, RefusalCode, Revoker};
use crate::domain::event::BlobRef;
use crate::domain::request::ReviewDecision;
use crate::domain::{
    ActionName, Agent, AgentName, Command, Digest, Explanation, LeaseId, Person, Policy, Refusal,
    Request, RequestId, Reviewer, Seconds, TargetName, Time,
};
pub use crate::issuers::{AwsCredential, Credential, MariadbCredential, PostgresCredential};
use crate::store::Blob;

/// Commands that may wait for the sequencer before callers have to wait themselves.
const INBOX: usize = 1024;
/// How long a stopping broker waits for what is under way.
const DRAIN: Duration = Duration::from_secs(30);

/// Why a call to the broker did not go through.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The rules say no; nothing changed, apart from the record of the attempt.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// The store or the target could not serve; nothing was granted. Worth trying again.
    #[error("{what} is unavailable")]
    Unavailable {
        /// What: `ledger`, or a target's name.
        what: String,
    },
    /// The store is not the ledger this broker knows; nothing was granted, and nothing will be before the operator acts.
    #[error("the ledger is in doubt")]
    InDoubt,
}

impl From<SequenceError> for BrokerError {
    fn from(error: SequenceError) -> Self {
        match error {
            SequenceError::Refused(refusal) => BrokerError::Refused(refusal),
            SequenceError::Unavailable => BrokerError::Unavailable {
                what: "ledger".into(),
            },
            SequenceError::InDoubt => BrokerError::InDoubt,
        }
    }
}

/// What an agent asks for, before it has an id.
#[derive(Clone, Debug)]
pub struct NewRequest {
    /// The person it acts for, if any.
    pub on_behalf_of: Option<Person>,
    /// The action.
    pub action: ActionName,
    /// Its parameters.
    pub parameters: Map<String, Value>,
    /// The lifetime asked for.
    pub ttl: Option<Seconds>,
    /// The agent's own words: a JSON object of untrusted texts (reason, task, model, …).
    pub context: Option<Value>,
    /// The idempotency key, if any.
    pub idempotency_key: Option<String>,
    /// SHA-256 of the canonical request body.
    pub fingerprint: Digest,
}

/// A collected credential: handed to the agent once.
#[derive(Debug)]
pub struct Collected {
    /// Its lease.
    pub lease: LeaseId,
    /// When it ends.
    pub expires: Time,
    /// Until when its agent has to acknowledge it.
    pub acknowledge_by: Time,
    /// The credential.
    pub credential: Credential,
}

/// The broker, as the surfaces call it. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    calls: Calls,
    guards: Arc<Guards>,
    targets: TargetWatch,
}

impl Broker {
    /// Reads the ledger, puts the bundle in force and starts both loops.
    ///
    /// # Errors
    /// When the store does not serve, the bundle is refused, or a live lease is at a target that is not configured.
    pub async fn start(ports: Ports) -> anyhow::Result<Self> {
        let (shared, bundle) = Shared::new(ports);
        let bundle = Blob::new([0; 16], bundle);
        let sequencer = Sequencer::start(Arc::clone(&shared), bundle).await?;
        let missing = shared.world(|world| {
            let leases = world.leases.values();
            let held = leases.filter(|lease| lease.abandoned_at().is_none());
            let targets = held.map(|lease| &lease.target);
            targets
                .chain(world.orphans.keys().map(|(target, _)| target))
                .find(|target| !shared.issuers.contains_key(*target))
                .cloned()
        });
        if let Some(target) = missing.filter(|_| shared.doubt().is_none()) {
            anyhow::bail!(
                "target {target} still has live leases but is not in countersign.toml; keep it there until they have ended, or give them up with `countersign abandon`"
            );
        }
        let (sender, inbox) = mpsc::channel(INBOX);
        let calls = Calls::new(Arc::clone(&shared), sender);
        let guards = Arc::new(Guards::new(Arc::clone(&calls.shared)));
        let worker = Worker::new(calls.clone(), Arc::clone(&guards));
        // The sequencer is not tracked: it serves until the last caller is gone, and the tracked tasks call it.
        SequencerTask::spawn(Arc::clone(&shared), sequencer, inbox);
        let targets = TargetWatch::new(calls.clone());
        targets.look_at_all().await;
        for target in shared.issuers.keys() {
            let name = format!("watching target {target}");
            shared.supervise(name, targets.clone().watch_for_ever(target.clone()));
        }
        shared.supervise(
            "watching the clock".into(),
            clock::watch(Arc::clone(&shared)),
        );
        shared.supervise(
            "keeping the keys of the last day".into(),
            keys::keep(Arc::clone(&shared)),
        );
        worker.start();
        Ok(Self {
            calls,
            guards,
            targets,
        })
    }

    /// Stops taking duties and waits, at most half a minute, for what is under way. What is left is
    /// taken up by another broker or the next start.
    pub async fn stop(&self) {
        self.calls.shared.stop.cancel();
        self.calls.shared.tasks.close();
        if tokio::time::timeout(DRAIN, self.calls.shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("stopping with duties under way; the next start takes them up");
        }
    }

    /// Waits until the broker cannot go on; why. Whoever runs it then ends the process, so that a supervisor starts it anew.
    pub async fn broken(&self) -> String {
        let mut broken = self.calls.shared.broken();
        let why = broken.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    /// Now, by the broker's clock.
    pub fn now(&self) -> Time {
        self.calls.shared.clock.now()
    }

    /// The bundle in force.
    pub fn policy(&self) -> Arc<dyn Policy> {
        self.calls.shared.bundle().policy
    }

    /// A text to be kept beside the ledger, and the reference to it.
    fn blob(&self, text: Option<Vec<u8>>) -> (Option<BlobRef>, Vec<Blob>) {
        let Some(bytes) = text else {
            return (None, Vec::new());
        };
        let blob = self.kept_text(bytes);
        (
            Some(BlobRef {
                sha256: blob.sha256,
            }),
            vec![blob],
        )
    }

    fn kept_text(&self, bytes: Vec<u8>) -> Blob {
        let mut salt = [0; 16];
        self.calls.shared.entropy.fill(&mut salt);
        Blob::new(salt, bytes)
    }

    /// A person approves or denies the digest they saw.
    ///
    /// # Errors
    /// A refusal, or the ledger is unavailable.
    pub async fn review(
        &self,
        reviewer: Reviewer,
        id: &RequestId,
        digest: Digest,
        decision: ReviewDecision,
        comment: Option<String>,
    ) -> Result<Request, BrokerError> {
        let (comment, blobs) = self.blob(comment.map(String::into_bytes));
        let request = id.clone();
        let review = GiveReview {
            reviewer,
            request,
            digest,
            decision,
            comment,
        };
        let reply = self
            .calls
            .send_with(Command::Review(Box::new(review)), blobs)
            .await;
        match reply {
            Err(SequenceError::Refused(refusal)) if refusal.code == RefusalCode::NotFound => {
                match self.request(id).await? {
                    Some(_) => Err(Refusal::new(
                        RefusalCode::NotPending,
                        "the request is over and waits for nobody",
                        "There is nothing to decide any more.",
                    )
                    .into()),
                    None => Err(refusal.into()),
                }
            }
            other => self.settled(id, other).await,
        }
    }

    /// Ends a lease early, or stops a request that has none yet.
    ///
    /// # Errors
    /// A refusal, or the ledger is unavailable.
    pub async fn revoke(&self, by: Revoker, id: &RequestId) -> Result<Request, BrokerError> {
        let command = Command::Revoke {
            by,
            request: id.clone(),
        };
        self.settled(id, self.calls.send(command).await).await
    }

    /// Gives up a lease whose end cannot be proven: its request is over, and it stays listed until its end is proven.
    ///
    /// # Errors
    /// A refusal, or the ledger is unavailable.
    pub async fn abandon(&self, lease: &LeaseId, reason: String) -> Result<(), BrokerError> {
        let blob = self.kept_text(reason.into_bytes());
        let command = Command::AbandonLease {
            lease: lease.clone(),
            reason: BlobRef {
                sha256: blob.sha256,
            },
        };
        self.calls.send_with(command, vec![blob]).await?;
        Ok(())
    }

    /// Adds an agent outside the bundle.
    ///
    /// # Errors
    /// A refusal, or the ledger is unavailable.
    pub async fn enroll_agent(&self, agent: Agent) -> Result<(), BrokerError> {
        let command = Command::EnrollAgent {
            agent: Box::new(agent),
        };
        self.calls.send(command).await.map(drop).map_err(Into::into)
    }

    /// Stops serving an agent and ends what it holds.
    ///
    /// # Errors
    /// A refusal, or the ledger is unavailable.
    pub async fn disable_agent(&self, agent: &AgentName) -> Result<(), BrokerError> {
        let command = Command::DisableAgent {
            agent: agent.clone(),
        };
        self.calls.send(command).await.map(drop).map_err(Into::into)
    }

    /// The request's scope explained for a reviewer.
    pub fn explain(&self, request: &Request) -> Explanation {
        let sealed = request.sealed();
        let targets = self.calls.shared.bundle().targets;
        targets.explain(&sealed.target, &sealed.scope, sealed.ttl_seconds)
    }

    /// The targets credentials can be minted at.
    pub fn targets(&self) -> Vec<TargetName> {
        self.calls.shared.issuers.keys().cloned().collect()
    }

    /// The request after a command, from the reply or, when it was over before, from the ledger.
    async fn settled(
        &self,
        id: &RequestId,
        reply: Result<Reply, SequenceError>,
    ) -> Result<Request, BrokerError> {
        match reply?.request {
            Some(request) => Ok(Request::clone(&request)),
            None => self.request(id).await?.ok_or_else(ledger_unavailable),
        }
    }
}

fn ledger_unavailable() -> BrokerError {
    BrokerError::Unavailable {
        what: "ledger".into(),
    }
}

/// The one task that is not tracked.
struct SequencerTask;

impl SequencerTask {
    #[expect(
        clippy::disallowed_methods,
        reason = "it ends by itself when its last caller is gone"
    )]
    fn spawn(shared: Arc<Shared>, sequencer: Sequencer, inbox: mpsc::Receiver<draft::Envelope>) {
        let loops = tokio::spawn(sequencer.run(inbox));
        drop(tokio::spawn(async move {
            let ended = loops.await;
            shared.ended("sequencer", ended.err().map(|error| error.to_string()));
        }));
    }
}
