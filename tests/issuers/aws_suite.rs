//! AWS in the conformance suite: sessions behind a guard that is a boundary, and behind one that is inline.

use countersign::config::GuardConfig;
use countersign::domain::lease;
use countersign::issuers::{AwsCredential, Credential, Guard, GuardContent, Issuer};
use serde_json::Value;

use super::aws_account::{Account, cloud, empty_guard, issuer};
use super::conformance::{self, Bench};
use crate::support::aws::{Caller, Meddler, Meddling};

conformance::conforms!(suite, Account);

/// Where a broker that publishes a boundary crashes: before and after each of its writes.
const CRASHES: [Meddling; 4] = [
    Meddling::HoldCalls("DeletePolicyVersion"),
    Meddling::HoldAnswers("DeletePolicyVersion"),
    Meddling::HoldCalls("CreatePolicyVersion"),
    Meddling::HoldAnswers("CreatePolicyVersion"),
];

/// The same for an inline guard.
const INLINE_CRASHES: [Meddling; 2] = [
    Meddling::HoldCalls("PutRolePolicy"),
    Meddling::HoldAnswers("PutRolePolicy"),
];

fn aws(credential: &Credential) -> &AwsCredential {
    match credential {
        Credential::Aws(credential) => credential,
        other => panic!("not an AWS credential: {other:?}"),
    }
}

impl Bench for Account {
    /// A session tag; the sessions a proof takes have none.
    const MINT_MESSAGE: &'static str = "countersign_agent";
    const LISTS: bool = false;
    const ONE_MESSAGE: bool = true;

    type Session = Caller;

    async fn open_all() -> Vec<Self> {
        let accounts = vec![Account::open().await, Account::open_inline().await];
        for account in &accounts {
            account.cut(&[]).await.unwrap();
        }
        accounts
    }

    /// What is in the account stays, and is nobody else's.
    async fn close(self) {}

    fn issuer(&self, port: Option<u16>) -> Box<dyn Issuer> {
        let mut url = self.corner.root.url.clone();
        url.set_port(port.or(url.port())).unwrap();
        let cloud = cloud(&url, &self.corner.broker.keys);
        let (_, issuer) = issuer(&cloud, &self.guard_config, &self.role).unwrap();
        Box::new(issuer)
    }

    fn port(&self) -> u16 {
        self.corner.root.url.port().unwrap()
    }

    fn scope(&self) -> Value {
        Account::scope(self)
    }

    async fn begin(&self, credential: &Credential) -> Result<Caller, String> {
        let holder = self.holder(aws(credential));
        if self.may_put(&holder).await {
            Ok(holder)
        } else {
            Err("denied".into())
        }
    }

    async fn works(&self, holder: &mut Caller) -> bool {
        self.may_put(holder).await
    }

    async fn try_beyond(&self, credential: &Credential) -> Vec<String> {
        let holder = self.holder(aws(credential));
        let sibling = self.corner.bucket("orders-old").await;
        let own = &self.bucket;
        let mut tried = Vec::new();
        for (bucket, key) in [
            (own, "exports/acme2/a"),
            (own, "exports/acme"),
            (own, "exports/a"),
            (own, "a"),
            (&sibling, "exports/acme/a"),
        ] {
            tried.push((format!("put {bucket}/{key}"), holder.put(bucket, key).await));
        }
        let minted = format!("/{own}/exports/acme/a");
        for method in ["GET", "DELETE"] {
            tried.push((method.into(), holder.s3(method, &minted, "").await));
        }
        let name = self.role.arn.rsplit('/').next().unwrap();
        for (action, fields) in [
            ("CreateAccessKey", vec![("UserName", "somebody")]),
            ("DeleteRolePermissionsBoundary", vec![("RoleName", name)]),
            ("ListRoles", vec![]),
        ] {
            tried.push((action.into(), holder.iam(action, &fields).await));
        }
        let again = [
            ("RoleArn", self.role.arn.as_str()),
            ("RoleSessionName", "lse_mine"),
            ("ExternalId", &self.role.external_id),
        ];
        let again = holder.sts("AssumeRole", &again).await;
        tried.push(("AssumeRole".into(), again));
        let token = holder.sts("GetSessionToken", &[]).await;
        tried.push(("GetSessionToken".into(), token));
        let let_through = tried.into_iter().filter(|(_, answer)| !answer.denied());
        let_through.map(|(what, _)| what).collect()
    }

    async fn leftovers(&self, handle: &str) -> Vec<String> {
        let lease = lease::lease_of(handle).unwrap();
        let (_, entry) = lease.as_str().split_at(lease.as_str().len() - 16);
        if self.guard_in_force().await.contains(entry) {
            Vec::new()
        } else {
            vec![format!("the guard does not name {lease}")]
        }
    }

    async fn end_halfway(&self, _: &str, content: &GuardContent, steps: usize) -> bool {
        let crashes: &[Meddling] = match self.guard_config {
            GuardConfig::Boundary { .. } => &CRASHES,
            GuardConfig::Inline { .. } => &INLINE_CRASHES,
        };
        if let Some(crash) = steps.checked_sub(1).and_then(|step| crashes.get(step)) {
            self.crash_publishing(content, *crash).await;
        }
        steps < crashes.len()
    }
}

impl Account {
    /// Publishes as a broker that crashes there. The call that hangs then is never let go.
    async fn crash_publishing(&self, content: &GuardContent, crash: Meddling) {
        self.use_up_versions().await;
        let meddler = Meddler::before(&self.corner).await;
        meddler.meddle(crash);
        let cloud = cloud(&meddler.url, &self.corner.broker.keys);
        let (guard, _) = issuer(&cloud, &self.guard_config, &self.role).unwrap();
        tokio::select! {
            published = guard.publish(content) => panic!("it got past {crash:?}: {published:?}"),
            () = meddler.holds() => {}
        }
    }

    /// As many versions as a policy can have, so that the next one needs room.
    async fn use_up_versions(&self) {
        let GuardConfig::Boundary { policy_arn, .. } = &self.guard_config else {
            return;
        };
        let root = &self.corner.root;
        let document = empty_guard().to_string();
        loop {
            let fields = [
                ("PolicyArn", policy_arn.as_str()),
                ("PolicyDocument", &document),
            ];
            let made = root.iam("CreatePolicyVersion", &fields).await;
            if made.code() == Some("LimitExceeded") {
                return;
            }
            made.fine();
        }
    }

    /// The guard's document, as the account's administrator sees it.
    async fn guard_in_force(&self) -> String {
        let root = &self.corner.root;
        match &self.guard_config {
            GuardConfig::Boundary { policy_arn, .. } => {
                let policy = ("PolicyArn", policy_arn.as_str());
                let found = root.iam("GetPolicy", &[policy]).await.fine();
                let version = found.element("DefaultVersionId");
                let fields = [policy, ("VersionId", &version)];
                let version = root.iam("GetPolicyVersion", &fields).await;
                version.fine().element("Document")
            }
            GuardConfig::Inline { role_arn, .. } => {
                let name = role_arn.rsplit('/').next().unwrap();
                let fields = [("RoleName", name), ("PolicyName", "countersign-guard")];
                let policy = root.iam("GetRolePolicy", &fields).await;
                policy.fine().element("PolicyDocument")
            }
        }
    }
}
