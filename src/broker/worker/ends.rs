//! One batch of ends: claim, end, prove, record.
//!
//! Dying anywhere in here leaves the duty to whoever comes next: the claim runs out, and ending what is ended already is
//! fine. So what failed before is tried without a claim, and an attempt that says nothing new leaves no entry.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::super::draft::SequenceError;
use super::lane::{Lane, handle_of};
use crate::domain::command::EndFailure;
use crate::domain::decide::NOT_RUN_OUT;
use crate::domain::{Command, Event, LeaseState, Owed, Proof, Seconds, ServerId, Time, World};
use crate::issuers::{EndError, Ending};

/// Those of a batch that fight their end and are fought at the same time.
const FIGHTS: usize = 4;
/// Longest wait between two attempts.
const BACKOFF_MAX_SECONDS: u64 = 60;
/// What is left of a claim to record the outcome in.
const RECORD_MARGIN: Duration = Duration::from_secs(5);
/// How much of a failure's words goes into the ledger.
const LONGEST_DETAIL: usize = 500;

/// What is known of a credential whose end is owed.
pub(super) struct Known {
    pub(super) owed: Owed,
    handle: String,
    scope: Value,
    server: Option<ServerId>,
    expires: Option<Time>,
    over: Option<Time>,
    attempts: u32,
    /// Whether the ledger knows that it is being ended, so that the outcome can be told.
    is_ending: bool,
    /// Whether it was seen to be cut off and only has to run out.
    is_cut_off: bool,
}

impl Known {
    pub(super) fn of(owed: &Owed, world: &World) -> Option<Self> {
        let handle = handle_of(owed);
        let owed = owed.clone();
        Some(match &owed {
            Owed::Lease(id) => {
                let lease = world.leases.get(id)?;
                let (attempts, is_ending) = match lease.state {
                    LeaseState::Ending { attempts, .. } => (attempts, true),
                    LeaseState::Issuing { .. } | LeaseState::Live => (0, false),
                };
                Self {
                    handle,
                    scope: lease.scope.clone(),
                    server: Some(lease.server.clone()),
                    expires: Some(lease.expires),
                    over: Some(world.clock.end_of(lease)),
                    attempts,
                    is_ending,
                    is_cut_off: lease.cut_off_at().is_some(),
                    owed,
                }
            }
            Owed::Orphan(key) => Self {
                handle,
                scope: Value::Null,
                server: None,
                expires: None,
                over: None,
                attempts: world.orphans.get(key)?.attempts,
                is_ending: true,
                is_cut_off: false,
                owed,
            },
        })
    }

    fn ending(&self) -> Ending<'_> {
        Ending {
            handle: &self.handle,
            scope: &self.scope,
            server: self.server.as_ref(),
            expires: self.expires,
            over: self.over,
        }
    }
}

/// How an attempt went.
pub(super) type Attempt<'a> = (&'a Known, Result<Proof, EndError>);

impl Lane {
    /// Ends a batch, within the time that a claim leaves for it, and records each as soon as it is known.
    pub(super) async fn end(self: &Arc<Self>, owed: &[Owed]) {
        let known = self.claim(owed).await;
        if known.is_empty() {
            return;
        }
        let claim = self.calls.shared.bundle().policy.limits().claim_window;
        let until = Instant::now() + Duration::from_secs(claim.0).saturating_sub(RECORD_MARGIN);
        let (willing, fighting) = self.end_willing(&known, until).await;
        self.conclude(willing).await;
        let fights = Semaphore::new(FIGHTS);
        let fight = async |known| {
            let _turn = fights.acquire().await;
            let result = self.fight(known, until).await;
            self.conclude(vec![(known, result)]).await;
        };
        join_all(fighting.into_iter().map(fight)).await;
    }

    /// What is known of those that are ours to end. What failed before needs no claim: see the head of this file.
    async fn claim(&self, owed: &[Owed]) -> Vec<Known> {
        let shared = &self.calls.shared;
        let look = |owed: &Owed| shared.world(|world| Known::of(owed, world));
        let known = owed.iter().filter_map(look).map(|known| Known {
            attempts: self.attempts(&known.owed, known.attempts),
            ..known
        });
        let (fresh, again): (Vec<_>, Vec<_>) =
            known.partition(|known| known.is_ending && known.attempts == 0);
        let claimed = self.claim_fresh(fresh).await;
        claimed.into_iter().chain(again).collect()
    }

    async fn claim_fresh(&self, fresh: Vec<Known>) -> Vec<Known> {
        if fresh.is_empty() {
            return fresh;
        }
        let claim = Command::ClaimEnds {
            broker: self.calls.shared.name.clone(),
            owed: fresh.iter().map(|known| known.owed.clone()).collect(),
        };
        match self.calls.tell(claim).await {
            Ok(events) => {
                let is_ours = |known: &Known| {
                    let owed = Some(&known.owed);
                    events.iter().any(|event| owed_of(event).as_ref() == owed)
                };
                fresh.into_iter().filter(is_ours).collect()
            }
            Err(SequenceError::Refused(refusal)) => {
                tracing::debug!(%refusal, "left to whoever holds the claims");
                Vec::new()
            }
            // The one relaxation of "no state without an entry": access is cut although the ledger cannot be written.
            // The duty stays; once the ledger is back it is claimed, done again and recorded.
            Err(SequenceError::Unavailable | SequenceError::InDoubt) => fresh,
        }
    }

    /// Ends those that let themselves be ended in one go; the rest is to be fought one by one.
    async fn end_willing<'a>(
        &self,
        batch: &'a [Known],
        until: Instant,
    ) -> (Vec<Attempt<'a>>, Vec<&'a Known>) {
        let work = async {
            let cuts = batch.iter().map(|known| self.cut(known));
            let cuts = join_all(cuts).await;
            let endings: Vec<_> = batch.iter().map(Known::ending).collect();
            // What a guard did not cut off is ended all the same, and not called so.
            let ended = self.issuer.end_willing(&endings).await;
            let both = cuts.into_iter().zip(ended);
            both.map(|(cut, ended)| ended.map(|ended| cut.and(ended)))
                .collect::<Vec<_>>()
        };
        let late = |_| batch.iter().map(|_| Some(Err(no_answer()))).collect();
        let ended = timeout_at(until, work).await.unwrap_or_else(late);
        let (mut done, mut rest) = (Vec::new(), Vec::new());
        for (known, ended) in batch.iter().zip(ended) {
            match ended {
                Some(ended) => done.push((known, ended)),
                None => rest.push(known),
            }
        }
        (done, rest)
    }

    async fn cut(&self, known: &Known) -> Result<(), EndError> {
        let (issuer, handle) = (self.issuer.as_ref(), &known.handle);
        let cut = self
            .guards
            .cut(issuer, handle, known.expires, known.attempts);
        cut.await
    }

    /// Ends one by itself.
    pub(super) async fn fight(&self, known: &Known, until: Instant) -> Result<Proof, EndError> {
        let work = async {
            let cut = self.cut(known).await;
            let ended = self.issuer.end_and_prove(&known.ending()).await;
            cut.and(ended)
        };
        let ended = timeout_at(until, work).await;
        ended.unwrap_or_else(|_| Err(no_answer()))
    }

    /// Takes in how attempts went: opens the breaker if the target is away, and records the rest.
    async fn conclude(&self, attempts: Vec<Attempt<'_>>) {
        let attempts = self.without_outage(attempts).await;
        self.record(attempts).await;
    }

    pub(super) async fn record(&self, attempts: Vec<Attempt<'_>>) {
        let mut results = Vec::with_capacity(attempts.len());
        for (known, result) in attempts {
            let failed = known.attempts.saturating_add(1);
            let result = match result {
                // The target's clock is a little behind ours.
                Ok(Proof::CutOff { .. }) if known.is_cut_off => Err(Self::not_run_out(failed)),
                Ok(proof) => Ok(proof),
                Err(error) => {
                    tracing::warn!(handle = known.handle, attempts = failed, %error, "access is not proven ended; trying again");
                    Err(self.failure(known, error))
                }
            };
            match &result {
                Ok(_) => self.let_go(&known.owed),
                Err(failure) => {
                    let pause = Duration::from_secs(failure.retry_in.0);
                    self.hold(&known.owed, failed, pause);
                }
            }
            if known.is_ending {
                results.push((known.owed.clone(), result));
            } else {
                self.hold_unrecorded(&known.owed, known.attempts);
            }
        }
        if results.is_empty() {
            return;
        }
        let owed: Vec<_> = results.iter().map(|(owed, _)| owed.clone()).collect();
        let record = Command::RecordEnds {
            broker: self.calls.shared.name.clone(),
            results,
        };
        if let Err(error) = self.calls.tell(record).await {
            if matches!(error, SequenceError::Refused(_)) {
                return;
            }
            tracing::error!(count = owed.len(), %error, "access is cut without an entry; it is done again when the ledger is back");
            for owed in owed {
                let attempts = self.attempts(&owed, 0);
                self.hold_unrecorded(&owed, attempts);
            }
        }
    }

    fn failure(&self, known: &Known, error: EndError) -> EndFailure {
        EndFailure {
            code: error.code,
            detail: shortened(&error.detail),
            attempts: known.attempts.saturating_add(1),
            retry_in: self.backoff(known.attempts),
        }
    }

    /// A credential that should have run out by our clock.
    fn not_run_out(attempts: u32) -> EndFailure {
        EndFailure {
            code: "not_run_out".into(),
            detail: String::new(),
            attempts,
            retry_in: NOT_RUN_OUT,
        }
    }

    /// 1, 2, 4 … 60 seconds, half of it by chance so that many leases do not come back at once.
    fn backoff(&self, attempts: u32) -> Seconds {
        let ceiling = (1u64 << attempts.min(6)).min(BACKOFF_MAX_SECONDS);
        let chance = u64::try_from(self.calls.shared.entropy.draw() % 1000).unwrap_or(0);
        Seconds((ceiling / 2 + ceiling * chance / 2000).max(1))
    }
}

/// The credential whose end an event claims.
fn owed_of(event: &Event) -> Option<Owed> {
    match event {
        Event::LeaseEndClaimed { lease, .. } => Some(Owed::Lease(lease.clone())),
        Event::OrphanEndClaimed { target, handle, .. } => {
            Some(Owed::Orphan((target.clone(), handle.clone())))
        }
        _ => None,
    }
}

/// As much of a failure's words as the ledger keeps.
pub(super) fn shortened(detail: &str) -> String {
    detail.chars().take(LONGEST_DETAIL).collect()
}

pub(super) fn no_answer() -> EndError {
    EndError {
        code: "target_timeout".into(),
        detail: "no answer in time".into(),
    }
}
