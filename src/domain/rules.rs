//! What `decide` asks of others, as two small traits.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::action::Action;
use super::agent::Agent;
use super::ids::{ActionName, Digest, GuardName, TargetName};
use super::person::{Party, Person, Reviewer};
use super::time::{Seconds, Time};

/// The bundle in force, as `decide` sees it. Implemented by `policy`.
pub trait Policy: Send + Sync {
    /// The bundle's content address.
    fn bundle(&self) -> Digest;
    /// An action of its catalog.
    fn action(&self, name: &ActionName) -> Option<&Action>;
    /// All actions, by name.
    fn actions(&self) -> Vec<&Action>;
    /// The hash of an action's definition: [`Action::definition`], perhaps remembered.
    fn definition(&self, action: &Action) -> Digest {
        action.definition()
    }
    /// Agents it declares.
    fn agents(&self) -> &[Agent];
    /// The bounds it keeps.
    fn limits(&self) -> Limits {
        Limits::default()
    }
    /// Asks one question. An evaluation error means no.
    fn ask(&self, question: &Question<'_>) -> Ruling;
    /// Asks whether an agent may ask for this, and whether it goes through without a person for as long as is left then.
    fn judge(&self, ask: &Ask<'_>) -> Judgement {
        let request = self.ask(&Question::Request(ask.clone()));
        let ttl = request.shorten(ask.ttl);
        let routine = self.ask(&Question::Routine(Ask { ttl, ..ask.clone() }));
        Judgement { request, routine }
    }
}

/// Policy's two words on an ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// May the agent ask for it?
    pub request: Ruling,
    /// May it go through without a person?
    pub routine: Ruling,
}

/// A question to policy.
#[derive(Clone, Debug)]
pub enum Question<'a> {
    /// May this agent ask for this?
    Request(Ask<'a>),
    /// May it go through without a person?
    Routine(Ask<'a>),
    /// May this person review it?
    Review(&'a Reviewer, Ask<'a>),
    /// May this person revoke a lease of this?
    Revoke(&'a Reviewer, Ask<'a>),
}

/// The facts of a request that policy may look at.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// Who asks.
    pub agent: &'a Agent,
    /// For whom, if it says so.
    pub on_behalf_of: Option<&'a Person>,
    /// For what.
    pub action: &'a Action,
    /// With which parameters, already checked.
    pub parameters: &'a Map<String, Value>,
    /// For how long.
    pub ttl: Seconds,
    /// When.
    pub now: Time,
}

/// Policy's answer to one question.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ruling {
    /// Yes. Always false when `errors` is not empty.
    pub permitted: bool,
    /// Ids of the policies that decided.
    pub policies: Vec<String>,
    /// Evaluation errors.
    pub errors: Vec<String>,
    /// The shortest `@ttl("300")` (seconds) among the policies that decided.
    pub ttl_at_most: Option<Seconds>,
}

impl Ruling {
    /// The lifetime that is left of `ttl`.
    pub fn shorten(&self, ttl: Seconds) -> Seconds {
        ttl.min(self.ttl_at_most.unwrap_or(ttl))
    }
}

/// The configured targets, as `decide` and the pages see them. Pure: nothing is called.
pub trait Targets: Send + Sync {
    /// Checks a rendered scope in the target's own language.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    fn check_scope(&self, target: &TargetName, scope: &Value) -> Result<(), String>;

    /// The longest lifetime the target can honour; `None` when there is no such target.
    fn longest_ttl(&self, target: &TargetName) -> Option<Seconds>;

    /// The deny list that cuts the target's sessions off one by one, when it has one.
    fn guard(&self, _target: &TargetName) -> Option<GuardRoom> {
        None
    }

    /// The scope in words and exactly, and how access ends, for a reviewer.
    /// `handle` is the credential's name there, when known.
    fn explain(&self, target: &TargetName, scope: &Value, ttl: Seconds) -> Explanation;
}

/// A guard and how many sessions it can deny at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuardRoom {
    /// Which guard. Several targets may share one.
    pub name: GuardName,
    /// How many leases it has room for.
    pub room: usize,
}

/// A scope explained to a reviewer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// What the credential can do, one fact a line, in words.
    pub words: Vec<String>,
    /// What will be sent to the target, exactly, secrets left out.
    pub exact: String,
    /// How and when access ends, one fact a line.
    pub ending: Vec<String>,
    /// What of the work may outlive the credential, one fact a line.
    pub outlives: Vec<String>,
}

/// Bounds that keep one agent from burying the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests one agent may have open (pending to ending).
    pub open_requests_per_agent: usize,
    /// Longest time between intent and the target's answer.
    pub mint_window: Seconds,
    /// How long a broker's claim on an ending lease holds.
    pub claim_window: Seconds,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open_requests_per_agent: 100,
            mint_window: Seconds(15),
            claim_window: Seconds(30),
        }
    }
}

/// All that `decide` needs beside the world.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The bundle in force.
    pub policy: &'a dyn Policy,
    /// Its targets.
    pub targets: &'a dyn Targets,
}

/// Whether `reviewer` stands on the requester's side: the person acted for, the owner, or one of an owning group.
pub fn is_requesters_side(
    reviewer: &Reviewer,
    owner: &Party,
    on_behalf_of: Option<&Person>,
) -> bool {
    owner.includes(reviewer) || on_behalf_of == Some(&reviewer.person)
}
