//! Credentials at a target that no open lease explains: found, claimed, ended, each a duty of its own.

use super::super::command::EndFailure;
use super::super::event::Event;
use super::super::ids::TargetName;
use super::super::lease::{Proof, lease_of, residue};
use super::super::orphan::OrphanKey;
use super::super::rules::Rules;
use super::super::time::Time;
use super::super::world::World;
use super::Decision;
use super::end::{NOT_RUN_OUT, stale_claim};

pub(super) fn find(world: &World, target: &TargetName, handle: &str) -> Vec<Event> {
    let explained = lease_of(handle).is_some_and(|lease| world.leases.contains_key(&lease));
    let known = world
        .orphans
        .contains_key(&(target.clone(), handle.to_owned()));
    if explained || known {
        return Vec::new();
    }
    vec![Event::OrphanFound {
        target: target.clone(),
        handle: handle.into(),
    }]
}

pub(super) fn claim(
    world: &World,
    key: &OrphanKey,
    broker: &str,
    rules: &Rules<'_>,
    now: Time,
) -> Decision {
    let orphan = world.orphans.get(key);
    if orphan.is_none_or(|orphan| now < orphan.not_before) {
        return Err(stale_claim());
    }
    let (target, handle) = key.clone();
    Ok(vec![Event::OrphanEndClaimed {
        target,
        handle,
        broker: broker.into(),
        until: now.plus(rules.policy.limits().claim_window),
    }])
}

pub(super) fn record_end(
    world: &World,
    key: &OrphanKey,
    broker: &str,
    result: &Result<Proof, EndFailure>,
    now: Time,
) -> Decision {
    let holder = world.orphans.get(key).and_then(|o| o.claimed_by.as_deref());
    if holder != Some(broker) {
        return Err(stale_claim());
    }
    let (target, handle) = key.clone();
    let failed = |code: &str, detail: &str, retry_in| Event::OrphanEndFailed {
        target: target.clone(),
        handle: handle.clone(),
        broker: broker.into(),
        code: code.into(),
        detail: detail.into(),
        retry_at: now.plus(retry_in),
    };
    Ok(vec![match result {
        Ok(Proof::Gone { seen, left }) => Event::OrphanEnded {
            proof: seen.clone(),
            residue: residue(left),
            target,
            handle,
        },
        Ok(Proof::CutOff { .. }) => failed("not_run_out", "", NOT_RUN_OUT),
        Err(failure) => failed(&failure.code, &failure.detail, failure.retry_in),
    }])
}
