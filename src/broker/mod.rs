//! The two loops, and the calls the surfaces make.
//!
//! * the sequencer: commands that arrive together are decided and appended together (group commit)
//! * the worker: takes what is due, claims it with an entry, does the I/O, records the outcome

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::domain::command::Revoker;
use crate::domain::event::BlobRef;
use crate::domain::request::ReviewDecision;
use crate::domain::{
    ActionName, Agent, AgentName, Digest, Entry, Explanation, LeaseId, Person, Policy, Refusal,
    Request, RequestId, Reviewer, Seconds, Time,
};
use crate::issuers::Credential;

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
    /// The credential.
    pub credential: Credential,
}

/// The broker, as the surfaces call it. Cheap to clone.
#[derive(Clone)]
pub struct Broker {}

impl Broker {
    /// Now, by the broker's clock.
    pub fn now(&self) -> Time {
        unimplemented!()
    }

    /// The bundle in force.
    pub fn policy(&self) -> Arc<dyn Policy> {
        unimplemented!()
    }

    /// An agent the broker knows and serves (never a disabled one).
    pub fn agent(&self, _name: &AgentName) -> Option<Agent> {
        unimplemented!()
    }

    /// All agents ever enrolled, with the time they were disabled, if they were.
    pub fn agents(&self) -> Vec<(Agent, Option<Time>)> {
        unimplemented!()
    }

    /// Agents that are served and satisfy `wanted` (looked up when a credential is presented).
    pub fn find_agent(&self, _wanted: &dyn Fn(&Agent) -> bool) -> Option<Agent> {
        unimplemented!()
    }

    /// Asks for an action. The flag says the answer is a replay of an earlier call with the same idempotency key.
    pub async fn submit(
        &self,
        _agent: &AgentName,
        _ask: NewRequest,
    ) -> Result<(Request, bool), BrokerError> {
        unimplemented!()
    }

    /// A request by id, open or closed.
    pub async fn request(&self, _id: &RequestId) -> Result<Option<Request>, BrokerError> {
        unimplemented!()
    }

    /// Waits until the request leaves the state word `while_state` (`pending`, say), or the time is up; returns it as it then is.
    pub async fn wait(
        &self,
        _id: &RequestId,
        _while_state: &str,
        _at_most: Duration,
    ) -> Result<Option<Request>, BrokerError> {
        unimplemented!()
    }

    /// Open requests that satisfy `wanted`, oldest first.
    pub fn open_requests(&self, _wanted: &dyn Fn(&Request) -> bool) -> Vec<Request> {
        unimplemented!()
    }

    /// Requests ended lately or open that satisfy the store query by agent; newest first; `before` continues a page.
    pub async fn history(
        &self,
        _agent: Option<&AgentName>,
        _before: Option<u64>,
        _limit: usize,
    ) -> Result<(Vec<Request>, Option<u64>), BrokerError> {
        unimplemented!()
    }

    /// The agent takes its request back.
    pub async fn withdraw(
        &self,
        _agent: &AgentName,
        _id: &RequestId,
    ) -> Result<Request, BrokerError> {
        unimplemented!()
    }

    /// Mints and hands over the credential, once. `key` is the idempotency key: the same key again means the answer was lost.
    pub async fn collect(
        &self,
        _agent: &AgentName,
        _id: &RequestId,
        _key: &str,
    ) -> Result<Collected, BrokerError> {
        unimplemented!()
    }

    /// The agent is done; the lease ends now.
    pub async fn finish(
        &self,
        _agent: &AgentName,
        _id: &RequestId,
        _report: Map<String, Value>,
    ) -> Result<Request, BrokerError> {
        unimplemented!()
    }

    /// A person approves or denies the digest they saw.
    pub async fn review(
        &self,
        _reviewer: Reviewer,
        _id: &RequestId,
        _digest: Digest,
        _decision: ReviewDecision,
        _comment: Option<String>,
    ) -> Result<Request, BrokerError> {
        unimplemented!()
    }

    /// What `review` would say to this person, without recording anything.
    pub fn may_review(&self, _reviewer: &Reviewer, _request: &Request) -> Result<(), Box<Refusal>> {
        unimplemented!()
    }

    /// Ends a lease early.
    pub async fn revoke(&self, _by: Revoker, _id: &RequestId) -> Result<Request, BrokerError> {
        unimplemented!()
    }

    /// Whether policy lets this person revoke it.
    pub fn may_revoke(&self, _reviewer: &Reviewer, _request: &Request) -> bool {
        unimplemented!()
    }

    /// Adds an agent outside the bundle.
    pub async fn enroll_agent(&self, _agent: Agent) -> Result<(), BrokerError> {
        unimplemented!()
    }

    /// Stops serving an agent and ends what it holds.
    pub async fn disable_agent(&self, _agent: &AgentName) -> Result<(), BrokerError> {
        unimplemented!()
    }

    /// Records that a person signed in or out.
    pub async fn note_session(
        &self,
        _person: &Person,
        _signed_in: bool,
    ) -> Result<(), BrokerError> {
        unimplemented!()
    }

    /// All entries of a request, oldest first.
    pub async fn timeline(&self, _id: &RequestId) -> Result<Vec<Entry>, BrokerError> {
        unimplemented!()
    }

    /// The text behind a reference, unless it was erased.
    pub async fn text(&self, _blob: &BlobRef) -> Result<Option<String>, BrokerError> {
        unimplemented!()
    }

    /// The request's scope explained for a reviewer.
    pub fn explain(&self, _request: &Request) -> Explanation {
        unimplemented!()
    }

    /// Whether the broker can decide now: its ledger answers. `Err` says what does not.
    pub async fn ready(&self) -> Result<(), String> {
        unimplemented!()
    }

    /// The newest signed checkpoint (C2SP signed note).
    pub async fn checkpoint(&self) -> Result<String, BrokerError> {
        unimplemented!()
    }
}
