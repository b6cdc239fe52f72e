//! The ledger, the bundle, agents, freezes, sessions.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::agent::{Agent, AgentOrigin};
use super::super::command::{Refusal, RefusalCode};
use super::super::event::{BlobRef, Event, Freeze};
use super::super::ids::{AgentName, Digest, GroupName, GuardName, ServerId, TargetName};
use super::super::lease::EndCause;
use super::super::person::Person;
use super::super::request::{Outcome, Request};
use super::super::rules::Rules;
use super::super::time::Time;
use super::super::world::World;
use super::end::stop;
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
    for (agent, _) in left {
        events.extend(disabling(world, &agent.name));
    }
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
    Ok(disabling(world, agent))
}

/// Disables an agent, closes what it has open and ends what it holds.
fn disabling(world: &World, agent: &AgentName) -> Vec<Event> {
    let mut events = vec![Event::AgentDisabled {
        agent: agent.clone(),
    }];
    let open = in_order(world)
        .into_iter()
        .filter(|request| &request.sealed().agent == agent);
    events.extend(
        open.filter_map(|request| stop(&request, Outcome::Revoked, EndCause::AgentDisabled)),
    );
    events
}

pub(super) fn set_freeze(world: &World, freeze: &Freeze, on: bool) -> Vec<Event> {
    match (world.freezes.contains(freeze), on) {
        (false, true) => {
            let mut events = vec![Event::FreezeSet {
                freeze: freeze.clone(),
            }];
            let covered = in_order(world).into_iter().filter(|request| {
                let sealed = request.sealed();
                freeze.covers(&sealed.agent, &sealed.action, &sealed.target)
            });
            events.extend(
                covered.filter_map(|request| stop(&request, Outcome::Frozen, EndCause::Frozen)),
            );
            events
        }
        (true, false) => vec![Event::FreezeLifted {
            freeze: freeze.clone(),
        }],
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
    let mut events = vec![Event::GuardShut {
        guard: guard.clone(),
        issued_before: now,
    }];
    let covered = in_order(world).into_iter().filter(|request| {
        let room = rules.targets.guard(&request.sealed().target);
        request.lease().is_some() && room.is_some_and(|room| &room.name == guard)
    });
    events
        .extend(covered.filter_map(|request| stop(&request, Outcome::Revoked, EndCause::Revoked)));
    events
}

/// Open requests by id, so that the same world always gives the same entries.
fn in_order(world: &World) -> Vec<Arc<Request>> {
    let mut requests: Vec<_> = world.requests.values().cloned().collect();
    requests.sort_by(|a, b| a.id().cmp(b.id()));
    requests
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
