//! The proof: a call that AWS must deny, beside one that it must allow.
//!
//! The broker forgets a lease's secret, so it assumes the role again under the lease's name: AWS then sees the same
//! `aws:userid`, which is what the guard denies. That session may make the canary call and nothing else.

use std::time::Duration;

use aws_credential_types::Credentials;

use super::AwsStsIssuer;
use super::documents::{
    CANARY_ACTION, CONTROL_SESSION, SHORTEST_SESSION, canary_policy, session_name,
};
use super::trouble::Trouble;
use crate::domain::{LeaseId, Seconds, Time};
use crate::issuers::{EndError, Ending, Proof, TARGET_CHANGED};

/// How long a guard may take to be felt.
const FELT_WITHIN: Duration = Duration::from_secs(10);
/// How long a denial must last, without one call let through, before it is believed: AWS answers from many places.
pub(super) const SETTLE: Duration = Duration::from_secs(2);
/// How often the canary call is repeated meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// After its last possible second, a credential is over by any clock.
const CLOCKS_DIFFER: Seconds = Seconds(600);

fn error(code: &str, detail: impl Into<String>) -> EndError {
    EndError {
        code: code.into(),
        detail: detail.into(),
    }
}

fn unproven(trouble: &Trouble) -> EndError {
    trouble.while_ending("canary_refused")
}

impl AwsStsIssuer {
    /// What can be seen of a lease's session.
    pub(super) async fn look_at(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        let lease = Self::lease_of(ending.handle)?;
        let (expires, now) = (ending.expires, self.cloud.clock.now());
        let proof = match (expires, ending.server) {
            (_, Some(server)) if *server != self.server => Err(error(
                TARGET_CHANGED,
                format!(
                    "{lease} was minted at {server}, and the target is {} now",
                    self.server
                ),
            )),
            (Some(expires), _) if expires <= now => {
                self.see_fence(ending.over.unwrap_or(expires)).await
            }
            _ => self.see_cut(&lease, expires, now).await,
        };
        let over = |expires: Time| expires.plus(SHORTEST_SESSION).plus(CLOCKS_DIFFER) < now;
        match proof {
            Err(_) if expires.is_some_and(over) => Ok(Proof::gone(["past_credential_expiry"])),
            proof => proof,
        }
    }

    /// Whether the fence has passed by AWS's clock. Under the control's name, so that it is not the guard that denies.
    async fn see_fence(&self, fence: Time) -> Result<Proof, EndError> {
        let keys = self.own_session(CONTROL_SESSION, Some(fence)).await?;
        if !self.is_denied_steadily(&keys).await? {
            return Err(error(
                "fence_not_passed",
                "AWS's clock is behind ours: by it the lease has not ended yet",
            ));
        }
        self.control_is_allowed().await?;
        Ok(Proof::gone([
            "fence_passed",
            "canary_denied_throughout_2s",
            "new_control_allowed_after",
        ]))
    }

    /// Whether the guard denies everything to the lease's name.
    async fn see_cut(
        &self,
        lease: &LeaseId,
        expires: Option<Time>,
        now: Time,
    ) -> Result<Proof, EndError> {
        let keys = self.own_session(&session_name(lease), None).await?;
        if !self.is_denied_steadily(&keys).await? {
            return Err(error(
                "still_allowed",
                format!(
                    "guard {} does not deny {lease} yet; AWS can take minutes",
                    self.guard.arn
                ),
            ));
        }
        self.control_is_allowed().await?;
        let latest = now.plus(self.longest_ttl.max(SHORTEST_SESSION));
        Ok(Proof::CutOff {
            seen: ["canary_denied_throughout_2s", "new_control_allowed_after"]
                .map(String::from)
                .into(),
            until: expires.unwrap_or(latest),
        })
    }

    /// A session that may make the canary call, until `fence` if that is given.
    pub(super) async fn own_session(
        &self,
        name: &str,
        fence: Option<Time>,
    ) -> Result<Credentials, EndError> {
        let wish = self.own_wish(name, &canary_policy(fence))?;
        let session = self.cloud.assume(&wish).await;
        session.map_err(|trouble| trouble.while_ending("assume_refused"))
    }

    pub(super) async fn is_allowed(&self, keys: &Credentials) -> Result<bool, EndError> {
        let (partition, region) = (self.role.partition, &self.place.region);
        let canary = self.cloud.canary(keys, partition, region).await;
        canary.map_err(|trouble| unproven(&trouble))
    }

    /// Whether the canary call comes to be denied within a few seconds, and then every time for [`SETTLE`].
    pub(super) async fn is_denied_steadily(&self, keys: &Credentials) -> Result<bool, EndError> {
        let give_up = tokio::time::Instant::now() + FELT_WITHIN;
        let mut since = None;
        loop {
            let asked = tokio::time::Instant::now();
            if self.is_allowed(keys).await? {
                since = None;
                if asked >= give_up {
                    return Ok(false);
                }
            } else if asked >= *since.get_or_insert(asked) + SETTLE {
                return Ok(true);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// That a session made just now, which nobody cut off, may make the canary call: AWS answers, and does not deny it
    /// to everybody.
    pub(super) async fn control_is_allowed(&self) -> Result<(), EndError> {
        let keys = self.own_session(CONTROL_SESSION, None).await?;
        if !self.is_allowed(&keys).await? {
            return Err(error(
                "control_denied",
                format!(
                    "AWS denies {CANARY_ACTION} to every session of {}, so a denial proves nothing; allow it in the role's policy",
                    self.role
                ),
            ));
        }
        Ok(())
    }
}
