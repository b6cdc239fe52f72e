//! A shop whose agents ask: a real broker on a store in memory, a target that always obliges, and the pages over both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request as Call, StatusCode, header};
use countersign::broker::{Broker, Loaded, NewRequest, Ports};
use countersign::domain::{
    Digest, Explanation, ParameterKind, Request, RequestId, Seconds, ServerId, TargetName, Targets,
    Time,
};
use countersign::issuers::{
    Credential, EndError, Ending, Found, Issuer, MintError, MintOrder, PostgresCredential, Proof,
    Rehearsal,
};
use countersign::ledger::SigningKey;
use countersign::store::{MemoryHead, MemoryStore};
use countersign::web::{Pages, router};
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use super::people::People;
use crate::support::rules::{AnyTargets, ShopPolicy};
use crate::support::{ManualClock, SeededEntropy};

/// Where the pages of tests without a network live.
pub const ORIGIN: &str = "https://sign.example";

/// The shop.
pub struct Shop {
    pub broker: Broker,
    pub people: Arc<People>,
    pub clock: Arc<ManualClock>,
    keys: AtomicU64,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Page {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Page {
    /// A header's text; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// Whether all of these texts are on the page, in this order.
    pub fn says(&self, texts: &[&str]) {
        let mut rest = self.body.as_str();
        for text in texts {
            let at = rest.find(text);
            let at = at.unwrap_or_else(|| panic!("{text:?} is missing in\n{rest}"));
            rest = &rest[at + text.len()..];
        }
    }
}

impl Shop {
    pub async fn open() -> Self {
        let clock = Arc::new(ManualClock::at(Time::from_millis(1_795_343_400_000)));
        let policy = Arc::new(catalog());
        let bundle = Loaded {
            policy: policy.clone(),
            targets: Arc::new(ShopTargets),
        };
        let loaded = bundle.clone();
        let seed = Arc::new(SeededEntropy::new(7));
        let key = SigningKey::generate("sign.example", |bytes| bytes.fill(9)).unwrap();
        let target: Arc<dyn Issuer> = Arc::new(Obliging);
        let ports = Ports {
            store: Arc::new(MemoryStore::new()),
            known_head: Arc::new(MemoryHead::default()),
            bundle_bytes: policy.bytes(),
            bundle,
            load_bundle: Arc::new(move |_| Ok(loaded.clone())),
            issuers: BTreeMap::from([("shop".parse().unwrap(), target)]),
            clock: clock.clone(),
            entropy: seed,
            key,
            name: "broker-1".into(),
        };
        Self {
            broker: Broker::start(ports).await.unwrap(),
            people: Arc::default(),
            clock,
            keys: AtomicU64::new(0),
        }
    }

    /// The pages, as they are served at `origin`.
    pub fn pages(&self, origin: &str) -> Router {
        let pages = Pages::new(
            self.broker.clone(),
            self.people.clone(),
            &origin.parse().unwrap(),
        );
        router(pages)
    }

    /// `agent` asks for `action`; `context` is what it says about it.
    pub async fn ask(
        &self,
        agent: &str,
        action: &str,
        parameters: Value,
        context: Value,
    ) -> Request {
        let ask = NewRequest {
            on_behalf_of: None,
            action: action.parse().unwrap(),
            parameters: parameters.as_object().cloned().unwrap(),
            ttl: Some(Seconds(600)),
            context: Some(context).filter(|context| !context.is_null()),
            idempotency_key: None,
            fingerprint: Digest::of(b"body"),
        };
        let agent = agent.parse().unwrap();
        self.broker.submit(&agent, ask).await.unwrap().0
    }

    /// The usual request: reporter, of ana, wants to export German customers.
    pub async fn ask_for_customers(&self) -> Request {
        let context = json!({
            "reason": "Quarterly churn report for the Berlin team. Only counts and sign-up dates leave the export.",
            "task": "CRM-2291",
            "model": "writer-4",
        });
        self.ask(
            "reporter",
            "customers.export",
            json!({"country": "de"}),
            context,
        )
        .await
    }

    /// The agent collects; its credential lives.
    pub async fn collect(&self, request: &Request) {
        let key = self.keys.fetch_add(1, Ordering::SeqCst).to_string();
        let agent = &request.sealed().agent;
        self.broker
            .collect(agent, request.id(), &key)
            .await
            .unwrap();
    }

    /// The agent is done, and the credential is proven gone.
    pub async fn finish(&self, request: &Request) {
        let report = json!({"outcome": "succeeded", "exit_code": 0});
        let agent = &request.sealed().agent;
        let report = report.as_object().cloned().unwrap();
        self.broker
            .finish(agent, request.id(), report)
            .await
            .unwrap();
        self.settled(request.id()).await;
    }

    /// Waits until the lease of a request is proven gone.
    pub async fn settled(&self, id: &RequestId) -> Request {
        let waited = self
            .broker
            .wait(id, "ending", Duration::from_secs(20))
            .await;
        let request = waited.unwrap().unwrap();
        assert_eq!(request.state.word(), "closed");
        request
    }

    /// The request as it now is.
    pub async fn now(&self, request: &Request) -> Request {
        self.broker.request(request.id()).await.unwrap().unwrap()
    }

    /// One call, with exactly these headers.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Page {
        let mut call = Call::builder().method(method).uri(path);
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        let call = call.body(Body::from(body.to_owned())).unwrap();
        let response = self.pages(ORIGIN).oneshot(call).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        Page {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// A page, for whoever holds this cookie.
    pub async fn get(&self, cookie: &str, path: &str) -> Page {
        self.call(Method::GET, path, &[("cookie", cookie)], "")
            .await
    }

    /// A form, sent as a browser does from a page of ours.
    pub async fn post(&self, cookie: &str, path: &str, fields: &[(&str, &str)]) -> Page {
        let headers = [
            ("cookie", cookie),
            ("origin", ORIGIN),
            ("sec-fetch-site", "same-origin"),
            (
                header::CONTENT_TYPE.as_str(),
                "application/x-www-form-urlencoded",
            ),
        ];
        self.call(Method::POST, path, &headers, &form(fields)).await
    }

    /// The review form of a request's page, filled in.
    pub async fn review(
        &self,
        cookie: &str,
        request: &Request,
        decision: &str,
        comment: &str,
    ) -> Page {
        let fields = [
            ("csrf", People::token(cookie)),
            ("digest", request.submission.digest.to_string()),
            ("decision", decision.into()),
            ("comment", comment.into()),
        ];
        let fields = fields
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let path = format!("/requests/{}/review", request.id());
        self.post(cookie, &path, &fields).await
    }
}

/// Fields as a form sends them.
pub fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

/// The sample catalog, with the words a real one would have.
fn catalog() -> ShopPolicy {
    let mut policy = ShopPolicy::new();
    for action in &mut policy.actions {
        let (title, description) = match action.name.as_str() {
            "customers.export" => (
                "Export customers of one country",
                "Reads name, e-mail and sign-up date of every customer in one country. For reports; never for mailings.",
            ),
            "schema.migrate" => (
                "Change the orders schema",
                "Runs a reviewed migration against the orders tables, outside business hours.",
            ),
            _ => (
                "Read order totals",
                "Reads daily order totals. Holds no personal data.",
            ),
        };
        action.title = title.into();
        action.description = description.into();
        if action.name.as_str() == "customers.export" {
            action.review.groups = BTreeMap::from([("support-leads".parse().unwrap(), 2)]);
        }
        if action.name.as_str() == "schema.migrate" {
            let kind = ParameterKind::Text {
                pattern: ".*".into(),
                max_length: 200,
            };
            action.parameters.insert("migration".into(), kind);
        }
    }
    policy
}

/// The target, as reviewers see it.
struct ShopTargets;

impl Targets for ShopTargets {
    fn check_scope(&self, target: &TargetName, scope: &Value) -> Result<(), String> {
        AnyTargets {
            longest: Seconds(1800),
            room: None,
        }
        .check_scope(target, scope)
    }

    fn longest_ttl(&self, _: &TargetName) -> Option<Seconds> {
        Some(Seconds(1800))
    }

    fn explain(&self, _: &TargetName, scope: &Value, ttl: Seconds) -> Explanation {
        let role = scope["roles"][0].as_str().unwrap_or_default().to_owned();
        let mut words = vec![format!(
            "acts with the rights of role {role} in database shop"
        )];
        let mut rows = String::new();
        for (key, value) in scope["rows"].as_object().unwrap_or(&Map::new()) {
            let value = value.as_str().unwrap_or_default();
            words.push(format!(
                "only rows where {key} = {value}, in tables whose policies read it"
            ));
            rows = format!(
                "INSERT INTO countersign.lease_scope (role_name, key, value)\n  VALUES ('jit_…', '{key}', '{value}');\n"
            );
        }
        words.push(
            "at most 2 connections at a time; statements stop after 30s unless it asks for longer"
                .into(),
        );
        if role == "schema_migrate" {
            // What a migration does cannot be told from its role.
            words.clear();
        }
        Explanation {
            words,
            exact: format!(
                "CREATE ROLE \"jit_…\" WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION\n  NOBYPASSRLS INHERIT PASSWORD 'SCRAM-SHA-256$4096:…'\n  VALID UNTIL '(end of the lease + 60 s)' CONNECTION LIMIT 2;\nALTER ROLE \"jit_…\" SET statement_timeout = 30000;\n{rows}GRANT \"{role}\" TO \"jit_…\" WITH ADMIN FALSE, INHERIT TRUE, SET FALSE;"
            ),
            ending: vec![
                format!("after {ttl}, or earlier when finished or revoked: login is cut, open sessions are killed, the role is dropped"),
                "new logins fail 60 s after the end even if the broker is gone; sessions already open need the broker".into(),
                "proven by looking again: no role, no session, no prepared transaction".into(),
            ],
            outlives: Vec::new(),
        }
    }
}

/// A target that does what it is asked.
struct Obliging;

#[async_trait]
impl Issuer for Obliging {
    fn check_scope(&self, _: &Value) -> Result<(), String> {
        Ok(())
    }

    fn longest_ttl(&self) -> Seconds {
        Seconds(1800)
    }

    fn explain(&self, scope: &Value, ttl: Seconds) -> Explanation {
        ShopTargets.explain(&"shop".parse().unwrap(), scope, ttl)
    }

    async fn rehearse(&self, _: &[Value]) -> Result<Rehearsal, EndError> {
        Ok(Rehearsal::default())
    }

    async fn identify(&self) -> Result<ServerId, EndError> {
        Ok("shop's only server".parse().unwrap())
    }

    async fn mint(&self, _: &MintOrder) -> Result<Credential, MintError> {
        Ok(Credential::Postgres(PostgresCredential {
            host: "127.0.0.1".into(),
            port: 5432,
            database: "shop".into(),
            user: "jit_x".into(),
            password: SECRET.to_owned().into(),
            sslmode: "verify-full".into(),
            ca_pem: None,
        }))
    }

    async fn end(&self, _: &Ending<'_>) -> Result<(), EndError> {
        Ok(())
    }

    async fn prove(&self, _: &Ending<'_>) -> Result<Proof, EndError> {
        Ok(Proof::gone([
            "no_role",
            "no_session",
            "no_prepared_transaction",
        ]))
    }

    async fn list(&self) -> Result<Vec<Found>, EndError> {
        Ok(Vec::new())
    }
}

/// What no page may ever show.
pub const SECRET: &str = "minted-and-never-shown";
