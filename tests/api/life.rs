//! The life of a request over HTTP, and every endpoint when all is well.

use std::time::Duration;

use axum::http::StatusCode;
use countersign::identity::keys::TokenKind;
use countersign::ledger::VerifyingKey;
use countersign::ledger::tree::leaf_hash;
use serde_json::json;

use super::bench::{BOT, Bench, CANARY, LEAD, OPERATOR, nobody, text};

#[tokio::test]
async fn a_routine_request_is_approved_collected_and_finished() {
    let bench = Bench::start().await;
    let body = json!({"action": "orders.count", "parameters": {"country": "de"}, "ttl_seconds": 60,
        "reason": "count", "context": {"ticket": "FIN-1"}});
    let asked = bench
        .post("/v1/requests")
        .bearer(BOT)
        .json(&body)
        .send()
        .await;
    assert_eq!(asked.status, StatusCode::CREATED, "{asked:?}");
    let request = asked.json();
    assert_eq!(
        asked.header("location"),
        format!("/v1/requests/{}", text(&request, "id"))
    );
    assert_eq!(request["state"], "approved");
    assert_eq!(request["verdict"]["answer"], "allow");
    assert_eq!(
        request["scope"],
        json!({"roles": ["orders"], "rows": {"country": "de"}})
    );
    assert_eq!(request["needs"], json!({}));

    let collected = bench.collect(BOT, &request, "k1").await;
    assert_eq!(collected.status, StatusCode::OK, "{collected:?}");
    let lease = text(&collected.json()["lease"], "id").to_owned();
    assert!(text(&collected.json()["credential"], "password").starts_with(CANARY));
    assert_eq!(collected.json()["request"]["state"], "live");
    assert_eq!(
        collected.json()["request"]["lease"]["expires_at"],
        collected.json()["lease"]["expires_at"]
    );

    let listed = bench.get("/v1/leases").bearer(BOT).send().await.json();
    assert_eq!(listed["data"][0]["id"], lease.as_str());
    let acknowledge_by = &collected.json()["lease"]["acknowledge_by"];
    assert_eq!(&listed["data"][0]["acknowledge_by"], acknowledge_by);
    let acknowledge = format!("/v1/leases/{lease}/acknowledge");
    let size = bench.size().await;
    for _ in 0..2 {
        let acknowledged = bench.post(&acknowledge).bearer(BOT).send().await;
        assert_eq!(acknowledged.status, StatusCode::OK, "{acknowledged:?}");
        let brief = &acknowledged.json()["lease"];
        assert_eq!(brief["acknowledge_by"], json!(null), "{brief}");
    }
    assert_eq!(bench.size().await, size + 1, "finding B14: one entry");
    let path = format!("/v1/leases/{lease}");
    assert_eq!(
        bench.get(&path).bearer(BOT).send().await.json()["state"],
        "live"
    );

    let path = format!("/v1/requests/{}/finish", text(&request, "id"));
    let report = json!({"outcome": "succeeded", "exit_code": 0, "note": "done"});
    let call = bench
        .post(&path)
        .bearer(BOT)
        .header("prefer", "wait=20")
        .json(&report);
    let finished = call.send().await;
    assert_eq!(finished.json()["state"], "closed", "{finished:?}");
    assert_eq!(finished.json()["outcome"], "completed");
    assert_eq!(finished.header("preference-applied"), "wait=20");
    let path = format!("/v1/leases/{lease}");
    assert_eq!(
        bench.get(&path).bearer(BOT).send().await.json()["state"],
        "ended"
    );
    let late = bench.post(&acknowledge).bearer(BOT).send().await;
    assert_eq!(
        (late.status, late.json()["code"].clone()),
        (StatusCode::CONFLICT, json!("not_live"))
    );
}

#[tokio::test]
async fn a_reviewed_request_waits_for_its_reviewer_and_the_wait_ends_with_the_decision() {
    let bench = Bench::start().await;
    let body = json!({"action": "orders.export", "parameters": {"country": "fr"}});
    let asked = bench
        .post("/v1/requests")
        .bearer(BOT)
        .json(&body)
        .send()
        .await;
    assert_eq!(asked.status, StatusCode::ACCEPTED);
    assert_eq!(asked.header("retry-after"), "5");
    let request = asked.json();
    assert_eq!(request["needs"], json!({"leads": 1}));
    let page = format!(
        "https://countersign.example/requests/{}",
        text(&request, "id")
    );
    assert_eq!(request["review_url"], page);

    let path = format!("/v1/requests/{}", text(&request, "id"));
    let waiting = bench
        .get(&path)
        .bearer(BOT)
        .header("prefer", "wait=50")
        .send();
    let deciding = bench.review(LEAD, &request, "approve");
    let both = async { tokio::join!(waiting, deciding) };
    let (waited, reviewed) = tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .unwrap();
    assert_eq!(reviewed.status, StatusCode::CREATED, "{reviewed:?}");
    assert_eq!(waited.json()["state"], "approved");
    assert_eq!(waited.json()["reviews"][0]["reviewer"]["subject"], "lead");

    let path = format!("/v1/requests/{}/reviews", text(&request, "id"));
    let reviews = bench.get(&path).bearer(BOT).send().await.json();
    assert_eq!(reviews["data"][0]["decision"], "approve");
    assert_eq!(reviews["data"][0]["digest"], request["digest"]);
}

#[tokio::test]
async fn a_holder_who_waits_on_a_lease_learns_of_its_end_at_once() {
    let bench = Bench::start().await;
    let request = bench.ask(BOT, "orders.count").await;
    let collected = bench.collect(BOT, &request, "k1").await.json();
    let path = format!("/v1/leases/{}", text(&collected["lease"], "id"));
    let waiting = bench.get(&path).bearer(BOT).header("prefer", "wait=50");
    let revoke = format!("{path}/revoke");
    let revoking = bench.post(&revoke).bearer(OPERATOR).json(&json!({}));
    let both = async { tokio::join!(waiting.send(), revoking.send()) };
    let (waited, _) = tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .unwrap();
    assert_eq!(waited.header("preference-applied"), "wait=50");
    assert_ne!(waited.json()["state"], "live", "{waited:?}");
    if waited.json()["state"] != "ended" {
        assert_eq!(waited.json()["cause"], "revoked", "{waited:?}");
    }
    let again = bench.get(&path).bearer(BOT).header("prefer", "wait=50");
    let at_once = tokio::time::timeout(Duration::from_secs(20), again.send());
    assert_ne!(at_once.await.unwrap().json()["state"], "live");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_used_up_answers_pending() {
    let bench = Bench::start().await;
    let request = bench.ask(BOT, "orders.export").await;
    let path = format!("/v1/requests/{}", text(&request, "id"));
    let waited = bench
        .get(&path)
        .bearer(BOT)
        .header("prefer", "wait=30")
        .send()
        .await;
    assert_eq!(
        (waited.status, text(&waited.json(), "state")),
        (StatusCode::OK, "pending")
    );
}

#[tokio::test]
async fn a_stopping_broker_lets_nobody_wait() {
    let bench = Bench::start().await;
    let request = bench.ask(BOT, "orders.export").await;
    let path = format!("/v1/requests/{}", text(&request, "id"));
    bench.api.stopping.cancel();
    let waiting = bench
        .get(&path)
        .bearer(BOT)
        .header("prefer", "wait=50")
        .send();
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap();
    assert_eq!(waited.json()["state"], "pending");
}

#[tokio::test]
async fn the_same_key_gives_the_same_request_and_another_body_is_refused() {
    let bench = Bench::start().await;
    let body = json!({"action": "orders.export", "parameters": {"country": "de"}});
    let ask = |key: &'static str, body| {
        bench
            .post("/v1/requests")
            .bearer(BOT)
            .header("idempotency-key", key)
            .json(body)
            .send()
    };
    let first = ask("\"key-1\"", &body).await;
    let again = ask("key-1", &body).await;
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert_eq!(again.status, StatusCode::ACCEPTED);
    assert_eq!(again.header("idempotency-replayed"), "true");
    let reordered = r#"{ "parameters":{"country":"de"}, "action":"orders.export" }"#;
    let call = bench
        .post("/v1/requests")
        .bearer(BOT)
        .header("idempotency-key", "key-1");
    let call = call
        .header("content-type", "application/json; charset=utf-8")
        .body(reordered);
    assert_eq!(
        call.send().await.json()["id"],
        first.json()["id"],
        "spelling is not content"
    );
    let other = json!({"action": "orders.export", "parameters": {"country": "fr"}});
    let refused = ask("key-1", &other).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.code(), "idempotency_mismatch");
}

#[tokio::test]
async fn a_request_can_be_withdrawn_and_a_lease_revoked() {
    let bench = Bench::start().await;
    let request = bench.ask(BOT, "orders.export").await;
    let path = format!("/v1/requests/{}/withdraw", text(&request, "id"));
    let withdrawn = bench.post(&path).bearer(BOT).send().await.json();
    assert_eq!(
        (text(&withdrawn, "state"), text(&withdrawn, "outcome")),
        ("closed", "withdrawn")
    );
    for by in ["agent", "operator", "person"] {
        let live = bench.live(BOT).await;
        let path = format!("/v1/leases/{}/revoke", text(&live["lease"], "id"));
        let call = bench.post(&path).header("prefer", "wait=20");
        let call = match by {
            "agent" => call.bearer(BOT),
            "operator" => call.bearer(OPERATOR),
            _ => call.person(LEAD),
        };
        let revoked = call.send().await;
        assert_eq!(revoked.json()["outcome"], "revoked", "{by}: {revoked:?}");
        let again = bench.post(&path).bearer(BOT).send().await;
        assert_eq!(
            again.json()["outcome"],
            "revoked",
            "revoking what is over is fine"
        );
    }
}

#[tokio::test]
async fn the_operator_enrols_lists_and_disables_agents() {
    let bench = Bench::start().await;
    let body = json!({"name": "new-bot", "owner": "corp:00u1", "proof": {"kind": "api_key"}});
    let added = bench
        .post("/v1/agents")
        .bearer(OPERATOR)
        .json(&body)
        .send()
        .await;
    assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    let key = text(&added.json(), "api_key").to_owned();
    let known = countersign::identity::keys::recognise(&key);
    assert!(
        known.is_some_and(|(kind, _)| kind == TokenKind::ApiKey),
        "{key}"
    );
    assert_eq!(
        added.json()["agent"]["owner"]["issuer"],
        "https://login.example"
    );
    let key_agent = json!({"name": "key-bot", "owner": "group:team",
        "proof": {"kind": "public_key", "ed25519": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}});
    let added = bench
        .post("/v1/agents")
        .bearer(OPERATOR)
        .json(&key_agent)
        .send()
        .await;
    assert_eq!(added.json()["api_key"], json!(null));
    let taken = bench
        .post("/v1/agents")
        .bearer(OPERATOR)
        .json(&body)
        .send()
        .await;
    assert_eq!(
        (taken.status, taken.code().as_str()),
        (StatusCode::CONFLICT, "agent_exists")
    );

    let disabled = bench
        .post("/v1/agents/new-bot/disable")
        .bearer(OPERATOR)
        .send()
        .await;
    assert!(disabled.json()["disabled_at"].is_string(), "{disabled:?}");
    let listed = bench.get("/v1/agents").bearer(OPERATOR).send().await;
    let names: Vec<_> = listed.json()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| text(agent, "name").to_owned())
        .collect();
    assert_eq!(names, ["bot", "key-bot", "new-bot", "other"]);
    assert!(!listed.text.contains(&key), "a key is shown once");
    let path = format!("/v1/agents/{}/disable", nobody());
    let unknown = bench.post(&path).bearer(OPERATOR).send().await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn lists_come_in_pages_that_neither_repeat_nor_skip() {
    let bench = Bench::start().await;
    let mut asked = Vec::new();
    for _ in 0..5 {
        bench.clock.advance(countersign::domain::Seconds(1));
        asked.insert(
            0,
            text(&bench.ask(BOT, "orders.export").await, "id").to_owned(),
        );
    }
    for list in ["/v1/requests?state=open&limit=2", "/v1/requests?limit=2"] {
        let (mut seen, mut path) = (Vec::new(), list.to_owned());
        loop {
            let answer = bench.get(&path).bearer(BOT).send().await;
            let page = answer.json();
            seen.extend(
                page["data"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|r| text(r, "id").to_owned()),
            );
            let Some(cursor) = page["next_cursor"].as_str() else {
                assert_eq!(answer.header("link"), "");
                break;
            };
            assert!(answer.header("link").contains(cursor));
            path = format!("{list}&cursor={cursor}");
        }
        assert_eq!(seen, asked, "{list}");
    }
    let closed = bench
        .get("/v1/requests?state=closed")
        .bearer(OPERATOR)
        .send()
        .await;
    assert_eq!(closed.json()["data"], json!([]));
}

#[tokio::test]
async fn actions_health_and_the_ledger_are_there_to_read() {
    let bench = Bench::start().await;
    let actions = bench.get("/v1/actions").bearer(BOT).send().await.json();
    assert_eq!(
        actions["data"][0]["parameters"]["country"]["hint"],
        "one of de, fr"
    );
    assert_eq!(
        actions["data"][0]["ttl"],
        json!({"default_seconds": 600, "longest_seconds": 3600})
    );
    assert_eq!(bench.get("/healthz").send().await.status, StatusCode::OK);
    assert_eq!(bench.get("/readyz").send().await.status, StatusCode::OK);
    assert_eq!(bench.call("HEAD", "/readyz").send().await.text, "");
    let note = bench.get("/v1/ledger/checkpoint").send().await;
    assert!(note.text.starts_with("countersign.example\n"), "{note:?}");
    assert_eq!(note.header("content-type"), "text/plain; charset=utf-8");
    let key = bench.get("/v1/ledger/key").send().await;
    assert_eq!(key.header("content-type"), "text/plain; charset=utf-8");
    let key: VerifyingKey = key.text.trim_end().parse().unwrap();
    assert_eq!(
        key.open_checkpoint(&note.text).unwrap().origin,
        "countersign.example"
    );
    let page = bench
        .get("/v1/ledger/entries?from=1&limit=2")
        .bearer(OPERATOR)
        .send()
        .await
        .json();
    assert_eq!(
        (page["data"][0]["seq"].as_u64(), page["next"].as_u64()),
        (Some(1), Some(3))
    );
    assert!(text(&page["data"][0], "entry").starts_with('{'));
    let leaf = leaf_hash(text(&page["data"][0], "entry").as_bytes());
    assert_eq!(text(&page["data"][0], "leaf"), leaf.to_string());
    assert!(page["data"][0]["sig"].is_null() || page["data"][0]["sig"].is_string());
    let end = bench
        .get("/v1/ledger/entries?from=9999")
        .bearer(OPERATOR)
        .send()
        .await
        .json();
    assert_eq!(end, json!({"data": [], "next": null}));
}

#[tokio::test]
async fn a_jwt_is_exchanged_in_oauths_own_words() {
    let bench = Bench::start().await;
    let exchange = |form: &'static str| {
        let call = bench.post("/v1/token");
        call.header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
    };
    let workload = "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=good.jwt";
    let token = exchange(workload).await;
    assert_eq!(
        token.json(),
        json!({"access_token": "cst_fresh", "token_type": "Bearer", "expires_in": 600})
    );
    assert_eq!(token.header("cache-control"), "no-store");
    let key = "grant_type=client_credentials&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=";
    assert_eq!(
        exchange(&*format!("{key}good.jwt").leak()).await.status,
        StatusCode::OK
    );
    for (form, status, error) in [
        ("", 400, "invalid_request"),
        ("grant_type=password", 400, "unsupported_grant_type"),
        ("grant_type=client_credentials", 400, "invalid_request"),
        (
            "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer",
            400,
            "invalid_request",
        ),
        ("grant_type=a&grant_type=a", 400, "invalid_request"),
        (
            "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=bad.jwt",
            400,
            "invalid_grant",
        ),
        (
            "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=outage.jwt",
            503,
            "temporarily_unavailable",
        ),
        (&*format!("{key}bad.jwt").leak(), 401, "invalid_client"),
    ] {
        let answer = exchange(form).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"].as_str()),
            (status, Some(error)),
            "{form}"
        );
    }
    let in_url = bench.post(&format!("/v1/token?{workload}"));
    let in_url = in_url
        .header("content-type", "application/x-www-form-urlencoded")
        .send()
        .await;
    assert_eq!(
        in_url.status,
        StatusCode::BAD_REQUEST,
        "an assertion in a URL is refused"
    );
}

/// B7: giving a lease up is the operator's, needs a reason, and takes nothing that can still be ended.
#[tokio::test]
async fn finding_b07_a_healthy_lease_is_not_given_up() {
    let bench = Bench::start().await;
    let live = bench.live(BOT).await;
    let path = format!("/v1/leases/{}/abandon", text(&live["lease"], "id"));
    let give_up = async |token: &str, reason: &str| {
        let call = bench.post(&path).bearer(token);
        call.json(&json!({"reason": reason})).send().await
    };
    let (agent, blank) = (give_up(BOT, "x").await, give_up(OPERATOR, " ").await);
    assert_eq!(agent.status, StatusCode::FORBIDDEN, "{agent:?}");
    assert_eq!(blank.status, StatusCode::BAD_REQUEST, "{blank:?}");
    let healthy = give_up(OPERATOR, "x").await;
    assert_eq!(
        (healthy.status, healthy.code().as_str()),
        (StatusCode::CONFLICT, "not_stuck")
    );
}
