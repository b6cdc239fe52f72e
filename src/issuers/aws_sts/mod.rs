//! AWS: sessions of a role, each with a policy of its own, a time fence, and a guard that cuts it off alone.

mod arn;
mod canary;
mod cloud;
mod documents;
mod explain;
mod guard;
#[cfg(test)]
mod judged;
mod link;
mod login;
mod policy;
mod preparation;
mod rehearsal;
mod resource;
mod scope;
mod sessions;
mod trouble;

pub use cloud::Cloud;
pub use guard::IamGuard;
pub use login::{WebIdentity, credentials};
pub use preparation::Preparation;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use serde_json::Value;
use tokio::sync::Mutex;

use self::arn::IamArn;
use self::documents::{SHORTEST_SESSION, instant};
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
    external_id: String,
    place: Place,
    longest_ttl: Seconds,
    guard: Arc<IamGuard>,
    cloud: Arc<Cloud>,
    /// The control session, and when it was last seen to be allowed.
    control: Mutex<Option<(Credentials, Time)>>,
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
        if !(1..=LONGEST_TTL.0).contains(&target.longest_ttl_seconds) {
            return Err(wrong(format!(
                "longest_ttl_seconds must be from 1 to {}, which every role allows",
                LONGEST_TTL.0
            )));
        }
        guard.check_role(&role).map_err(wrong)?;
        Ok(Self {
            place: Place::of(&role, region),
            role,
            external_id: target.external_id.clone(),
            longest_ttl: Seconds(target.longest_ttl_seconds),
            guard,
            cloud,
            control: Mutex::new(None),
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

    async fn mint_session(&self, order: &MintOrder) -> Result<AwsCredential, MintError> {
        let refused = |detail: String| MintError::Refused {
            code: "bad_scope".into(),
            detail,
        };
        let scope = scope::read(&order.scope, &self.place, Form::Rendered).map_err(refused)?;
        let expires = instant(order.expires);
        let policy = scope.policy(&expires).to_text().map_err(refused)?;
        let now = self.cloud.clock.now();
        let fence = Time::from_millis(order.expires.unix_seconds().saturating_mul(1_000));
        if now > order.mint_until || fence <= now {
            return Err(MintError::Unavailable {
                detail: "too late: the time for this mint is over".into(),
            });
        }
        let left = order.mint_until.millis().saturating_sub(now.millis());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
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
            duration: order.expires.since(now).max(SHORTEST_SESSION),
        };
        let keys = self
            .cloud
            .assume_within(&wish, left.saturating_sub(MARGIN))
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

/// A session tag's value: what AWS does not take becomes `_`.
fn tag(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c);
    let fitting = text.chars().map(|c| if plain(c) { c } else { '_' });
    fitting.take(LONGEST_TAG).collect()
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
        let server = format!("aws {} {}", self.role.account, self.role.as_str());
        server.parse().map_err(|why| EndError {
            code: "bad_target".into(),
            detail: format!("{why}"),
        })
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
        let lease = Self::lease_of(ending.handle)?;
        self.look_at(&lease, ending.expires).await
    }

    /// STS cannot list sessions.
    async fn list(&self) -> Result<Vec<Found>, EndError> {
        Ok(Vec::new())
    }
}
