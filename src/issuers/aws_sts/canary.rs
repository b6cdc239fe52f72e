//! The proof: a call that AWS must deny, beside one that it must allow.
//!
//! The broker forgets a lease's secret, so it assumes the role again under the lease's name: AWS then sees the same
//! `aws:userid`, which is what the guard denies. That session may make the canary call and nothing else.

use std::time::Duration;

use aws_credential_types::Credentials;

use super::documents::{
    CANARY_ACTION, CONTROL_SESSION, SHORTEST_SESSION, canary_policy, session_name,
};
use super::trouble::Trouble;
use super::{AwsStsIssuer, sessions};
use crate::domain::{LeaseId, Seconds, Time};
use crate::issuers::{EndError, Proof};

/// How long a guard may take to be felt.
const FELT_WITHIN: Duration = Duration::from_secs(10);
/// How often the canary call is repeated meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long it is good that the control session was allowed.
const CONTROL_GOOD: Seconds = Seconds(60);
/// The control session is renewed this long before it expires.
const RENEW: Seconds = Seconds(120);
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
    pub(super) async fn look_at(
        &self,
        lease: &LeaseId,
        expires: Option<Time>,
    ) -> Result<Proof, EndError> {
        let now = self.cloud.clock.now();
        let proof = match expires {
            Some(expires) if expires <= now => self.see_fence(expires).await,
            _ => self.see_cut(lease, expires, now).await,
        };
        let over = |expires: Time| expires.plus(SHORTEST_SESSION).plus(CLOCKS_DIFFER) < now;
        match proof {
            Err(_) if expires.is_some_and(over) => Ok(Proof::gone(["past_credential_expiry"])),
            proof => proof,
        }
    }

    /// Whether the fence has passed by AWS's clock. Under the control's name, so that it is not the guard that denies.
    async fn see_fence(&self, expires: Time) -> Result<Proof, EndError> {
        let keys = self.own_session(CONTROL_SESSION, Some(expires)).await?;
        if !self.is_denied_soon(&keys).await? {
            return Err(error(
                "fence_not_passed",
                "AWS's clock is behind ours: by it the lease has not ended yet",
            ));
        }
        self.control_is_allowed().await?;
        Ok(Proof::gone([
            "fence_passed",
            "canary_denied",
            "control_allowed",
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
        if !self.is_denied_soon(&keys).await? {
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
            seen: ["canary_denied", "control_allowed"]
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
        let (partition, region) = (&self.place.partition, &self.place.region);
        let canary = self.cloud.canary(keys, partition, region).await;
        canary.map_err(|trouble| unproven(&trouble))
    }

    /// Whether the canary call is denied, now or within a few seconds.
    pub(super) async fn is_denied_soon(&self, keys: &Credentials) -> Result<bool, EndError> {
        let give_up = tokio::time::Instant::now() + FELT_WITHIN;
        loop {
            if !self.is_allowed(keys).await? {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= give_up {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// That a session nobody cut off may make the canary call, now or a moment ago.
    pub(super) async fn control_is_allowed(&self) -> Result<(), EndError> {
        let mut control = self.control.lock().await;
        let now = self.cloud.clock.now();
        if let Some((keys, seen)) = control.as_ref() {
            if now < seen.plus(CONTROL_GOOD) {
                return Ok(());
            }
            let fresh = sessions::expiry(keys).is_some_and(|expiry| expiry > now.plus(RENEW));
            // A kill switch denies it too, as it is older: then it takes a new one to tell.
            if fresh && self.is_allowed(keys).await? {
                *control = Some((keys.clone(), now));
                return Ok(());
            }
        }
        *control = None;
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
        *control = Some((keys, now));
        Ok(())
    }
}
