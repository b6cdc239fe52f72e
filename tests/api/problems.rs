//! Every bad input gets a problem document that says what is wrong, where, and what to do.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::bench::{Answer, BOT, Bench, CANARY, LEAD, OPERATOR, text};

const GOLDEN: &str = "tests/api/problems.golden.json";

/// The document without what differs from run to run.
fn golden(answer: &Answer) -> Value {
    assert_eq!(
        answer.header("content-type"),
        "application/problem+json",
        "{answer:?}"
    );
    let mut document = answer.json();
    assert_eq!(document["request_id"], answer.header("x-request-id"));
    assert_eq!(document["status"], answer.status.as_u16());
    document["request_id"] = "…".into();
    document
}

fn same_as_committed(found: &Value) {
    #[expect(clippy::disallowed_methods, reason = "UPDATE=1 rewrites golden files")]
    let update = std::env::var("UPDATE").is_ok();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    let found = serde_json::to_string_pretty(found).unwrap() + "\n";
    if update {
        std::fs::write(&path, &found).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        found, committed,
        "run with UPDATE=1 and look at the difference"
    );
}

fn ask(more: &Value) -> Value {
    let mut body = json!({"action": "orders.export", "parameters": {"country": "de"}});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// Bad bodies of `POST /v1/requests`.
fn bad_asks() -> Vec<(&'static str, Value)> {
    let long = "x".repeat(2001);
    let many: serde_json::Map<_, _> = (0..17).map(|n| (format!("k{n}"), json!("v"))).collect();
    let wide: serde_json::Map<_, _> = (0..9)
        .map(|n| (format!("k{n}"), json!("x".repeat(1999))))
        .collect();
    vec![
        ("no action", json!({})),
        ("not an object", json!([1])),
        ("unknown field", ask(&json!({"aproved": true}))),
        ("action of wrong type", ask(&json!({"action": 7}))),
        (
            "action that is no name",
            ask(&json!({"action": "Orders Export"})),
        ),
        (
            "action that is not in the catalog",
            ask(&json!({"action": "orders.exprot"})),
        ),
        (
            "parameters of wrong type",
            ask(&json!({"parameters": ["de"]})),
        ),
        (
            "parameters that do not fit",
            ask(&json!({"parameters": {"country": "es", "x/y": 1}})),
        ),
        (
            "parameters that are missing",
            json!({"action": "orders.export"}),
        ),
        ("lifetime of wrong type", ask(&json!({"ttl_seconds": "60"}))),
        ("lifetime zero", ask(&json!({"ttl_seconds": 0}))),
        ("lifetime negative", ask(&json!({"ttl_seconds": -1}))),
        ("lifetime fractional", ask(&json!({"ttl_seconds": 1.5}))),
        ("reason too long", ask(&json!({"reason": long}))),
        ("reason with NUL", ask(&json!({"reason": "a\u{0}b"}))),
        ("context of wrong type", ask(&json!({"context": "ticket"}))),
        (
            "context entry of wrong type",
            ask(&json!({"context": {"ticket": {"id": 1}}})),
        ),
        (
            "context with too many entries",
            ask(&json!({"context": many})),
        ),
        ("context too large in all", ask(&json!({"context": wide}))),
        (
            "on behalf of nobody",
            ask(&json!({"on_behalf_of": {"subject": "bob", "groups": []}})),
        ),
    ]
}

#[tokio::test]
async fn every_bad_input_is_answered_as_committed() {
    let bench = Bench::start().await;
    let before = bench.size().await;
    let mut found = Found::new();
    for (name, body) in bad_asks() {
        let answer = bench
            .post("/v1/requests")
            .bearer(BOT)
            .json(&body)
            .send()
            .await;
        found.insert(format!("ask: {name}"), golden(&answer));
    }
    bad_bodies(&bench, &mut found).await;
    bad_queries(&bench, &mut found).await;
    bad_agents(&bench, &mut found).await;
    bad_calls(&bench, &mut found).await;
    assert_eq!(bench.size().await, before, "nothing of it was recorded");
    same_as_committed(&Value::Object(found));
}

type Found = serde_json::Map<String, Value>;

async fn bad_bodies(bench: &Bench, found: &mut Found) {
    let raw: [(&str, &str, &[u8]); 8] = [
        ("no media type", "", b"{}"),
        ("another media type", "text/plain", b"{}"),
        ("another charset", "application/json; charset=latin1", b"{}"),
        ("empty", "application/json", b""),
        ("not JSON", "application/json", b"{\"action\": orders}"),
        ("not UTF-8", "application/json", b"{\"action\": \"\xff\"}"),
        (
            "a field twice",
            "application/json",
            b"{\"action\":\"a\",\"action\":\"b\"}",
        ),
        (
            "a number too large",
            "application/json",
            b"{\"ttl_seconds\":9007199254740993}",
        ),
    ];
    for (name, media_type, body) in raw {
        let call = bench.post("/v1/requests").bearer(BOT).body(body.to_vec());
        let call = if media_type.is_empty() {
            call
        } else {
            call.header("content-type", media_type)
        };
        found.insert(format!("body: {name}"), golden(&call.send().await));
    }
}

async fn bad_queries(bench: &Bench, found: &mut Found) {
    for (name, query) in [
        ("unknown parameter", "?page=2"),
        ("limit zero", "?limit=0"),
        ("limit too large", "?limit=201"),
        ("limit twice", "?limit=1&limit=2"),
        ("state", "?state=live"),
        ("cursor", "?cursor=x"),
        ("cursor of another list", "?state=open&cursor=17"),
    ] {
        let answer = bench
            .get(&format!("/v1/requests{query}"))
            .bearer(BOT)
            .send()
            .await;
        found.insert(format!("query: {name}"), golden(&answer));
    }
}

async fn bad_agents(bench: &Bench, found: &mut Found) {
    let agent = |owner: &str, proof: Value| json!({"name": "a", "owner": owner, "proof": proof});
    for (name, body) in [
        (
            "name",
            json!({"name": "A", "owner": "group:g", "proof": {"kind": "api_key"}}),
        ),
        (
            "owner without colon",
            agent("bob", json!({"kind": "api_key"})),
        ),
        (
            "owner of unknown provider",
            agent("crop:bob", json!({"kind": "api_key"})),
        ),
        ("proof kind", agent("group:g", json!({"kind": "workload"}))),
        (
            "proof key",
            agent("group:g", json!({"kind": "public_key", "ed25519": "AAAA"})),
        ),
        (
            "proof without key",
            agent("group:g", json!({"kind": "public_key"})),
        ),
        (
            "key beside api_key",
            agent("group:g", json!({"kind": "api_key", "ed25519": "AAAA"})),
        ),
        ("no proof", json!({"name": "a", "owner": "group:g"})),
    ] {
        let answer = bench
            .post("/v1/agents")
            .bearer(OPERATOR)
            .json(&body)
            .send()
            .await;
        found.insert(format!("agent: {name}"), golden(&answer));
    }
}

async fn bad_calls(bench: &Bench, found: &mut Found) {
    for (name, call) in [
        ("unknown path", bench.get("/v1/nothing")),
        (
            "unknown method",
            bench.call("DELETE", "/v1/requests").bearer(BOT),
        ),
        ("no token", bench.get("/v1/actions")),
        ("unknown token", bench.get("/v1/actions").bearer("csk_x")),
        ("wrong kind", bench.get("/v1/agents").bearer(BOT)),
        (
            "idempotency key",
            bench
                .post("/v1/requests")
                .bearer(BOT)
                .header("idempotency-key", "")
                .json(&json!({})),
        ),
    ] {
        found.insert(format!("call: {name}"), golden(&call.send().await));
    }
}

fn expect(answer: Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (status, code),
        "{answer:?}"
    );
    assert!(!answer.text.contains(CANARY));
}

#[tokio::test]
async fn every_wrong_moment_before_a_lease_has_its_own_code() {
    let bench = Bench::start().await;
    let denied = bench.post("/v1/requests").bearer(BOT);
    let denied = denied
        .json(&json!({"action": "orders.wipe", "parameters": {"country": "de"}}))
        .send()
        .await;
    let said = if denied.status == StatusCode::CREATED {
        denied.json()["outcome"].clone()
    } else {
        json!(denied.code())
    };
    assert!(said == "refused" || said == "policy_denied", "{denied:?}");

    let pending = bench.ask(BOT, "orders.export").await;
    expect(
        bench.collect(BOT, &pending, "k").await,
        409,
        "approval_required",
    );
    let id = text(&pending, "id");
    let path = format!("/v1/requests/{id}/credential");
    expect(
        bench.post(&path).bearer(BOT).send().await,
        400,
        "idempotency_key_required",
    );
    let smuggled = bench
        .post(&path)
        .bearer(BOT)
        .header("idempotency-key", "k")
        .json(&json!({"approved": true}));
    expect(smuggled.send().await, 400, "unknown_field");

    let owner = bench.review("owner", &pending, "approve").await;
    expect(owner, 403, "self_approval");
    expect(
        bench.review("stranger", &pending, "approve").await,
        403,
        "not_a_reviewer",
    );
    let wrong = json!({"id": id, "digest": "0".repeat(64)});
    expect(
        bench.review(LEAD, &wrong, "approve").await,
        409,
        "digest_mismatch",
    );
    let review = format!("/v1/requests/{id}/reviews");
    let word = json!({"decision": "maybe", "digest": pending["digest"]});
    expect(
        bench.post(&review).person(LEAD).json(&word).send().await,
        400,
        "invalid_value",
    );
    assert_eq!(
        bench.review(LEAD, &pending, "deny").await.json()["outcome"],
        "denied"
    );
    expect(
        bench.review(LEAD, &pending, "approve").await,
        409,
        "not_pending",
    );
    expect(bench.collect(BOT, &pending, "k").await, 410, "gone");
}

#[tokio::test]
async fn every_wrong_moment_of_a_lease_has_its_own_code() {
    let bench = Bench::start().await;
    let live = bench.live(BOT).await;
    expect(
        bench.collect(BOT, &live["request"], "another").await,
        410,
        "gone",
    );
    let finish = format!("/v1/requests/{}/finish", text(&live["request"], "id"));
    let bad = json!({"outcome": "great", "exit_code": 1.5});
    expect(
        bench.post(&finish).bearer(BOT).json(&bad).send().await,
        400,
        "invalid_request",
    );

    let routine = bench.ask(BOT, "orders.count").await;
    bench
        .target
        .unavailable
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let down = bench.collect(BOT, &routine, "k").await;
    assert_eq!(down.status, StatusCode::SERVICE_UNAVAILABLE, "{down:?}");
    assert_eq!(down.json()["retryable"], true);
    assert_eq!(down.header("retry-after"), "2");
    assert!(!down.text.contains(CANARY) && !down.text.contains("10.1.2.3"));
}
