//! What the broker owes at an instant. The worker takes no other input.

use super::ids::{LeaseId, RequestId, TargetName};
use super::request::RequestState;
use super::time::Time;
use super::world::World;

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
}

/// All that is owed at `now`, the longest overdue first. The same world and time give the same duties.
pub fn due(world: &World, now: Time) -> Vec<Duty> {
    world
        .overdue(now)
        .filter_map(|request| match &request.state {
            RequestState::Ending { lease, .. } => world.leases.get(lease).map(|lease| Duty::End {
                lease: lease.id.clone(),
                target: lease.target.clone(),
            }),
            _ => Some(Duty::Lapse {
                request: request.id().clone(),
            }),
        })
        .collect()
}
