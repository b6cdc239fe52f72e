//! What the pages need of the broker, and no more: they can read, review and revoke.
//! They cannot ask, collect or administer.

use async_trait::async_trait;

use crate::broker::{Broker, BrokerError};
use crate::domain::command::Revoker;
use crate::domain::event::BlobRef;
use crate::domain::request::ReviewDecision;
use crate::domain::{
    Action, ActionName, Digest, Entry, Event, Explanation, Person, Refusal, Request, RequestId,
    Reviewer, Time,
};

/// The broker as reviewers use it. [`Broker`] is the one in service.
#[async_trait]
pub trait Desk: Send + Sync + 'static {
    /// Now, by the broker's clock.
    fn now(&self) -> Time;

    /// An action of the catalog in force.
    fn action(&self, name: &ActionName) -> Option<Action>;

    /// All open requests, oldest first.
    fn open_requests(&self) -> Vec<Request>;

    /// What `review` would say to this person, without recording anything.
    ///
    /// # Errors
    /// The refusal they would get.
    fn may_review(&self, reviewer: &Reviewer, request: &Request) -> Result<(), Box<Refusal>>;

    /// Whether policy lets this person revoke it.
    fn may_revoke(&self, reviewer: &Reviewer, request: &Request) -> bool;

    /// The request's scope explained.
    fn explain(&self, request: &Request) -> Explanation;

    /// A request by id, open or closed.
    ///
    /// # Errors
    /// When the ledger does not answer.
    async fn request(&self, id: &RequestId) -> Result<Option<Request>, BrokerError>;

    /// The latest requests, open or closed, newest first.
    ///
    /// # Errors
    /// When the ledger does not answer.
    async fn latest(&self, limit: usize) -> Result<Vec<Request>, BrokerError>;

    /// All entries of a request, oldest first.
    ///
    /// # Errors
    /// When the ledger does not answer.
    async fn timeline(&self, id: &RequestId) -> Result<Vec<Entry>, BrokerError>;

    /// The text behind a reference, unless it was erased.
    ///
    /// # Errors
    /// When the ledger does not answer.
    async fn text(&self, blob: &BlobRef) -> Result<Option<String>, BrokerError>;

    /// A person approves or denies the digest they saw.
    ///
    /// # Errors
    /// The refusal, or that the ledger does not answer; nothing is decided then.
    async fn review(
        &self,
        reviewer: Reviewer,
        id: &RequestId,
        digest: Digest,
        decision: ReviewDecision,
        comment: Option<String>,
    ) -> Result<Request, BrokerError>;

    /// A person ends a lease early.
    ///
    /// # Errors
    /// The refusal, or that the ledger does not answer.
    async fn revoke(&self, reviewer: Reviewer, id: &RequestId) -> Result<Request, BrokerError>;

    /// Records that a person signed in or out.
    ///
    /// # Errors
    /// When the ledger does not answer.
    async fn note_session(&self, person: &Person, signed_in: bool) -> Result<(), BrokerError>;

    /// When the lease in force must end, if one is live.
    ///
    /// # Errors
    /// When the ledger does not answer.
    async fn expires(&self, request: &Request) -> Result<Option<Time>, BrokerError> {
        let Some(lease) = request.lease() else {
            return Ok(None);
        };
        let entries = self.timeline(request.id()).await?;
        Ok(entries.iter().rev().find_map(|entry| match &entry.event {
            Event::LeaseLive {
                lease: live,
                expires,
                ..
            } if live == lease => Some(*expires),
            _ => None,
        }))
    }
}

#[async_trait]
impl Desk for Broker {
    fn now(&self) -> Time {
        Broker::now(self)
    }

    fn action(&self, name: &ActionName) -> Option<Action> {
        self.policy().action(name).cloned()
    }

    fn open_requests(&self) -> Vec<Request> {
        Broker::open_requests(self, &|_| true)
    }

    fn may_review(&self, reviewer: &Reviewer, request: &Request) -> Result<(), Box<Refusal>> {
        Broker::may_review(self, reviewer, request)
    }

    fn may_revoke(&self, reviewer: &Reviewer, request: &Request) -> bool {
        Broker::may_revoke(self, reviewer, request)
    }

    fn explain(&self, request: &Request) -> Explanation {
        Broker::explain(self, request)
    }

    async fn request(&self, id: &RequestId) -> Result<Option<Request>, BrokerError> {
        Broker::request(self, id).await
    }

    async fn latest(&self, limit: usize) -> Result<Vec<Request>, BrokerError> {
        let (requests, _) = self.history(None, None, limit).await?;
        Ok(requests)
    }

    async fn timeline(&self, id: &RequestId) -> Result<Vec<Entry>, BrokerError> {
        Broker::timeline(self, id).await
    }

    async fn text(&self, blob: &BlobRef) -> Result<Option<String>, BrokerError> {
        Broker::text(self, blob).await
    }

    async fn review(
        &self,
        reviewer: Reviewer,
        id: &RequestId,
        digest: Digest,
        decision: ReviewDecision,
        comment: Option<String>,
    ) -> Result<Request, BrokerError> {
        Broker::review(self, reviewer, id, digest, decision, comment).await
    }

    async fn revoke(&self, reviewer: Reviewer, id: &RequestId) -> Result<Request, BrokerError> {
        Broker::revoke(self, Revoker::Person(Box::new(reviewer)), id).await
    }

    async fn note_session(&self, person: &Person, signed_in: bool) -> Result<(), BrokerError> {
        Broker::note_session(self, person, signed_in).await
    }
}
