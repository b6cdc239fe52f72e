//! What the broker owes at an instant. The worker takes no other input.

use super::ids::{LeaseId, RequestId, TargetName};
use super::lease::LeaseState;
use super::orphan::OrphanKey;
use super::time::Time;
use super::world::{Waiting, World};

/// Something the broker owes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Duty {
    /// Time has passed for a request or its lease: send `Command::Lapse`.
    Lapse {
        /// The request.
        request: RequestId,
    },
    /// A lease is to be ended: claim it, end it, prove it, record it.
    End {
        /// The lease.
        lease: LeaseId,
        /// Where.
        target: TargetName,
    },
    /// An orphan is to be ended, likewise.
    EndOrphan {
        /// Where, and its name there.
        orphan: OrphanKey,
    },
}

/// All that is owed at `now`, the longest overdue first. The same world and time give the same duties.
pub fn due(world: &World, now: Time) -> Vec<Duty> {
    let duty = |what: &Waiting| match what {
        Waiting::Request(request) => Some(Duty::Lapse {
            request: request.clone(),
        }),
        Waiting::Orphan(orphan) => Some(Duty::EndOrphan {
            orphan: orphan.clone(),
        }),
        Waiting::Lease(id) => world.leases.get(id).map(|lease| match lease.state {
            LeaseState::Ending { .. } => Duty::End {
                lease: lease.id.clone(),
                target: lease.target.clone(),
            },
            LeaseState::Issuing { .. } | LeaseState::Live => Duty::Lapse {
                request: lease.request.clone(),
            },
        }),
    };
    world.overdue(now).filter_map(duty).collect()
}
