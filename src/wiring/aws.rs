//! The parts of AWS targets: one way to AWS, one guard for all targets that share it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};

use crate::config::{
    AwsConfig, AwsLogin, AwsTarget, Config, GuardConfig, StoreConfig, TargetConfig,
};
use crate::domain::{GuardName, TargetName};
use crate::issuers::Deployment;
use crate::issuers::aws_sts::{self, AwsStsIssuer, Cloud, IamGuard, WebIdentity};
use crate::system::{Clock, Entropy};

/// Beginnings of variables that redirect AWS's tools; the broker never follows them.
const REDIRECTIONS: [&str; 6] = [
    "ALL_PROXY",
    "AWS_CONFIG_",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "HTTPS_PROXY",
    "HTTP_PROXY",
];
/// Variables in which AWS's tools look for credentials, and whose they are here.
const SOURCES: [(&str, AwsLogin); 6] = [
    ("AWS_ACCESS_KEY_ID", AwsLogin::Environment),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AwsLogin::Container),
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        AwsLogin::Container,
    ),
    ("AWS_SHARED_CREDENTIALS_FILE", AwsLogin::Profile),
    ("AWS_PROFILE", AwsLogin::Profile),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AwsLogin::WebIdentity),
];

/// What AWS targets share.
pub(super) struct AwsParts {
    cloud: Arc<Cloud>,
    guards: BTreeMap<GuardName, Arc<IamGuard>>,
}

impl AwsParts {
    /// From the configuration; `None` when it has nothing to do with AWS.
    pub(super) fn new(
        config: &Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        keeper: &Deployment,
    ) -> anyhow::Result<Option<Self>> {
        let targets = aws_targets(config);
        let Some(aws) = &config.aws else {
            ensure!(
                targets.is_empty() && config.guards.is_empty(),
                "targets of kind aws_sts and guards need the section [aws] with region and credentials"
            );
            return Ok(None);
        };
        check_external_ids(&targets)?;
        check_guards(config)?;
        let environment = Environment::read();
        environment.check(aws)?;
        let credentials =
            aws_sts::credentials(aws, environment.web_identity()).map_err(anyhow::Error::msg)?;
        let cloud = Cloud::new(aws, credentials, clock, entropy).map_err(anyhow::Error::msg)?;
        let cloud = Arc::new(cloud);
        let guard = |(name, config)| {
            let guard = IamGuard::new(name, config, Arc::clone(&cloud), keeper.clone());
            Ok((name.clone(), Arc::new(guard.map_err(anyhow::Error::msg)?)))
        };
        let guards = config.guards.iter().map(guard);
        let guards = guards.collect::<anyhow::Result<_>>()?;
        Ok(Some(Self { cloud, guards }))
    }

    /// The issuer of one target.
    pub(super) fn issuer(
        &self,
        name: &TargetName,
        target: &AwsTarget,
    ) -> anyhow::Result<AwsStsIssuer> {
        let guard = self.guards.get(&target.guard).with_context(|| {
            format!(
                "target {name}: there is no guard {}; write [guards.{}]",
                target.guard, target.guard
            )
        })?;
        AwsStsIssuer::new(name, target, Arc::clone(guard), Arc::clone(&self.cloud))
            .map_err(anyhow::Error::msg)
    }
}

fn aws_targets(config: &Config) -> BTreeMap<&TargetName, &AwsTarget> {
    let targets = config.targets.iter();
    targets
        .filter_map(|(name, target)| match target {
            TargetConfig::AwsSts(target) => Some((name, target)),
            TargetConfig::Postgres(_) | TargetConfig::Mariadb(_) => None,
        })
        .collect()
}

/// An external id tells one target from another: two targets never share one.
fn check_external_ids(targets: &BTreeMap<&TargetName, &AwsTarget>) -> anyhow::Result<()> {
    let mut known = BTreeMap::new();
    for (name, target) in targets {
        if let Some(other) = known.insert(&target.external_id, name) {
            bail!(
                "targets {other} and {name} have the same external_id; draw one for each with `openssl rand -hex 16`"
            );
        }
    }
    Ok(())
}

/// A guard has one writer: each renders it whole, and what another wrote would be gone.
fn check_guards(config: &Config) -> anyhow::Result<()> {
    let several = matches!(config.store, StoreConfig::Postgres { .. });
    let mut known = BTreeMap::new();
    for (name, guard) in &config.guards {
        let arn = match guard {
            GuardConfig::Boundary { policy_arn, .. } => policy_arn,
            GuardConfig::Inline { .. } if several => bail!(
                "guard {name} is inline, and IAM keeps no versions of an inline policy: of two brokers on a PostgreSQL store one could undo what the other denies; use kind = \"boundary\", or the SQLite store, which has one broker"
            ),
            GuardConfig::Inline { role_arn, .. } => role_arn,
        };
        if let Some(other) = known.insert(arn, name) {
            bail!(
                "guards {other} and {name} are both {arn}, and each would undo what the other denies; let the targets share one guard"
            );
        }
    }
    Ok(())
}

/// Says which variables of the environment the broker does not follow. Names only.
pub(super) fn warn_of_ignored(config: &Config) {
    let Some(aws) = &config.aws else {
        return;
    };
    let ignored = Environment::read().ignored(aws.credentials);
    if !ignored.is_empty() {
        tracing::warn!(
            variables = %ignored.join(" "),
            "these variables are set and ignored: AWS is reached as countersign.toml says"
        );
    }
}

/// The variables that matter to AWS's tools.
struct Environment {
    names: Vec<String>,
    web_identity: Option<WebIdentity>,
}

impl Environment {
    #[expect(
        clippy::disallowed_methods,
        reason = "the platform says in the environment where a web identity is"
    )]
    fn read() -> Self {
        let names = std::env::vars_os().filter(|(_, value)| !value.is_empty());
        let names = names.filter_map(|(name, _)| name.into_string().ok());
        let token_file = std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE");
        let role_arn = std::env::var("AWS_ROLE_ARN").ok();
        let web_identity = token_file
            .zip(role_arn)
            .map(|(file, role_arn)| WebIdentity {
                token_file: file.into(),
                role_arn,
            });
        Self {
            names: names.collect(),
            web_identity,
        }
    }

    fn web_identity(&self) -> Option<WebIdentity> {
        self.web_identity.clone()
    }

    fn ignored(&self, login: AwsLogin) -> Vec<String> {
        let redirects = |name: &str| {
            let name = name.to_ascii_uppercase();
            REDIRECTIONS.iter().any(|start| name.starts_with(start))
        };
        let elsewhere = |name: &str| {
            let mut sources = SOURCES.iter();
            sources.any(|(source, whose)| *source == name && *whose != login)
        };
        let mut names: Vec<_> = self
            .names
            .iter()
            .filter(|name| redirects(name) || elsewhere(name))
            .cloned()
            .collect();
        names.sort();
        names
    }

    /// Profiles may name roles to assume; AWS's library would do that wherever the environment says.
    fn check(&self, aws: &AwsConfig) -> anyhow::Result<()> {
        let redirected = |name: &&String| name.starts_with("AWS_ENDPOINT_URL");
        if aws.credentials == AwsLogin::Profile
            && let Some(name) = self.names.iter().find(redirected)
        {
            bail!(
                "{name} is set, and with credentials = \"profile\" the broker's own login would follow it; unset it"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(names: &[&str]) -> Environment {
        Environment {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            web_identity: None,
        }
    }

    #[test]
    fn case_097_variables_that_would_redirect_are_named_without_values() {
        let set = environment(&[
            "AWS_ENDPOINT_URL_STS",
            "https_proxy",
            "AWS_ACCESS_KEY_ID",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "PATH",
        ]);
        assert_eq!(
            set.ignored(AwsLogin::Environment),
            [
                "AWS_ENDPOINT_URL_STS",
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                "https_proxy"
            ]
        );
        assert_eq!(
            set.ignored(AwsLogin::WebIdentity),
            ["AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL_STS", "https_proxy"]
        );
    }

    fn aws(login: &str) -> Config {
        let text = format!(
            "[server]\npublic_url = \"http://127.0.0.1:7480/\"\nstate_dir = \"state\"\n\
             [aws]\nregion = \"eu-central-1\"\ncredentials = \"{login}\"\n"
        );
        Config::parse(&text).unwrap()
    }

    #[test]
    fn case_097_a_profile_is_not_used_where_the_environment_could_redirect_it() {
        let set = environment(&["AWS_ENDPOINT_URL"]);
        assert!(set.check(&aws("profile").aws.unwrap()).is_err());
        assert!(set.check(&aws("environment").aws.unwrap()).is_ok());
    }

    #[test]
    fn case_093_two_targets_never_share_an_external_id() {
        let mut text = "[server]\npublic_url = \"http://127.0.0.1:7480/\"\nstate_dir = \"state\"\n\
             [aws]\nregion = \"eu-central-1\"\ncredentials = \"environment\"\n"
            .to_owned();
        for name in ["a", "b"] {
            text.push_str(&format!(
                "[targets.{name}]\nkind = \"aws_sts\"\nguard = \"g\"\nexternal_id = \"0123456789abcdef0123456789abcdef\"\nrole_arn = \"arn:aws:iam::111111111111:role/countersign/{name}\"\n"
            ));
        }
        let config = Config::parse(&text).unwrap();
        let error = check_external_ids(&aws_targets(&config)).unwrap_err();
        assert!(error.to_string().contains("a and b"), "{error}");
    }

    fn guarded(store: &str, guards: &str) -> anyhow::Result<()> {
        let text = format!(
            "[server]\npublic_url = \"http://127.0.0.1:7480/\"\nstate_dir = \"state\"\n{store}\n{guards}"
        );
        check_guards(&Config::parse(&text).unwrap())
    }

    const INLINE: &str =
        "[guards.a]\nkind = \"inline\"\nrole_arn = \"arn:aws:iam::111111111111:role/a\"\n";
    const SHARED: &str = "[store]\nkind = \"postgres\"\nurl_file = \"url\"\n";

    fn boundary(name: &str) -> String {
        format!(
            "[guards.{name}]\nkind = \"boundary\"\npolicy_arn = \"arn:aws:iam::111111111111:policy/g\"\n"
        )
    }

    #[test]
    fn finding_t18_an_inline_guard_has_one_broker() {
        assert!(guarded("", INLINE).is_ok());
        assert!(guarded(SHARED, &boundary("a")).is_ok());
        let error = guarded(SHARED, INLINE).unwrap_err().to_string();
        assert!(error.contains("guard a is inline"), "{error}");
        assert!(error.contains("boundary"), "{error}");
    }

    #[test]
    fn finding_t18_one_policy_is_one_guard() {
        let two = boundary("a") + &boundary("b");
        let error = guarded("", &two).unwrap_err().to_string();
        assert!(error.contains("guards a and b"), "{error}");
    }
}
