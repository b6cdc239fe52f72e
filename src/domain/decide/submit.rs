//! An agent asks.

use super::super::action::Action;
use super::super::agent::Agent;
use super::super::command::{Outcome, Prepared, Refusal, RefusalCode, Submit};
use super::super::event::Event;
use super::super::ids::ServerId;
use super::super::request::{Sealed, Submission, Verdict, VerdictAnswer};
use super::super::rules::{Ask, Judgement, Policy, Rules, Ruling};
use super::super::time::{Seconds, Time};
use super::super::world::{RECENT_WINDOW, World};
use super::{Decision, serving_agent};

/// What preparing `submit` rests on: its agent, and the server of its target; `None` when the agent is not served.
pub fn standing(
    world: &World,
    submit: &Submit,
    rules: &Rules<'_>,
) -> Option<(Agent, Option<ServerId>)> {
    let agent = world.agent(&submit.agent)?;
    Some((agent.clone(), server_of(world, submit, rules).cloned()))
}

/// Finds out what `submit` comes to before its turn, as far as it rests on its `standing`.
pub fn prepare(
    (agent, server): (Agent, Option<ServerId>),
    submit: &Submit,
    rules: &Rules<'_>,
    now: Time,
) -> Prepared {
    Prepared {
        bundle: rules.policy.bundle(),
        outcome: outcome(&agent, server.as_ref(), submit, rules, now),
        agent,
        server,
        at: now,
    }
}

pub(super) fn submit(world: &World, submit: &Submit, rules: &Rules<'_>, now: Time) -> Decision {
    let agent = serving_agent(world, &submit.agent)?;
    if replayed(world, submit, now)? {
        return Ok(Vec::new());
    }
    let most = rules.policy.limits().open_requests_per_agent;
    if world.open_requests_of(&agent.name) >= most {
        return Err(Refusal::new(
            RefusalCode::TooManyOpen,
            format!("{most} requests are open"),
            "Finish or withdraw some of them, or wait until they end.",
        ));
    }
    let server = server_of(world, submit, rules);
    let prepared = submit.prepared.as_deref();
    let outcome = match prepared.filter(|it| it.holds(agent, server, rules, now)) {
        Some(prepared) => prepared.outcome.clone(),
        None => outcome(agent, server, submit, rules, now),
    };
    let (mut submission, verdict) = outcome?;
    let sealed = &submission.sealed;
    let mut freezes = world.freezes.iter();
    if freezes.any(|freeze| freeze.covers(&sealed.agent, &sealed.action, &sealed.target)) {
        return Err(Refusal::new(
            RefusalCode::Frozen,
            "a freeze covers this request",
            "Wait until the security team lifts it.",
        ));
    }
    if let Some(action) = rules.policy.action(&submit.action) {
        submission.pending_until = now.plus(action.review.expires);
    }
    Ok(vec![Event::RequestSubmitted {
        submission,
        verdict,
    }])
}

/// Checks and seals an ask and has policy judge it.
fn outcome(
    agent: &Agent,
    server: Option<&ServerId>,
    submit: &Submit,
    rules: &Rules<'_>,
    now: Time,
) -> Outcome {
    let action = rules.policy.action(&submit.action).ok_or_else(|| {
        Refusal::new(
            RefusalCode::UnknownAction,
            format!("the catalog has no action {}", submit.action),
            "List what there is with `countersign actions`.",
        )
    })?;
    action
        .check_parameters(&submit.parameters)
        .map_err(|mistakes| {
            let text: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            Refusal::new(
                RefusalCode::InvalidParameters,
                text.join("; "),
                format!(
                    "Give the parameters of {} as the catalog types them.",
                    action.name
                ),
            )
        })?;
    let scope = action.render_scope(&submit.parameters);
    rules
        .targets
        .check_scope(&action.target, &scope)
        .map_err(|problem| {
            Refusal::new(
                RefusalCode::InvalidScope,
                format!("the target does not accept this scope: {problem}"),
                "Choose other parameters, or ask the platform team to mend the action.",
            )
        })?;
    let server = server.ok_or_else(|| unidentified(action))?;
    let (ttl, verdict) = lifetime_and_verdict(agent, action, submit, rules, now)?;
    let sealed = Sealed {
        agent: agent.name.clone(),
        action: action.name.clone(),
        definition: rules.policy.definition(action),
        parameters: submit.parameters.clone(),
        scope,
        target: action.target.clone(),
        server: server.clone(),
        ttl_seconds: ttl,
    };
    let submission = submission(agent, action, submit, sealed, now);
    Ok((Box::new(submission), verdict))
}

/// The server the action's target stands for.
fn server_of<'a>(world: &'a World, submit: &Submit, rules: &Rules<'_>) -> Option<&'a ServerId> {
    let action = rules.policy.action(&submit.action)?;
    world.servers.get(&action.target)
}

fn unidentified(action: &Action) -> Box<Refusal> {
    let detail = format!(
        "target {} has not answered since it was configured, so nobody knows which server it is",
        action.target
    );
    let next =
        "Ask again in a moment; if it stays so, ask the platform team to run `countersign doctor`.";
    Refusal::new(RefusalCode::TargetUnidentified, detail, next)
}

/// Whether this is a repetition of an earlier call with the same idempotency key.
fn replayed(world: &World, submit: &Submit, now: Time) -> Result<bool, Box<Refusal>> {
    let Some(key) = submit.idempotency_key else {
        return Ok(false);
    };
    let recent = world.recent(&submit.agent, &key);
    let Some(recent) = recent.or(submit.earlier.as_ref()) else {
        // What came since it was looked up may have left the world.
        return match submit.request.drawn_at().plus(RECENT_WINDOW) > now {
            true => Ok(false),
            false => Err(Refusal::new(
                RefusalCode::Expired,
                "the request waited too long to be decided",
                "Send it again with the same idempotency key.",
            )),
        };
    };
    if recent.fingerprint == submit.fingerprint {
        return Ok(true);
    }
    Err(Refusal::new(
        RefusalCode::IdempotencyMismatch,
        "this idempotency key came with another request before",
        "Use a new key for a new request.",
    ))
}

/// The lifetime is the least of what was asked, the action, policy and the target; only ever shorter.
fn lifetime_and_verdict(
    agent: &Agent,
    action: &Action,
    submit: &Submit,
    rules: &Rules<'_>,
    now: Time,
) -> Result<(Seconds, Verdict), Box<Refusal>> {
    let target_longest = rules
        .targets
        .longest_ttl(&action.target)
        .unwrap_or(Seconds(0));
    let asked = submit.ttl.unwrap_or(action.ttl.default);
    let mut ttl = asked.min(action.ttl.longest).min(target_longest);
    if ttl == Seconds(0) {
        return Err(Refusal::new(
            RefusalCode::InvalidTtl,
            "a lifetime of zero is over before it begins",
            format!(
                "Ask for 1 to {} seconds.",
                action.ttl.longest.0.min(target_longest.0)
            ),
        ));
    }
    let Judgement { request, routine } = rules.policy.judge(&Ask {
        agent,
        on_behalf_of: submit.on_behalf_of.as_ref(),
        action,
        parameters: &submit.parameters,
        ttl,
        now,
    });
    ttl = request.shorten(ttl);
    if routine.permitted {
        ttl = routine.shorten(ttl);
    }
    if ttl == Seconds(0) {
        return Err(Refusal::new(
            RefusalCode::InvalidTtl,
            "policy leaves this request no lifetime",
            "Ask the platform team about the @ttl of the policies that apply.",
        ));
    }
    Ok((ttl, verdict(rules.policy, action, request, routine)))
}

/// Any evaluation error denies. Without reviewers, what is not routine is denied rather than left to nobody.
fn verdict(policy: &dyn Policy, action: &Action, request: Ruling, routine: Ruling) -> Verdict {
    let mut policies = request.policies;
    let mut errors = request.errors;
    let answer = if !request.permitted || !errors.is_empty() {
        VerdictAnswer::Deny
    } else if !routine.errors.is_empty() {
        errors.extend(routine.errors);
        VerdictAnswer::Deny
    } else if routine.permitted {
        policies.extend(routine.policies);
        VerdictAnswer::Allow
    } else if action.review.groups.values().all(|count| *count == 0) {
        errors.push(format!(
            "{} is not routine here and names no reviewers",
            action.name
        ));
        VerdictAnswer::Deny
    } else {
        policies.extend(routine.policies);
        VerdictAnswer::Review
    };
    Verdict {
        answer,
        bundle: policy.bundle(),
        policies,
        errors,
    }
}

fn submission(
    agent: &Agent,
    action: &Action,
    submit: &Submit,
    sealed: Sealed,
    now: Time,
) -> Submission {
    Submission {
        request: submit.request.clone(),
        digest: sealed.digest(),
        sealed,
        owner: agent.owner.clone(),
        on_behalf_of: submit.on_behalf_of.clone(),
        context: submit.context,
        idempotency_key: submit.idempotency_key,
        fingerprint: submit.fingerprint,
        asked_ttl_seconds: submit.ttl,
        reviewers: action.review.groups.clone(),
        pending_until: now.plus(action.review.expires),
        collect_window: action.collect_window,
    }
}
