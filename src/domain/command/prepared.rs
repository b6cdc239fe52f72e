//! What an ask comes to, found out before its turn.

use super::super::agent::Agent;
use super::super::ids::{Digest, ServerId};
use super::super::request::{Submission, Verdict};
use super::super::rules::Rules;
use super::super::time::Time;
use super::Refusal;

/// What an ask comes to as far as the ledger's other entries have no part in it: the sealed request and policy's word on
/// it, or why it is refused. Made in the asker's task, and used when its turn comes if what it rests on is still so.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(in super::super) bundle: Digest,
    pub(in super::super) agent: Agent,
    pub(in super::super) server: Option<ServerId>,
    pub(in super::super) at: Time,
    pub(in super::super) outcome: Outcome,
}

/// The request as it would be sealed, and policy's word on it.
pub(in super::super) type Outcome = Result<(Box<Submission>, Verdict), Box<Refusal>>;

impl Prepared {
    /// Whether it would come out the same now. Policy sees the time in whole seconds.
    pub(in super::super) fn holds(
        &self,
        agent: &Agent,
        server: Option<&ServerId>,
        rules: &Rules<'_>,
        now: Time,
    ) -> bool {
        self.bundle == rules.policy.bundle()
            && self.agent == *agent
            && self.server.as_ref() == server
            && self.at.unix_seconds() == now.unix_seconds()
    }
}
