//! People, as the identity provider knows them.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::GroupName;
use super::time::Time;

/// One person: exactly the pair (issuer, subject) of their ID token. E-mail never decides.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The `iss` of the ID token, exact.
    pub issuer: String,
    /// The `sub` of the ID token, exact.
    pub subject: String,
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.subject, self.issuer)
    }
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who stands behind an agent: one person, or everybody in a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Party {
    /// One person.
    Person(Person),
    /// Everybody who is in this group when it matters.
    Group(GroupName),
}

impl Party {
    /// Whether `reviewer` is this party or belongs to it.
    pub fn includes(&self, reviewer: &Reviewer) -> bool {
        match self {
            Party::Person(person) => *person == reviewer.person,
            Party::Group(group) => reviewer.groups.contains(group),
        }
    }
}

/// A signed-in person at the moment of acting: who, in which groups, proven how.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reviewer {
    /// Who it is.
    pub person: Person,
    /// Groups from the configured claim, as of the sign-in or a later refresh.
    pub groups: BTreeSet<GroupName>,
    /// How the person was recognised.
    pub evidence: Evidence,
}

/// What is known of how a person proved who they are; kept with every review.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// When they last proved it to the identity provider (`auth_time`, or the sign-in).
    pub auth_time: Time,
    /// The authentication context class (`acr`), if the provider names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// Where the decision was made: `web`.
    pub channel: String,
}
