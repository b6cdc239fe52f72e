//! A request as facts for people.

use countersign_client::{RequestView, State};
use serde_json::Value;

use super::connect::now_ms;
use super::finish::in_the_way;
use super::text::{instant, plain, spell};

/// Facts of a request, in the order people need them.
pub(crate) fn of_request(request: &RequestView) -> Vec<(&'static str, String)> {
    let mut facts = vec![("request", request.id.clone()), ("state", state(request))];
    let mut add = |name, value: String| {
        if !value.is_empty() {
            facts.push((name, value));
        }
    };
    add("agent", request.agent.clone());
    add("action", request.action.clone());
    add("parameters", parameters(request));
    add("target", request.target.clone());
    for words in request
        .explanation
        .iter()
        .flat_map(|explanation| &explanation.words)
    {
        add("can", words.clone());
    }
    add("lifetime", lifetime(request));
    add("digest", short_digest(request));
    add("needs", needs(request));
    for review in &request.reviews {
        let who = review
            .reviewer
            .as_ref()
            .map_or("somebody", |person| &person.subject);
        add(
            "review",
            format!("{} by {who} at {}", review.decision, review.at),
        );
    }
    if let Some(verdict) = &request.verdict {
        let policies = verdict.policies.join(", ");
        add(
            "verdict",
            if policies.is_empty() {
                verdict.answer.clone()
            } else {
                format!("{} ({policies})", verdict.answer)
            },
        );
    }
    if let Some(lease) = &request.lease {
        let state = lease.state.as_deref().unwrap_or("known");
        let ends = lease
            .expires_at
            .as_deref()
            .map(|at| format!(", ends {at}{}", from_now(at)))
            .unwrap_or_default();
        let why = in_the_way(request).map_or_else(String::new, |why| format!(", {why}"));
        add("lease", format!("{} {state}{ends}{why}", lease.id));
    }
    facts.extend(waiting(request));
    let residue = request.residue.iter();
    facts.extend(residue.map(|line| ("changed there", plain(line))));
    facts
}

/// What it waits for, and until when.
fn waiting(request: &RequestView) -> Vec<(&'static str, String)> {
    let until = |at: &Option<String>| {
        at.as_deref()
            .map(|at| format!("{at}{}", from_now(at)))
            .unwrap_or_default()
    };
    let facts = match request.state {
        State::Pending => vec![
            ("waits until", until(&request.pending_until)),
            ("review at", request.review_url.clone().unwrap_or_default()),
        ],
        State::Approved => vec![("collect until", until(&request.collect_until))],
        _ => Vec::new(),
    };
    facts
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// `15m`, or `15m, cut from 1h`.
fn lifetime(request: &RequestView) -> String {
    let given = request.ttl_seconds;
    match request.asked_ttl_seconds {
        _ if given == 0 => String::new(),
        Some(asked) if asked > given => format!("{}, cut from {}", spell(given), spell(asked)),
        _ => spell(given),
    }
}

/// `closed, denied`.
pub(crate) fn state(request: &RequestView) -> String {
    match &request.outcome {
        Some(outcome) => format!("{}, {outcome}", request.state),
        None => request.state.to_string(),
    }
}

/// `from=2026-01-01 to=2026-02-01`.
pub(crate) fn parameters(request: &RequestView) -> String {
    let show = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let parts: Vec<_> = request
        .parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", show(value)))
        .collect();
    parts.join(" ")
}

/// `1 of dba, 2 of security`.
pub(crate) fn needs(request: &RequestView) -> String {
    let parts: Vec<_> = request
        .needs
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(group, n)| format!("{n} of {group}"))
        .collect();
    parts.join(", ")
}

/// The digest's first digits, for comparing with what the reviewer sees.
pub(crate) fn short_digest(request: &RequestView) -> String {
    request.digest.chars().take(12).collect()
}

/// ` (in 4m10s)`, ` (3s ago)`, or nothing when it is no time.
fn from_now(at: &str) -> String {
    let Some(at) = instant(at) else {
        return String::new();
    };
    let seconds = at.saturating_sub(now_ms()) / 1000;
    let length = spell(seconds.unsigned_abs());
    if seconds >= 0 {
        format!(" (in {length})")
    } else {
        format!(" ({length} ago)")
    }
}
