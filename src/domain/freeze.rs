//! Standing orders: what is not let in any more.

use serde::{Deserialize, Serialize};

use super::ids::{ActionName, AgentName, TargetName};

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
