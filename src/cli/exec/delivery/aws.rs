//! For AWS: an endpoint SDKs fetch the session from, and settings that lead them nowhere else.

use std::ffi::OsString;

use countersign_client::{AwsView, LeaseView};
use secrecy::ExposeSecret;

use super::{Delivery, Directory};
use crate::cli::aws::AwsSession;
use crate::cli::connect::environment;
use crate::cli::exec::endpoint::Endpoint;
use crate::cli::exit::Failure;

/// Other credentials, or ways to them: most SDKs take these before they ask an endpoint.
const MISLEADING: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_SESSION_EXPIRATION",
    "AWS_ACCOUNT_ID",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CREDENTIAL_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

const LOOPBACK: &str = "127.0.0.1";

/// Opens the endpoint, or with `in_environment` puts the keys there.
pub(super) async fn lay_out(
    credential: AwsView,
    lease: &LeaseView,
    in_environment: bool,
) -> Result<Delivery, Failure> {
    let session = AwsSession::new(credential, lease.expires_at.as_deref())?;
    let expires = session.expires;
    let directory = Directory::make()?;
    let region = &session.credential().region;
    directory.put("config", &format!("[default]\nregion = {region}\n"))?;
    directory.put("credentials", "")?;
    let mut variables: Vec<(&'static str, OsString)> = vec![
        ("AWS_REGION", region.into()),
        ("AWS_DEFAULT_REGION", region.into()),
        ("AWS_EC2_METADATA_DISABLED", "true".into()),
        // The user's own files may hold credentials, which SDKs would take first.
        ("AWS_CONFIG_FILE", directory.path("config").into()),
        (
            "AWS_SHARED_CREDENTIALS_FILE",
            directory.path("credentials").into(),
        ),
        ("BOTO_CONFIG", directory.path("credentials").into()),
    ];
    let endpoint = if in_environment {
        variables.extend(keys(&session));
        None
    } else {
        let endpoint = Endpoint::open(session, &lease.id).await?;
        directory.put("token", endpoint.token().expose_secret())?;
        variables.extend([
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.url().into()),
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                directory.path("token").into(),
            ),
            // SDKs of before 2024 know no file. Who can read this environment can read the file, too.
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                endpoint.token().expose_secret().into(),
            ),
        ]);
        variables.extend(around_a_proxy());
        Some(endpoint)
    };
    Ok(Delivery {
        directory,
        endpoint,
        variables,
        misleads: |name| MISLEADING.contains(&name),
        expires: Some(expires),
    })
}

fn keys(session: &AwsSession) -> [(&'static str, OsString); 5] {
    let credential = session.credential();
    [
        ("AWS_ACCESS_KEY_ID", credential.access_key_id.clone().into()),
        (
            "AWS_SECRET_ACCESS_KEY",
            credential.secret_access_key.expose_secret().into(),
        ),
        (
            "AWS_SESSION_TOKEN",
            credential.session_token.expose_secret().into(),
        ),
        ("AWS_CREDENTIAL_EXPIRATION", session.end().into()),
        ("AWS_ACCOUNT_ID", credential.account_id.clone().into()),
    ]
}

/// Some SDKs would fetch the credential through the proxy of the environment, and show it the token.
fn around_a_proxy() -> Vec<(&'static str, OsString)> {
    let proxies = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    if proxies.iter().all(|name| environment(name).is_none()) {
        return Vec::new();
    }
    let (upper, lower) = (environment("NO_PROXY"), environment("no_proxy"));
    let first = lower.clone().or_else(|| upper.clone());
    vec![
        (
            "NO_PROXY",
            with_loopback(upper.or_else(|| first.clone())).into(),
        ),
        ("no_proxy", with_loopback(lower.or(first)).into()),
    ]
}

fn with_loopback(exceptions: Option<String>) -> String {
    match exceptions {
        Some(all) if all.trim() == "*" => all,
        Some(some) => format!("{some},{LOOPBACK}"),
        None => LOOPBACK.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_from_a_proxy_are_added_to() {
        assert_eq!(with_loopback(None), "127.0.0.1");
        assert_eq!(
            with_loopback(Some("a.example".into())),
            "a.example,127.0.0.1"
        );
        assert_eq!(with_loopback(Some("*".into())), "*");
    }
}
