//! One entry as bytes: canonical JSON (RFC 8785), at most 32 KiB, read back strictly.
//!
//! What is written here is the frozen log format. An entry has exactly one spelling: bytes that say
//! the same in another way, or say more than this version knows, are refused.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::stored::EntryIndex;
use crate::domain::canonical::{self, NotCanonical as NoCanonicalForm};
use crate::domain::event::Freeze;
use crate::domain::{Actor, AgentName, Digest, Entry, Event};

/// The longest entry, in bytes. Anything bigger belongs in a [`Blob`](super::Blob).
pub const LONGEST_ENTRY: usize = 32 * 1024;

/// The format version this code writes, and the only one it reads.
pub const VERSION: u8 = 2;

/// How many objects and arrays may be inside one another: half of what common readers of JSON bear.
const DEEPEST_ENTRY: usize = 64;

/// Why an entry cannot be written, or bytes are not an entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Too long.
    #[error(
        "an entry of {0} bytes exceeds the limit of {LONGEST_ENTRY} bytes; shorten its parameters, scope or report"
    )]
    TooLong(usize),
    /// Another version of the format.
    #[error(
        "an entry of format version {0}, and this countersign reads version {VERSION} only: begin a new ledger in an \
         empty state directory or database, and keep the old one with the countersign that wrote it"
    )]
    Version(u8),
    /// A number that canonical JSON would change.
    #[error("the number {0} cannot be written exactly in canonical JSON; send it as a string")]
    Inexact(String),
    /// Nested too deeply.
    #[error(
        "an entry may have {DEEPEST_ENTRY} arrays and objects inside one another; send a flatter report"
    )]
    TooDeep,
    /// A value that JSON has no words for.
    #[error("the entry cannot be written as canonical JSON: {0}")]
    Unwritable(#[from] NoCanonicalForm),
    /// Not an entry at all.
    #[error("not an entry of this format: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Right content in the wrong spelling.
    #[error("not in canonical form (RFC 8785), although it reads as an entry")]
    NotCanonical,
}

/// The canonical bytes of `entry`. What is returned is certain to be readable by [`decode`].
///
/// # Errors
/// When the entry is too long, or would not be read back as what it is.
pub fn encode(entry: &Entry) -> Result<Vec<u8>, EntryError> {
    if entry.v != VERSION {
        return Err(EntryError::Version(entry.v));
    }
    let canonical = canonical::write(entry)?;
    if canonical.bytes.len() > LONGEST_ENTRY {
        return Err(EntryError::TooLong(canonical.bytes.len()));
    }
    // Everything else is made of types that read back what they wrote. Whole numbers beyond 2^53 would silently
    // become other numbers, and what is nested too deeply is refused by readers.
    if let Some(number) = canonical.inexact {
        return Err(EntryError::Inexact(number));
    }
    if canonical.depth > DEEPEST_ENTRY {
        return Err(EntryError::TooDeep);
    }
    Ok(canonical.bytes)
}

/// Reads canonical bytes back, strictly.
///
/// # Errors
/// When they are anything else than the one spelling of one entry of this version.
pub fn decode(bytes: &[u8]) -> Result<Entry, EntryError> {
    if bytes.len() > LONGEST_ENTRY {
        return Err(EntryError::TooLong(bytes.len()));
    }
    let entry: Entry =
        serde_json::from_slice(bytes).map_err(|error| of_other_version(bytes, error))?;
    if entry.v != VERSION {
        return Err(EntryError::Version(entry.v));
    }
    if canonical::to_vec(&entry)? != bytes {
        return Err(EntryError::NotCanonical);
    }
    Ok(entry)
}

/// What another version says need not read as an entry of ours.
fn of_other_version(bytes: &[u8], error: serde_json::Error) -> EntryError {
    #[derive(Deserialize)]
    struct Versioned {
        v: u8,
    }
    match serde_json::from_slice(bytes) {
        Ok(Versioned { v }) if v != VERSION => EntryError::Version(v),
        _ => EntryError::Malformed(error),
    }
}

/// The columns an entry can be found by.
pub fn index(entry: &Entry) -> EntryIndex {
    EntryIndex {
        kind: entry.event.kind().to_owned(),
        time: entry.time,
        request: entry.event.request().cloned(),
        lease: entry.event.lease().cloned(),
        agent: agent_of(entry),
        action: action_of(&entry.event),
        actor: actor_of(&entry.actor),
        outcome: outcome_of(&entry.event),
        key: key_of(&entry.event),
    }
}

fn key_of(event: &Event) -> Option<Digest> {
    let Event::RequestSubmitted { submission, .. } = event else {
        return None;
    };
    let key = submission.idempotency_key.as_ref()?;
    Some(asked_with(&submission.sealed.agent, key))
}

/// What an ask with an idempotency key, of which `key` is the hash, is found by. The agent is in it, so that no agent
/// can fill the place where another one's key is looked for.
pub fn asked_with(agent: &AgentName, key: &Digest) -> Digest {
    Digest::of(format!("{agent} {key}").as_bytes())
}

/// The agent the event names, or else the one that caused it.
fn agent_of(entry: &Entry) -> Option<String> {
    let named = match &entry.event {
        Event::AgentEnrolled { agent } => Some(&agent.name),
        Event::AgentDisabled { agent } | Event::LeaseIntended { agent, .. } => Some(agent),
        Event::RequestSubmitted { submission, .. } => Some(&submission.sealed.agent),
        Event::FreezeSet { freeze } | Event::FreezeLifted { freeze } => match freeze {
            Freeze::Agent(name) => Some(name),
            Freeze::Everything | Freeze::Action(_) | Freeze::Target(_) => None,
        },
        _ => None,
    };
    let caused_by = match &entry.actor {
        Actor::Agent { name } => Some(name),
        Actor::Person { .. } | Actor::Operator | Actor::Broker => None,
    };
    named.or(caused_by).map(ToString::to_string)
}

fn action_of(event: &Event) -> Option<String> {
    match event {
        Event::RequestSubmitted { submission, .. } => Some(submission.sealed.action.to_string()),
        Event::FreezeSet {
            freeze: Freeze::Action(name),
        }
        | Event::FreezeLifted {
            freeze: Freeze::Action(name),
        } => Some(name.to_string()),
        _ => None,
    }
}

fn actor_of(actor: &Actor) -> String {
    match actor {
        Actor::Agent { name } => format!("agent:{name}"),
        Actor::Person { person } => format!("person:{} {}", person.subject, person.issuer),
        Actor::Operator => "operator".to_owned(),
        Actor::Broker => "broker".to_owned(),
    }
}

fn outcome_of(event: &Event) -> Option<String> {
    match event {
        Event::RequestClosed { outcome, .. }
        | Event::LeaseEnded {
            outcome: Some(outcome),
            ..
        }
        | Event::LeaseFailed {
            outcome: Some(outcome),
            ..
        } => Some(outcome.word().to_owned()),
        Event::RequestSubmitted { verdict, .. } => word(&verdict.answer),
        Event::ReviewGiven { review, .. } => word(&review.decision),
        Event::LeaseEnding { cause, .. } => word(cause),
        Event::ReviewRefused { code, .. }
        | Event::LeaseFailed { code, .. }
        | Event::LeaseEndFailed { code, .. }
        | Event::TargetAway { code, .. }
        | Event::OrphanEndFailed { code, .. } => Some(code.clone()),
        _ => None,
    }
}

/// The word that `value`, an enum without content, has in JSON.
fn word<T: Serialize>(value: &T) -> Option<String> {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => Some(word),
        _ => None,
    }
}
