//! What the broker owes at an instant. The worker takes no other input.
//!
//! The fold keeps what is owed in order, so nothing is searched: take as many as there is room for.

use super::ids::{LeaseId, RequestId, TargetName};
use super::orphan::OrphanKey;
use super::time::Time;
use super::world::World;

/// A credential whose end is owed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Owed {
    /// Of a lease.
    Lease(LeaseId),
    /// One that no lease explains.
    Orphan(OrphanKey),
}

/// Requests that time, or an order, moves at `now`, the longest overdue first: send `Command::Lapse`.
pub fn lapses(world: &World, now: Time) -> impl Iterator<Item = &RequestId> {
    world.queues().lapses(now)
}

/// Credentials to be ended at `target` at `now`, the longest overdue first: end each, prove it, record it.
pub fn ends<'a>(
    world: &'a World,
    target: &TargetName,
    now: Time,
) -> impl Iterator<Item = &'a Owed> + use<'a> {
    world.queues().ends(target, now)
}

/// When a request will next be moved by time.
pub fn next_lapse(world: &World) -> Option<Time> {
    world.queues().next_lapse()
}

/// When an end will next be due at `target`, given that nothing is at `now`.
pub fn next_end(world: &World, target: &TargetName, now: Time) -> Option<Time> {
    world.queues().next_end(target, now)
}
