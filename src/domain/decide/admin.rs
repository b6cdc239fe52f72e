//! The ledger, the bundle, agents, freezes, sessions.

use std::collections::BTreeSet;

use super::super::agent::{Agent, AgentOrigin};
use super::super::command::{Refusal, RefusalCode};
use super::super::event::{BlobRef, Event, Freeze};
use super::super::ids::{AgentName, Digest, GroupName, GuardName, ServerId, TargetName};
use super::super::person::Person;
use super::super::rules::Rules;
use super::super::time::Time;
use super::super::world::World;
use super::{Decision, serving_agent};

pub(super) fn open(world: &World, origin: &str) -> Vec<Event> {
    if world.origin.is_some() {
        return Vec::new();
    }
    vec![Event::LedgerOpened {
        origin: origin.into(),
    }]
}

/// Applying the bundle that is in force does nothing.
pub(super) fn apply_bundle(world: &World, content: BlobRef, rules: &Rules<'_>) -> Decision {
    let bundle = rules.policy.bundle();
    if world.bundle.map(|(bundle, _)| bundle) == Some(bundle) {
        return Ok(Vec::new());
    }
    let declared = rules.policy.agents();
    let mut events = vec![Event::BundleApplied { bundle, content }];
    for agent in declared {
        match world.agents.get(&agent.name) {
            Some((known, _)) if known.origin == AgentOrigin::Operator => return Err(taken(agent)),
            Some((known, None)) if known == agent => {}
            _ => events.push(Event::AgentEnrolled {
                agent: agent.clone(),
            }),
        }
    }
    let left = world.agents.values().filter(|(agent, disabled)| {
        agent.origin == AgentOrigin::Bundle
            && disabled.is_none()
            && !declared.iter().any(|other| other.name == agent.name)
    });
    events.extend(left.map(|(agent, _)| Event::AgentDisabled {
        agent: agent.name.clone(),
    }));
    Ok(events)
}

fn taken(agent: &Agent) -> Box<Refusal> {
    Refusal::new(
        RefusalCode::AgentExists,
        format!("the name {} is taken, now or in the past", agent.name),
        "Choose another name; a name is never given to a second agent.",
    )
}

pub(super) fn enroll(world: &World, agent: &Agent) -> Decision {
    if world.agents.contains_key(&agent.name) {
        return Err(taken(agent));
    }
    Ok(vec![Event::AgentEnrolled {
        agent: agent.clone(),
    }])
}

pub(super) fn disable(world: &World, agent: &AgentName) -> Decision {
    serving_agent(world, agent)?;
    Ok(vec![Event::AgentDisabled {
        agent: agent.clone(),
    }])
}

pub(super) fn set_freeze(world: &World, freeze: &Freeze, on: bool) -> Vec<Event> {
    let freeze = freeze.clone();
    match (world.freezes.contains(&freeze), on) {
        (false, true) => vec![Event::FreezeSet { freeze }],
        (true, false) => vec![Event::FreezeLifted { freeze }],
        _ => Vec::new(),
    }
}

/// The first answer says which server a target stands for; from then on only the operator's word changes that.
pub(super) fn identify(world: &World, target: &TargetName, server: &ServerId) -> Decision {
    match world.servers.get(target) {
        None => Ok(vec![Event::TargetIdentified {
            target: target.clone(),
            server: server.clone(),
        }]),
        Some(known) if known == server => Ok(Vec::new()),
        Some(known) => Err(Refusal::new(
            RefusalCode::TargetChanged,
            format!("target {target} stands for \"{known}\", and \"{server}\" answers"),
            format!(
                "Point the target back; or, if it moved as planned and the old server serves nobody any more: countersign target move {target} --from \"{known}\" --to \"{server}\" --reason …"
            ),
        )),
    }
}

pub(super) fn move_target(
    world: &World,
    target: &TargetName,
    (from, to): (&ServerId, &ServerId),
    reason: Option<BlobRef>,
) -> Decision {
    match world.servers.get(target) {
        Some(known) if known == to => Ok(Vec::new()),
        Some(known) if known == from => Ok(vec![Event::TargetMoved {
            target: target.clone(),
            from: from.clone(),
            to: to.clone(),
            reason,
        }]),
        Some(known) => Err(Refusal::new(
            RefusalCode::TargetChanged,
            format!("target {target} stands for \"{known}\", not for \"{from}\""),
            "Name the server the ledger knows as --from.",
        )),
        None => Err(Refusal::new(
            RefusalCode::TargetUnidentified,
            format!("target {target} has not been identified, so it cannot have moved"),
            "Check the name; a target is identified when it first answers.",
        )),
    }
}

/// Shuts a guard: what was issued until now is denied, and its leases end.
pub(super) fn shut_guard(
    world: &World,
    guard: &GuardName,
    rules: &Rules<'_>,
    now: Time,
) -> Vec<Event> {
    let targets: BTreeSet<_> = world.leases.values().map(|lease| &lease.target).collect();
    let here = targets.into_iter().filter(|target| {
        let room = rules.targets.guard(target);
        room.is_some_and(|room| &room.name == guard)
    });
    vec![Event::GuardShut {
        guard: guard.clone(),
        issued_before: now,
        targets: here.cloned().collect(),
    }]
}

pub(super) fn accept_ledger(size: u64, root: Digest, reason: BlobRef) -> Decision {
    Ok(vec![Event::LedgerAccepted { size, root, reason }])
}

pub(super) fn sign_in(person: &Person, groups: &BTreeSet<GroupName>) -> Vec<Event> {
    vec![Event::PersonSignedIn {
        person: person.clone(),
        groups: groups.clone(),
    }]
}

pub(super) fn sign_out(person: &Person) -> Vec<Event> {
    vec![Event::PersonSignedOut {
        person: person.clone(),
    }]
}
