//! What these tests share: a store of remembered things, signers, a server of keys, a directory of agents.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::config::WorkloadConfig;
use countersign::domain::agent::AgentOrigin;
use countersign::domain::{Agent, AgentName, AgentProof, Digest, Party, Time};
use countersign::identity::{AgentDirectory, Agents, AuthError, Grant, Ports};
use countersign::ledger::SigningKey;
use countersign::store::{
    Batch, Blob, Head, Query, Shelf, Snapshot, Store, StoreError, StoredEntry,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

use crate::support::{ManualClock, SeededEntropy};

pub const BROKER: &str = "https://broker.example";

/// Remembers in memory, and nothing else; fails when told to.
#[derive(Default)]
pub struct Remembered {
    pub kept: Mutex<HashMap<String, (Vec<u8>, Time)>>,
    pub broken: AtomicBool,
}

impl Remembered {
    fn check(&self) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Damaged("the test broke it".into()));
        }
        Ok(())
    }

    /// Everything that is at rest, as text.
    pub fn dump(&self) -> String {
        let kept = self.kept.lock().unwrap();
        kept.iter()
            .map(|(key, (value, _))| format!("{key} {}\n", String::from_utf8_lossy(value)))
            .collect()
    }
}

#[async_trait]
impl Store for Remembered {
    async fn remember(
        &self,
        key: &str,
        value: &[u8],
        expires: Time,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.check()?;
        let mut kept = self.kept.lock().unwrap();
        if kept.get(key).is_some_and(|(_, until)| now < *until) {
            return Ok(false);
        }
        kept.insert(key.into(), (value.into(), expires));
        Ok(true)
    }

    async fn recall(&self, key: &str, now: Time) -> Result<Option<Vec<u8>>, StoreError> {
        self.check()?;
        let kept = self.kept.lock().unwrap();
        let found = kept.get(key).filter(|(_, until)| now < *until);
        Ok(found.map(|(value, _)| value.clone()))
    }

    async fn take(&self, key: &str, now: Time) -> Result<Option<Vec<u8>>, StoreError> {
        self.check()?;
        let taken = self.kept.lock().unwrap().remove(key);
        Ok(taken
            .filter(|(_, until)| now < *until)
            .map(|(value, _)| value))
    }

    async fn head(&self) -> Result<Head, StoreError> {
        panic!("identity only remembers")
    }
    async fn read(&self, _: u64, _: usize) -> Result<Vec<StoredEntry>, StoreError> {
        panic!("identity only remembers")
    }
    async fn find(&self, _: &Query) -> Result<Vec<StoredEntry>, StoreError> {
        panic!("identity only remembers")
    }
    async fn append(&self, _: Batch) -> Result<(), StoreError> {
        panic!("identity only remembers")
    }
    async fn blob(&self, _: &Digest) -> Result<Option<Blob>, StoreError> {
        panic!("identity only remembers")
    }
    async fn erase_blob(&self, _: &Digest) -> Result<(), StoreError> {
        panic!("identity only remembers")
    }
    async fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        panic!("identity only remembers")
    }
    async fn put_snapshot(&self, _: Snapshot) -> Result<(), StoreError> {
        panic!("identity only remembers")
    }
    async fn sweep_remembered(&self, _: Time) -> Result<(), StoreError> {
        panic!("identity only remembers")
    }
    async fn changed(&self) {}
}

/// Agents that can be added and disabled.
#[derive(Default)]
pub struct Directory(pub Mutex<Vec<Agent>>);

impl AgentDirectory for Directory {
    fn named(&self, name: &AgentName) -> Option<Agent> {
        self.served(&|agent| agent.name == *name).pop()
    }

    fn with_key(&self, wanted: &Digest) -> Vec<Agent> {
        self.served(&|agent| matches!(&agent.proof, AgentProof::ApiKey { hash } if hash == wanted))
    }

    fn of_issuer(&self, name: &str, wanted: &dyn Fn(&Agent) -> bool) -> Vec<Agent> {
        let theirs = |agent: &Agent| matches!(&agent.proof, AgentProof::Workload { issuer, .. } if issuer == name);
        self.served(&|agent| theirs(agent) && wanted(agent))
    }
}

impl Directory {
    fn served(&self, wanted: &dyn Fn(&Agent) -> bool) -> Vec<Agent> {
        let agents = self.0.lock().unwrap();
        let wanted = agents.iter().filter(|agent| wanted(agent));
        wanted.cloned().collect()
    }
}

/// A private key with its algorithm and id.
pub enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub fn ed(seed: u8) -> Self {
        Self::Ed(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Signer::Rsa(_) => "RS256",
            Signer::Ec(_) => "ES256",
            Signer::Ed(_) => "EdDSA",
        }
    }

    /// The public key, with `alg` and `use` left out.
    pub fn bare_jwk(&self, kid: &str) -> Value {
        match self {
            Signer::Rsa(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({"kty": "RSA", "kid": kid, "n": b64(public.n), "e": b64(public.e)})
            }
            Signer::Ec(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (b64(&point[1..33]), b64(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y})
            }
            Signer::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(key.public_key())})
            }
        }
    }

    pub fn jwk(&self, kid: &str) -> Value {
        let mut jwk = self.bare_jwk(kid);
        jwk["alg"] = self.algorithm().into();
        jwk["use"] = "sig".into();
        jwk
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match self {
            Signer::Rsa(key) => {
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut out)
                    .unwrap();
                out
            }
            Signer::Ec(key) => key
                .sign(&random, message.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            Signer::Ed(key) => key.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", b64(signature))
    }
}

/// How the server of keys behaves.
#[derive(Clone, Debug, PartialEq)]
pub enum Mood {
    Serves,
    Fails,
    Redirects,
    Huge,
}

/// A server of keys and discovery documents on loopback.
pub struct KeyServer {
    pub url: String,
    pub keys: Mutex<Vec<Value>>,
    pub mood: Mutex<Mood>,
    pub hits: AtomicUsize,
    /// What the discovery document calls itself.
    pub calls_itself: Mutex<String>,
}

impl KeyServer {
    pub async fn start(keys: Vec<Value>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::new(Self {
            calls_itself: Mutex::new(url.clone()),
            url,
            keys: Mutex::new(keys),
            mood: Mutex::new(Mood::Serves),
            hits: AtomicUsize::new(0),
        });
        let router = Router::new()
            .route("/jwks", get(serve_keys))
            .route("/.well-known/openid-configuration", get(serve_discovery))
            .route("/elsewhere", get(serve_elsewhere))
            .with_state(Arc::clone(&server));
        in_background(async move { axum::serve(listener, router).await.unwrap() });
        server
    }

    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    pub fn turns(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

/// Runs something until the test's runtime ends.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's servers end with its runtime"
)]
pub fn in_background(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}

async fn serve_keys(State(server): State<Arc<KeyServer>>) -> Response {
    server.hits.fetch_add(1, Ordering::SeqCst);
    let mood = server.mood.lock().unwrap().clone();
    match mood {
        Mood::Serves => {
            let keys = server.keys.lock().unwrap().clone();
            axum::Json(json!({ "keys": keys })).into_response()
        }
        Mood::Fails => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Redirects => Redirect::temporary("/elsewhere").into_response(),
        Mood::Huge => {
            let keys = server.keys.lock().unwrap().clone();
            let padding = "x".repeat(600 * 1024);
            axum::Json(json!({ "keys": keys, "padding": padding })).into_response()
        }
    }
}

async fn serve_elsewhere(State(server): State<Arc<KeyServer>>) -> Response {
    let keys = server.keys.lock().unwrap().clone();
    axum::Json(json!({ "keys": keys })).into_response()
}

async fn serve_discovery(State(server): State<Arc<KeyServer>>) -> Response {
    let issuer = server.calls_itself.lock().unwrap().clone();
    axum::Json(json!({"issuer": issuer, "jwks_uri": format!("{}/jwks", server.url)}))
        .into_response()
}

/// Everything agents need, with handles on all of it.
pub struct World {
    pub clock: Arc<ManualClock>,
    pub remembered: Arc<Remembered>,
    pub directory: Arc<Directory>,
    pub ports: Ports,
}

impl World {
    pub fn new() -> Self {
        Self::at(Time::from_millis(1_795_343_400_000))
    }

    pub fn at(now: Time) -> Self {
        let clock = Arc::new(ManualClock::at(now));
        let remembered = Arc::new(Remembered::default());
        let key = SigningKey::generate("countersign.example", |seed| seed.fill(7)).unwrap();
        let ports = Ports {
            shelf: Shelf::new(remembered.clone(), &key),
            clock: clock.clone(),
            entropy: Arc::new(SeededEntropy::new(7)),
        };
        Self {
            clock,
            remembered,
            directory: Arc::default(),
            ports,
        }
    }

    pub fn now(&self) -> i64 {
        self.ports.clock.utc().unix_seconds()
    }

    pub fn enrol(&self, name: &str, proof: AgentProof) {
        self.directory.0.lock().unwrap().push(Agent {
            name: name.parse().unwrap(),
            owner: Party::Group("owners".parse().unwrap()),
            proof,
            origin: AgentOrigin::Operator,
        });
    }

    pub fn disable(&self, name: &str) {
        let mut agents = self.directory.0.lock().unwrap();
        agents.retain(|agent| agent.name.as_str() != name);
    }

    pub fn agents(&self, workloads: &[(&str, WorkloadConfig)]) -> Agents {
        self.try_agents(workloads)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn try_agents(&self, workloads: &[(&str, WorkloadConfig)]) -> Result<Agents, String> {
        let workloads: BTreeMap<_, _> = workloads
            .iter()
            .map(|(name, config)| ((*name).to_owned(), config.clone()))
            .collect();
        let url: Url = BROKER.parse().unwrap();
        Agents::new(
            self.ports.clone(),
            self.directory.clone(),
            &workloads,
            &url,
            None,
        )
        .map_err(|error| error.to_string())
    }

    /// Claims of a token that is good now.
    pub fn claims(&self, issuer: &str) -> Value {
        json!({
            "iss": issuer, "sub": "repo:org/app:ref:refs/heads/main", "aud": BROKER,
            "iat": self.now(), "exp": self.now() + 300, "jti": "one", "repository_id": "42",
        })
    }
}

/// The configuration of an issuer whose keys `server` serves.
pub fn workload(server: &KeyServer, issuer: &str, algorithm: &str) -> WorkloadConfig {
    WorkloadConfig {
        issuer: issuer.into(),
        jwks_url: Some(format!("{}/jwks", server.url).parse().unwrap()),
        audience: None,
        algorithm: algorithm.into(),
        longest_token_seconds: 3600,
        single_use: false,
        private_network: false,
    }
}

pub fn matching(issuer: &str, claims: &[(&str, &str)]) -> AgentProof {
    AgentProof::Workload {
        issuer: issuer.into(),
        claims: claims
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

/// Exchanges a workload token; the agent's name, or why not.
pub async fn present(agents: &Agents, token: &str) -> Result<String, AuthError> {
    let grant = Grant::WorkloadToken(token.to_owned().into());
    agents
        .exchange(grant)
        .await
        .map(|given| given.agent.to_string())
}

/// Exchanges an agent's own assertion for the text of an access token.
pub async fn assert_self(agents: &Agents, assertion: &str) -> Result<String, AuthError> {
    let grant = Grant::ClientAssertion(assertion.to_owned().into());
    let given = agents.exchange(grant).await?;
    Ok(given.token.expose_secret().to_owned())
}
