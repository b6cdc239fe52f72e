//! The broker's own AWS credentials, from the one configured place.

use std::path::PathBuf;
use std::sync::Arc;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::config::Region;
use tokio::sync::Mutex;

use super::sessions::{self, Sts};
use super::trouble::Trouble;
use crate::config::{AwsConfig, AwsLogin};
use crate::domain::{Seconds, Time};
use crate::system::Clock;

/// The instance metadata service, whatever the environment says.
const METADATA: &str = "http://169.254.169.254";
/// Credentials that do not say when they expire are asked for again after this long.
const RENEW: Seconds = Seconds(300);
/// Credentials are renewed this long before they expire.
const AHEAD: Seconds = Seconds(120);

/// Where a web identity token is, and for which role it is good: what the platform sets.
#[derive(Clone, Debug)]
pub struct WebIdentity {
    /// The file with the token; read anew each time.
    pub token_file: PathBuf,
    /// The role.
    pub role_arn: String,
}

/// The broker's credentials as `config` says. Nothing is read yet.
///
/// # Errors
/// When the configured place lacks what it needs.
pub fn credentials(
    config: &AwsConfig,
    web_identity: Option<WebIdentity>,
) -> Result<SharedCredentialsProvider, String> {
    let provider_config = ProviderConfig::without_region()
        .with_region(Some(Region::new(config.region.clone())))
        .with_http_client(sessions::http_client());
    Ok(match config.credentials {
        AwsLogin::Environment => {
            SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new())
        }
        AwsLogin::Profile => {
            let provider = ProfileFileCredentialsProvider::builder()
                .configure(&provider_config)
                .profile_name("default");
            SharedCredentialsProvider::new(provider.build())
        }
        AwsLogin::Container => {
            let provider = EcsCredentialsProvider::builder().configure(&provider_config);
            SharedCredentialsProvider::new(provider.build())
        }
        AwsLogin::Instance => {
            let client = imds::Client::builder()
                .configure(&provider_config)
                .endpoint(METADATA)
                .map_err(|why| format!("aws: instance metadata: {why}"))?;
            let provider = ImdsCredentialsProvider::builder()
                .configure(&provider_config)
                .imds_client(client.build());
            SharedCredentialsProvider::new(provider.build())
        }
        AwsLogin::WebIdentity => {
            let identity = web_identity.ok_or(
                "aws: credentials = \"web_identity\" needs AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN; set both",
            )?;
            let sts = Sts::unsigned(config);
            SharedCredentialsProvider::new(WebIdentityLogin { identity, sts })
        }
    })
}

/// Exchanges a web identity token at our STS endpoint.
#[derive(Debug)]
struct WebIdentityLogin {
    identity: WebIdentity,
    sts: Sts,
}

impl ProvideCredentials for WebIdentityLogin {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let token = tokio::fs::read_to_string(&self.identity.token_file).await;
            let token = token.map_err(CredentialsError::provider_error)?;
            let role = &self.identity.role_arn;
            let keys = self.sts.exchange(role, token.trim()).await;
            keys.map_err(|trouble| CredentialsError::provider_error(trouble.detail()))
        })
    }
}

/// The broker's credentials, kept until shortly before they expire.
pub(super) struct Login {
    provider: SharedCredentialsProvider,
    clock: Arc<dyn Clock>,
    kept: Mutex<Option<(Credentials, Time)>>,
}

impl Login {
    pub(super) fn new(provider: SharedCredentialsProvider, clock: Arc<dyn Clock>) -> Self {
        Self {
            provider,
            clock,
            kept: Mutex::new(None),
        }
    }

    /// The credentials now.
    pub(super) async fn credentials(&self) -> Result<Credentials, Trouble> {
        let mut kept = self.kept.lock().await;
        let now = self.clock.utc();
        if let Some((credentials, until)) = kept.as_ref()
            && now < *until
        {
            return Ok(credentials.clone());
        }
        let credentials = self.provider.provide_credentials().await.map_err(|why| {
            let why = sessions::causes(&why);
            Trouble::Unsent(format!(
                "the broker has no AWS credentials: {why}; see `credentials` under [aws]"
            ))
        })?;
        let until = sessions::expiry(&credentials).map_or(now.plus(RENEW), |expiry| {
            let ahead = expiry.millis() - Time::default().plus(AHEAD).millis();
            Time::from_millis(ahead)
        });
        *kept = Some((credentials.clone(), until));
        Ok(credentials)
    }
}
