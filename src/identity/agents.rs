//! Agents prove who they are.
//!
//! A request carries a token the broker handed out itself (API key, access token, operator token). Tokens
//! of others, and assertions signed by the agent, are exchanged for an access token first. Whatever is
//! wrong, the outsider is told the same; our log is told what. A disabled agent is not in the directory, so
//! everything it still holds stops working at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use super::fetch::SetupError;
use super::jwks::{KeySet, NoKey};
use super::jwt::{Claims, Expected, Flaw, Unverified};
use super::keys::{self, TokenKind};
use super::{Ports, bytes};
use crate::config::WorkloadConfig;
use crate::domain::{Agent, AgentName, AgentProof, Digest, Seconds};
use crate::store::StoreError;

/// How long an access token lives.
pub const ACCESS_TOKEN_LIFE: Seconds = Seconds(600);
/// How long an assertion an agent signed itself may live (RFC 7523).
const ASSERTION_LIFE: Seconds = Seconds(300);
/// A key nobody here holds: what an unknown agent's assertion is checked against, so that it costs the same.
const NOBODY: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

/// Where agents are looked up: those that are served now, never a disabled one. A call is made for every request, so
/// what it costs does not grow with the number of agents.
pub trait AgentDirectory: Send + Sync + 'static {
    /// The agent of this name.
    fn named(&self, name: &AgentName) -> Option<Agent>;

    /// The agents whose API key has this SHA-256. The hash of 256 random bits tells nothing of them, so how the lookup
    /// takes its time does not matter; what is found is compared in constant time all the same.
    fn with_key(&self, hash: &Digest) -> Vec<Agent>;

    /// The agents that present tokens of the issuer of this name and satisfy `wanted`. Asked once for an access token.
    fn of_issuer(&self, issuer: &str, wanted: &dyn Fn(&Agent) -> bool) -> Vec<Agent>;
}

/// Who a bearer token belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Principal {
    /// An agent.
    Agent(Agent),
    /// Whoever holds the operator's token.
    Operator,
}

/// Something to exchange for an access token.
pub enum Grant {
    /// A JWT of a configured issuer (`grant_type` of RFC 7523 section 2.1).
    WorkloadToken(SecretString),
    /// An assertion signed by the agent (`private_key_jwt`, RFC 7523 section 2.2).
    ClientAssertion(SecretString),
}

/// An access token, shown once.
#[derive(Debug)]
pub struct AccessToken {
    /// The token, `cst_…`.
    pub token: SecretString,
    /// How long it lives.
    pub expires_in: Seconds,
    /// Whose it is.
    pub agent: AgentName,
}

/// Why nobody was recognised, in as much detail as outsiders get.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthError {
    /// The bearer token is not good.
    #[error("authenticate: the token is not accepted; get a new one")]
    Unauthenticated,
    /// The workload token is not good.
    #[error("exchange the token: it is not accepted; present one this broker trusts")]
    InvalidGrant,
    /// The client assertion is not good.
    #[error("exchange the assertion: it is not accepted; sign a new one for this broker")]
    InvalidClient,
    /// It cannot be told now.
    #[error("authenticate: cannot be checked now; try again")]
    Unavailable,
}

impl AuthError {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            AuthError::Unauthenticated => "unauthenticated",
            AuthError::InvalidGrant => "invalid_grant",
            AuthError::InvalidClient => "invalid_client",
            AuthError::Unavailable => "unavailable",
        }
    }
}

/// Why nobody was recognised, for the log.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("not a token of this broker")]
    Malformed,
    #[error("nobody holds it, or not any more")]
    Nobody,
    #[error("more than one agent matches it")]
    Ambiguous,
    #[error("the token: {0}")]
    Flawed(#[from] Flaw),
    #[error("the issuer's keys are not available")]
    NoKeys,
    #[error("the store does not answer")]
    Store(#[from] StoreError),
}

/// A configured token issuer.
struct Issuer {
    name: String,
    audience: String,
    algorithm: String,
    longest: Seconds,
    single_use: bool,
    keys: KeySet,
}

/// What the store keeps about an access token.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    agent: AgentName,
    /// Digest of how the agent proved itself: an agent declared anew does not inherit old tokens.
    proof: Digest,
}

/// Recognises agents and the operator.
pub struct Agents {
    ports: Ports,
    directory: Arc<dyn AgentDirectory>,
    issuers: BTreeMap<String, Issuer>,
    audience: String,
    operator: Option<Digest>,
}

impl Agents {
    /// `operator` is the digest of the operator's token.
    ///
    /// # Errors
    /// A mistake in the configuration of a token issuer.
    pub fn new(
        ports: Ports,
        directory: Arc<dyn AgentDirectory>,
        workloads: &BTreeMap<String, WorkloadConfig>,
        public_url: &Url,
        operator: Option<Digest>,
    ) -> Result<Self, SetupError> {
        let audience = super::audience(public_url);
        let mut issuers = BTreeMap::new();
        for (name, config) in workloads {
            let issuer = Issuer {
                name: name.clone(),
                audience: config.audience.clone().unwrap_or_else(|| audience.clone()),
                algorithm: config.algorithm.clone(),
                longest: Seconds(config.longest_token_seconds),
                single_use: config.single_use,
                keys: KeySet::new(name, config, Arc::clone(&ports.clock))?,
            };
            if issuers.insert(config.issuer.clone(), issuer).is_some() {
                let problem = "another entry has the same issuer; keep one";
                return Err(SetupError::new("workload issuer", name, problem));
            }
        }
        Ok(Self {
            ports,
            directory,
            issuers,
            audience,
            operator,
        })
    }

    /// Whose bearer token it is. Nothing is trimmed or folded: one token, one spelling.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`], or [`AuthError::Unavailable`] when the store does not answer.
    pub async fn authenticate(&self, bearer: &str) -> Result<Principal, AuthError> {
        let recognised = self.recognise(bearer).await;
        recognised.map_err(|refused| report(&refused, AuthError::Unauthenticated))
    }

    /// Exchanges a proof for an access token.
    ///
    /// # Errors
    /// [`AuthError::InvalidGrant`] or [`AuthError::InvalidClient`] when the proof is not good;
    /// [`AuthError::Unavailable`] when the issuer's keys or the store cannot be reached.
    pub async fn exchange(&self, grant: Grant) -> Result<AccessToken, AuthError> {
        use secrecy::ExposeSecret as _;
        let (proven, otherwise) = match &grant {
            Grant::WorkloadToken(token) => (
                self.workload(token.expose_secret()).await,
                AuthError::InvalidGrant,
            ),
            Grant::ClientAssertion(assertion) => (
                self.assertion(assertion.expose_secret()).await,
                AuthError::InvalidClient,
            ),
        };
        let given = match proven {
            Ok(agent) => self.give(agent).await,
            Err(refused) => Err(refused),
        };
        given.map_err(|refused| report(&refused, otherwise))
    }

    async fn recognise(&self, bearer: &str) -> Result<Principal, Refused> {
        let (kind, digest) = keys::recognise(bearer).ok_or(Refused::Malformed)?;
        match kind {
            TokenKind::Operator => match &self.operator {
                Some(operator) if bytes::same_digest(operator, &digest) => Ok(Principal::Operator),
                _ => Err(Refused::Nobody),
            },
            TokenKind::ApiKey => {
                let mut holders = self.directory.with_key(&digest);
                holders.retain(|agent| match &agent.proof {
                    AgentProof::ApiKey { hash } => bytes::same_digest(hash, &digest),
                    _ => false,
                });
                only(holders).map(Principal::Agent)
            }
            TokenKind::AccessToken => {
                let now = self.ports.clock.now();
                let held = self.ports.shelf.recall(&held_key(&digest), now).await?;
                let held = held.ok_or(Refused::Nobody)?;
                let held: Held = serde_json::from_slice(&held).map_err(|_| Refused::Nobody)?;
                let agent = self.directory.named(&held.agent);
                let same = |agent: &Agent| {
                    let proof = Digest::of_canonical(&agent.proof);
                    bytes::same_digest(&proof, &held.proof)
                };
                agent
                    .filter(same)
                    .map(Principal::Agent)
                    .ok_or(Refused::Nobody)
            }
        }
    }

    async fn workload(&self, token: &str) -> Result<Agent, Refused> {
        let token = Unverified::parse(token)?;
        // The claimed issuer chooses between configured ones, by exact text, and nothing more.
        let issuer_url = token.claimed_issuer()?.to_owned();
        let issuer = self.issuers.get(&issuer_url).ok_or(Flaw::Issuer)?;
        token.check_header(&issuer.algorithm, &["JWT", "JOSE"])?;
        let key = issuer
            .keys
            .key(token.key_id()?)
            .await
            .map_err(|no| match no {
                NoKey::Unknown => Refused::Flawed(Flaw::UnknownKey),
                NoKey::Unavailable => Refused::NoKeys,
            })?;
        let expected = Expected {
            audience: &[&issuer.audience],
            longest: issuer.longest,
            now: self.ports.clock.utc(),
        };
        let claims = token.verify(&key, issuer.keys.algorithm(), &expected)?;
        let agent = only(
            self.directory
                .of_issuer(&issuer.name, &|agent| match &agent.proof {
                    AgentProof::Workload {
                        issuer: name,
                        claims: wanted,
                    } => {
                        *name == issuer.name
                            && wanted.keys().any(|claim| tells_apart(claim))
                            && wanted.iter().all(|(claim, value)| claims.is(claim, value))
                    }
                    _ => false,
                }),
        )?;
        if issuer.single_use {
            self.use_up(&issuer_url, &claims).await?;
        }
        Ok(agent)
    }

    async fn assertion(&self, token: &str) -> Result<Agent, Refused> {
        let token = Unverified::parse(token)?;
        let name = token.claimed_issuer()?.to_owned();
        token.check_header("EdDSA", &["JWT", "client-authentication+jwt"])?;
        let agent = name.parse().ok();
        let agent = agent.and_then(|name: AgentName| self.directory.named(&name));
        let agent = agent.filter(|agent| matches!(agent.proof, AgentProof::PublicKey { .. }));
        let public = match agent.as_ref().map(|agent| &agent.proof) {
            Some(AgentProof::PublicKey { ed25519 }) => ed25519,
            _ => NOBODY,
        };
        let key = DecodingKey::from_ed_components(public).map_err(|_| Flaw::UnknownKey)?;
        // Libraries differ in whether a URL without a path ends in a slash; both name this broker.
        let with_slash = format!("{}/", self.audience);
        let expected = Expected {
            audience: &[&self.audience, &with_slash],
            longest: ASSERTION_LIFE,
            now: self.ports.clock.utc(),
        };
        let claims = token.verify(&key, Algorithm::EdDSA, &expected)?;
        let agent = agent.ok_or(Refused::Nobody)?;
        if claims.subject() != name {
            return Err(Flaw::Subject.into());
        }
        self.use_up(&name, &claims).await?;
        Ok(agent)
    }

    /// Marks a token as used. Remembered as long as it could be presented again.
    async fn use_up(&self, issuer: &str, claims: &Claims) -> Result<(), Refused> {
        let id = claims.id().ok_or(Flaw::Replayed)?;
        let key = bytes::store_key("used-token", &format!("{issuer}\0{id}"));
        // By the clock the token is judged by: what makes the broker's own time jump brings no token back.
        let until = claims.replayable_until();
        let now = self.ports.clock.utc();
        match self.ports.shelf.remember(&key, &[], until, now).await? {
            true => Ok(()),
            false => Err(Flaw::Replayed.into()),
        }
    }

    async fn give(&self, agent: Agent) -> Result<AccessToken, Refused> {
        let (token, digest) = keys::generate(TokenKind::AccessToken, &*self.ports.entropy);
        let proof = Digest::of_canonical(&agent.proof);
        let held = Held {
            agent: agent.name.clone(),
            proof,
        };
        let held = serde_json::to_vec(&held).map_err(|_| Refused::Malformed)?;
        let now = self.ports.clock.now();
        let until = now.plus(ACCESS_TOKEN_LIFE);
        let key = held_key(&digest);
        match self.ports.shelf.remember(&key, &held, until, now).await? {
            true => Ok(AccessToken {
                token,
                expires_in: ACCESS_TOKEN_LIFE,
                agent: agent.name,
            }),
            // The same 256 bits twice: the randomness cannot be trusted.
            false => Err(Refused::Ambiguous),
        }
    }
}

/// The only one of `found`; two would mean that the directory cannot tell them apart.
fn only(found: Vec<Agent>) -> Result<Agent, Refused> {
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(agent), None) => Ok(agent),
        (None, _) => Err(Refused::Nobody),
        (Some(_), Some(_)) => Err(Refused::Ambiguous),
    }
}

/// Whether a claim says something about the agent, not just about the issuer or the token.
fn tells_apart(claim: &str) -> bool {
    !["iss", "aud", "jti", "/iss", "/aud", "/jti"].contains(&claim)
}

fn held_key(digest: &Digest) -> String {
    format!("access-token:{digest}")
}

/// Says in the log what was wrong, and returns what the outsider is told.
fn report(refused: &Refused, otherwise: AuthError) -> AuthError {
    match refused {
        Refused::Store(_) | Refused::NoKeys => {
            tracing::warn!(reason = %refused, "cannot check a credential");
            AuthError::Unavailable
        }
        _ => {
            tracing::info!(reason = %refused, "refused a credential");
            otherwise
        }
    }
}
