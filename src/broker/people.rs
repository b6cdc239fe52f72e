//! What people may do about a request, and that they came and went.

use std::collections::BTreeMap;

use super::{Broker, BrokerError};
use crate::domain::approval::missing;
use crate::domain::decide::{may_deny, may_review, may_revoke};
use crate::domain::{Command, GroupName, Person, Refusal, Request, Reviewer, Rules, World};

impl Broker {
    fn with_rules<R>(&self, look: impl FnOnce(&World, &Rules<'_>) -> R) -> R {
        let shared = &self.calls.shared;
        let bundle = shared.bundle();
        shared.world(|world| look(world, &bundle.rules()))
    }

    /// What `review` would say to this person, without recording anything.
    ///
    /// # Errors
    /// Why not.
    pub fn may_review(&self, reviewer: &Reviewer, request: &Request) -> Result<(), Box<Refusal>> {
        let now = self.now();
        self.with_rules(|world, rules| may_review(world, reviewer, request, rules, now).map(drop))
    }

    /// Whether this person may say no, also where `may_review` bars them because the action has changed since.
    pub fn may_deny(&self, reviewer: &Reviewer, request: &Request) -> bool {
        let now = self.now();
        self.with_rules(|world, rules| may_deny(world, reviewer, request, rules, now).is_ok())
    }

    /// Whether policy lets this person revoke it.
    pub fn may_revoke(&self, reviewer: &Reviewer, request: &Request) -> bool {
        let now = self.now();
        self.with_rules(|world, rules| may_revoke(world, reviewer, request, rules, now))
    }

    /// How many more people each group must still give to a request. An approval by somebody who has come to stand on
    /// the requester's side since is not counted.
    pub fn missing(&self, request: &Request) -> BTreeMap<GroupName, u32> {
        let shared = &self.calls.shared;
        shared.world(|world| missing(world, request))
    }

    /// Records that a person signed in, and in which groups they are.
    ///
    /// # Errors
    /// When the ledger is unavailable.
    pub async fn note_sign_in(&self, reviewer: &Reviewer) -> Result<(), BrokerError> {
        let command = Command::NoteSignIn {
            person: reviewer.person.clone(),
            groups: reviewer.groups.clone(),
        };
        self.calls.send(command).await.map(drop).map_err(Into::into)
    }

    /// Records that a person signed out.
    ///
    /// # Errors
    /// When the ledger is unavailable.
    pub async fn note_sign_out(&self, person: &Person) -> Result<(), BrokerError> {
        let command = Command::NoteSignOut {
            person: person.clone(),
        };
        self.calls.send(command).await.map(drop).map_err(Into::into)
    }
}
