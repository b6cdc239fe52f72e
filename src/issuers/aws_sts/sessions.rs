//! Sessions: AssumeRole at STS.

use std::error::Error;
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sdk_sts::Client;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{BehaviorVersion, Region, SharedHttpClient, retry::RetryConfig};
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::types::Tag;
use aws_smithy_http_client::tls;

use super::arn::IamArn;
use super::trouble::Trouble;
use crate::config::AwsConfig;
use crate::domain::{Seconds, Time};

/// Longest a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest one call may take.
const CALL: Duration = Duration::from_secs(8);

/// HTTP without proxies, whatever the environment says.
pub(super) fn http_client() -> SharedHttpClient {
    let crypto = tls::rustls_provider::CryptoMode::AwsLc;
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(crypto))
        .build_https()
}

/// When credentials expire, if they say so.
pub(super) fn expiry(credentials: &Credentials) -> Option<Time> {
    let since = credentials.expiry()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Time::from_millis(
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
    ))
}

/// A session to ask for.
pub(super) struct Wish<'a> {
    pub(super) role: &'a IamArn,
    pub(super) external_id: Option<&'a str>,
    pub(super) name: &'a str,
    /// Who CloudTrail says it was, through every chain.
    pub(super) source_identity: Option<&'a str>,
    /// The session policy.
    pub(super) policy: Option<String>,
    pub(super) tags: Vec<(&'static str, String)>,
    pub(super) duration: Seconds,
}

/// STS. Retries are the caller's business.
#[derive(Clone, Debug)]
pub(super) struct Sts {
    config: aws_sdk_sts::Config,
}

impl Sts {
    /// STS as configured, good for calls that need no signature.
    pub(super) fn unsigned(config: &AwsConfig) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_timeout(CALL)
            .build();
        let mut builder = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(config.region.clone()))
            .http_client(http_client())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(endpoint) = &config.endpoints.sts {
            builder = builder.endpoint_url(endpoint.as_str());
        }
        Self {
            config: builder.build(),
        }
    }

    fn client(&self, keys: Option<Credentials>) -> Client {
        let mut config = self.config.to_builder();
        if let Some(keys) = keys {
            config = config.credentials_provider(keys);
        }
        Client::from_conf(config.build())
    }

    /// Assumes a role with `keys`.
    pub(super) async fn assume(
        &self,
        keys: Credentials,
        wish: &Wish<'_>,
    ) -> Result<Credentials, Trouble> {
        let seconds = i32::try_from(wish.duration.0).unwrap_or(i32::MAX);
        let mut call = self
            .client(Some(keys))
            .assume_role()
            .role_arn(wish.role.as_str())
            .role_session_name(wish.name)
            .duration_seconds(seconds)
            .set_external_id(wish.external_id.map(str::to_owned))
            .set_source_identity(wish.source_identity.map(str::to_owned))
            .set_policy(wish.policy.clone());
        for (key, value) in &wish.tags {
            let tag = Tag::builder().key(*key).value(value).build();
            call = call.tags(tag.map_err(|why| Trouble::Unsent(why.to_string()))?);
        }
        let answer = call.send().await.map_err(|error| trouble(&error))?;
        let who = answer.assumed_role_user.map(|user| user.arn);
        let meant = wish.role.session(wish.name);
        if who.as_ref() != Some(&meant) {
            return Err(Trouble::Elsewhere(format!(
                "STS made a session of {}, not {meant}",
                who.as_deref().unwrap_or("nobody")
            )));
        }
        of_answer(answer.credentials)
    }

    /// The ARN of whoever holds `keys`.
    pub(super) async fn whose(&self, keys: Credentials) -> Result<String, Trouble> {
        let call = self.client(Some(keys)).get_caller_identity();
        let answer = call.send().await.map_err(|error| trouble(&error))?;
        answer
            .arn
            .ok_or_else(|| Trouble::Lost("STS answered without an ARN".into()))
    }

    /// Exchanges a web identity token for credentials.
    pub(super) async fn exchange(&self, role: &str, token: &str) -> Result<Credentials, Trouble> {
        let call = self
            .client(None)
            .assume_role_with_web_identity()
            .role_arn(role)
            .role_session_name("countersign")
            .web_identity_token(token);
        let answer = call.send().await.map_err(|error| trouble(&error))?;
        of_answer(answer.credentials)
    }
}

fn of_answer(answer: Option<aws_sdk_sts::types::Credentials>) -> Result<Credentials, Trouble> {
    let keys = answer.ok_or_else(|| Trouble::Lost("STS answered without credentials".into()))?;
    let expires = std::time::SystemTime::try_from(keys.expiration).ok();
    Ok(Credentials::new(
        keys.access_key_id,
        keys.secret_access_key,
        Some(keys.session_token),
        expires,
        "countersign",
    ))
}

/// What the SDK's error means. Its raw answer is never printed: it may hold credentials.
fn trouble<E>(error: &SdkError<E>) -> Trouble
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) => {
            Trouble::Unsent("the call to STS could not be made; see the log of the SDK".into())
        }
        SdkError::DispatchFailure(failure) => {
            let source = failure.as_connector_error().and_then(Error::source);
            let detail = source.map_or_else(|| "no connection".to_owned(), causes);
            if failure.is_user() || source.is_some_and(never_connected) {
                Trouble::Unsent(format!("STS cannot be reached: {detail}"))
            } else {
                Trouble::Lost(format!("the connection to STS was lost: {detail}"))
            }
        }
        SdkError::ServiceError(answer) => Trouble::Said {
            status: answer.raw().status().as_u16(),
            code: answer.err().code().unwrap_or("Unknown").to_owned(),
            detail: answer.err().message().unwrap_or("no words").to_owned(),
        },
        SdkError::TimeoutError(_) => Trouble::Lost("STS did not answer in time".into()),
        _ => Trouble::Lost("STS's answer could not be read".into()),
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Whether no connection came about, so that nothing was sent.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| {
        error
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(hyper_util::client::legacy::Error::is_connect)
    })
}

/// An error and what caused it, in words.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let words: Vec<_> = chain(error).map(ToString::to_string).collect();
    words.join(": ")
}
