//! What one test has of its own in the account.

use countersign::system::{Entropy as _, SystemEntropy};
use serde_json::{Value, json};

use super::{ACCOUNT, Caller, Keys, REGION, aws};

/// A corner of the account: names nobody else uses, and a broker's identity that may do what a broker must and no more.
pub struct Corner {
    /// What all its names begin with.
    pub name: String,
    /// The account's root.
    pub root: Caller,
    /// The broker's identity.
    pub broker: Caller,
}

/// A role whose sessions a broker hands out.
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// What its trust policy asks for.
    pub external_id: String,
}

impl Corner {
    /// A new one.
    pub async fn open() -> Self {
        let name = format!("c{}", random::<5>());
        let root = Caller::new(aws(), Keys::root());
        let broker = root.with(user(&root, &format!("{name}-broker")).await);
        let corner = Self { name, root, broker };
        corner.let_broker(&corner.brokers_rights()).await;
        corner
    }

    /// The same corner of another account, of which the broker's identity is no part.
    pub fn in_account(&self, account: &str) -> Self {
        Self {
            name: self.name.clone(),
            root: self.root.with(Keys::root_of(account)),
            broker: self.broker.clone(),
        }
    }

    /// All that a broker needs.
    fn brokers_rights(&self) -> Value {
        let roles = format!("arn:aws:iam::*:role/countersign/{}-*", self.name);
        let guards = format!("arn:aws:iam::{ACCOUNT}:policy/countersign/{}-*", self.name);
        policy(&json!([
            {
                "Effect": "Allow",
                "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
                "Resource": roles
            },
            {
                "Effect": "Allow",
                "Action": [
                    "iam:GetPolicy", "iam:GetPolicyVersion", "iam:ListPolicyVersions",
                    "iam:CreatePolicyVersion", "iam:DeletePolicyVersion"
                ],
                "Resource": guards
            }
        ]))
    }

    /// Sets what the broker's identity may do.
    pub async fn let_broker(&self, rights: &Value) {
        let (user, rights) = (self.broker_user(), rights.to_string());
        let fields = [
            ("UserName", user.as_str()),
            ("PolicyName", "broker"),
            ("PolicyDocument", &rights),
        ];
        self.root.iam("PutUserPolicy", &fields).await.fine();
    }

    /// The name of the broker's user.
    pub fn broker_user(&self) -> String {
        format!("{}-broker", self.name)
    }

    /// The broker's ARN, as trust policies name it.
    pub fn broker_arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:user/{}", self.broker_user())
    }

    /// A guard policy that denies nobody yet; its ARN.
    pub async fn guard(&self, name: &str, document: &Value) -> String {
        let (name, document) = (format!("{}-{name}", self.name), document.to_string());
        let fields = [
            ("PolicyName", name.as_str()),
            ("Path", "/countersign/"),
            ("PolicyDocument", &document),
        ];
        let made = self.root.iam("CreatePolicy", &fields).await.fine();
        made.element("Arn")
    }

    /// A role of ours, which may do what `statements` say, inside its boundary.
    pub async fn role(&self, name: &str, boundary: &str, statements: &Value) -> Role {
        let external_id = random::<16>();
        let trust = policy(&json!([{
            "Effect": "Allow",
            "Principal": {"AWS": self.broker_arn()},
            "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
            "Condition": {
                "StringEquals": {"sts:ExternalId": external_id},
                "StringLike": {"sts:RoleSessionName": "lse_*"}
            }
        }]));
        let (name, trust) = (format!("{}-{name}", self.name), trust.to_string());
        let fields = [
            ("RoleName", name.as_str()),
            ("Path", "/countersign/"),
            ("AssumeRolePolicyDocument", &trust),
            ("PermissionsBoundary", boundary),
        ];
        let made = self.root.iam("CreateRole", &fields).await.fine();
        let rights = policy(statements).to_string();
        let fields = [
            ("RoleName", name.as_str()),
            ("PolicyName", "own"),
            ("PolicyDocument", &rights),
        ];
        self.root.iam("PutRolePolicy", &fields).await.fine();
        Role {
            arn: made.element("Arn"),
            external_id,
        }
    }

    /// Lets `principal`, perhaps everybody, do everything with a bucket and its objects, by the bucket's own policy.
    pub async fn open_bucket(&self, bucket: &str, principal: &Value) {
        let of_bucket = |what: &str| format!("/{bucket}?{what}");
        let unblock = of_bucket("publicAccessBlock");
        self.root.s3("DELETE", &unblock, "").await.fine();
        let arn = format!("arn:aws:s3:::{bucket}");
        let open = policy(&json!([{
            "Effect": "Allow", "Principal": principal, "Action": "s3:*", "Resource": [arn, format!("{arn}/*")]
        }]));
        let policy = of_bucket("policy");
        self.root.s3("PUT", &policy, &open.to_string()).await.fine();
    }

    /// A bucket; its name.
    pub async fn bucket(&self, name: &str) -> String {
        self.bucket_in(&self.root, name).await
    }

    /// A bucket in the account of `root`; its name.
    pub async fn bucket_in(&self, root: &Caller, name: &str) -> String {
        let bucket = format!("{}-{name}", self.name);
        let here = format!(
            "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        );
        root.s3("PUT", &format!("/{bucket}"), &here).await.fine();
        bucket
    }
}

/// A policy document of these statements.
pub fn policy(statements: &Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

async fn user(root: &Caller, name: &str) -> Keys {
    root.iam("CreateUser", &[("UserName", name)]).await.fine();
    let made = root.iam("CreateAccessKey", &[("UserName", name)]).await;
    let made = made.fine();
    Keys {
        id: made.element("AccessKeyId"),
        secret: made.element("SecretAccessKey"),
        token: None,
    }
}

fn random<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    SystemEntropy.fill(&mut bytes);
    hex::encode(bytes)
}
