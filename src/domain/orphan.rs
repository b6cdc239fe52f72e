//! A credential found at a target that no open lease explains, as after a restore.

use serde::{Deserialize, Serialize};

use super::event::Event;
use super::ids::TargetName;
use super::time::Time;

/// Where it is, and its name there.
pub type OrphanKey = (TargetName, String);

/// The duty to end one orphan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orphan {
    /// When it was found.
    pub since: Time,
    /// Failed attempts so far, as far as they are recorded.
    pub attempts: u32,
    /// The code of the last failure that is recorded.
    pub trouble: Option<String>,
    /// Not to be tried before then: a backoff, or another broker's claim.
    pub not_before: Time,
    /// The broker that holds the claim, if any.
    pub claimed_by: Option<String>,
}

impl Orphan {
    /// One that was just found, to be ended now.
    pub(super) fn found(at: Time) -> Self {
        Self {
            since: at,
            attempts: 0,
            trouble: None,
            not_before: at,
            claimed_by: None,
        }
    }

    /// Whether `broker` may tell how its end went: it has the claim, or nobody has at `now`.
    pub(super) fn may_be_told_by(&self, broker: &str, now: Time) -> bool {
        self.claimed_by.as_deref() == Some(broker) || self.not_before <= now
    }

    /// Gives a claim back.
    pub(super) fn release(&mut self, at: Time) {
        self.claimed_by = None;
        self.not_before = at;
    }

    /// As it is after `event`; `None` when the event cannot follow.
    pub(super) fn after(&self, event: &Event) -> Option<Self> {
        let mut next = self.clone();
        match event {
            Event::OrphanEndClaimed { broker, until, .. } => {
                next.not_before = *until;
                next.claimed_by = Some(broker.clone());
            }
            Event::OrphanEndFailed {
                code,
                attempts,
                retry_at,
                ..
            } => {
                next.attempts = *attempts;
                next.trouble = Some(code.clone());
                next.not_before = *retry_at;
                next.claimed_by = None;
            }
            _ => return None,
        }
        Some(next)
    }
}
