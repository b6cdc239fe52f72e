//! A corner of the account with a bucket in it, and a copy of the example's files that names them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::prepare::set_up;
use crate::e2e::broker::Broker;
use crate::e2e::cli::{countersign, run};
use crate::e2e::place::{copy, free_ports, next_number};
use crate::support::aws::{ACCOUNT, Caller, Corner, Keys, Meddler, Role, policy};

/// An account of somebody else's.
pub const OTHER_ACCOUNT: &str = "222222222222";

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
    /// The root of the account of guard, role and bucket.
    pub there: Caller,
    /// The bucket of exports.
    pub bucket: String,
    /// The guard's policy.
    pub guard: String,
    /// The role whose sessions are handed out. By itself it may do far more than any action allows.
    pub role: Role,
    _home: TempDir,
}

/// How guard and role are set up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Setting {
    /// The guard is the boundary of a role in the broker's account.
    Boundary,
    /// The guard is an inline policy of the role.
    Inline,
    /// Guard and role are in another account, in which a role may write the guard.
    OtherAccount,
}

/// A document that allows everything.
pub fn allow_everything() -> Value {
    policy(&json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}]))
}

impl AwsPlace {
    /// The usual one.
    pub async fn open() -> Self {
        Self::set(Setting::Boundary).await
    }

    /// Writes the configuration, sets up what AWS needs for it, and a bucket.
    pub async fn set(setting: Setting) -> Self {
        let corner = Corner::open().await;
        let account = match setting {
            Setting::Boundary | Setting::Inline => ACCOUNT,
            Setting::OtherAccount => OTHER_ACCOUNT,
        };
        let there = match setting {
            Setting::Boundary | Setting::Inline => corner.root.clone(),
            Setting::OtherAccount => corner.root.with(Keys::root_of(OTHER_ACCOUNT)),
        };
        let bucket = corner.bucket_in(&there, "orders-exports").await;
        let arn = |kind, what| {
            format!(
                "arn:aws:iam::{account}:{kind}/countersign/{}-{what}",
                corner.name
            )
        };
        let home = tempfile::tempdir().unwrap();
        let place = Self {
            dir: home.path().join("aws"),
            port: free_ports(next_number()),
            meddler: Meddler::before(&corner).await,
            guard: arn("policy", "guard-exports"),
            role: Role {
                // The emulator forgets the path when it judges calls about a role's inline policies.
                arn: match setting {
                    Setting::Inline => arn("role", "exports").replace("/countersign/", "/"),
                    Setting::Boundary | Setting::OtherAccount => arn("role", "exports"),
                },
                external_id: format!("{}-external-id-of-exports", corner.name),
            },
            corner,
            there,
            bucket,
            _home: home,
        };
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/aws");
        copy(&example, &place.dir);
        place.edit("catalog/exports.toml", |text| {
            text.replace("orders-exports", &place.bucket)
        });
        place.edit("countersign.toml", |text| place.configured(&text, setting));
        set_up(&place.corner, &place.there, &place.printed().await).await;
        place
    }

    /// What the program says has to be set up.
    async fn printed(&self) -> Value {
        let broker = self.corner.broker_arn();
        let arguments = [
            "target", "init-iam", "exports", "--broker", &broker, "--json",
        ];
        let mut command = countersign("http://127.0.0.1:9", "", &arguments);
        command.current_dir(&self.dir).envs(self.environment());
        run(command).await.fine().json()
    }

    fn configured(&self, text: &str, setting: Setting) -> String {
        let example = "arn:aws:iam::111111111111";
        let guard = format!(
            "kind = \"boundary\"\npolicy_arn = \"{example}:policy/countersign/guard-exports\""
        );
        let boundary = format!("kind = \"boundary\"\npolicy_arn = \"{}\"", self.guard);
        let here = match setting {
            Setting::Boundary => boundary,
            Setting::Inline => format!("kind = \"inline\"\nrole_arn = \"{}\"", self.role.arn),
            Setting::OtherAccount => {
                let writer = self.role.arn.replace("-exports", "-writer");
                let id = format!("{}-external-id-of-writer", self.corner.name);
                format!(
                    "{boundary}\nwriter = {{ role_arn = \"{writer}\", external_id = \"{id}\" }}"
                )
            }
        };
        let mut text = text.to_owned();
        for (example, here) in [
            ("7480", self.port.to_string().as_str()),
            (&guard, &here),
            (
                &format!("{example}:role/countersign/exports"),
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
        let url = &self.meddler.url;
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
