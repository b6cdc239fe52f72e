//! What a command tells about itself. Nothing here has a default arm: a new command does not compile until somebody has
//! said who causes it, whether it waits for policy, and what it is about.

use super::{Command, Revoker};
use crate::domain::event::Actor;
use crate::domain::ids::{AgentName, RequestId};
use crate::domain::person::Person;
use crate::domain::world::World;

impl Command {
    /// Who the entries of this command name as their cause.
    pub fn actor(&self) -> Actor {
        match self {
            Command::Submit(submit) => agent(&submit.agent),
            Command::Withdraw { agent: name, .. }
            | Command::Collect { agent: name, .. }
            | Command::Acknowledge { agent: name, .. }
            | Command::Finish { agent: name, .. } => agent(name),
            Command::Review(review) => person(&review.reviewer.person),
            Command::NoteSignIn { person: who, .. } | Command::NoteSignOut { person: who } => {
                person(who)
            }
            Command::Revoke { by, .. } => match by {
                Revoker::Agent(name) => agent(name),
                Revoker::Person(reviewer) => person(&reviewer.person),
                Revoker::Operator => Actor::Operator,
            },
            Command::SetFreeze { by, .. } => by.clone(),
            Command::EnrollAgent { .. }
            | Command::DisableAgent { .. }
            | Command::MoveTarget { .. }
            | Command::AcceptClock { .. }
            | Command::AcceptLedger { .. }
            | Command::AbandonLease { .. }
            | Command::ShutGuard { .. } => Actor::Operator,
            Command::Open { .. }
            | Command::ApplyBundle { .. }
            | Command::RecordMint { .. }
            | Command::LoseAnswer { .. }
            | Command::IdentifyTarget { .. }
            | Command::Lapse { .. }
            | Command::ClaimEnds { .. }
            | Command::RecordEnds { .. }
            | Command::NoteTargetAway { .. }
            | Command::NoteTargetBack { .. }
            | Command::FindOrphan { .. } => Actor::Broker,
        }
    }

    /// Whether it can only be decided under the bundle in force. What asks no policy, and above all what ends access,
    /// goes on while that bundle cannot be loaded.
    pub fn asks_policy(&self) -> bool {
        match self {
            Command::Submit(_) | Command::Review(_) | Command::Collect { .. } => true,
            Command::Revoke { by, .. } => match by {
                Revoker::Person(_) => true,
                Revoker::Agent(_) | Revoker::Operator => false,
            },
            // It brings the bundle.
            Command::Open { .. } | Command::ApplyBundle { .. } => false,
            Command::EnrollAgent { .. }
            | Command::DisableAgent { .. }
            | Command::Withdraw { .. }
            | Command::RecordMint { .. }
            | Command::LoseAnswer { .. }
            | Command::Acknowledge { .. }
            | Command::Finish { .. }
            | Command::IdentifyTarget { .. }
            | Command::MoveTarget { .. }
            | Command::AcceptClock { .. }
            | Command::AcceptLedger { .. }
            | Command::ShutGuard { .. }
            | Command::SetFreeze { .. }
            | Command::Lapse { .. }
            | Command::ClaimEnds { .. }
            | Command::RecordEnds { .. }
            | Command::NoteTargetAway { .. }
            | Command::NoteTargetBack { .. }
            | Command::AbandonLease { .. }
            | Command::FindOrphan { .. }
            | Command::NoteSignIn { .. }
            | Command::NoteSignOut { .. } => false,
        }
    }

    /// The request whose state answers the command, also when it leads to no entry: the one it names, or the one that
    /// its idempotency key led to before.
    pub fn subject<'a>(&'a self, world: &'a World) -> Option<&'a RequestId> {
        match self {
            Command::Submit(submit) => {
                let key = submit.idempotency_key.as_ref()?;
                let recent = world.recent(&submit.agent, key);
                Some(&recent.or(submit.earlier.as_ref())?.request)
            }
            Command::Review(review) => Some(&review.request),
            Command::Withdraw { request, .. }
            | Command::Collect { request, .. }
            | Command::Finish { request, .. }
            | Command::Revoke { request, .. } => Some(request),
            Command::RecordMint { lease, .. }
            | Command::LoseAnswer { lease }
            | Command::Acknowledge { lease, .. }
            | Command::AbandonLease { lease, .. } => Some(&world.leases.get(lease)?.request),
            Command::Open { .. }
            | Command::ApplyBundle { .. }
            | Command::EnrollAgent { .. }
            | Command::DisableAgent { .. }
            | Command::IdentifyTarget { .. }
            | Command::MoveTarget { .. }
            | Command::AcceptClock { .. }
            | Command::AcceptLedger { .. }
            | Command::ShutGuard { .. }
            | Command::SetFreeze { .. }
            | Command::Lapse { .. }
            | Command::ClaimEnds { .. }
            | Command::RecordEnds { .. }
            | Command::NoteTargetAway { .. }
            | Command::NoteTargetBack { .. }
            | Command::FindOrphan { .. }
            | Command::NoteSignIn { .. }
            | Command::NoteSignOut { .. } => None,
        }
    }
}

fn agent(name: &AgentName) -> Actor {
    Actor::Agent { name: name.clone() }
}

fn person(person: &Person) -> Actor {
    Actor::Person {
        person: person.clone(),
    }
}
