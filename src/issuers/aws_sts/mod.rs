//! AWS: sessions of a role, each with a policy of its own, a time fence, and a guard that cuts it off alone.

mod arn;
mod canary;
mod cloud;
mod conditions;
mod denial;
mod documents;
mod explain;
mod guard;
#[cfg(test)]
mod judged;
#[cfg(test)]
mod judged_open;
#[cfg(test)]
mod judged_scopes;
mod link;
mod login;
mod outlives;
mod partition;
mod policy;
mod preparation;
mod rehearsal;
mod resource;
mod scope;
mod sessions;
mod trouble;
mod versions;

pub use cloud::Cloud;
pub use guard::IamGuard;
pub use login::{WebIdentity, credentials};
pub use preparation::Preparation;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use self::arn::IamArn;
use self::documents::{GuardKind, SHORTEST_SESSION, instant};
use self::guard::check_external_id;
use self::policy::Policy;
use self::scope::{Form, Place};
use self::sessions::Wish;
use crate::config::AwsTarget;
use crate::domain::{Explanation, LeaseId, Seconds, ServerId, TargetName, Time, lease};
use crate::issuers::{
    AwsCredential, Credential, EndError, Ending, Found, Guard, Issuer, MintError, MintOrder, Proof,
    Rehearsal,
};

/// The longest session the broker hands out: a role's sessions may always last this long, chained ones too.
const LONGEST_TTL: Seconds = Seconds(3_600);
/// What is left of the mint window to record the answer in.
const MARGIN: Duration = Duration::from_secs(4);
/// Longest tag value.
const LONGEST_TAG: usize = 256;

/// Mints and ends sessions of one role.
pub struct AwsStsIssuer {
    role: IamArn,
    /// Account and role: where the sessions are.
    server: ServerId,
    external_id: String,
    place: Place,
    longest_ttl: Seconds,
    guard: Arc<IamGuard>,
    cloud: Arc<Cloud>,
}

impl AwsStsIssuer {
    /// # Errors
    /// What in the target's configuration cannot stand, and what to write instead.
    pub fn new(
        name: &TargetName,
        target: &AwsTarget,
        guard: Arc<IamGuard>,
        cloud: Arc<Cloud>,
    ) -> Result<Self, String> {
        let wrong = |why: String| format!("target {name}: {why}");
        let role = IamArn::parse(&target.role_arn, "role").map_err(wrong)?;
        check_external_id(&target.external_id).map_err(wrong)?;
        let region = target.region.as_deref().unwrap_or(cloud.region());
        cloud::check_region(region).map_err(wrong)?;
        for region in [region, cloud.region()] {
            check_partition(&role, region).map_err(wrong)?;
        }
        if !(1..=LONGEST_TTL.0).contains(&target.longest_ttl_seconds) {
            return Err(wrong(format!(
                "longest_ttl_seconds must be from 1 to {}, which every role allows",
                LONGEST_TTL.0
            )));
        }
        guard.check_role(&role).map_err(wrong)?;
        let server = format!("aws {} {role}", role.account).parse();
        Ok(Self {
            server: server.map_err(|why| wrong(format!("role_arn is too long: {why}")))?,
            place: Place::of(&role, region),
            role,
            external_id: target.external_id.clone(),
            longest_ttl: Seconds(target.longest_ttl_seconds),
            guard,
            cloud,
        })
    }

    /// A session the broker needs for itself: of the role, with a policy that allows next to nothing.
    fn own_wish<'a>(&'a self, name: &'a str, policy: &Policy) -> Result<Wish<'a>, EndError> {
        let policy = policy.to_text().map_err(|why| EndError {
            code: "bad_policy".into(),
            detail: why,
        })?;
        Ok(Wish {
            role: &self.role,
            external_id: Some(&self.external_id),
            name,
            source_identity: Some(name),
            policy: Some(policy),
            tags: Vec::new(),
            duration: SHORTEST_SESSION,
        })
    }

    /// The role, when the AWS that answers is the one it is in.
    async fn identify_role(&self) -> Result<ServerId, EndError> {
        let own = self.cloud.own_arn().await;
        let own = own.map_err(|trouble| trouble.while_ending("identity_refused"))?;
        let partition = self.role.partition.name;
        if own.split(':').nth(1) == Some(partition) {
            return Ok(self.server.clone());
        }
        Err(EndError {
            code: "wrong_partition".into(),
            detail: format!(
                "STS knows the broker as {own}, which is not in partition {partition} as {} is; mend aws.region, aws.endpoints or the broker's credentials",
                self.role
            ),
        })
    }

    async fn mint_session(&self, order: &MintOrder) -> Result<AwsCredential, MintError> {
        if order.server != self.server {
            return Err(MintError::Elsewhere {
                detail: format!("the request is sealed for {}", order.server),
            });
        }
        let refused = |detail: String| MintError::Refused {
            code: "bad_scope".into(),
            detail,
        };
        let scope = scope::read(&order.scope, &self.place, Form::Rendered).map_err(refused)?;
        let clock = &self.cloud.clock;
        let (left, now) = (order.left(clock.now())?, clock.utc());
        // AWS reads whole seconds by its own clock.
        let fence = Time::from_millis(now.after(left.ttl).unix_seconds().saturating_mul(1_000));
        let policy = scope.policy(&instant(fence)).to_text().map_err(refused)?;
        let session = documents::session_name(&order.lease);
        let wish = Wish {
            role: &self.role,
            external_id: Some(&self.external_id),
            name: &session,
            source_identity: Some(&session),
            policy: Some(policy),
            tags: vec![
                ("countersign_request", tag(order.request.as_str())),
                ("countersign_agent", tag(&order.agent)),
                ("countersign_sponsor", tag(&order.sponsor)),
            ],
            duration: fence.since(now).max(SHORTEST_SESSION),
        };
        let keys = self
            .cloud
            .assume_within(&wish, left.mint_within.saturating_sub(MARGIN))
            .await
            .map_err(|trouble| trouble.while_minting())?;
        let token = keys.session_token().unwrap_or_default().to_owned();
        Ok(AwsCredential {
            access_key_id: keys.access_key_id().to_owned(),
            secret_access_key: keys.secret_access_key().to_owned().into(),
            session_token: token.into(),
            account_id: self.role.account.clone(),
            region: self.place.region.clone(),
            expires: fence,
        })
    }

    fn lease_of(handle: &str) -> Result<LeaseId, EndError> {
        lease::lease_of(handle).ok_or_else(|| EndError {
            code: "bad_handle".into(),
            detail: format!("{handle:?} is no handle of this broker"),
        })
    }
}

/// Whether a region is in the role's AWS, as far as its name tells.
fn check_partition(role: &IamArn, region: &str) -> Result<(), String> {
    match partition::of_region(region) {
        Some(other) if other != role.partition => Err(format!(
            "region {region} is in partition {} and {role} in {}; write a region of the role's",
            other.name, role.partition.name
        )),
        _ => Ok(()),
    }
}

/// A session tag's value: what AWS does not take becomes `_`.
fn tag(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c);
    let fitting = text.chars().map(|c| if plain(c) { c } else { '_' });
    fitting.take(LONGEST_TAG).collect()
}

/// Checks a scope, rendered or with placeholders, at a role in whose region agents work. Pure.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub(super) fn check_scope(role_arn: &str, region: &str, scope: &Value) -> Result<(), String> {
    let role = IamArn::parse(role_arn, "role")?;
    scope::read(scope, &Place::of(&role, region), Form::Template).map(drop)
}

/// How many leases a guard can deny at a time: an inline policy of a role, or a boundary. Pure.
pub(super) fn guard_room(inline: bool) -> usize {
    documents::guard_room(if inline {
        GuardKind::Inline
    } else {
        GuardKind::Boundary
    })
}

#[async_trait]
impl Issuer for AwsStsIssuer {
    fn check_scope(&self, scope: &Value) -> Result<(), String> {
        scope::read(scope, &self.place, Form::Template).map(|_| ())
    }

    fn longest_ttl(&self) -> Seconds {
        self.longest_ttl
    }

    fn explain(&self, scope: &Value, ttl: Seconds) -> Explanation {
        self.explain_scope(scope, ttl)
    }

    async fn rehearse(&self, scopes: &[Value]) -> Result<Rehearsal, EndError> {
        self.rehearse_scopes(scopes).await
    }

    async fn identify(&self) -> Result<ServerId, EndError> {
        self.identify_role().await
    }

    async fn mint(&self, order: &MintOrder) -> Result<Credential, MintError> {
        self.mint_session(order).await.map(Credential::Aws)
    }

    fn guard(&self) -> Option<Arc<dyn Guard>> {
        Some(Arc::clone(&self.guard) as Arc<dyn Guard>)
    }

    /// The guard and the fence end a session; nothing at AWS is to be removed.
    async fn end(&self, ending: &Ending<'_>) -> Result<(), EndError> {
        Self::lease_of(ending.handle).map(|_| ())
    }

    async fn prove(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        self.look_at(ending).await
    }

    /// STS cannot list sessions.
    async fn list(&self) -> Result<Vec<Found>, EndError> {
        Ok(Vec::new())
    }
}
