//! What an entry's event tells about itself: its kind, and what it is about.

use super::{BlobRef, Event};
use crate::domain::ids::{LeaseId, RequestId};

impl Event {
    /// The stable kind, as in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::LedgerOpened { .. } => "ledger.opened",
            Event::BundleApplied { .. } => "bundle.applied",
            Event::AgentEnrolled { .. } => "agent.enrolled",
            Event::AgentDisabled { .. } => "agent.disabled",
            Event::TargetIdentified { .. } => "target.identified",
            Event::TargetMoved { .. } => "target.moved",
            Event::TargetAway { .. } => "target.away",
            Event::TargetBack { .. } => "target.back",
            Event::RequestSubmitted { .. } => "request.submitted",
            Event::ReviewGiven { .. } => "review.given",
            Event::ReviewRefused { .. } => "review.refused",
            Event::GrantMade { .. } => "grant.made",
            Event::RequestClosed { .. } => "request.closed",
            Event::LeaseIntended { .. } => "lease.intended",
            Event::LeaseLive { .. } => "lease.live",
            Event::LeaseAcknowledged { .. } => "lease.acknowledged",
            Event::LeaseFailed { .. } => "lease.failed",
            Event::LeaseEnding { .. } => "lease.ending",
            Event::LeaseEndClaimed { .. } => "lease.end_claimed",
            Event::LeaseEndFailed { .. } => "lease.end_failed",
            Event::LeaseCutOff { .. } => "lease.cut_off",
            Event::LeaseEnded { .. } => "lease.ended",
            Event::LeaseAbandoned { .. } => "lease.abandoned",
            Event::OrphanFound { .. } => "orphan.found",
            Event::OrphanEndClaimed { .. } => "orphan.end_claimed",
            Event::OrphanEndFailed { .. } => "orphan.end_failed",
            Event::OrphanEnded { .. } => "orphan.ended",
            Event::GuardShut { .. } => "guard.shut",
            Event::FreezeSet { .. } => "freeze.set",
            Event::FreezeLifted { .. } => "freeze.lifted",
            Event::ClockAccepted { .. } => "clock.accepted",
            Event::LedgerAccepted { .. } => "ledger.accepted",
            Event::PersonSignedIn { .. } => "person.signed_in",
            Event::PersonSignedOut { .. } => "person.signed_out",
        }
    }

    /// The request it belongs to, when it names one.
    pub fn request(&self) -> Option<&RequestId> {
        match self {
            Event::RequestSubmitted { submission, .. } => Some(&submission.request),
            Event::ReviewGiven { request, .. }
            | Event::ReviewRefused { request, .. }
            | Event::GrantMade { request, .. }
            | Event::RequestClosed { request, .. }
            | Event::LeaseIntended { request, .. }
            | Event::LeaseLive { request, .. }
            | Event::LeaseAcknowledged { request, .. }
            | Event::LeaseFailed { request, .. }
            | Event::LeaseEnding { request, .. }
            | Event::LeaseEndClaimed { request, .. }
            | Event::LeaseEndFailed { request, .. }
            | Event::LeaseCutOff { request, .. }
            | Event::LeaseAbandoned { request, .. }
            | Event::LeaseEnded { request, .. } => Some(request),
            _ => None,
        }
    }

    /// The text outside the ledger that it refers to.
    pub fn text(&self) -> Option<&BlobRef> {
        match self {
            Event::BundleApplied { content, .. } => Some(content),
            Event::RequestSubmitted { submission, .. } => submission.context.as_ref(),
            Event::ReviewGiven { review, .. } => review.comment.as_ref(),
            Event::TargetMoved { reason, .. } | Event::ClockAccepted { reason, .. } => {
                reason.as_ref()
            }
            Event::LedgerAccepted { reason, .. } | Event::LeaseAbandoned { reason, .. } => {
                Some(reason)
            }
            _ => None,
        }
    }

    /// The lease it belongs to, when it names one.
    pub fn lease(&self) -> Option<&LeaseId> {
        match self {
            Event::LeaseIntended { lease, .. }
            | Event::LeaseLive { lease, .. }
            | Event::LeaseAcknowledged { lease, .. }
            | Event::LeaseFailed { lease, .. }
            | Event::LeaseEnding { lease, .. }
            | Event::LeaseEndClaimed { lease, .. }
            | Event::LeaseEndFailed { lease, .. }
            | Event::LeaseCutOff { lease, .. }
            | Event::LeaseAbandoned { lease, .. }
            | Event::LeaseEnded { lease, .. } => Some(lease),
            _ => None,
        }
    }
}
