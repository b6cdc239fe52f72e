//! The kinds of entries, numbered.

use countersign::domain::Event;

/// The place of each kind in the format. A new kind does not compile until it is given the next number here,
/// and the tests fail until `samples::every_event` has an example of it.
pub(crate) fn ordinal(event: &Event) -> usize {
    match event {
        Event::LedgerOpened { .. } => 0,
        Event::BundleApplied { .. } => 1,
        Event::AgentEnrolled { .. } => 2,
        Event::AgentDisabled { .. } => 3,
        Event::RequestSubmitted { .. } => 4,
        Event::ReviewGiven { .. } => 5,
        Event::ReviewRefused { .. } => 6,
        Event::GrantMade { .. } => 7,
        Event::RequestClosed { .. } => 8,
        Event::LeaseIntended { .. } => 9,
        Event::LeaseLive { .. } => 10,
        Event::LeaseFailed { .. } => 11,
        Event::LeaseEnding { .. } => 12,
        Event::LeaseEndClaimed { .. } => 13,
        Event::LeaseEndFailed { .. } => 14,
        Event::LeaseEnded { .. } => 15,
        Event::OrphanFound { .. } => 16,
        Event::OrphanEnded { .. } => 17,
        Event::FreezeSet { .. } => 18,
        Event::FreezeLifted { .. } => 19,
        Event::PersonSignedIn { .. } => 20,
        Event::PersonSignedOut { .. } => 21,
        Event::LeaseCutOff { .. } => 22,
        Event::GuardShut { .. } => 23,
        Event::TargetIdentified { .. } => 24,
        Event::TargetMoved { .. } => 25,
        Event::OrphanEndClaimed { .. } => 26,
        Event::OrphanEndFailed { .. } => 27,
        Event::ClockAccepted { .. } => 28,
        Event::LedgerAccepted { .. } => 29,
        Event::TargetAway { .. } => 30,
        Event::TargetBack { .. } => 31,
        Event::LeaseAbandoned { .. } => 32,
        Event::LeaseAcknowledged { .. } => 33,
    }
}

/// The number of kinds that [`ordinal`] knows.
pub(crate) const KINDS: usize = 34;
