//! Issuers mint and end credentials of one kind at one target.
//!
//! The contract every issuer keeps, and the conformance suite checks:
//! * the handle derives from the lease id, so that intent in the ledger names what is at the target;
//! * `end` may be repeated, in any order, after a crash at any step, and on what never existed;
//! * `prove` looks, it never believes.

pub mod aws_sts;
mod declared;
pub mod mariadb;
mod password;
pub mod postgres;
mod sql;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;

pub use self::declared::{DeclaredTargets, declare};
pub use crate::domain::Proof;
use crate::domain::{
    Digest, Explanation, GuardRoom, LeaseId, RequestId, Seconds, ServerId, TargetName, Targets,
    Time,
};

/// The code of an [`EndError`] that says that another server answers.
pub const TARGET_CHANGED: &str = "target_changed";

/// Which Countersign this is: 16 hex digits of the hash of its ledger's public key. It stands in the record of every
/// credential at its target, so that two of them on one server never touch each other's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deployment(String);

impl Deployment {
    /// The one whose ledger is signed with the key that `verifier` (a signed note's verifier key) describes.
    pub fn of(verifier: &str) -> Self {
        let digest = hex::encode(Digest::of(verifier.as_bytes()).0);
        Self(digest.chars().take(16).collect())
    }

    /// Its 16 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A credential to be ended, or to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// Its name at the target.
    pub handle: &'a str,
    /// The scope it was minted with; null when nobody knows.
    pub scope: &'a Value,
    /// The server it was minted at, if the ledger knows it.
    pub server: Option<&'a ServerId>,
    /// When it runs out by itself, by the broker's clock, if the ledger knows it.
    pub expires: Option<Time>,
    /// The same by right clocks elsewhere, such as the target's; never too early.
    pub over: Option<Time>,
}

impl<'a> Ending<'a> {
    /// Of a credential the ledger knows nothing of but the name.
    pub fn unexplained(handle: &'a str) -> Self {
        Self {
            handle,
            scope: &Value::Null,
            server: None,
            expires: None,
            over: None,
        }
    }
}

/// Something at the target with a name like ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The name.
    pub handle: String,
    /// Whose record it carries.
    pub whose: Whose,
}

/// Who made a credential, by its record at the target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whose {
    /// This deployment.
    Ours,
    /// Somebody else, in words. It is reported and never touched.
    Anothers(String),
}

/// What to mint.
#[derive(Clone, Debug)]
pub struct MintOrder {
    /// The lease; the handle derives from it.
    pub lease: LeaseId,
    /// The request it serves, for the target's own logs.
    pub request: RequestId,
    /// The agent, for the target's own logs.
    pub agent: String,
    /// Who answers for the agent: its owner, for the target's own logs.
    pub sponsor: String,
    /// The rendered scope, already checked.
    pub scope: Value,
    /// The server to mint at.
    pub server: ServerId,
    /// When it was ordered, by the broker's clock. The two times below count from then, by whatever clock the target has.
    pub ordered: Time,
    /// How long the credential may live.
    pub ttl: Duration,
    /// The target must not commit the mint later than this; the lease is being ended by then.
    pub mint_within: Duration,
}

/// What is left of an order's times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    /// Of the credential's life. Not zero.
    pub ttl: Duration,
    /// Of the time for the mint. Not zero.
    pub mint_within: Duration,
}

impl MintOrder {
    /// What is left when the broker's clock shows `now`.
    ///
    /// # Errors
    /// Nothing is left, so nothing may be minted any more.
    pub fn left(&self, now: Time) -> Result<Left, MintError> {
        let passed = now.millis().saturating_sub(self.ordered.millis());
        let passed = Duration::from_millis(u64::try_from(passed).unwrap_or(0));
        let left = |of: Duration| of.checked_sub(passed).filter(|left| !left.is_zero());
        match (left(self.ttl), left(self.mint_within)) {
            (Some(ttl), Some(mint_within)) => Ok(Left { ttl, mint_within }),
            _ => Err(MintError::Unavailable {
                detail: "too late: the time for this mint is over".into(),
            }),
        }
    }
}

/// A minted credential. Its secret cannot be printed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Credential {
    /// A login role.
    Postgres(PostgresCredential),
    /// A session of an AWS role.
    Aws(AwsCredential),
    /// A MariaDB account.
    Mariadb(MariadbCredential),
}

/// A session of an AWS role.
#[derive(Debug)]
pub struct AwsCredential {
    /// Access key id, `ASIA…`.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: SecretString,
    /// Session token.
    pub session_token: SecretString,
    /// Account of the role.
    pub account_id: String,
    /// Region the agent works in.
    pub region: String,
    /// From then on the session policy denies everything, whatever STS says of the credential's own life.
    pub expires: Time,
}

/// A MariaDB account, ready to be delivered.
#[derive(Debug)]
pub struct MariadbCredential {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database to start in.
    pub database: String,
    /// Account name; its host part is `%`.
    pub user: String,
    /// Password.
    pub password: SecretString,
    /// Whether the connection must be encrypted and the server's certificate and name verified.
    pub verify_tls: bool,
    /// The CA certificate to trust, PEM, when it is verified.
    pub ca_pem: Option<String>,
}

/// A PostgreSQL login role, ready to be delivered.
#[derive(Debug)]
pub struct PostgresCredential {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role name.
    pub user: String,
    /// Password.
    pub password: SecretString,
    /// libpq `sslmode`.
    pub sslmode: String,
    /// The CA certificate to trust, PEM, when the mode verifies.
    pub ca_pem: Option<String>,
}

/// Why a mint did not happen, or may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The target said no; nothing was minted and asking again will not help.
    #[error("target refused: {code}: {detail}")]
    Refused {
        /// Stable code.
        code: String,
        /// For the operator's log; no secret.
        detail: String,
    },
    /// The target could not be asked; nothing was minted.
    #[error("target unavailable: {detail}")]
    Unavailable {
        /// For the operator's log; no secret.
        detail: String,
    },
    /// Another server answers than the one the request was sealed for; nothing was minted.
    #[error("another server answers: {detail}")]
    Elsewhere {
        /// For the operator's log; no secret.
        detail: String,
    },
    /// Nobody knows whether it was minted.
    #[error("mint outcome unknown: {detail}")]
    Unknown {
        /// For the operator's log; no secret.
        detail: String,
    },
}

/// Why a credential is not proven gone. Always retried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct EndError {
    /// Stable code, such as `target_unavailable`, `session_alive`, `cleanup_blocked`.
    pub code: String,
    /// For the operator's log; no secret.
    pub detail: String,
}

impl EndError {
    /// Whether it says nothing of the credential: the target could not be asked, or cannot end anything for now. Another
    /// server that answers is no such case: what it knows of the credential is cut off there each time.
    pub fn is_about_target(&self) -> bool {
        let codes = ["target_unavailable", "target_timeout", "read_only_target"];
        codes.contains(&self.code.as_str())
    }
}

/// What a guard has to deny: everything, to these sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuardContent {
    /// Handles of the leases that are cut off.
    pub cut: BTreeSet<String>,
    /// Every session issued before this instant is denied too, whoever made it: the kill switch.
    pub issued_before: Option<Time>,
}

/// A deny list at a target that cuts single sessions off. Rendered whole each time, by one writer a broker.
#[async_trait]
pub trait Guard: Send + Sync + 'static {
    /// Its name and room.
    fn room(&self) -> GuardRoom;

    /// Puts exactly `content` in force and reads it back. Safe to repeat. When somebody else wrote in between, it is
    /// an `Err` with the code `guard_contended`, and the caller renders again from the ledger's head.
    async fn publish(&self, content: &GuardContent) -> Result<(), EndError>;

    /// Whether exactly `content` is in force.
    async fn holds(&self, content: &GuardContent) -> Result<bool, EndError>;
}

/// What rehearsing a target showed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rehearsal {
    /// What the target is, such as `PostgreSQL 16.14`.
    pub target: String,
    /// What must be mended before the target can be enabled, each with the statement that mends it.
    pub problems: Vec<String>,
    /// What works but should be known.
    pub warnings: Vec<String>,
}

/// Mints and ends credentials at one target.
#[async_trait]
pub trait Issuer: Send + Sync + 'static {
    /// Checks a rendered scope, or a template whose placeholders stand as `{name}`. Pure.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    fn check_scope(&self, scope: &Value) -> Result<(), String>;

    /// The longest lifetime this kind of credential can have. Pure.
    fn longest_ttl(&self) -> Seconds;

    /// The scope in words and exactly, and how it ends. Pure.
    fn explain(&self, scope: &Value, ttl: Seconds) -> Explanation;

    /// Creates, uses and ends a probe credential for each scope; says what is missing in words a DBA can act on.
    /// An `Err` means the target could not be reached at all.
    async fn rehearse(&self, scopes: &[Value]) -> Result<Rehearsal, EndError>;

    /// Which server answers. Only one that can be written to answers `Ok`.
    async fn identify(&self) -> Result<ServerId, EndError>;

    /// Mints, at the order's server and nowhere else. On `Ok` the credential exists; on `Refused`, `Unavailable` and
    /// `Elsewhere` it certainly does not.
    async fn mint(&self, order: &MintOrder) -> Result<Credential, MintError>;

    /// The deny list that cuts its sessions off, when the target has one. The broker publishes it before it proves.
    fn guard(&self) -> Option<Arc<dyn Guard>> {
        None
    }

    /// Cuts access and removes every trace. Safe to repeat and to call for what was never minted. Touches nothing that
    /// another deployment made. When another server answers than the one it was minted at, it is an `Err` with the code
    /// [`TARGET_CHANGED`].
    async fn end(&self, ending: &Ending<'_>) -> Result<(), EndError>;

    /// Looks whether anything can still be done with the credential. `Err` when it works, when another server answers, or
    /// when nobody can tell.
    async fn prove(&self, ending: &Ending<'_>) -> Result<Proof, EndError>;

    /// Ends and proves: one after the other, or in one go where the target can.
    async fn end_and_prove(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        self.end(ending).await?;
        self.prove(ending).await
    }

    /// Ends and proves several, at most [`Issuer::batch`] of the same [`Issuer::batch_of`]; the results in their order.
    async fn end_all(&self, endings: &[Ending<'_>]) -> Vec<Result<Proof, EndError>> {
        let mut results = Vec::with_capacity(endings.len());
        for ending in endings {
            results.push(self.end_and_prove(ending).await);
        }
        results
    }

    /// The same, only for those that let themselves be ended in one go; `None` for each that has to be ended by itself, with
    /// [`Issuer::end_and_prove`]. Who fights its end keeps no other's from being known.
    async fn end_willing(&self, endings: &[Ending<'_>]) -> Vec<Option<Result<Proof, EndError>>> {
        let results = self.end_all(endings).await;
        results.into_iter().map(Some).collect()
    }

    /// How many credentials `end_all` takes at a time. Pure.
    fn batch(&self) -> usize {
        1
    }

    /// Credentials with the same number may be ended together. Pure.
    fn batch_of(&self, _handle: &str) -> u32 {
        0
    }

    /// What exists at the target now under names like ours, in any state, ghosts included.
    async fn list(&self) -> Result<Vec<Found>, EndError>;
}

/// Whether a target at `host` is reached without leaving this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
}

/// Whether `text` looks like a placeholder such as `{country}`. Wider than the names of parameters: what only looks like
/// one is no value for a database either.
fn is_placeholder(text: &str) -> bool {
    text.strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|name| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        })
}

/// The configured issuers, as the rules and the pages see them: only what is pure.
pub struct IssuerSet(pub BTreeMap<TargetName, Arc<dyn Issuer>>);

impl Targets for IssuerSet {
    fn check_scope(&self, target: &TargetName, scope: &Value) -> Result<(), String> {
        match self.0.get(target) {
            Some(issuer) => issuer.check_scope(scope),
            None => Err(format!("there is no target {target} in countersign.toml")),
        }
    }

    fn longest_ttl(&self, target: &TargetName) -> Option<Seconds> {
        self.0.get(target).map(|issuer| issuer.longest_ttl())
    }

    fn guard(&self, target: &TargetName) -> Option<GuardRoom> {
        let guard = self.0.get(target)?.guard()?;
        Some(guard.room())
    }

    fn explain(&self, target: &TargetName, scope: &Value, ttl: Seconds) -> Explanation {
        match self.0.get(target) {
            Some(issuer) => issuer.explain(scope, ttl),
            None => Explanation {
                words: vec![format!("target {target} is not configured any more")],
                exact: scope.to_string(),
                ending: Vec::new(),
                outlives: Vec::new(),
            },
        }
    }
}
