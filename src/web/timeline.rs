//! A request's entries in the ledger, as sentences.

use maud::{Markup, html};
use serde_json::Value;

use super::sheet::Sheet;
use super::text;
use crate::domain::event::Actor;
use crate::domain::request::{ReviewDecision, VerdictAnswer};
use crate::domain::{EndCause, Entry, Event, Outcome};

/// The section with the whole story, oldest first.
pub(super) fn section(sheet: &Sheet) -> Markup {
    html! {
        section.card aria-labelledby="timeline" {
            h2 #timeline { "Timeline" }
            ol.timeline {
                @for entry in &sheet.timeline {
                    li class=(tone(&entry.event)) {
                        span.what { (sentence(entry)) }
                        span.at {
                            time datetime=(entry.time) title={ (text::exact(entry.time)) ", entry " (entry.seq) } {
                                (text::relative(entry.time, sheet.now))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn tone(event: &Event) -> &'static str {
    match event {
        Event::ReviewGiven { review, .. } if review.decision == ReviewDecision::Deny => "no",
        Event::RequestSubmitted { verdict, .. } => match verdict.answer {
            VerdictAnswer::Allow => "good",
            VerdictAnswer::Review => "plain",
            VerdictAnswer::Deny => "no",
        },
        Event::ReviewGiven { .. } | Event::GrantMade { .. } | Event::LeaseEnded { .. } => "good",
        Event::LeaseLive { .. } => "live",
        Event::ReviewRefused { .. }
        | Event::LeaseFailed { .. }
        | Event::LeaseEndFailed { .. }
        | Event::LeaseAbandoned { .. } => "no",
        _ => "plain",
    }
}

fn actor(actor: &Actor) -> Markup {
    match actor {
        Actor::Agent { name } => html! { code { (name) } },
        Actor::Person { person } => text::person(person),
        Actor::Operator => html! { "The operator" },
        Actor::Broker => html! { "Countersign" },
    }
}

fn sentence(entry: &Entry) -> Markup {
    match &entry.event {
        Event::RequestSubmitted {
            submission,
            verdict,
        } => html! {
            (actor(&entry.actor)) " asked for " code { (submission.sealed.action) } ". "
            @match verdict.answer {
                VerdictAnswer::Allow => "Policy: routine, no person needed",
                VerdictAnswer::Review => "Policy: people decide",
                VerdictAnswer::Deny => "Policy: not for this agent",
            }
        },
        Event::ReviewGiven { review, .. } => html! {
            (text::person(&review.reviewer.person))
            @match review.decision {
                ReviewDecision::Approve => " approved ",
                ReviewDecision::Deny => " denied ",
            }
            "digest " code { (review.digest.short()) }
        },
        Event::ReviewRefused { person, code, .. } => html! {
            (text::person(person)) " tried to decide and may not (" code { (text::line(code)) } ")"
        },
        Event::GrantMade { people, .. } => html! {
            "Granted on the word of "
            (text::listed(&people.iter().map(text::person).collect::<Vec<_>>()))
        },
        Event::RequestClosed { outcome, .. } => html! { (closed(*outcome)) },
        other => lease_sentence(other),
    }
}

fn lease_sentence(event: &Event) -> Markup {
    match event {
        Event::LeaseIntended { target, .. } => html! {
            "The agent collects; " code { (target) } " is about to be called"
        },
        Event::LeaseLive { expires, .. } => html! {
            "Credential issued, good until " time datetime=(expires) { (text::exact(*expires)) }
        },
        Event::LeaseAcknowledged { .. } => html! { "The agent holds the credential" },
        Event::LeaseFailed { code, .. } => html! {
            "The target refused; nothing was issued (" code { (text::line(code)) } ")"
        },
        Event::LeaseEnding { cause, report, .. } => html! {
            (ending(*cause))
            @for (name, value) in report {
                @if !matches!(value, Value::Null) {
                    span.report { (text::line(name)) " " code { (text::value(value)) } }
                }
            }
        },
        Event::LeaseEndClaimed { .. } => html! { "Ending the credential at the target" },
        Event::LeaseEndFailed {
            code,
            detail,
            attempts,
            ..
        } => html! {
            "Not proven gone yet (" code { (text::line(code)) } ")"
            @if *attempts > 1 { " after " (attempts) " attempts" }
            "; it is tried again"
            @if !detail.is_empty() { span.report { (text::line(detail)) } }
        },
        Event::LeaseCutOff { proof, until, .. } => html! {
            "Cut off, seen to be denied everything: " (seen(proof))
            ". It runs out for good at " time datetime=(until) { (text::exact(*until)) }
        },
        Event::LeaseAbandoned { .. } => html! {
            "The operator gave it up: its end is not proven, and is tried when the target answers again"
        },
        Event::LeaseEnded { proof, residue, .. } => html! {
            "Proven gone: " (seen(proof))
            @if !residue.is_empty() { ". What it changed at the target:" }
            @for line in residue { span.report { (text::line(line)) } }
        },
        other => html! { code { (other.kind()) } },
    }
}

fn seen(proof: &[String]) -> Markup {
    let seen = proof.iter().map(|seen| text::line(&seen.replace('_', " ")));
    text::listed(&seen.collect::<Vec<_>>())
}

/// Why a lease ends, as a sentence.
pub(super) fn ending(cause: EndCause) -> &'static str {
    match cause {
        EndCause::Finished => "The agent is done",
        EndCause::Expired => "The time is up",
        EndCause::Revoked => "Revoked early",
        EndCause::Frozen => "A freeze ends it",
        EndCause::AgentDisabled => "The agent was disabled",
        EndCause::AnswerLost => {
            "The answer was lost; this credential is ended before another is issued"
        }
        EndCause::Unacknowledged => {
            "The agent did not say that it holds this credential, so the answer counts as lost"
        }
        EndCause::MintUnknown => "Nobody knows whether it was issued; it is ended to be sure",
    }
}

/// How a request came out, as a sentence.
pub(super) fn closed(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Refused => "Refused by policy",
        Outcome::Denied => "Denied; nothing was issued",
        Outcome::Lapsed => "Lapsed: nobody decided or collected in time",
        Outcome::Withdrawn => "Taken back by the agent",
        Outcome::Frozen => "Stopped by a freeze",
        Outcome::Stale => "Out of date: something it rested on changed",
        Outcome::Failed => "Failed; nothing is left at the target",
        Outcome::Completed => "Completed; the credential is proven gone",
        Outcome::Revoked => "Revoked; the credential is proven gone",
        Outcome::Expired => "Expired; the credential is proven gone",
        Outcome::Abandoned => "Given up; nobody has proven the credential gone",
    }
}
