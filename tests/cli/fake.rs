//! A broker that does as a test tells it, on a real socket, speaking the wire contract.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

pub(crate) const REQUEST: &str = "req_01jd0000000000000000000001";
pub(crate) const LEASE: &str = "lse_01jd0000000000000000000002";
pub(crate) const PASSWORD: &str = "pa:ss\\word-very-secret";
pub(crate) const SECRET_KEY: &str = "aws/secret+key-very-secret";
pub(crate) const SESSION_TOKEN: &str = "aws-session-token-very-secret";
pub(crate) const TOKEN: &str = "csk_the-agents-own-secret";

/// One call as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) what: String,
    pub(crate) key: Option<String>,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

impl Call {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What the broker knows and is told to do.
pub(crate) struct Script {
    pub(crate) request: Map<String, Value>,
    pub(crate) calls: Vec<Call>,
    /// Answers of `collect` that get lost on the way.
    pub(crate) lose_answers: u32,
    /// The state in which a request starts anew that is submitted after it was over.
    pub(crate) starts_anew: Option<&'static str>,
    /// Whether the credential is AWS's.
    pub(crate) aws: bool,
    /// A credential to hand out instead.
    pub(crate) credential: Option<Value>,
    /// How long the lease lives, in milliseconds from now.
    pub(crate) lease_ms: i64,
    /// Whether access takes longer to end than anybody waits.
    pub(crate) slow_end: bool,
    /// The signed checkpoint, as text.
    pub(crate) checkpoint: Option<String>,
    /// Canned answers by `METHOD path`.
    pub(crate) canned: BTreeMap<String, (u16, Value)>,
}

pub(crate) struct Fake {
    pub(crate) address: String,
    pub(crate) directory: tempfile::TempDir,
    shared: Arc<(Mutex<Script>, Notify)>,
}

impl Fake {
    /// Starts one; submitted requests are in `state`.
    #[expect(
        clippy::disallowed_methods,
        reason = "the server lives as long as the test's runtime"
    )]
    pub(crate) async fn start(state: &str) -> Self {
        let request = json!({
            "id": REQUEST, "state": state, "outcome": null, "agent": "billing", "action": "orders.report",
            "parameters": {"days": 7}, "ttl_seconds": 600, "target": "orders-db", "scope": {}, "digest": "ab12cd34ef56ab12cd34",
            "on_behalf_of": null, "verdict": {"answer": "review", "policies": ["review-exports"], "bundle": "00"}, "reviews": [],
            "needs": {"dba": 1}, "submitted_at": "2026-11-22T10:30:00.000Z", "pending_until": null, "collect_until": null,
            "lease": null, "review_url": "https://broker.example/requests/req_01jd0000000000000000000001",
            "explanation": {"words": ["read public.orders"], "exact": "GRANT SELECT", "ending": []}, "a_member_to_come": 1,
        });
        let script = Script {
            request: request.as_object().unwrap().clone(),
            calls: Vec::new(),
            lose_answers: 0,
            starts_anew: None,
            aws: false,
            credential: None,
            lease_ms: 600_000,
            slow_end: false,
            checkpoint: None,
            canned: BTreeMap::new(),
        };
        let shared = Arc::new((Mutex::new(script), Notify::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let directory = tempfile::tempdir().unwrap();
        for name in ["work", "run"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        std::fs::write(directory.path().join("token"), TOKEN).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(
            directory.path().join("token"),
            PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        Self {
            address,
            directory,
            shared,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn tell(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.0.lock().unwrap());
        self.shared.1.notify_waiters();
    }

    pub(crate) fn set(&self, member: &str, value: impl Into<Value>) {
        self.tell(|script| {
            script.request.insert(member.into(), value.into());
        });
    }

    pub(crate) fn can(&self, call: &str, status: u16, body: Value) {
        self.tell(|script| {
            script.canned.insert(call.into(), (status, body));
        });
    }

    pub(crate) fn calls(&self, what: &str) -> Vec<Call> {
        let script = self.shared.0.lock().unwrap();
        script
            .calls
            .iter()
            .filter(|call| call.what == what)
            .cloned()
            .collect()
    }

    /// Waits until a call has arrived.
    pub(crate) async fn until_called(&self, what: &str) {
        self.until_calls(what, 1).await;
    }

    /// Waits until a call has arrived so often.
    pub(crate) async fn until_calls(&self, what: &str, times: usize) {
        let arrived = async {
            loop {
                let notified = self.shared.1.notified();
                if self.calls(what).len() >= times {
                    return;
                }
                notified.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), arrived)
            .await
            .unwrap_or_else(|_| panic!("no call {what}"));
    }
}

fn reply(status: u16, body: &Value) -> Response {
    let kind = if status >= 400 {
        "application/problem+json"
    } else {
        "application/json"
    };
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(Body::from(body.to_string()))
        .unwrap()
}

type Shared = Arc<(Mutex<Script>, Notify)>;

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let what = format!("{} {}", parts.method, parts.uri.path());
    let wait = header("prefer").and_then(|prefer| prefer.strip_prefix("wait=")?.parse().ok());
    let call = Call {
        what: what.clone(),
        key: header("idempotency-key"),
        authorization: header("authorization").unwrap_or_default(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    shared.0.lock().unwrap().calls.push(call.clone());
    shared.1.notify_waiters();
    if what == format!("GET /v1/requests/{REQUEST}") {
        wait_while(&shared, "pending", wait.unwrap_or(0)).await;
    } else if what == format!("GET /v1/leases/{LEASE}") {
        wait_while(&shared, "live", wait.unwrap_or(0)).await;
    }
    let response = act(&mut shared.0.lock().unwrap(), &call);
    shared.1.notify_waiters();
    response
}

async fn wait_while(shared: &Shared, state: &str, seconds: u64) {
    let changed = async {
        loop {
            let notified = shared.1.notified();
            if shared.0.lock().unwrap().request["state"] != state {
                return;
            }
            notified.await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(seconds), changed).await;
}

fn act(script: &mut Script, call: &Call) -> Response {
    if let (true, Some(text)) = (call.what == "GET /v1/ledger/checkpoint", &script.checkpoint) {
        return Response::new(Body::from(text.clone()));
    }
    if call.what == "GET /v1/ledger/key" {
        return Response::new(Body::from("broker.example/log+00000000+KEY=\n"));
    }
    if let Some((status, body)) = script.canned.get(&call.what) {
        return reply(*status, body);
    }
    let path = call.what.replace(REQUEST, "REQ").replace(LEASE, "LSE");
    match path.as_str() {
        "GET /v1/actions" => reply(200, &actions()),
        "POST /v1/requests" => submit(script, call),
        "GET /v1/requests" => reply(200, &json!({"data": [script.request], "next_cursor": null})),
        "GET /v1/requests/REQ" => reply(200, &json!(script.request)),
        "GET /v1/leases/LSE" => reply(200, &json!({"id": LEASE, "state": script.request["state"]})),
        // What an AWS SDK asks here once it has a credential.
        "POST /" => Response::new(Body::from(CALLER_IDENTITY)),
        "POST /v1/requests/REQ/withdraw" => close(script, "withdrawn"),
        "POST /v1/requests/REQ/finish" => close(script, "completed"),
        "POST /v1/leases/LSE/acknowledge" => reply(200, &json!(script.request)),
        "POST /v1/leases/LSE/revoke" => close(script, "revoked"),
        "POST /v1/requests/REQ/credential" => collect(script),
        _ => reply(
            404,
            &json!({"status": 404, "code": "not_found", "title": "not found", "detail": "there is nothing here",
            "next": "check the id", "request_id": "call-7", "retryable": false}),
        ),
    }
}

/// The same request serves every submission.
fn submit(script: &mut Script, call: &Call) -> Response {
    let mut earlier = script
        .calls
        .iter()
        .filter(|earlier| earlier.what == call.what);
    if earlier.any(|earlier| earlier.key == call.key && earlier.body != call.body) {
        return reply(
            422,
            &json!({"status": 422, "code": "idempotency_mismatch", "title": "another body"}),
        );
    }
    if let ("closed", Some(state)) = (
        script.request["state"].as_str().unwrap(),
        script.starts_anew,
    ) {
        script.request.insert("state".into(), json!(state));
        script.request.insert("outcome".into(), Value::Null);
        script.request.insert("lease".into(), Value::Null);
    }
    reply(201, &json!(script.request))
}

fn close(script: &mut Script, outcome: &str) -> Response {
    let state = if script.slow_end { "ending" } else { "closed" };
    script.request.insert("state".into(), json!(state));
    if !script.slow_end {
        script.request.insert("outcome".into(), json!(outcome));
    }
    reply(200, &json!(script.request))
}

fn collect(script: &mut Script) -> Response {
    let expires = jiff::Timestamp::now_in(script.lease_ms);
    let lease = json!({"id": LEASE, "state": "live", "expires_at": expires});
    script.request.insert("state".into(), json!("live"));
    script.request.insert("lease".into(), lease.clone());
    if script.lose_answers > 0 {
        script.lose_answers -= 1;
        // The head and half a body leave; then the connection breaks.
        let half = futures::stream::iter([
            Ok(Bytes::from_static(b"{\"request\":")),
            Err(std::io::Error::other("cut")),
        ]);
        return Response::builder()
            .status(200)
            .body(Body::from_stream(half))
            .unwrap();
    }
    let credential = if let Some(credential) = &script.credential {
        credential.clone()
    } else if script.aws {
        json!({"kind": "aws", "access_key_id": "ASIAFAKEFAKEFAKE0001", "secret_access_key": SECRET_KEY,
            "session_token": SESSION_TOKEN, "account_id": "123456789012", "region": "eu-central-1", "expires_at": expires})
    } else {
        json!({"kind": "postgres", "host": "db.internal", "port": 5433, "database": "orders", "user": "jit_01jd",
            "password": PASSWORD, "sslmode": "verify-full", "ca_pem": "-----BEGIN CERTIFICATE-----\n"})
    };
    reply(
        200,
        &json!({"request": REQUEST, "lease": lease, "credential": credential}),
    )
}

const CALLER_IDENTITY: &str = r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/reports/lse</Arn><UserId>AROA:lse</UserId>
<Account>123456789012</Account></GetCallerIdentityResult>
<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>"#;

fn actions() -> Value {
    json!({"data": [
        {"name": "orders.report", "title": "Order report", "description": "Reads orders", "target": "orders-db",
         "parameters": {"days": {"type": "integer", "min": 1, "max": 31, "hint": "a whole number from 1 to 31"}},
         "ttl": {"default_seconds": 600, "longest_seconds": 3600}, "review": {"groups": {"dba": 1}}},
        {"name": "orders.refund", "title": "Refund", "description": "", "target": "orders-db", "parameters": {},
         "ttl": {"default_seconds": 60, "longest_seconds": 60}, "review": {"groups": {}}},
    ], "next_cursor": null})
}

/// Some time from now, as RFC 3339.
trait FromNow {
    fn now_in(millis: i64) -> String;
}

impl FromNow for jiff::Timestamp {
    fn now_in(millis: i64) -> String {
        use countersign::system::{Clock, SystemClock};
        countersign::domain::Time::from_millis(SystemClock::start().now().millis() + millis)
            .to_string()
    }
}
