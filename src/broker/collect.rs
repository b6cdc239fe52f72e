//! Collecting: intent, mint, record, hand over. Once.

use std::time::Duration;

use tokio::sync::oneshot;

use super::calls::Calls;
use super::draft::{Reply, SequenceError};
use super::{BrokerError, Collected};
use crate::domain::command::{MintResult, RefusalCode};
use crate::domain::{
    AgentName, Apart, Command, Digest, Event, LeaseId, Party, Refusal, RequestId, TargetName,
};
use crate::issuers::{Credential, MintError, MintOrder, TARGET_CHANGED};

/// Longest a collect waits for an earlier mint or end of the same request.
const PATIENCE: Duration = Duration::from_secs(45);
/// What is left of the mint window to record the answer in.
const RECORD_MARGIN: Duration = Duration::from_secs(3);

/// Mints and hands over the credential. The same key again means the first answer was lost.
pub(super) async fn collect(
    calls: &Calls,
    agent: &AgentName,
    request: &RequestId,
    key: &str,
) -> Result<Collected, BrokerError> {
    let key = Digest::of(key.as_bytes());
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(apart) = calls.shared.clock.apart() {
            return Err(clock_apart(&apart).into());
        }
        if let Some(target) = away(calls, agent, request) {
            return Err(BrokerError::Unavailable {
                what: target.to_string(),
            });
        }
        let mut following = calls.shared.follow(request);
        let lease = LeaseId::draw(calls.shared.clock.now(), calls.shared.entropy.draw());
        let command = Command::Collect {
            agent: agent.clone(),
            request: request.clone(),
            lease: lease.clone(),
            key,
        };
        match calls.send(command).await {
            Ok(reply) => {
                if let Some(order) = order(calls, &reply) {
                    return mint_detached(calls, order).await;
                }
            }
            Err(SequenceError::Refused(refusal))
                if refusal.code == RefusalCode::MintUnderway
                    && tokio::time::Instant::now() < give_up => {}
            Err(error) => return Err(error.into()),
        }
        // The earlier credential is being ended, or minted by another call: look again when something moved.
        let moved = tokio::time::timeout_at(give_up, following.moved()).await;
        if moved.is_err() {
            return Err(still_ending().into());
        }
    }
}

/// The target of an agent's own request, while nothing can be minted there: each try would be two entries.
fn away(calls: &Calls, agent: &AgentName, request: &RequestId) -> Option<TargetName> {
    calls.shared.world(|world| {
        let sealed = world.requests.get(request)?.sealed();
        let is_away = sealed.agent == *agent && world.away.contains_key(&sealed.target);
        is_away.then(|| sealed.target.clone())
    })
}

fn clock_apart(apart: &Apart) -> Box<Refusal> {
    Refusal::new(
        RefusalCode::ClockApart,
        format!("{apart}, so nothing is minted"),
        "Collect again later; the operator sets the wall clock right, or says with `countersign clock accept` that it is.",
    )
}

fn still_ending() -> Box<Refusal> {
    Refusal::new(
        RefusalCode::MintUnderway,
        "the earlier credential of this request is still being ended",
        "Repeat the call with the same idempotency key in a moment.",
    )
}

/// What to mint, when the reply says a mint is intended.
fn order(calls: &Calls, reply: &Reply) -> Option<(MintOrder, crate::domain::TargetName)> {
    let Some(Event::LeaseIntended {
        request,
        lease,
        agent,
        target,
        server,
        scope,
        mint_until,
        expires,
        ..
    }) = reply.events.first()
    else {
        return None;
    };
    let now = calls.shared.clock.now();
    let order = MintOrder {
        lease: lease.clone(),
        request: request.clone(),
        agent: agent.as_str().into(),
        sponsor: sponsor(calls, request),
        scope: scope.clone(),
        server: server.clone(),
        ordered: now,
        ttl: expires.left_at(now),
        mint_within: mint_until.left_at(now),
    };
    Some((order, target.clone()))
}

/// Who answers for the agent of `request`, in a word.
fn sponsor(calls: &Calls, request: &RequestId) -> String {
    let owner = calls.shared.world(|world| {
        let request = world.requests.get(request);
        request.map(|request| request.submission.owner.clone())
    });
    match owner {
        Some(Party::Person(person)) => person.subject,
        Some(Party::Group(group)) => group.as_str().to_owned(),
        None => String::new(),
    }
}

/// Runs the mint in a task of its own, so that a caller who goes away leaves nothing half done: the
/// answer is recorded all the same, and a credential nobody takes is ended at once.
async fn mint_detached(
    calls: &Calls,
    (order, target): (MintOrder, crate::domain::TargetName),
) -> Result<Collected, BrokerError> {
    let (hand_over, taken) = oneshot::channel();
    let own = calls.clone();
    calls.shared.tasks.spawn(async move {
        let lease = order.lease.clone();
        let result = mint(&own, &order, &target).await;
        let minted = result.is_ok();
        if hand_over.send(result).is_err() && minted {
            tracing::warn!(%lease, "nobody waited for the credential; ending it");
            if let Err(error) = own.send(Command::LoseAnswer { lease }).await {
                tracing::error!(%error, "an untaken credential lives until its time is up");
            }
        }
    });
    taken.await.unwrap_or_else(|_| Err(unavailable("broker")))
}

fn unavailable(what: &str) -> BrokerError {
    BrokerError::Unavailable { what: what.into() }
}

async fn mint(
    calls: &Calls,
    order: &MintOrder,
    target: &crate::domain::TargetName,
) -> Result<Collected, BrokerError> {
    let answer = ask_target(calls, order, target).await;
    let result = match &answer {
        Ok(_) => MintResult::Minted,
        Err(MintError::Refused { code, .. }) => MintResult::Failed {
            code: code.clone(),
            retryable: false,
        },
        Err(MintError::Unavailable { .. }) => MintResult::Failed {
            code: "target_unavailable".into(),
            retryable: true,
        },
        Err(MintError::Elsewhere { .. }) => MintResult::Failed {
            code: TARGET_CHANGED.into(),
            retryable: true,
        },
        Err(MintError::Unknown { .. }) => MintResult::Unknown,
    };
    if let Err(error) = &answer {
        tracing::warn!(lease = %order.lease, target_name = %target, %error, "mint");
    }
    // Dying before this entry leaves the lease `issuing`; past `mint_until` it is ended like any other.
    let record = Command::RecordMint {
        lease: order.lease.clone(),
        result,
    };
    let reply = calls.send(record).await?;
    match (answer, reply.events.first()) {
        (
            Ok(credential),
            Some(Event::LeaseLive {
                expires,
                acknowledge_by,
                ..
            }),
        ) => Ok(Collected {
            lease: order.lease.clone(),
            expires: *expires,
            acknowledge_by: *acknowledge_by,
            credential,
        }),
        (Err(MintError::Refused { code, .. }), _) => Err(Refusal::new(
            RefusalCode::TargetRefused,
            format!("target {target} refused to mint ({code}); nothing was minted"),
            "Ask the platform team to run `countersign doctor`.",
        )
        .into()),
        (Err(MintError::Elsewhere { .. }), _) => Err(Refusal::new(
            RefusalCode::TargetChanged,
            format!("another server answers for target {target} than the one approved; nothing was minted"),
            "Collect again later; the platform team sees what happened with `countersign doctor`.",
        )
        .into()),
        _ => Err(unavailable(target.as_str())),
    }
}

async fn ask_target(
    calls: &Calls,
    order: &MintOrder,
    target: &crate::domain::TargetName,
) -> Result<Credential, MintError> {
    let Some(issuer) = calls.shared.issuers.get(target) else {
        return Err(MintError::Refused {
            code: "target_missing".into(),
            detail: "the target is not configured".into(),
        });
    };
    if let Some(apart) = calls.shared.clock.apart() {
        return Err(MintError::Unavailable {
            detail: apart.to_string(),
        });
    }
    let within = order.mint_within.saturating_sub(RECORD_MARGIN);
    tokio::time::timeout(within, issuer.mint(order))
        .await
        .unwrap_or_else(|_| {
            Err(MintError::Unknown {
                detail: "no answer in time".into(),
            })
        })
}
