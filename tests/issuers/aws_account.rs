//! A corner of an AWS account with a role, its guard and a bucket, and an issuer for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use countersign::config::{AwsConfig, AwsEndpoints, AwsLogin, AwsTarget, GuardConfig};
use countersign::domain::{LeaseId, Time, lease};
use countersign::issuers::aws_sts::{AwsStsIssuer, Cloud, IamGuard};
use countersign::issuers::{
    AwsCredential, Credential, Deployment, EndError, Guard, GuardContent, Issuer, MintError,
};
use countersign::system::{Clock, SystemClock, SystemEntropy};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use url::Url;

use super::shop::{draw_lease, order_for};
use crate::support::aws::{Caller, Corner, Keys, Meddler, REGION, Role, policy};

pub struct Account {
    pub corner: Corner,
    pub meddler: Meddler,
    pub guard_config: GuardConfig,
    pub role: Role,
    pub bucket: String,
    pub guard: Arc<IamGuard>,
    pub issuer: AwsStsIssuer,
}

/// A session somebody holds.
pub struct Session {
    pub handle: String,
    pub expires: Time,
    pub holder: Caller,
}

/// What the role may do by itself: far more than any scope.
pub fn wide_rights() -> Value {
    json!([{"Effect": "Allow", "Action": ["s3:*", "sqs:*", "iam:*", "sts:*"], "Resource": "*"}])
}

/// A guard before any broker has written it.
pub fn empty_guard() -> Value {
    policy(&json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}]))
}

fn config(url: &Url) -> AwsConfig {
    AwsConfig {
        region: REGION.into(),
        credentials: AwsLogin::Environment,
        endpoints: AwsEndpoints {
            sts: Some(url.clone()),
            iam: Some(url.clone()),
            canary: Some(url.clone()),
        },
    }
}

/// The way to AWS at `url`, with these keys.
pub fn cloud(url: &Url, keys: &Keys) -> Arc<Cloud> {
    let keys = Credentials::new(&keys.id, &keys.secret, keys.token.clone(), None, "test");
    let clock = Arc::new(SystemClock::start());
    let provider = SharedCredentialsProvider::new(keys);
    Arc::new(Cloud::new(&config(url), provider, clock, Arc::new(SystemEntropy)).unwrap())
}

/// Guard and issuer of a role.
pub fn issuer(
    cloud: &Arc<Cloud>,
    guard: &GuardConfig,
    role: &Role,
) -> Result<(Arc<IamGuard>, AwsStsIssuer), String> {
    let name = "exports".parse().unwrap();
    let keeper = Deployment::of("the deployment of these tests");
    let guard = Arc::new(IamGuard::new(&name, guard, Arc::clone(cloud), keeper)?);
    let target = AwsTarget {
        role_arn: role.arn.clone(),
        external_id: role.external_id.clone(),
        guard: name,
        region: None,
        longest_ttl_seconds: 3600,
    };
    let name = "exports".parse().unwrap();
    let issuer = AwsStsIssuer::new(&name, &target, Arc::clone(&guard), Arc::clone(cloud))?;
    Ok((guard, issuer))
}

impl Account {
    /// With a guard that is the role's boundary.
    pub async fn open() -> Self {
        let corner = Corner::open().await;
        let policy_arn = corner.guard("guard", &empty_guard()).await;
        let role = corner.role("role", &policy_arn, &wide_rights()).await;
        let guard = GuardConfig::Boundary {
            policy_arn,
            writer: None,
        };
        Self::with(corner, guard, role).await
    }

    /// With a guard that is an inline policy, as the boundary is taken.
    pub async fn open_inline() -> Self {
        let corner = Corner::open().await;
        let theirs = corner.guard("theirs", &empty_guard()).await;
        let role = corner.role("role", &theirs, &wide_rights()).await;
        // The emulator judges calls about a role by its ARN without the path.
        let pathless = role.arn.replace("/countersign/", "/");
        let rights = json!([
            {"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"], "Resource": role.arn},
            {"Effect": "Allow", "Action": ["iam:GetRolePolicy", "iam:PutRolePolicy"], "Resource": [role.arn, pathless]}
        ]);
        corner.let_broker(&policy(&rights)).await;
        let guard = GuardConfig::Inline {
            role_arn: role.arn.clone(),
            writer: None,
        };
        Self::with(corner, guard, role).await
    }

    async fn with(corner: Corner, guard_config: GuardConfig, role: Role) -> Self {
        let meddler = Meddler::before(&corner).await;
        let bucket = corner.bucket("orders").await;
        let cloud = cloud(&meddler.url, &corner.broker.keys);
        let (guard, issuer) = issuer(&cloud, &guard_config, &role).unwrap();
        Self {
            corner,
            meddler,
            guard_config,
            role,
            bucket,
            guard,
            issuer,
        }
    }

    /// May put below one prefix.
    pub fn scope(&self) -> Value {
        json!({"statements": [
            {"actions": ["s3:PutObject"], "resources": [{"bucket": self.bucket, "prefix": ["exports", "acme"]}]}
        ]})
    }

    pub async fn try_mint(&self, lease: &LeaseId, ttl: u64) -> Result<AwsCredential, MintError> {
        let server = self.issuer.identify().await.unwrap();
        let mut order = order_for(lease, &self.scope(), &server);
        order.ttl = std::time::Duration::from_secs(ttl);
        match self.issuer.mint(&order).await? {
            Credential::Aws(credential) => Ok(credential),
            other => panic!("{other:?}"),
        }
    }

    /// A session for `ttl` seconds.
    pub async fn mint(&self, ttl: u64) -> Session {
        let lease = draw_lease();
        let credential = self.try_mint(&lease, ttl).await.unwrap();
        Session {
            handle: lease::handle_of(&lease),
            expires: credential.expires,
            holder: self.holder(&credential),
        }
    }

    /// Whoever holds a credential, at AWS itself.
    pub fn holder(&self, credential: &AwsCredential) -> Caller {
        self.corner.root.with(Keys {
            id: credential.access_key_id.clone(),
            secret: credential.secret_access_key.expose_secret().to_owned(),
            token: Some(credential.session_token.expose_secret().to_owned()),
        })
    }

    /// Whether a session can do what it is for.
    pub async fn works(&self, session: &Session) -> bool {
        self.may_put(&session.holder).await
    }

    /// Whether its holder can do what a session is for.
    pub async fn may_put(&self, holder: &Caller) -> bool {
        let put = holder.put(&self.bucket, "exports/acme/a").await;
        assert!(put.allowed() || put.denied(), "{put:?}");
        put.allowed()
    }

    /// Cuts exactly these off.
    pub async fn cut(&self, handles: &[&str]) -> Result<(), EndError> {
        self.guard.publish(&content(handles)).await
    }
}

/// What a guard has to deny.
pub fn content(handles: &[&str]) -> GuardContent {
    let cut: BTreeSet<String> = handles.iter().map(|handle| (*handle).to_owned()).collect();
    GuardContent {
        cut,
        issued_before: None,
    }
}

pub fn now() -> Time {
    SystemClock::start().now()
}
