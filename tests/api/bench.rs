//! A real broker on a memory store, behind the real router, with two agents, three people and a target that
//! remembers what it did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use countersign::broker::{Broker, Loaded, Ports};
use countersign::domain::agent::AgentOrigin;
use countersign::domain::person::Evidence;
use countersign::domain::rules::Question;
use countersign::domain::{
    Action, ActionName, Agent, AgentName, AgentProof, Digest, Explanation, Party, Person, Policy,
    Reviewer, Ruling, Seconds, ServerId, Time,
};
use countersign::http::{self, AccessToken, Api, AuthError, Authenticator, Grant, GrantError};
use countersign::http::{Principal, SignedIn};
use countersign::issuers::{
    Credential, EndError, Ending, Found, Issuer, IssuerSet, MintError, MintOrder,
    PostgresCredential, Proof, Rehearsal, Whose,
};
use countersign::ledger::SigningKey;
use countersign::store::{MemoryHead, MemoryStore};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{ManualClock, SeededEntropy};

/// What every password of the target begins with.
pub const CANARY: &str = "canary-hunter2-";
pub const BOT: &str = "csk_bot";
pub const OTHER: &str = "csk_other";
pub const OPERATOR: &str = "cso_operator";
pub const LEAD: &str = "lead";
pub const ORIGIN: &str = "https://countersign.example";

/// The running broker and its router.
pub struct Bench {
    pub broker: Broker,
    pub router: Router,
    pub api: Api,
    pub clock: Arc<ManualClock>,
    pub target: Arc<Target>,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or("-").to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Everything a client can tell two answers apart by, without what differs by design.
    pub fn fingerprint(&self) -> String {
        let mut headers = self.headers.clone();
        headers.remove("x-request-id");
        let id = self.header("x-request-id");
        assert_eq!(id.len(), 32, "every answer has an id");
        format!(
            "{} {headers:?} {}",
            self.status,
            self.text.replace(id, "ID")
        )
    }
}

/// A call being put together.
pub struct Call<'a> {
    bench: &'a Bench,
    request: axum::http::request::Builder,
    body: Body,
}

impl Call<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Signed in as `person`, from our own page.
    pub fn person(self, person: &str) -> Self {
        self.header("cookie", &format!("countersign={person}"))
            .header("x-csrf-token", &format!("csrf-{person}"))
            .header("origin", ORIGIN)
            .header("sec-fetch-site", "same-origin")
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.body = Body::from(body.to_string());
        self.header("content-type", "application/json")
    }

    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    pub async fn send(self) -> Answer {
        let request = self.request.body(self.body).unwrap();
        let response = self.bench.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }
}

impl Bench {
    pub async fn start() -> Self {
        let clock = Arc::new(ManualClock::at(Time::from_millis(1_795_343_400_000)));
        let entropy = Arc::new(SeededEntropy::new(7));
        let target = Arc::new(Target::default());
        let issuer: Arc<dyn Issuer> = Arc::clone(&target) as _;
        let issuers = BTreeMap::from([("shop".parse().unwrap(), issuer)]);
        let bundle = Loaded {
            policy: Arc::new(Rulebook::new()),
            targets: Arc::new(IssuerSet(issuers.clone())),
        };
        let again = bundle.clone();
        let ports = Ports {
            store: Arc::new(MemoryStore::new()),
            known_head: Arc::new(MemoryHead::default()),
            bundle,
            bundle_bytes: b"the bundle".to_vec(),
            load_bundle: Arc::new(move |_| Ok(again.clone())),
            issuers,
            clock: Arc::clone(&clock) as _,
            entropy: Arc::clone(&entropy) as _,
            key: SigningKey::generate("countersign.example", |seed| seed.fill(7)).unwrap(),
            name: "bench".into(),
        };
        let broker = Broker::start(ports).await.unwrap();
        let people = BTreeMap::from([("corp".to_owned(), "https://login.example".to_owned())]);
        let gate = Arc::new(Gate {
            broker: broker.clone(),
        });
        let url = ORIGIN.parse().unwrap();
        let api = Api::new(broker.clone(), gate, entropy, &url, people);
        Self {
            router: http::router(api.clone(), None),
            broker,
            api,
            clock,
            target,
        }
    }

    pub fn call(&self, method: &str, path: &str) -> Call<'_> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Call {
            bench: self,
            request: Request::builder().method(method).uri(path),
            body: Body::empty(),
        }
    }

    pub fn get(&self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }

    pub fn post(&self, path: &str) -> Call<'_> {
        self.call("POST", path)
    }

    /// Asks as `token` and returns the request's JSON.
    pub async fn ask(&self, token: &str, action: &str) -> Value {
        let body = json!({"action": action, "parameters": {"country": "de"}, "reason": "a test"});
        let answer = self
            .post("/v1/requests")
            .bearer(token)
            .json(&body)
            .send()
            .await;
        assert!(answer.status.is_success(), "{answer:?}");
        answer.json()
    }

    /// Reviews as `person` and returns the answer.
    pub async fn review(&self, person: &str, request: &Value, decision: &str) -> Answer {
        let path = format!("/v1/requests/{}/reviews", text(request, "id"));
        let body = json!({"decision": decision, "digest": request["digest"]});
        self.post(&path).person(person).json(&body).send().await
    }

    /// Collects as `token`.
    pub async fn collect(&self, token: &str, request: &Value, key: &str) -> Answer {
        let path = format!("/v1/requests/{}/credential", text(request, "id"));
        self.post(&path)
            .bearer(token)
            .header("idempotency-key", key)
            .send()
            .await
    }

    /// A request with a live credential.
    pub async fn live(&self, token: &str) -> Value {
        let request = self.ask(token, "orders.count").await;
        let answer = self.collect(token, &request, "k1").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()
    }

    /// How many entries the ledger has.
    pub async fn size(&self) -> usize {
        self.broker.entries(0, 1000).await.unwrap().len()
    }
}

/// A member as text.
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no text {name} in {value}"))
}

/// Tokens and cookies by what they are called.
struct Gate {
    broker: Broker,
}

#[async_trait]
impl Authenticator for Gate {
    async fn bearer(&self, token: &str) -> Result<Principal, AuthError> {
        let agent = |name: &str| self.broker.agent(&name.parse().unwrap());
        let found = match token {
            BOT => agent("bot").map(Principal::Agent),
            OTHER => agent("other").map(Principal::Agent),
            OPERATOR => Some(Principal::Operator),
            "csk_outage" => return Err(AuthError::Unavailable),
            _ => None,
        };
        found.ok_or(AuthError::Unauthenticated)
    }

    async fn session(&self, headers: &HeaderMap) -> Result<Option<SignedIn>, AuthError> {
        let cookie = headers.get("cookie").and_then(|value| value.to_str().ok());
        let name = cookie.and_then(|cookie| cookie.strip_prefix("countersign="));
        let groups: &[&str] = match name {
            Some("lead") => &["leads"],
            Some("owner") => &["leads", "bot-team"],
            Some("stranger") => &[],
            _ => return Ok(None),
        };
        let name = name.unwrap_or_default();
        Ok(Some(SignedIn {
            reviewer: Reviewer {
                person: person(name),
                groups: groups
                    .iter()
                    .map(|group| group.parse().unwrap())
                    .collect::<BTreeSet<_>>(),
                evidence: Evidence {
                    auth_time: self.broker.now(),
                    acr: None,
                    channel: "web".into(),
                },
            },
            csrf: SecretString::from(format!("csrf-{name}")),
        }))
    }

    async fn exchange(&self, grant: Grant) -> Result<AccessToken, GrantError> {
        let (Grant::Workload { assertion } | Grant::Key { assertion }) = grant;
        match assertion.expose_secret() {
            "good.jwt" => Ok(AccessToken {
                token: SecretString::from("cst_fresh"),
                expires_in: 600,
            }),
            "outage.jwt" => Err(GrantError::Unavailable),
            _ => Err(GrantError::Invalid(
                "the assertion is not signed by a known key".into(),
            )),
        }
    }
}

fn person(subject: &str) -> Person {
    Person {
        issuer: "https://login.example".into(),
        subject: subject.into(),
    }
}

/// Three actions: routine, reviewed and forbidden.
struct Rulebook {
    actions: Vec<Action>,
    agents: Vec<Agent>,
}

impl Rulebook {
    fn new() -> Self {
        let action = |name: &str| -> Action {
            serde_json::from_value(json!({
                "name": name, "title": "Orders", "description": "Orders of one country.", "target": "shop",
                "parameters": {"country": {"type": "choice", "values": ["de", "fr"]}},
                "scope": {"roles": ["orders"], "rows": {"country": "{country}"}},
                "ttl": {"default": 600, "longest": 3600},
                "review": {"groups": {"leads": 1}, "expires": 3600, "recheck_at_collect": false},
                "collect_window": 900
            }))
            .unwrap()
        };
        let agent = |name: &str| Agent {
            name: name.parse().unwrap(),
            owner: Party::Group(format!("{name}-team").parse().unwrap()),
            proof: AgentProof::ApiKey {
                hash: Digest::of(name.as_bytes()),
            },
            origin: AgentOrigin::Bundle,
        };
        Self {
            actions: ["orders.count", "orders.export", "orders.wipe"]
                .map(action)
                .into(),
            agents: vec![agent("bot"), agent("other")],
        }
    }
}

impl Policy for Rulebook {
    fn bundle(&self) -> Digest {
        Digest::of(b"the bundle")
    }

    fn action(&self, name: &ActionName) -> Option<&Action> {
        self.actions.iter().find(|action| action.name == *name)
    }

    fn actions(&self) -> Vec<&Action> {
        self.actions.iter().collect()
    }

    fn agents(&self) -> &[Agent] {
        &self.agents
    }

    fn ask(&self, question: &Question<'_>) -> Ruling {
        let in_group = |reviewer: &Reviewer| {
            reviewer
                .groups
                .iter()
                .any(|group| group.as_str() == "leads")
        };
        let permitted = match question {
            Question::Request(ask) => ask.action.name.as_str() != "orders.wipe",
            Question::Routine(ask) => ask.action.name.as_str() == "orders.count",
            Question::Review(reviewer, _) | Question::Revoke(reviewer, _) => in_group(reviewer),
        };
        Ruling {
            permitted,
            policies: vec!["the-rule".into()],
            ..Ruling::default()
        }
    }
}

/// A target that hands out recognisable passwords, and panics or hangs on request.
#[derive(Default)]
pub struct Target {
    alive: Mutex<BTreeSet<String>>,
    pub panics: AtomicBool,
    pub unavailable: AtomicBool,
}

#[async_trait]
impl Issuer for Target {
    fn check_scope(&self, _: &Value) -> Result<(), String> {
        Ok(())
    }

    fn longest_ttl(&self) -> Seconds {
        Seconds(7200)
    }

    fn explain(&self, scope: &Value, ttl: Seconds) -> Explanation {
        assert!(
            !self.panics.load(Ordering::SeqCst),
            "{CANARY}the explanation broke"
        );
        Explanation {
            words: vec!["read orders".into()],
            exact: scope.to_string(),
            ending: vec![format!("{ttl} after it is collected")],
            outlives: Vec::new(),
        }
    }

    async fn rehearse(&self, _: &[Value]) -> Result<Rehearsal, EndError> {
        Ok(Rehearsal::default())
    }

    async fn identify(&self) -> Result<ServerId, EndError> {
        Ok("shop's only server".parse().unwrap())
    }

    async fn mint(&self, order: &MintOrder) -> Result<Credential, MintError> {
        if self.unavailable.load(Ordering::SeqCst) {
            return Err(MintError::Unavailable {
                detail: format!("{CANARY}no route to 10.1.2.3"),
            });
        }
        let handle = countersign::domain::lease::handle_of(&order.lease);
        self.alive.lock().unwrap().insert(handle.clone());
        Ok(Credential::Postgres(PostgresCredential {
            host: "db.example".into(),
            port: 5432,
            database: "shop".into(),
            password: SecretString::from(format!("{CANARY}{handle}")),
            user: handle,
            sslmode: "verify-full".into(),
            ca_pem: None,
        }))
    }

    async fn end(&self, ending: &Ending<'_>) -> Result<(), EndError> {
        self.alive.lock().unwrap().remove(ending.handle);
        Ok(())
    }

    async fn prove(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        if self.alive.lock().unwrap().contains(ending.handle) {
            return Err(EndError {
                code: "role_alive".into(),
                detail: "it is there".into(),
            });
        }
        Ok(Proof::gone(["no_role"]))
    }

    async fn list(&self) -> Result<Vec<Found>, EndError> {
        let alive = self.alive.lock().unwrap();
        let found = alive.iter().map(|handle| Found {
            handle: handle.clone(),
            whose: Whose::Ours,
        });
        Ok(found.collect())
    }
}

/// A name that parses and names nobody.
pub fn nobody() -> AgentName {
    "nobody".parse().unwrap()
}
