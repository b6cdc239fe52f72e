//! A corner of the account with a bucket in it, and a copy of the example's files that names them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::e2e::broker::Broker;
use crate::e2e::place::{copy, free_ports, next_number};
use crate::support::aws::{Caller, Corner, Keys, Meddler, Role, policy};

/// The place. Its files end with this value; what is in the account stays, and is nobody else's.
pub struct AwsPlace {
    /// `countersign.toml`, catalog, policies and state.
    pub dir: PathBuf,
    /// Where the broker listens. The port after it is free, too.
    pub port: u16,
    /// What the test has of the account.
    pub corner: Corner,
    /// In front of AWS, for the broker.
    pub meddler: Meddler,
    /// The bucket of exports.
    pub bucket: String,
    /// The guard's policy.
    pub guard: String,
    /// The role whose sessions are handed out. By itself it may do far more than any action allows.
    pub role: Role,
    _home: TempDir,
}

/// A guard before any broker has written it.
pub fn empty_guard() -> Value {
    policy(&json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}]))
}

/// What the role may do by itself.
pub fn wide_rights() -> Value {
    let services = [
        "s3:*",
        "sqs:*",
        "dynamodb:*",
        "secretsmanager:*",
        "iam:*",
        "sts:*",
    ];
    json!([{"Effect": "Allow", "Action": services, "Resource": "*"}])
}

impl AwsPlace {
    /// Sets up guard, role and bucket, and writes the configuration.
    pub async fn open() -> Self {
        let corner = Corner::open().await;
        let guard = corner.guard("guard-exports", &empty_guard()).await;
        let role = corner.role("exports", &guard, &wide_rights()).await;
        let bucket = corner.bucket("orders-exports").await;
        let home = tempfile::tempdir().unwrap();
        let place = Self {
            dir: home.path().join("aws"),
            port: free_ports(next_number()),
            meddler: Meddler::before(&corner).await,
            corner,
            bucket,
            guard,
            role,
            _home: home,
        };
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/aws");
        copy(&example, &place.dir);
        place.edit("catalog/exports.toml", |text| {
            text.replace("orders-exports", &place.bucket)
        });
        place.edit("countersign.toml", |text| place.configured(&text));
        place
    }

    fn configured(&self, text: &str) -> String {
        let account = "arn:aws:iam::111111111111";
        let url = &self.meddler.url;
        let mut text = text.to_owned();
        for (example, here) in [
            ("7480", self.port.to_string().as_str()),
            (
                &format!("{account}:policy/countersign/guard-exports"),
                &self.guard,
            ),
            (
                &format!("{account}:role/countersign/exports"),
                &self.role.arn,
            ),
            (
                "4f1c8a1e-8c7a-4a6e-9d0b-2f9f8f0f3b56",
                &self.role.external_id,
            ),
        ] {
            assert!(
                text.contains(example),
                "the example no longer says {example}"
            );
            text = text.replace(example, here);
        }
        format!("{text}\n[aws.endpoints]\nsts = \"{url}\"\niam = \"{url}\"\ncanary = \"{url}\"\n")
    }

    /// Changes a file of the directory.
    pub fn edit(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.dir.join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, change(text)).unwrap();
    }

    /// Where the broker is reached.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The operator's token, once the broker has made it.
    pub fn operator(&self) -> String {
        fs::read_to_string(self.dir.join("state/operator.token")).unwrap()
    }

    /// Starts the broker.
    pub async fn dev(&self) -> Broker {
        Broker::dev_in(&self.dir, self.base(), self.environment()).await
    }

    /// The broker's own keys; and what leads other programs astray, which the broker ignores.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let nowhere = || "http://127.0.0.1:9".to_owned();
        let keys = &self.corner.broker.keys;
        vec![
            ("AWS_ACCESS_KEY_ID", keys.id.clone()),
            ("AWS_SECRET_ACCESS_KEY", keys.secret.clone()),
            ("AWS_ENDPOINT_URL", nowhere()),
            ("AWS_ENDPOINT_URL_STS", nowhere()),
            ("AWS_ENDPOINT_URL_IAM", nowhere()),
            ("HTTP_PROXY", nowhere()),
            ("HTTPS_PROXY", nowhere()),
            ("http_proxy", nowhere()),
        ]
    }

    /// Whoever holds a collected credential, at AWS itself.
    pub fn holder(&self, credential: &Value) -> Caller {
        self.corner.root.with(Keys::delivered(credential))
    }

    /// Whether the holder can still do what the credential is for.
    pub async fn works(&self, holder: &Caller) -> bool {
        let key = format!("daily/{}/probe", super::DAY);
        let put = holder.put(&self.bucket, &key).await;
        assert!(put.allowed() || put.denied(), "{put:?}");
        put.allowed()
    }
}
