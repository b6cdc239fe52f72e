//! Deciding again: the command that an entry tells of, and whether it leads to the same entries under the same rules.

use super::command::{Command, GiveReview, Submit};
use super::decide::decide;
use super::event::{Entry, Event};
use super::rules::Rules;
use super::world::World;

/// The command that led to `event`, if it is the first entry of a submit, a review or a collect.
fn command_of(event: &Event) -> Option<Command> {
    match event {
        Event::RequestSubmitted { submission, .. } => {
            let sealed = &submission.sealed;
            Some(Command::Submit(Box::new(Submit {
                request: submission.request.clone(),
                agent: sealed.agent.clone(),
                on_behalf_of: submission.on_behalf_of.clone(),
                action: sealed.action.clone(),
                parameters: sealed.parameters.clone(),
                ttl: submission.asked_ttl_seconds,
                context: submission.context,
                idempotency_key: submission.idempotency_key,
                earlier: None,
                fingerprint: submission.fingerprint,
                prepared: None,
            })))
        }
        Event::ReviewGiven { request, review } => Some(Command::Review(Box::new(GiveReview {
            reviewer: review.reviewer.clone(),
            request: request.clone(),
            digest: review.digest,
            decision: review.decision,
            comment: review.comment,
        }))),
        Event::LeaseIntended {
            request,
            lease,
            agent,
            collect_key,
            ..
        } => Some(Command::Collect {
            agent: agent.clone(),
            request: request.clone(),
            lease: lease.clone(),
            key: *collect_key,
        }),
        _ => None,
    }
}

/// The command that led to `entry`, if policy had a word in it, so that it can be decided again.
pub fn decision(entry: &Entry) -> Option<Command> {
    command_of(&entry.event).filter(Command::asks_policy)
}

/// Decides `entry`, which `command` led to, again on `world`, the fold of everything before it. Returns the events that
/// must follow it at once.
///
/// # Errors
/// How the decision differs.
pub fn replay(
    world: &World,
    command: &Command,
    entry: &Entry,
    rules: &Rules<'_>,
) -> Result<Vec<Event>, String> {
    if command.actor() != entry.actor {
        return Err("somebody else caused it".into());
    }
    let mut events = decide(world, command, rules, entry.time)
        .map_err(|refusal| format!("decided again, it is refused: {refusal}"))?;
    if events.first() != Some(&entry.event) {
        return Err("decided again under the same bundle, it comes out otherwise".into());
    }
    Ok(events.split_off(1))
}
