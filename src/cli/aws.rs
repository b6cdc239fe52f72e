//! An AWS session as SDKs take it: over the container endpoint, and from a `credential_process`.

use countersign_client::AwsView;
use secrecy::ExposeSecret;
use serde::Serialize;
use zeroize::Zeroizing;

use super::exit::{Exit, Failure};
use super::text::{instant, seconds_of};

/// How far ahead an expiry is reported at most. Within ten minutes of it SDKs ask before they go on, so that an end is seen.
const REPORTED_MS: i64 = 600_000;

/// A session and when it ends.
#[derive(Debug)]
pub(crate) struct AwsSession {
    credential: AwsView,
    /// In milliseconds since 1970.
    pub(crate) expires: i64,
}

impl AwsSession {
    /// Takes a credential whose lease ends at `lease_end`; the earlier of the two ends counts.
    pub(crate) fn new(credential: AwsView, lease_end: Option<&str>) -> Result<Self, Failure> {
        let plain = |text: &str| {
            !text.is_empty() && text.len() <= 16_384 && text.bytes().all(|b| b.is_ascii_graphic())
        };
        let ends = instant(&credential.expires_at);
        let wrong = if !plain(&credential.access_key_id) {
            "access key id"
        } else if !plain(credential.secret_access_key.expose_secret()) {
            "secret access key"
        } else if !plain(credential.session_token.expose_secret()) {
            "session token"
        } else if !plain(&credential.account_id) {
            "account"
        } else if !plain(&credential.region) {
            "region"
        } else if let Some(ends) = ends {
            let lease_end = lease_end.and_then(instant).unwrap_or(ends);
            return Ok(Self {
                credential,
                expires: ends.min(lease_end),
            });
        } else {
            "end"
        };
        Err(Failure::new(
            Exit::NotStarted,
            "delivery",
            format!("the credential's {wrong} cannot be handed to an AWS SDK"),
            "check the target's settings in countersign.toml, and that broker and command line are of the same version",
        ))
    }

    /// The credential itself.
    pub(crate) fn credential(&self) -> &AwsView {
        &self.credential
    }

    /// The expiry an SDK is told at `now`.
    fn reported(&self, now: i64) -> String {
        seconds_of(self.expires.min(now.saturating_add(REPORTED_MS)))
    }

    /// The container endpoint's answer.
    pub(crate) fn for_container(&self, now: i64) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Container<'a> {
            access_key_id: &'a str,
            secret_access_key: &'a str,
            token: &'a str,
            expiration: String,
            account_id: &'a str,
        }
        secret_json(&Container {
            access_key_id: &self.credential.access_key_id,
            secret_access_key: self.credential.secret_access_key.expose_secret(),
            token: self.credential.session_token.expose_secret(),
            expiration: self.reported(now),
            account_id: &self.credential.account_id,
        })
    }

    /// The answer of a `credential_process`.
    pub(crate) fn for_process(&self, now: i64) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Process<'a> {
            version: u8,
            access_key_id: &'a str,
            secret_access_key: &'a str,
            session_token: &'a str,
            expiration: String,
            account_id: &'a str,
        }
        secret_json(&Process {
            version: 1,
            access_key_id: &self.credential.access_key_id,
            secret_access_key: self.credential.secret_access_key.expose_secret(),
            session_token: self.credential.session_token.expose_secret(),
            expiration: self.reported(now),
            account_id: &self.credential.account_id,
        })
    }

    /// When it ends, as it is put into an environment.
    pub(crate) fn end(&self) -> String {
        seconds_of(self.expires)
    }
}

/// JSON in a buffer that is wiped, and large enough never to be moved for what STS sends.
pub(crate) fn secret_json<T: Serialize>(
    value: &T,
) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 * 1024));
    serde_json::to_writer(&mut *bytes, value)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn view(expires_at: &str) -> AwsView {
        serde_json::from_value(
            json!({"access_key_id": "ASIAEXAMPLE", "secret_access_key": "s", "session_token": "t",
            "account_id": "123456789012", "region": "eu-central-1", "expires_at": expires_at}),
        )
        .unwrap()
    }

    #[test]
    fn an_expiry_is_reported_at_most_ten_minutes_ahead() {
        let session = AwsSession::new(view("1970-01-01T01:00:00.900Z"), None).unwrap();
        let told = |now| -> Value {
            serde_json::from_slice(&session.for_container(now).unwrap()).unwrap()
        };
        assert_eq!(told(0)["Expiration"], "1970-01-01T00:10:00Z");
        assert_eq!(told(3_500_000)["Expiration"], "1970-01-01T01:00:00Z");
        assert_eq!(told(0)["Token"], "t");
        let process: Value = serde_json::from_slice(&session.for_process(0).unwrap()).unwrap();
        assert_eq!(
            (&process["Version"], &process["SessionToken"]),
            (&json!(1), &json!("t"))
        );
    }

    #[test]
    fn the_earlier_of_two_ends_counts() {
        let session = AwsSession::new(view("1970-01-01T01:00:00Z"), Some("1970-01-01T00:30:00Z"));
        assert_eq!(session.unwrap().expires, 1_800_000);
        assert!(AwsSession::new(view("soon"), Some("1970-01-01T00:30:00Z")).is_err());
    }

    #[test]
    fn what_an_environment_or_header_cannot_carry_is_refused() {
        for member in [
            "access_key_id",
            "secret_access_key",
            "session_token",
            "account_id",
            "region",
        ] {
            let mut value = json!({"access_key_id": "A", "secret_access_key": "s", "session_token": "t",
                "account_id": "1", "region": "r", "expires_at": "2026-11-22T10:30:00Z"});
            value[member] = json!("a\nb");
            let failure =
                AwsSession::new(serde_json::from_value(value).unwrap(), None).unwrap_err();
            assert_eq!(failure.code, "delivery", "{member}");
        }
    }
}
