//! The public keys of configured token issuers.
//!
//! Fetched when first needed, used for an hour, then fetched again; while an issuer cannot be reached its
//! last keys serve for a day and then nothing is accepted. One fetch at a time and at most one in 30
//! seconds per issuer, whatever tokens arrive; known keys are never evicted by unknown ones.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::fetch::{FetchError, Fetcher, SetupError};
use crate::config::WorkloadConfig;
use crate::domain::{Seconds, Time};
use crate::system::Clock;

const FRESH: Seconds = Seconds(3600);
const USABLE: Seconds = Seconds(24 * 3600);
const BETWEEN_FETCHES: Seconds = Seconds(30);
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_KEYS: usize = 100;
const PART: &str = "workload issuer";

/// Why there is no key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The issuer's current keys do not include it.
    Unknown,
    /// The issuer's keys are not known well enough to say.
    Unavailable,
}

/// One issuer's keys.
pub(crate) struct KeySet {
    issuer: String,
    jwks_url: Option<Url>,
    fetcher: Fetcher,
    algorithm: Algorithm,
    cached: RwLock<Arc<Cached>>,
    /// When a fetch was last begun. Holding it is the right to fetch.
    begun: Mutex<Option<Time>>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Cached {
    keys: HashMap<String, Arc<DecodingKey>>,
    fetched: Option<Time>,
}

impl Cached {
    fn within(&self, age: Seconds, now: Time) -> bool {
        self.fetched.is_some_and(|at| now < at.plus(age))
    }
}

/// The algorithm by its configured name; symmetric ones and `none` do not exist here.
pub(crate) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "RS256" => Some(Algorithm::RS256),
        "PS256" => Some(Algorithm::PS256),
        "ES256" => Some(Algorithm::ES256),
        "ES384" => Some(Algorithm::ES384),
        "EdDSA" => Some(Algorithm::EdDSA),
        _ => None,
    }
}

impl KeySet {
    pub(crate) fn new(
        name: &str,
        config: &WorkloadConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let wrong = |problem: String| SetupError::new(PART, name, problem);
        let algorithm = algorithm(&config.algorithm).ok_or_else(|| {
            wrong(format!(
                "algorithm {:?} is not supported; use RS256, PS256, ES256, ES384 or EdDSA",
                config.algorithm
            ))
        })?;
        let base = match &config.jwks_url {
            Some(url) => url.clone(),
            None => Url::parse(&config.issuer)
                .map_err(|error| wrong(format!("issuer is not a URL ({error}); set jwks_url")))?,
        };
        let fetcher = Fetcher::new(&base, config.private_network, TIMEOUT).map_err(wrong)?;
        Ok(Self {
            issuer: config.issuer.clone(),
            jwks_url: config.jwks_url.clone(),
            fetcher,
            algorithm,
            cached: RwLock::default(),
            begun: Mutex::new(None),
            clock,
        })
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key called `kid` in this issuer's set.
    pub(crate) async fn key(&self, kid: &str) -> Result<Arc<DecodingKey>, NoKey> {
        let now = self.clock.now();
        let cached = self.cached();
        let known = cached.keys.get(kid).cloned();
        match known {
            Some(key) if cached.within(FRESH, now) => Ok(key),
            // Somebody is fetching already: an old but usable key does not wait for that.
            Some(key) if cached.within(USABLE, now) => match self.begun.try_lock() {
                Ok(turn) => self.refresh(turn, kid).await,
                Err(_) => Ok(key),
            },
            _ => {
                let turn = self.begun.lock().await;
                self.refresh(turn, kid).await
            }
        }
    }

    async fn refresh(
        &self,
        mut begun: tokio::sync::MutexGuard<'_, Option<Time>>,
        kid: &str,
    ) -> Result<Arc<DecodingKey>, NoKey> {
        let now = self.clock.now();
        let current = self.cached();
        let served = current.within(FRESH, now) && current.keys.contains_key(kid);
        let allowed = begun.is_none_or(|at| now >= at.plus(BETWEEN_FETCHES));
        if !served && allowed {
            // Noted before the call: a caller that goes away in the middle has used up the turn too.
            *begun = Some(now);
            match self.fetch().await {
                Ok(keys) => self.replace(Cached {
                    keys,
                    fetched: Some(now),
                }),
                Err(error) => tracing::warn!(
                    issuer = %self.issuer,
                    error = &error as &dyn std::error::Error,
                    "cannot fetch the keys of a token issuer; the last ones serve for a day"
                ),
            }
        }
        let now = self.clock.now();
        let cached = self.cached();
        match cached.keys.get(kid) {
            Some(key) if cached.within(USABLE, now) => Ok(Arc::clone(key)),
            None if cached.within(FRESH, now) => Err(NoKey::Unknown),
            _ => Err(NoKey::Unavailable),
        }
    }

    fn cached(&self) -> Arc<Cached> {
        Arc::clone(&self.cached.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, new: Cached) {
        *self.cached.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }

    async fn fetch(&self) -> Result<HashMap<String, Arc<DecodingKey>>, FetchError> {
        let url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let document = self.fetcher.json(&url).await?;
        let list = document.get("keys").and_then(Value::as_array);
        let list = list.ok_or(FetchError::Malformed("it has no list of keys"))?;
        if list.len() > MAX_KEYS {
            return Err(FetchError::Malformed("it has more than 100 keys"));
        }
        let mut keys = HashMap::new();
        for key in list {
            let Some((kid, key)) = fit(key, self.algorithm) else {
                continue;
            };
            if keys.insert(kid, Arc::new(key)).is_some() {
                return Err(FetchError::Malformed("two of its keys have one kid"));
            }
        }
        if keys.is_empty() {
            return Err(FetchError::Malformed("none of its keys fits the algorithm"));
        }
        Ok(keys)
    }

    async fn discover(&self) -> Result<Url, FetchError> {
        let base = self.issuer.trim_end_matches('/');
        let url = Url::parse(&format!("{base}/.well-known/openid-configuration"))
            .map_err(|_| FetchError::Malformed("the issuer is not a URL"))?;
        let document = self.fetcher.json(&url).await?;
        if document.get("issuer").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(FetchError::Malformed("it is about another issuer"));
        }
        document
            .get("jwks_uri")
            .and_then(Value::as_str)
            .and_then(|url| Url::parse(url).ok())
            .ok_or(FetchError::Malformed("it names no key set"))
    }
}

/// A JWK that may verify `algorithm`: right type, curve, purpose, and with a key id. Others are passed over.
fn fit(jwk: &Value, algorithm: Algorithm) -> Option<(String, DecodingKey)> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let absent_or = |name: &str, wanted: &[&str]| match jwk.get(name) {
        None => true,
        Some(value) => value.as_str().is_some_and(|v| wanted.contains(&v)),
    };
    let (name, kty, curve) = match algorithm {
        Algorithm::RS256 => ("RS256", "RSA", None),
        Algorithm::PS256 => ("PS256", "RSA", None),
        Algorithm::ES256 => ("ES256", "EC", Some("P-256")),
        Algorithm::ES384 => ("ES384", "EC", Some("P-384")),
        Algorithm::EdDSA => ("EdDSA", "OKP", Some("Ed25519")),
        _ => return None,
    };
    let operations = match jwk.get("key_ops") {
        None => true,
        Some(list) => list
            .as_array()
            .is_some_and(|list| list.iter().any(|o| o.as_str() == Some("verify"))),
    };
    let fits = text("kty") == Some(kty)
        && absent_or("alg", &[name])
        && absent_or("use", &["sig", "jwt-svid"])
        && operations
        && curve.is_none_or(|curve| text("crv") == Some(curve));
    if !fits {
        return None;
    }
    let key = match kty {
        "RSA" => DecodingKey::from_rsa_components(text("n")?, text("e")?),
        "EC" => DecodingKey::from_ec_components(text("x")?, text("y")?),
        _ => DecodingKey::from_ed_components(text("x")?),
    };
    let kid = text("kid").filter(|kid| !kid.is_empty())?;
    Some((kid.to_owned(), key.ok()?))
}
