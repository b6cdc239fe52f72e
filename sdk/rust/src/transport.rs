//! One HTTP exchange, and when it may be repeated.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::header::{HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Url};
use secrecy::zeroize::Zeroizing;

use crate::error::{Error, Problem};

/// How often one call is tried.
const ATTEMPTS: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// Longest pause the broker can ask for between two attempts of one call.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(5);
/// What the broker says while an earlier attempt of the same call is still being worked on.
const UNDER_WAY: [&str; 2] = ["idempotency_in_progress", "mint_underway"];
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// Names one intended effect: however often the call is sent with it, the effect happens once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// From 128 random bits, drawn by the caller.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The key as sent: a structured-field string.
    pub(crate) fn header(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// Checks the broker's address: `https`, or `http` to this machine; nothing in it but host, port and path.
pub(crate) fn check_address(text: &str) -> Result<(Url, bool), Error> {
    let url = Url::parse(text).map_err(|error| {
        Error::Address(format!(
            "{text:?} is not a URL ({error}); write it like https://countersign.example.com"
        ))
    })?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => {
            return Err(Error::Address(format!(
                "http to {host} would send the token in clear; use https"
            )));
        }
        other => {
            return Err(Error::Address(format!(
                "the scheme {other} is not supported; use https"
            )));
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::Address(
            "it holds a user name or password; give the token in a file".into(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Error::Address(
            "it has a query or fragment; leave them out".into(),
        ));
    }
    Ok((url, loopback))
}

/// Builds the HTTP client: no redirects, and no proxy for this machine.
pub(crate) fn http_client(loopback: bool) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("countersign-client/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(Duration::from_secs(5));
    if loopback {
        // A proxy from the environment would be handed the token in clear.
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| {
        Error::Address(format!(
            "set up TLS: {error}; check the system's certificates"
        ))
    })
}

/// Sends one request once and reads the whole answer. The buffer is wiped when dropped: it may hold a secret.
pub(crate) async fn exchange(
    operation: &'static str,
    request: RequestBuilder,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |source: reqwest::Error| Error::Network {
        operation,
        never_sent: source.is_connect(),
        source: source.without_url(),
    };
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(seconds);
    let mut body = Zeroizing::new(Vec::with_capacity(16 * 1024));
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(Error::Unexpected {
                operation,
                what: "the answer is larger than 16 MiB".into(),
            });
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        Ok(body)
    } else if status.is_redirection() {
        let what = "the broker's address answers with a redirect, which is not followed; use the final address".into();
        Err(Error::Unexpected { operation, what })
    } else {
        Err(Error::Problem(Box::new(Problem::read(
            status.as_u16(),
            retry_after,
            &body,
        ))))
    }
}

fn seconds(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.trim().parse().ok()
}

/// How long to pause before attempt number `attempt` + 2, or `None` when the call must not be repeated.
/// `repeatable`: the call has no effect, or an idempotency key.
pub(crate) fn pause_before_repeat(
    error: &Error,
    repeatable: bool,
    attempt: u32,
) -> Option<Duration> {
    if attempt + 1 >= ATTEMPTS {
        return None;
    }
    let asked = match error {
        Error::Network { never_sent, .. } if repeatable || *never_sent => None,
        Error::Problem(problem)
            if repeatable && (error.is_outage() || UNDER_WAY.contains(&problem.code.as_str())) =>
        {
            problem.retry_after.map(Duration::from_secs)
        }
        _ => return None,
    };
    let jittered = LONGEST_DELAY
        .min(FIRST_DELAY * 2u32.pow(attempt))
        .mul_f64(0.5 + 0.5 * chance());
    Some(asked.map_or(jittered, |asked| {
        asked.min(LONGEST_RETRY_AFTER).max(jittered)
    }))
}

/// Between 0 and 1, for spreading retries; not for secrets.
fn chance() -> f64 {
    let draw = std::hash::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(draw >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, code: &str) -> Error {
        let body = format!(r#"{{"code":"{code}","retryable":true}}"#);
        Error::Problem(Box::new(Problem::read(status, None, body.as_bytes())))
    }

    #[test]
    fn the_token_is_never_sent_in_clear_over_a_network() {
        for good in [
            "https://a.example",
            "http://127.0.0.1:7480",
            "http://[::1]:1/base/",
            "http://localhost",
        ] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for wrong in [
            "http://a.example",
            "http://localhost.a.example",
            "http://10.0.0.1",
            "ftp://a",
            "a.example",
            "https://u:p@a.example",
            "https://a.example/?x=1",
            "http://127.0.0.1@evil.example",
        ] {
            assert!(check_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_may_be_repeated_is_and_not_for_ever() {
        assert!(pause_before_repeat(&problem(503, "not_ready"), true, 0).is_some());
        assert!(pause_before_repeat(&problem(409, "idempotency_in_progress"), true, 0).is_some());
        assert!(pause_before_repeat(&problem(503, "not_ready"), false, 0).is_none());
        assert!(pause_before_repeat(&problem(403, "policy_denied"), true, 0).is_none());
        assert!(pause_before_repeat(&problem(503, "not_ready"), true, ATTEMPTS - 1).is_none());
    }

    #[test]
    fn pauses_grow_and_stay_short() {
        for attempt in 0..ATTEMPTS - 1 {
            let pause = pause_before_repeat(&problem(503, "x"), true, attempt).unwrap();
            assert!(
                pause >= FIRST_DELAY / 2 && pause <= LONGEST_DELAY,
                "{pause:?}"
            );
        }
    }
}
