//! The operator's word on the wall clock.

use super::super::clock::Apart;
use super::super::command::{Refusal, RefusalCode};
use super::super::event::{BlobRef, Event};
use super::super::time::Time;
use super::super::world::World;
use super::Decision;

pub(super) fn accept(world: &World, wall: Time, reason: Option<BlobRef>, now: Time) -> Decision {
    match Apart::between(wall, now, &world.clock) {
        Some(Apart { wall, ledger }) => Ok(vec![Event::ClockAccepted {
            wall,
            ledger,
            reason,
        }]),
        None => Err(Refusal::new(
            RefusalCode::ClockNotApart,
            "the wall clock and the ledger's time agree",
            "There is nothing to accept.",
        )),
    }
}
