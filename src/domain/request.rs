//! A request and the states it goes through.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::event::BlobRef;
use super::ids::{
    ActionName, AgentName, Digest, GroupName, LeaseId, RequestId, ServerId, TargetName,
};
use super::lease::EndCause;
use super::person::{Party, Person, Reviewer};
use super::time::{Seconds, Time};

/// What an agent asked for, rendered and sealed: everything the digest covers, and who stands behind it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The request.
    pub request: RequestId,
    /// What a credential minted for it will be and do.
    pub sealed: Sealed,
    /// SHA-256 of the canonical form of `sealed`: what reviewers approve.
    pub digest: Digest,
    /// The agent's owner at the time of asking.
    pub owner: Party,
    /// The person the agent says it acts for. They may not review it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Person>,
    /// The agent's own words, kept erasable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<BlobRef>,
    /// SHA-256 of the idempotency key, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Digest>,
    /// SHA-256 of the canonical request body.
    pub fingerprint: Digest,
    /// The lifetime that was asked for, before it was cut to what is allowed; absent when the agent did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_ttl_seconds: Option<Seconds>,
    /// How many distinct people of which group decide about it when it is not routine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reviewers: BTreeMap<GroupName, u32>,
    /// When it stops waiting for reviewers.
    pub pending_until: Time,
    /// How long it may wait to be collected once approved.
    pub collect_window: Seconds,
}

/// Exactly what the digest covers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Who asks.
    pub agent: AgentName,
    /// For what.
    pub action: ActionName,
    /// Hash of the action's definition.
    pub definition: Digest,
    /// With which parameters.
    pub parameters: Map<String, Value>,
    /// What the credential will be able to do.
    pub scope: Value,
    /// Where.
    pub target: TargetName,
    /// The server the target stands for: a credential is minted there and nowhere else.
    pub server: ServerId,
    /// For how long from mint.
    pub ttl_seconds: Seconds,
}

impl Sealed {
    /// SHA-256 of the canonical form (RFC 8785).
    pub fn digest(&self) -> Digest {
        Digest::of_canonical(self)
    }
}

/// One person's decision about one digest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// Who decided, in which groups, recognised how.
    pub reviewer: Reviewer,
    /// What they decided.
    pub decision: ReviewDecision,
    /// The digest they saw.
    pub digest: Digest,
    /// Their words, kept erasable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<BlobRef>,
    /// Policies that made them eligible.
    pub policies: Vec<String>,
    /// When.
    pub at: Time,
}

/// Approve or deny.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewDecision {
    /// Yes to exactly this digest.
    Approve,
    /// No; one is enough.
    Deny,
}

/// Where a request stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum RequestState {
    /// Waiting for reviewers until `pending_until`.
    Pending,
    /// May be collected until then.
    Approved {
        /// End of the collect window.
        collect_until: Time,
    },
    /// A mint is under way.
    Issuing {
        /// The lease being minted.
        lease: LeaseId,
        /// End of the collect window.
        collect_until: Time,
    },
    /// The credential lives.
    Live {
        /// Its lease.
        lease: LeaseId,
        /// End of the collect window.
        collect_until: Time,
    },
    /// The credential is being ended.
    Ending {
        /// Its lease.
        lease: LeaseId,
        /// Why.
        cause: EndCause,
        /// End of the collect window: until then a lost answer may be collected again.
        collect_until: Time,
    },
    /// Over.
    Closed {
        /// How it came out.
        outcome: Outcome,
        /// When.
        at: Time,
    },
}

/// How a request came out. `expired` is not `denied`, and `withdrawn` is neither.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Policy forbids it.
    Refused,
    /// A reviewer said no.
    Denied,
    /// Nobody decided in time, or nobody collected in time.
    Lapsed,
    /// The agent took it back.
    Withdrawn,
    /// A freeze stopped it.
    Frozen,
    /// Something it rested on changed between approval and mint.
    Stale,
    /// It could not be minted; nothing is left at the target.
    Failed,
    /// The agent reported it finished; the credential is proven gone.
    Completed,
    /// Ended early by somebody; the credential is proven gone.
    Revoked,
    /// Its time ran out; the credential is proven gone.
    Expired,
    /// The operator gave up a credential that could not be proven gone.
    Abandoned,
}

impl Outcome {
    /// The stable word for it, as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Refused => "refused",
            Outcome::Denied => "denied",
            Outcome::Lapsed => "lapsed",
            Outcome::Withdrawn => "withdrawn",
            Outcome::Frozen => "frozen",
            Outcome::Stale => "stale",
            Outcome::Failed => "failed",
            Outcome::Completed => "completed",
            Outcome::Revoked => "revoked",
            Outcome::Expired => "expired",
            Outcome::Abandoned => "abandoned",
        }
    }
}

/// A request as the ledger tells it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What was asked.
    pub submission: Arc<Submission>,
    /// When it was asked.
    pub submitted_at: Time,
    /// What policy said.
    pub verdict: Verdict,
    /// What people said, in order.
    pub reviews: Vec<Review>,
    /// Where it stands.
    pub state: RequestState,
    /// The idempotency key of the collect in force, hashed.
    pub collect_key: Option<Digest>,
    /// When all access under its grant is over, once a credential has been handed out: another one, in place of one that
    /// was lost, lives no longer than the first would have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_until: Option<Time>,
    /// What its leases left at the target, or had removed behind them, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residue: Vec<String>,
}

/// What policy said of a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Allow, review or deny.
    pub answer: VerdictAnswer,
    /// The bundle that was asked.
    pub bundle: Digest,
    /// The policies that decided.
    pub policies: Vec<String>,
    /// Evaluation errors; any error denies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// Policy's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictAnswer {
    /// Routine: goes through at once.
    Allow,
    /// People decide.
    Review,
    /// Not for this agent.
    Deny,
}

impl Request {
    /// One that was just made: policy lets it through, leaves it to people, or closes it.
    pub(super) fn submitted(submission: &Submission, verdict: &Verdict, at: Time) -> Self {
        let state = match verdict.answer {
            VerdictAnswer::Allow => RequestState::Approved {
                collect_until: at.plus(submission.collect_window),
            },
            VerdictAnswer::Review => RequestState::Pending,
            VerdictAnswer::Deny => RequestState::Closed {
                outcome: Outcome::Refused,
                at,
            },
        };
        Self {
            submission: Arc::new(submission.clone()),
            submitted_at: at,
            verdict: verdict.clone(),
            reviews: Vec::new(),
            state,
            collect_key: None,
            access_until: None,
            residue: Vec::new(),
        }
    }

    /// Its id.
    pub fn id(&self) -> &RequestId {
        &self.submission.request
    }

    /// Its sealed content.
    pub fn sealed(&self) -> &Sealed {
        &self.submission.sealed
    }

    /// The lease in force, if any.
    pub fn lease(&self) -> Option<&LeaseId> {
        match &self.state {
            RequestState::Issuing { lease, .. }
            | RequestState::Live { lease, .. }
            | RequestState::Ending { lease, .. } => Some(lease),
            _ => None,
        }
    }
}

impl RequestState {
    /// The stable word for it, as in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            RequestState::Pending => "pending",
            RequestState::Approved { .. } => "approved",
            RequestState::Issuing { .. } => "issuing",
            RequestState::Live { .. } => "live",
            RequestState::Ending { .. } => "ending",
            RequestState::Closed { .. } => "closed",
        }
    }
}
