//! A scope explained to a reviewer.

use serde_json::Value;

use super::AwsStsIssuer;
use super::canary::SETTLE;
use super::documents::{CANARY_ACTION, SHORTEST_SESSION};
use super::scope::{self, Form};
use crate::domain::{Explanation, Seconds};

impl AwsStsIssuer {
    /// The scope in words, the session policy, and how it ends.
    pub(super) fn explain_scope(&self, scope: &Value, ttl: Seconds) -> Explanation {
        let scope = match scope::read(scope, &self.place, Form::Template) {
            Ok(scope) => scope,
            Err(why) => {
                return Explanation {
                    words: vec![format!("nothing: {why}")],
                    exact: String::new(),
                    ending: Vec::new(),
                    outlives: Vec::new(),
                };
            }
        };
        let mut words = scope.words.clone();
        words.push(format!(
            "never more than role {} of account {} itself may do; works in region {}",
            self.role.name(),
            self.role.account,
            self.place.region
        ));
        if scope.everywhere {
            words.push("some actions are not limited to any resource".into());
        }
        words.push(if scope.undenied.is_empty() {
            "everything else is denied explicitly, so that no resource's own policy can add to it".into()
        } else {
            format!(
                "a resource whose own policy is open to everybody, or names this very session, can add to this: {}; everything else is denied explicitly",
                scope.undenied.join("; ")
            )
        });
        Explanation {
            words,
            exact: scope.policy("(end of the lease)").to_pretty(),
            ending: self.explain_ending(ttl),
            outlives: scope.outlives,
        }
    }

    fn explain_ending(&self, ttl: Seconds) -> Vec<String> {
        let mut ending = vec![format!(
            "after {ttl}, by AWS's own clock: the session policy denies everything from then on, also when the broker is gone"
        )];
        if ttl < SHORTEST_SESSION {
            ending.push(format!(
                "AWS keeps the credential itself for {SHORTEST_SESSION}, which is the least it offers; after {ttl} it can do nothing"
            ));
        }
        ending.extend([
            format!(
                "when finished or revoked before: guard {} cuts it off within seconds (AWS: it can take minutes), with the same hard end",
                self.guard.arn.name()
            ),
            format!(
                "called cut off when AWS has denied {CANARY_ACTION} for {}s to a new session of the same name, and then allowed it to another new one; other services can be later, never later than the hard end",
                SETTLE.as_secs()
            ),
            "sts:GetCallerIdentity is never denied and proves nothing".into(),
        ]);
        ending
    }
}
