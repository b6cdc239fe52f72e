//! AWS as the broker sees it: who it is there, and the few things it asks.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use url::{Host, Url};

use super::documents::CANARY_ACTION;
use super::link::{Link, Service};
use super::login::Login;
use super::partition::Partition;
use super::sessions::{Sts, Wish};
use super::trouble::{Trouble, patiently};
use crate::config::AwsConfig;
use crate::system::{Clock, Entropy};

/// Longest one question may take, retries included.
const PATIENCE: Duration = Duration::from_secs(12);
/// What the canary's queues would be called. There are none.
const NO_QUEUE: &str = "countersign-canary-names-no-queue";

/// The way to AWS, shared by all roles and guards.
pub struct Cloud {
    config: AwsConfig,
    login: Login,
    sts: Sts,
    link: Link,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

/// An answer of which only the arrival matters.
#[derive(Deserialize)]
pub(super) struct Done {
    #[serde(rename = "ResponseMetadata", default)]
    _metadata: Option<IgnoredAny>,
}

impl Cloud {
    /// Nothing is called yet.
    ///
    /// # Errors
    /// What in `config` cannot stand, and what to write instead.
    pub fn new(
        config: &AwsConfig,
        credentials: SharedCredentialsProvider,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, String> {
        let endpoints = [
            ("sts", &config.endpoints.sts),
            ("iam", &config.endpoints.iam),
            ("canary", &config.endpoints.canary),
        ];
        for (name, endpoint) in endpoints {
            if let Some(endpoint) = endpoint {
                check_endpoint(endpoint)
                    .map_err(|why| format!("aws.endpoints.{name} {endpoint}: {why}"))?;
            }
        }
        check_region(&config.region).map_err(|why| format!("aws.region: {why}"))?;
        Ok(Self {
            config: config.clone(),
            login: Login::new(credentials, Arc::clone(&clock)),
            sts: Sts::unsigned(config),
            link: Link::new()?,
            clock,
            entropy,
        })
    }

    /// The region of STS, and of targets that name none.
    pub(super) fn region(&self) -> &str {
        &self.config.region
    }

    /// The broker's own credentials.
    pub(super) async fn own_keys(&self) -> Result<Credentials, Trouble> {
        self.login.credentials().await
    }

    /// The ARN of the broker's own identity, as STS sees it.
    pub(super) async fn own_arn(&self) -> Result<String, Trouble> {
        let whose = || async { self.sts.whose(self.own_keys().await?).await };
        patiently(&*self.entropy, PATIENCE, whose).await
    }

    /// A session, within the usual patience.
    pub(super) async fn assume(&self, wish: &Wish<'_>) -> Result<Credentials, Trouble> {
        self.assume_within(wish, PATIENCE).await
    }

    /// A session, as long as it is wanted.
    pub(super) async fn assume_within(
        &self,
        wish: &Wish<'_>,
        within: Duration,
    ) -> Result<Credentials, Trouble> {
        let assume = || async { self.sts.assume(self.own_keys().await?, wish).await };
        patiently(&*self.entropy, within, assume).await
    }

    /// Asks IAM.
    pub(super) async fn ask_iam<T: DeserializeOwned>(
        &self,
        keys: &Credentials,
        partition: &Partition,
        action: &str,
        fields: &[(&str, &str)],
    ) -> Result<T, Trouble> {
        let service = self.iam(partition)?;
        let ask = || async {
            let now = self.clock.utc();
            self.link.call(&service, keys, now, action, fields).await
        };
        patiently(&*self.entropy, PATIENCE, ask).await
    }

    /// Makes the canary call: whether AWS let it through.
    pub(super) async fn canary(
        &self,
        keys: &Credentials,
        partition: &Partition,
        region: &str,
    ) -> Result<bool, Trouble> {
        let service = self.canary_service(partition, region)?;
        let action = CANARY_ACTION
            .split_once(':')
            .map_or(CANARY_ACTION, |(_, action)| action);
        let ask = || async {
            let fields = [("QueueNamePrefix", NO_QUEUE)];
            let now = self.clock.utc();
            let answer = self.link.call(&service, keys, now, action, &fields).await;
            answer.map(|_: Done| ())
        };
        match patiently(&*self.entropy, PATIENCE, ask).await {
            Ok(()) => Ok(true),
            Err(trouble) if trouble.is_denied() => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    fn iam(&self, partition: &Partition) -> Result<Service, Trouble> {
        let (endpoint, region) = partition.iam;
        Ok(Service {
            name: "iam",
            region: region.into(),
            endpoint: endpoint_or(self.config.endpoints.iam.as_ref(), endpoint)?,
            version: "2010-05-08",
        })
    }

    fn canary_service(&self, partition: &Partition, region: &str) -> Result<Service, Trouble> {
        let endpoint = format!("https://sqs.{region}.{}/", partition.suffix);
        Ok(Service {
            name: "sqs",
            region: region.into(),
            endpoint: endpoint_or(self.config.endpoints.canary.as_ref(), &endpoint)?,
            version: "2012-11-05",
        })
    }
}

fn endpoint_or(configured: Option<&Url>, usual: &str) -> Result<Url, Trouble> {
    let usual =
        || Url::parse(usual).map_err(|why| Trouble::Unsent(format!("endpoint {usual}: {why}")));
    configured.map_or_else(usual, |url| Ok(url.clone()))
}

/// A region's name, such as `eu-central-1`.
pub(super) fn check_region(region: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if region.is_empty() || region.len() > 32 || !region.bytes().all(plain) {
        return Err(format!(
            "{region:?} is no region; write one like eu-central-1"
        ));
    }
    Ok(())
}

/// Signed calls go in clear to this machine only.
fn check_endpoint(url: &Url) -> Result<(), String> {
    let local = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    match url.scheme() {
        "https" | "http" if !plain => Err("write it without user, password and query".into()),
        "https" => Ok(()),
        "http" if local => Ok(()),
        _ => Err("write an https address (http is for loopback)".into()),
    }
}
