//! Standing orders: what is not let in any more.

use serde::{Deserialize, Serialize};

use super::ids::{ActionName, AgentName, TargetName};
use super::lease::EndCause;
use super::request::Outcome;
use super::time::Time;

/// What a freeze covers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum Freeze {
    /// Everything.
    Everything,
    /// One agent.
    Agent(AgentName),
    /// One action.
    Action(ActionName),
    /// One target.
    Target(TargetName),
}

impl Freeze {
    /// Whether it covers this combination.
    pub fn covers(&self, agent: &AgentName, action: &ActionName, target: &TargetName) -> bool {
        match self {
            Freeze::Everything => true,
            Freeze::Agent(name) => name == agent,
            Freeze::Action(name) => name == action,
            Freeze::Target(name) => name == target,
        }
    }
}

/// An order that stops an open request: everything it covered when it was given, whatever becomes of the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Why its lease ends, if it has one.
    pub cause: EndCause,
    /// When the order was given.
    pub since: Time,
}

impl Stop {
    /// How the request comes out, if it has no lease.
    pub fn outcome(&self) -> Outcome {
        match self.cause {
            EndCause::Frozen => Outcome::Frozen,
            _ => Outcome::Revoked,
        }
    }
}
