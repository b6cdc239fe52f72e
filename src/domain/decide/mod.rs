//! What a command leads to: entries, or a refusal. Pure; the same input gives the same answer.

mod admin;
mod clock;
mod collect;
mod duty;
mod end;
mod review;
mod submit;

pub use duty::NOT_RUN_OUT;
pub(super) use duty::{is_stuck, outcome_when_ended};
pub(super) use end::is_stoppable;
pub use end::may_revoke;
pub use review::{may_deny, may_review};
pub use submit::{prepare, standing};

use super::action::Action;
use super::agent::Agent;
use super::command::{Command, Refusal, RefusalCode};
use super::event::Event;
use super::ids::{AgentName, RequestId};
use super::person::Reviewer;
use super::request::{Request, Sealed};
use super::rules::{Ask, Rules};
use super::time::Time;
use super::world::World;

/// What `decide` answers.
pub type Decision = Result<Vec<Event>, Box<Refusal>>;

/// Decides a command on `world` at `now`.
///
/// An empty list means there is nothing to do: the command was carried out before.
///
/// # Errors
/// A refusal. When it has entries to record, they apply to `world` like any others.
pub fn decide(world: &World, command: &Command, rules: &Rules<'_>, now: Time) -> Decision {
    match command {
        Command::Open { origin } => Ok(admin::open(world, origin)),
        Command::ApplyBundle { content } => admin::apply_bundle(world, *content, rules),
        Command::EnrollAgent { agent } => admin::enroll(world, agent),
        Command::DisableAgent { agent } => admin::disable(world, agent),
        Command::SetFreeze { freeze, on, .. } => Ok(admin::set_freeze(world, freeze, *on)),
        Command::ShutGuard { guard } => Ok(admin::shut_guard(world, guard, rules, now)),
        Command::IdentifyTarget { target, server } => admin::identify(world, target, server),
        Command::MoveTarget {
            target,
            from,
            to,
            reason,
        } => admin::move_target(world, target, (from, to), *reason),
        Command::NoteSignIn { person, groups } => Ok(admin::sign_in(person, groups)),
        Command::NoteSignOut { person } => Ok(admin::sign_out(person)),
        Command::AcceptLedger { size, root, reason } => admin::accept_ledger(*size, *root, *reason),
        Command::AcceptClock { wall, reason } => clock::accept(world, *wall, *reason, now),
        Command::Submit(submit) => submit::submit(world, submit, rules, now),
        Command::Review(review) => review::review(world, review, rules, now),
        Command::Withdraw { agent, request } => end::withdraw(world, agent, request),
        Command::Collect {
            agent,
            request,
            lease,
            key,
        } => collect::collect(
            world,
            &collect::Collect {
                agent,
                request,
                lease,
                key,
            },
            rules,
            now,
        ),
        Command::RecordMint { lease, result } => collect::record_mint(world, lease, result, now),
        Command::LoseAnswer { lease } => Ok(collect::lose_answer(world, lease)),
        Command::Acknowledge { agent, lease } => collect::acknowledge(world, agent, lease, now),
        Command::Finish {
            agent,
            request,
            report,
        } => end::finish(world, agent, request, report),
        Command::Revoke { by, request } => end::revoke(world, by, request, rules, now),
        Command::Lapse { requests } => Ok(end::lapse(world, requests, now)),
        Command::ClaimEnds { broker, owed } => duty::claim(world, broker, owed, rules, now),
        Command::RecordEnds { broker, results } => duty::record(world, broker, results, now),
        Command::NoteTargetAway {
            target,
            broker,
            code,
            detail,
        } => Ok(duty::away(world, target, broker, (code, detail))),
        Command::NoteTargetBack { target } => Ok(duty::back(world, target)),
        Command::AbandonLease { lease, reason } => duty::abandon(world, lease, *reason),
        Command::FindOrphan { target, handle } => Ok(duty::find(world, target, handle)),
    }
}

/// The open request `id`, if it is the agent's. Somebody else's looks like none.
fn own_request<'a>(
    world: &'a World,
    agent: &AgentName,
    id: &RequestId,
) -> Result<&'a Request, Box<Refusal>> {
    world
        .requests
        .get(id)
        .map(AsRef::as_ref)
        .filter(|request| &request.sealed().agent == agent)
        .ok_or_else(no_such_request)
}

fn no_such_request() -> Box<Refusal> {
    Refusal::new(
        RefusalCode::NotFound,
        "there is no such open request",
        "Check the id; a request that is over cannot be changed.",
    )
}

fn serving_agent<'a>(world: &'a World, name: &AgentName) -> Result<&'a Agent, Box<Refusal>> {
    world.agent(name).ok_or_else(|| {
        if world.agents.contains_key(name) {
            Refusal::new(
                RefusalCode::AgentDisabled,
                format!("agent {name} is disabled"),
                "Ask its owner whether it should be served; a new agent needs a new name.",
            )
        } else {
            Refusal::new(
                RefusalCode::UnknownAgent,
                format!("there is no agent {name}"),
                "Declare it in the bundle or add it with `countersign agent add`.",
            )
        }
    })
}

/// The facts of an open request as policy sees them, under the definitions in force now.
fn ask_of<'a>(agent: &'a Agent, action: &'a Action, request: &'a Request, now: Time) -> Ask<'a> {
    Ask {
        agent,
        on_behalf_of: request.submission.on_behalf_of.as_ref(),
        action,
        parameters: &request.sealed().parameters,
        ttl: request.sealed().ttl_seconds,
        now,
    }
}

/// Whether `reviewer` is in a group that was to decide about the request when it was made: what counts once the
/// action it was made under is no longer in force, for saying no and for ending access.
fn was_named(request: &Request, reviewer: &Reviewer) -> bool {
    let named = &request.submission.reviewers;
    let mut groups = reviewer.groups.iter();
    groups.any(|group| named.contains_key(group))
}

/// What the request would be sealed as under the definitions in force now; `None` when its action is gone.
fn sealed_now<'a>(request: &Request, rules: &Rules<'a>) -> Option<(&'a Action, Sealed)> {
    let old = request.sealed();
    let action = rules.policy.action(&old.action)?;
    let sealed = Sealed {
        agent: old.agent.clone(),
        action: action.name.clone(),
        definition: rules.policy.definition(action),
        parameters: old.parameters.clone(),
        scope: action.render_scope(&old.parameters),
        target: action.target.clone(),
        server: old.server.clone(),
        ttl_seconds: old.ttl_seconds,
    };
    Some((action, sealed))
}
