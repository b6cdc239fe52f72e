//! What agents ask of the broker, from the first word to the last.

use std::time::Duration;

use serde_json::{Map, Value};

use super::draft::SequenceError;
use super::{Broker, BrokerError, Collected, NewRequest, collect, ledger_unavailable};
use crate::domain::command::{Prepared, RefusalCode, Submit};
use crate::domain::{AgentName, Command, Digest, LeaseId, Refusal, Request, RequestId, decide};

impl Broker {
    /// Asks for an action. The flag says the answer is a replay of an earlier call with the same idempotency key.
    ///
    /// # Errors
    /// A refusal, or the ledger is unavailable.
    pub async fn submit(
        &self,
        agent: &AgentName,
        ask: NewRequest,
    ) -> Result<(Request, bool), BrokerError> {
        let shared = &self.calls.shared;
        let (context, blobs) = self.blob(ask.context.map(|c| c.to_string().into_bytes()));
        let key = ask.idempotency_key.map(|key| Digest::of(key.as_bytes()));
        let request = RequestId::draw(shared.clock.now(), shared.entropy.draw());
        let earlier = match &key {
            Some(key) => self.earlier(agent, key).await?,
            None => None,
        };
        let fingerprint = ask.fingerprint;
        let mut submit = Submit {
            request,
            agent: agent.clone(),
            on_behalf_of: ask.on_behalf_of,
            action: ask.action,
            parameters: ask.parameters,
            ttl: ask.ttl,
            context,
            idempotency_key: key,
            earlier: earlier.clone(),
            fingerprint,
            prepared: None,
        };
        submit.prepared = self.prepare(&submit);
        let reply = self
            .calls
            .send_with(Command::Submit(Box::new(submit)), blobs)
            .await?;
        let found = match reply.request {
            Some(request) if !reply.events.is_empty() => {
                return Ok((Request::clone(&request), false));
            }
            Some(open) => Some(Request::clone(&open)),
            // A replay of a request that is over: the ledger still knows it.
            None => {
                let recent = shared.world(|world| world.recent(agent, &key?).cloned());
                match recent.or(earlier) {
                    Some(recent) => self.request(&recent.request).await?,
                    None => None,
                }
            }
        };
        // What the key led to comes from the store: it must be what this agent asked for.
        let is_theirs = |request: &Request| {
            let submission = &request.submission;
            submission.sealed.agent == *agent
                && submission.idempotency_key == key
                && submission.fingerprint == fingerprint
        };
        found
            .filter(is_theirs)
            .map(|request| (request, true))
            .ok_or_else(ledger_unavailable)
    }

    /// Does in the caller's task what of a submit needs not wait for its turn.
    fn prepare(&self, submit: &Submit) -> Option<Box<Prepared>> {
        let shared = &self.calls.shared;
        let bundle = shared.bundle();
        let rules = bundle.rules();
        let standing = shared.world(|world| decide::standing(world, submit, &rules))?;
        let now = shared.clock.now();
        Some(Box::new(decide::prepare(standing, submit, &rules, now)))
    }

    /// Waits until the request leaves the stage `while_at` (see [`World::stage`]), or the time is up; returns it as it
    /// then is.
    ///
    /// # Errors
    /// When the ledger is unavailable.
    pub async fn wait(
        &self,
        id: &RequestId,
        while_at: &str,
        at_most: Duration,
    ) -> Result<Option<Request>, BrokerError> {
        let deadline = tokio::time::Instant::now() + at_most;
        let mut following = self.calls.shared.follow(id);
        loop {
            following.mark_unchanged();
            let waiting = self.calls.shared.world(|world| {
                let open = world.requests.get(id);
                open.is_some_and(|request| world.stage(request) == while_at)
            });
            if !waiting
                || tokio::time::timeout_at(deadline, following.moved())
                    .await
                    .is_err()
            {
                return self.request(id).await;
            }
        }
    }

    /// The agent takes its request back.
    ///
    /// # Errors
    /// A refusal, or the ledger is unavailable.
    pub async fn withdraw(
        &self,
        agent: &AgentName,
        id: &RequestId,
    ) -> Result<Request, BrokerError> {
        let command = Command::Withdraw {
            agent: agent.clone(),
            request: id.clone(),
        };
        self.settled(id, self.calls.send(command).await).await
    }

    /// Mints and hands over the credential, once. `key` is the idempotency key: the same key again means
    /// the answer was lost, so what it carried is ended before another credential is minted.
    ///
    /// # Errors
    /// A refusal, or the target or the ledger is unavailable.
    pub async fn collect(
        &self,
        agent: &AgentName,
        id: &RequestId,
        key: &str,
    ) -> Result<Collected, BrokerError> {
        match collect::collect(&self.calls, agent, id, key).await {
            // A request that is over has left the world; to its own agent that is `gone`, not `not_found`.
            Err(BrokerError::Refused(refusal)) if refusal.code == RefusalCode::NotFound => {
                self.over(agent, id, refusal).await?;
                Err(Refusal::new(
                    RefusalCode::Gone,
                    "the request is over",
                    "Ask again for another credential.",
                )
                .into())
            }
            other => other,
        }
    }

    /// The agent's own request that is over and has left the world, or else the refusal that did not find it.
    async fn over(
        &self,
        agent: &AgentName,
        id: &RequestId,
        refusal: Box<Refusal>,
    ) -> Result<Request, BrokerError> {
        let request = self.request(id).await?;
        let own = request.filter(|request| &request.sealed().agent == agent);
        own.ok_or_else(|| refusal.into())
    }

    /// The agent holds the credential of a lease, which would otherwise end a minute after it was minted.
    ///
    /// # Errors
    /// A refusal, or the ledger is unavailable.
    pub async fn acknowledge(
        &self,
        agent: &AgentName,
        lease: &LeaseId,
    ) -> Result<Request, BrokerError> {
        let command = Command::Acknowledge {
            agent: agent.clone(),
            lease: lease.clone(),
        };
        let reply = self.calls.send(command).await?;
        let request = reply.request.ok_or_else(ledger_unavailable)?;
        Ok(Request::clone(&request))
    }

    /// The agent is done; the lease ends now. Finishing what is over answers with how it came out.
    ///
    /// # Errors
    /// A refusal, or the ledger is unavailable.
    pub async fn finish(
        &self,
        agent: &AgentName,
        id: &RequestId,
        report: Map<String, Value>,
    ) -> Result<Request, BrokerError> {
        let command = Command::Finish {
            agent: agent.clone(),
            request: id.clone(),
            report,
        };
        match self.calls.send(command).await {
            Err(SequenceError::Refused(refusal)) if refusal.code == RefusalCode::NotFound => {
                self.over(agent, id, refusal).await
            }
            other => self.settled(id, other).await,
        }
    }
}
