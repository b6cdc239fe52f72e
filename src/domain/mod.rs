//! The heart: what the product means, as values and pure functions.
//!
//! Nothing here does I/O, reads a clock or draws a random number. Time, ids and randomness arrive
//! with the command; policy and targets are asked through the two small traits in [`rules`].
//!
//! * [`decide`] — what a command leads to
//! * [`World::apply`] — the fold of the ledger into what is open now
//! * [`due`] — what the broker owes at an instant, in order
//! * [`audit`] and [`replay`] — for whoever does not trust the broker that wrote an entry

pub mod action;
pub mod agent;
pub mod approval;
pub mod audit;
pub mod base16;
pub mod base32;
pub mod canonical;
pub mod clock;
pub mod command;
pub mod decide;
pub mod due;
pub mod event;
mod freeze;
pub mod ids;
pub mod instant;
pub mod lease;
pub mod orphan;
pub mod outage;
mod pairs;
pub mod person;
mod queues;
pub mod quorum;
pub mod replay;
pub mod request;
mod roster;
pub mod rules;
pub mod time;
mod transition;
pub mod world;

pub use action::{Action, ParameterKind, ReviewRule, TtlRule};
pub use agent::{Agent, AgentProof};
pub use clock::{Accepted, Apart};

pub use command::{Command, Refusal};
pub use decide::decide;
pub use due::Owed;
pub use event::{Actor, Entry, Event};
pub use freeze::Stop;
pub use ids::{
    ActionName, AgentName, Digest, GroupName, GuardName, LeaseId, RequestId, ServerId, TargetName,
};
pub use lease::{EndCause, Lease, LeaseState, Proof};
pub use orphan::{Orphan, OrphanKey};
pub use outage::Outage;
pub use person::{Party, Person, Reviewer};
pub use request::{Outcome, Request, RequestState, Submission};
pub use rules::{Explanation, GuardRoom, Policy, Rules, Ruling, Targets};
pub use time::{Seconds, Time};
pub use world::World;
