//! A lease: the life of one credential, from intent to proven end.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ids::{AgentName, LeaseId, RequestId, ServerId, TargetName};
use super::time::{Seconds, Time};

/// One credential's life. It carries all that is needed to end it, whatever becomes of the catalog.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Its id; the handle at the target derives from it.
    pub id: LeaseId,
    /// The request it serves.
    pub request: RequestId,
    /// The agent that holds it.
    pub agent: AgentName,
    /// Where it was minted.
    pub target: TargetName,
    /// The server the target was then. It is ended and proven there and nowhere else.
    pub server: ServerId,
    /// What it can do.
    pub scope: Value,
    /// How long from mint.
    pub ttl_seconds: Seconds,
    /// When it must end, whatever happens.
    pub expires: Time,
    /// Until when its agent has to say that it holds the credential; none before it lives and once it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge_by: Option<Time>,
    /// Where it stands.
    pub state: LeaseState,
}

/// Where a lease stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum LeaseState {
    /// Intent recorded, the target may have been called. Past `mint_until` its outcome counts as unknown.
    Issuing {
        /// The mint is over by then, one way or the other.
        mint_until: Time,
    },
    /// Minted and recorded.
    Live,
    /// To be ended, retried until proven.
    Ending {
        /// Why.
        cause: EndCause,
        /// Since when.
        since: Time,
        /// Failed attempts so far, as far as they are recorded.
        attempts: u32,
        /// The code of the last failure that is recorded.
        trouble: Option<String>,
        /// Not to be tried before then: a backoff, or another broker's claim.
        not_before: Time,
        /// The broker that holds the claim, if any.
        claimed_by: Option<String>,
        /// Since when it is seen to be denied everything, where it lives on at the target until it runs out.
        cut_off: Option<Time>,
        /// Since when the operator has given it up: its end is not proven, and is tried all the same.
        abandoned: Option<Time>,
    },
}

/// What a look at the target showed of a credential that was ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proof {
    /// Nothing can be done with it any more, and nothing can bring it back.
    Gone {
        /// What was seen, such as `no_role`.
        seen: Vec<String>,
        /// What of it outlives it at the target, or was removed behind it, a line each.
        left: Vec<String>,
    },
    /// It is denied everything now, but what denies it has to stay in place until it runs out by itself.
    CutOff {
        /// What was seen.
        seen: Vec<String>,
        /// When it runs out.
        until: Time,
    },
}

/// Why a lease ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// The agent said it is done.
    Finished,
    /// Its time ran out.
    Expired,
    /// Somebody revoked it.
    Revoked,
    /// A freeze covers it.
    Frozen,
    /// The agent was disabled.
    AgentDisabled,
    /// The agent never got the answer and collects again; nobody else may hold the first one.
    AnswerLost,
    /// The agent did not say in time that it holds the credential, so the answer that carried it counts as lost.
    Unacknowledged,
    /// Nobody knows whether the target minted it.
    MintUnknown,
}

/// How long after its mint an agent has to say that it holds a credential. What nobody holds would otherwise live for
/// the whole of its lifetime.
pub(super) const ACKNOWLEDGE_WITHIN: Seconds = Seconds(60);

impl EndCause {
    /// Whether the grant goes back to the agent once the lease is proven ended, while it may still be collected: for
    /// all that is known, nobody received the credential.
    pub fn hands_back(self) -> bool {
        match self {
            EndCause::AnswerLost | EndCause::Unacknowledged | EndCause::MintUnknown => true,
            EndCause::Finished
            | EndCause::Expired
            | EndCause::Revoked
            | EndCause::Frozen
            | EndCause::AgentDisabled => false,
        }
    }
}

/// How much of an entry the residue of a lease may take, in bytes of JSON.
const MOST_RESIDUE: usize = 16 * 1024;
/// The longest line of it, in characters.
const LONGEST_LINE: usize = 500;

/// What was left, as far as an entry has room for it. The first lines come first; the last one says how many more there
/// were.
pub(super) fn residue(left: &[String]) -> Vec<String> {
    let mut room = MOST_RESIDUE;
    let mut told = Vec::new();
    for line in left {
        let line: String = line.chars().take(LONGEST_LINE).collect();
        let size = Value::from(line.as_str()).to_string().len() + 1;
        if size > room {
            let more = left.len() - told.len();
            told.push(format!(
                "and {more} more: the target's own record has them all"
            ));
            break;
        }
        room -= size;
        told.push(line);
    }
    told
}

impl Proof {
    /// Gone without a trace.
    pub fn gone<const N: usize>(seen: [&str; N]) -> Self {
        Proof::Gone {
            seen: seen.map(String::from).into(),
            left: Vec::new(),
        }
    }
}

impl Lease {
    /// Since when it is seen to be denied everything, while it lives on at the target.
    pub fn cut_off_at(&self) -> Option<Time> {
        match self.state {
            LeaseState::Ending { cut_off, .. } => cut_off,
            LeaseState::Issuing { .. } | LeaseState::Live => None,
        }
    }

    /// Since when the operator has given it up, if they have.
    pub fn abandoned_at(&self) -> Option<Time> {
        match self.state {
            LeaseState::Ending { abandoned, .. } => abandoned,
            LeaseState::Issuing { .. } | LeaseState::Live => None,
        }
    }

    /// Whether `broker` holds the claim on its end.
    pub(super) fn is_claimed_by(&self, broker: &str) -> bool {
        match &self.state {
            LeaseState::Ending { claimed_by, .. } => claimed_by.as_deref() == Some(broker),
            LeaseState::Issuing { .. } | LeaseState::Live => false,
        }
    }

    /// Whether `broker` may tell how its end went: it has the claim, or nobody has at `now`.
    pub(super) fn may_be_told_by(&self, broker: &str, now: Time) -> bool {
        let free = match &self.state {
            LeaseState::Ending { not_before, .. } => *not_before <= now,
            LeaseState::Issuing { .. } | LeaseState::Live => false,
        };
        free || self.is_claimed_by(broker)
    }

    /// Gives a claim on its end back.
    pub(super) fn release(&mut self, at: Time) {
        if let LeaseState::Ending {
            not_before,
            claimed_by,
            ..
        } = &mut self.state
        {
            *claimed_by = None;
            *not_before = at;
        }
    }

    /// The name of its credential at the target, such as `jit_01jd…`: at most 63 bytes, `[a-z0-9_]`.
    pub fn handle(&self) -> String {
        handle_of(&self.id)
    }
}

/// The handle of the lease `id`.
pub fn handle_of(id: &LeaseId) -> String {
    format!("jit_{}", id.bare())
}

/// The lease a handle belongs to, if it is one of ours.
pub fn lease_of(handle: &str) -> Option<LeaseId> {
    format!("lse_{}", handle.strip_prefix("jit_")?).parse().ok()
}

impl LeaseState {
    /// The stable word for it, as in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            LeaseState::Issuing { .. } => "issuing",
            LeaseState::Live => "live",
            LeaseState::Ending {
                abandoned: Some(_), ..
            } => "abandoned",
            LeaseState::Ending { cut_off: None, .. } => "ending",
            LeaseState::Ending {
                cut_off: Some(_), ..
            } => "cut_off",
        }
    }
}
