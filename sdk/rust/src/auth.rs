//! How a caller proves who it is: a token, an Ed25519 key, or a JWT of the platform it runs on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::Error;
use crate::model::AccessToken;
use crate::transport::exchange;

/// How long an assertion we sign is good for. The broker accepts at most five minutes.
const ASSERTION_SECONDS: u64 = 60;
/// A token is renewed when it has less than this left.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
const LARGEST_FILE: u64 = 64 * 1024;

/// Where the time and randomness for signed assertions come from.
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub unix_seconds: fn() -> u64,
    /// Fills 16 bytes with unpredictable ones.
    pub random: fn(&mut [u8; 16]),
}

/// How the caller proves itself.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// An API key, an operator token or an access token, sent as it is.
    Token(SecretString),
    /// An Ed25519 seed in a file (32 bytes as base64url on one line), with which assertions are signed and exchanged for access tokens.
    PrivateKey {
        /// The agent's name.
        agent: String,
        /// The file; read each time it is needed.
        seed_file: PathBuf,
        /// The broker's `public_url`, exactly.
        audience: String,
        /// Time and randomness.
        sources: Sources,
    },
    /// A JWT that the platform keeps fresh in a file, exchanged for access tokens. Read again each time.
    WorkloadFile(PathBuf),
}

/// Turns credentials into an access token, and keeps it until shortly before it is over.
#[derive(Debug)]
pub(crate) struct Authenticator {
    credentials: Credentials,
    held: Mutex<Option<(SecretString, Instant)>>,
}

impl Authenticator {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            held: Mutex::new(None),
        }
    }

    /// Whether a refused token can be replaced by a fresh one.
    pub(crate) fn renews(&self) -> bool {
        !matches!(self.credentials, Credentials::Token(_))
    }

    /// Forgets the held token, so that the next call gets a fresh one.
    pub(crate) async fn forget(&self) {
        *self.held.lock().await = None;
    }

    /// A token to send. Several callers share one exchange.
    pub(crate) async fn token(
        &self,
        http: &reqwest::Client,
        token_url: reqwest::Url,
    ) -> Result<SecretString, Error> {
        let form = match &self.credentials {
            Credentials::Token(token) => return Ok(token.clone()),
            _ => self,
        };
        let mut held = form.held.lock().await;
        if let Some((token, renew_at)) = held.as_ref()
            && Instant::now() < *renew_at
        {
            return Ok(token.clone());
        }
        let fresh = self.exchange(http, token_url).await?;
        let life = Duration::from_secs(fresh.expires_in.min(24 * 3600));
        // A life shorter than the margin is used for its first half.
        let renew_at = Instant::now() + life.saturating_sub(RENEW_BEFORE).max(life / 2);
        *held = Some((fresh.access_token.clone(), renew_at));
        Ok(fresh.access_token)
    }

    async fn exchange(
        &self,
        http: &reqwest::Client,
        token_url: reqwest::Url,
    ) -> Result<AccessToken, Error> {
        const OPERATION: &str = "get an access token";
        let mut form =
            reqwest::Url::parse("form:").map_err(|error| Error::Address(error.to_string()))?;
        {
            let mut pairs = form.query_pairs_mut();
            match &self.credentials {
                Credentials::WorkloadFile(path) => {
                    let jwt = read_secret(path)?;
                    pairs.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
                    pairs.append_pair("assertion", &jwt);
                }
                Credentials::PrivateKey {
                    agent,
                    seed_file,
                    audience,
                    sources,
                } => {
                    let jwt = Zeroizing::new(write_jwt(
                        &read_seed(seed_file)?,
                        agent,
                        audience,
                        *sources,
                    ));
                    pairs.append_pair("grant_type", "client_credentials");
                    pairs.append_pair(
                        "client_assertion_type",
                        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                    );
                    pairs.append_pair("client_assertion", &jwt);
                }
                Credentials::Token(_) => {}
            }
        }
        let request = http
            .post(token_url)
            .header("content-type", "application/x-www-form-urlencoded")
            .timeout(Duration::from_secs(15))
            .body(form.query().unwrap_or_default().to_owned());
        let body = exchange(OPERATION, request).await?;
        // The parser's message could quote the token, so it is left out.
        serde_json::from_slice(&body).map_err(|_| Error::Unexpected {
            operation: OPERATION,
            what: "the answer holds no access token; check that the address is a broker's".into(),
        })
    }
}

/// Reads an Ed25519 seed file.
///
/// # Errors
/// When the file cannot be read or does not hold 32 bytes as base64url.
pub fn read_seed(path: &Path) -> Result<Ed25519KeyPair, Error> {
    let text = read_secret(path)?;
    let wrong = || {
        Error::Credentials(format!(
            "{} does not hold an Ed25519 seed (32 bytes as base64url on one line); make one with `countersign agent add --new-key-file`",
            path.display()
        ))
    };
    let seed = Zeroizing::new(
        BASE64_URL_SAFE_NO_PAD
            .decode(text.as_bytes())
            .map_err(|_| wrong())?,
    );
    Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| wrong())
}

/// Writes the assertion an agent proves itself with (`private_key_jwt`, RFC 7523).
pub fn write_jwt(key: &Ed25519KeyPair, agent: &str, audience: &str, sources: Sources) -> String {
    let now = (sources.unix_seconds)();
    let mut id = [0; 16];
    (sources.random)(&mut id);
    let header = json!({"alg": "EdDSA", "typ": "JWT"});
    let claims = json!({
        "iss": agent, "sub": agent, "aud": audience, "iat": now, "exp": now + ASSERTION_SECONDS,
        "jti": BASE64_URL_SAFE_NO_PAD.encode(id),
    });
    let encode = |part: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = key.sign(signed.as_bytes());
    format!(
        "{signed}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref())
    )
}

/// Reads a small file with a secret on one line.
fn read_secret(path: &Path) -> Result<Zeroizing<String>, Error> {
    let cannot = |why: String| Error::Credentials(format!("read {}: {why}", path.display()));
    let size = std::fs::metadata(path)
        .map_err(|error| cannot(error.to_string()))?
        .len();
    if size > LARGEST_FILE {
        return Err(cannot(
            "it is larger than 64 KiB; is it the right file?".into(),
        ));
    }
    let text =
        Zeroizing::new(std::fs::read_to_string(path).map_err(|error| cannot(error.to_string()))?);
    let line = text.trim();
    if line.is_empty() || line.contains(|c: char| c.is_control() || c == ' ') {
        return Err(cannot("it should hold one line without spaces".into()));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

impl Credentials {
    /// A token kept in a file.
    ///
    /// # Errors
    /// When the file cannot be read or does not hold exactly one line.
    pub fn from_token_file(path: &Path) -> Result<Self, Error> {
        read_secret(path).map(|token| Self::Token(token.as_str().into()))
    }
}

/// The `Authorization` header, marked so that nothing prints it.
pub(crate) fn bearer(token: &SecretString) -> Result<reqwest::header::HeaderValue, Error> {
    let text = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
    let mut value = reqwest::header::HeaderValue::from_str(&text).map_err(|_| {
        Error::Credentials(
            "the token holds characters that cannot be sent; it is one line of ASCII".into(),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, KeyPair, UnparsedPublicKey};

    const SOURCES: Sources = Sources {
        unix_seconds: || 1_795_343_400,
        random: |bytes| bytes.fill(7),
    };

    #[test]
    fn an_assertion_is_signed_short_and_names_the_broker() {
        let key = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
        let jwt = write_jwt(&key, "billing", "https://broker.example/", SOURCES);
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(&ED25519, key.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .unwrap();
        let claims = BASE64_URL_SAFE_NO_PAD
            .decode(signed.split_once('.').unwrap().1)
            .unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["aud"], "https://broker.example/");
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&json!("billing"), &json!("billing"))
        );
        assert!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap() <= 300);
    }

    #[test]
    fn credentials_and_headers_do_not_print_the_secret() {
        let credentials = Credentials::Token("cst_topsecret".into());
        assert!(!format!("{credentials:?}").contains("topsecret"));
        let header = bearer(&"cst_topsecret".into()).unwrap();
        assert!(!format!("{header:?}").contains("topsecret"));
        let error = bearer(&"cst_top\nsecret".into()).unwrap_err();
        assert!(!error.to_string().contains("secret\n") && !error.to_string().contains("cst_"));
    }
}
