//! Clients that try what they should not.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::bench::{BOT, Bench, CANARY, LEAD, OPERATOR, OTHER, text};

#[tokio::test]
async fn case_006_fields_that_decide_cannot_be_sent() {
    let bench = Bench::start().await;
    let before = bench.size().await;
    for field in [
        "approved",
        "state",
        "status",
        "outcome",
        "approver",
        "reviews",
        "verdict",
        "expires_at",
        "agent",
        "digest",
        "scope",
        "target",
        "id",
        "owner",
        "lease",
        "Action",
        "action ",
    ] {
        let mut body = json!({"action": "orders.export", "parameters": {"country": "de"}});
        body[field] = json!("approved");
        let answer = bench
            .post("/v1/requests")
            .bearer(BOT)
            .json(&body)
            .send()
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{field}");
        assert_eq!(answer.code(), "unknown_field", "{field}");
        assert_eq!(answer.json()["errors"][0]["pointer"], format!("/{field}"));
    }
    let nested =
        json!({"action": "orders.export", "parameters": {"country": "de", "approved": true}});
    let answer = bench
        .post("/v1/requests")
        .bearer(BOT)
        .json(&nested)
        .send()
        .await;
    assert_eq!(answer.code(), "invalid_parameters");
    assert_eq!(bench.size().await, before, "nothing was stored");
}

#[tokio::test]
async fn case_014_long_texts_are_refused_and_the_longest_accepted_is_recorded() {
    let bench = Bench::start().await;
    let ask = |reason: String| json!({"action": "orders.export", "parameters": {"country": "de"}, "reason": reason});
    let longest = bench
        .post("/v1/requests")
        .bearer(BOT)
        .json(&ask("🦀".repeat(2000)))
        .send()
        .await;
    assert_eq!(longest.status, StatusCode::ACCEPTED, "{longest:?}");
    let longer = bench
        .post("/v1/requests")
        .bearer(BOT)
        .json(&ask("a".repeat(2001)))
        .send()
        .await;
    assert_eq!(longer.status, StatusCode::BAD_REQUEST);
    let huge = bench
        .post("/v1/requests")
        .bearer(BOT)
        .json(&ask("a".repeat(10 << 20)))
        .send()
        .await;
    assert_eq!(huge.status, StatusCode::PAYLOAD_TOO_LARGE);
    let control = bench
        .post("/v1/requests")
        .bearer(BOT)
        .json(&ask("a\u{1b}[2J\u{202e}b\n".into()));
    assert_eq!(
        control.send().await.status,
        StatusCode::ACCEPTED,
        "escaped where shown, not refused"
    );
}

#[tokio::test]
async fn case_020_no_endpoint_gives_a_secret_before_the_decision_or_after_the_end() {
    let bench = Bench::start().await;
    let pending = bench.ask(BOT, "orders.export").await;
    let denied = bench.ask(BOT, "orders.export").await;
    bench.review(LEAD, &denied, "deny").await;
    let withdrawn = bench.ask(BOT, "orders.export").await;
    let path = format!("/v1/requests/{}/withdraw", text(&withdrawn, "id"));
    bench.post(&path).bearer(BOT).send().await;
    let revoked = bench.live(BOT).await;
    let path = format!("/v1/leases/{}/revoke", text(&revoked["lease"], "id"));
    bench
        .post(&path)
        .bearer(BOT)
        .header("prefer", "wait=20")
        .send()
        .await;
    let lapsed = bench.ask(BOT, "orders.count").await;
    bench.clock.advance(countersign::domain::Seconds(901));

    for request in [&pending, &denied, &withdrawn, &revoked["request"], &lapsed] {
        for key in ["k1", "k2"] {
            let answer = bench.collect(BOT, request, key).await;
            let refused = [StatusCode::CONFLICT, StatusCode::GONE];
            assert!(refused.contains(&answer.status), "{answer:?}");
            assert!(!answer.text.contains(CANARY));
        }
        let id = text(request, "id");
        for path in [
            format!("/v1/requests/{id}"),
            format!("/v1/requests/{id}/reviews"),
        ] {
            let answer = bench.get(&path).bearer(BOT).send().await;
            assert!(!answer.text.contains(CANARY), "{path}");
        }
    }
}

#[tokio::test]
async fn case_164_a_secret_is_in_one_answer_that_nobody_keeps() {
    let bench = Bench::start().await;
    let request = bench.ask(BOT, "orders.count").await;
    let path = format!("/v1/requests/{}/credential", text(&request, "id"));
    for method in ["GET", "HEAD", "PUT"] {
        let answer = bench
            .call(method, &path)
            .bearer(BOT)
            .header("idempotency-key", "k")
            .send()
            .await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    let collected = bench.collect(BOT, &request, "k1").await;
    assert!(collected.text.contains(CANARY));
    assert_eq!(collected.header("cache-control"), "no-store");
    assert_eq!(collected.header("pragma"), "no-cache");
    assert_eq!(collected.header("referrer-policy"), "no-referrer");
    let again = bench.collect(BOT, &request, "k2").await;
    assert_eq!(
        (again.status, again.code().as_str()),
        (StatusCode::GONE, "gone")
    );
    for path in [
        format!("/v1/requests/{}", text(&request, "id")),
        "/v1/requests".into(),
        "/v1/leases".into(),
    ] {
        for token in [BOT, OPERATOR] {
            let answer = bench.get(&path).bearer(token).send().await;
            assert_eq!(answer.status, StatusCode::OK);
            assert!(!answer.text.contains(CANARY), "{path}");
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }
    let entries = bench
        .get("/v1/ledger/entries?limit=200")
        .bearer(OPERATOR)
        .send()
        .await;
    assert!(!entries.text.contains(CANARY), "the ledger holds no secret");
}

#[tokio::test]
async fn case_165_bombs_are_refused_by_their_shape_before_they_are_parsed() {
    let bench = Bench::start().await;
    let before = bench.size().await;
    let pairs = (0..20_000).map(|_| "\"a\":1").collect::<Vec<_>>().join(",");
    for (bomb, code) in [
        ("[".repeat(100_000), "too_deep"),
        ("{\"a\":".repeat(40_000), "too_deep"),
        (format!("{{{pairs}}}"), "duplicate_field"),
        (
            format!(
                "{{\"action\":\"a\",\"context\":{}1{}}}",
                "[".repeat(60),
                "]".repeat(60)
            ),
            "too_deep",
        ),
    ] {
        let stranger = bench
            .post("/v1/requests")
            .header("content-type", "application/json");
        let stranger = stranger.body(bomb.clone()).send().await;
        assert_eq!(
            stranger.status,
            StatusCode::UNAUTHORIZED,
            "nobody reads a stranger's body"
        );
        let known = bench
            .post("/v1/requests")
            .bearer(BOT)
            .header("content-type", "application/json");
        let known = known.body(bomb).send().await;
        assert_eq!(
            (known.status, known.code().as_str()),
            (StatusCode::BAD_REQUEST, code)
        );
        assert!(known.text.len() < 2000, "the answer stays small");
    }
    let many = (0..20_000)
        .map(|n| format!("\"k{n}\":1"))
        .collect::<Vec<_>>()
        .join(",");
    let known = bench
        .post("/v1/requests")
        .bearer(BOT)
        .header("content-type", "application/json");
    let known = known.body(format!("{{{many}}}")).send().await;
    assert!(
        known.json()["errors"].as_array().unwrap().len() <= 20,
        "not every stray field is listed"
    );
    assert_eq!(bench.size().await, before);
}

#[tokio::test]
async fn case_166_a_body_over_256_kib_is_refused_declared_or_not() {
    let bench = Bench::start().await;
    let send = |length: usize, declare: bool| {
        let call = bench
            .post("/v1/requests")
            .bearer(BOT)
            .header("content-type", "application/json");
        let call = if declare {
            call.header("content-length", &length.to_string())
        } else {
            call
        };
        let chunk = vec![b' '; 4096];
        let chunks =
            (0..length.div_ceil(4096)).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
        call.body(Body::from_stream(futures::stream::iter(chunks)))
            .send()
    };
    for declare in [true, false] {
        let over = send(256 * 1024 + 4096, declare).await;
        assert_eq!(over.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(over.code(), "body_too_large");
        let fits = send(256 * 1024, declare).await;
        assert_eq!(
            fits.code(),
            "invalid_json",
            "256 KiB of nothing are read, and are not JSON"
        );
    }
}

#[tokio::test]
async fn case_170_a_panic_is_one_calls_500_and_nobody_elses() {
    let bench = Bench::start().await;
    let request = bench.ask(BOT, "orders.export").await;
    let path = format!("/v1/requests/{}", text(&request, "id"));
    bench.target.panics.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let answer = bench.get(&path).bearer(BOT).send().await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::INTERNAL_SERVER_ERROR, "internal")
        );
        assert!(
            !answer.text.contains("explanation"),
            "what broke is not for the caller"
        );
        assert_eq!(answer.json()["request_id"], answer.header("x-request-id"));
    }
    bench.target.panics.store(false, Ordering::SeqCst);
    assert_eq!(
        bench.get(&path).bearer(BOT).send().await.status,
        StatusCode::OK
    );
    assert_eq!(
        bench.review(LEAD, &request, "approve").await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_noisy_agent_is_told_to_wait_and_others_are_not() {
    let bench = Bench::start().await;
    let mut refused = None;
    for _ in 0..150 {
        let answer = bench.get("/v1/actions").bearer(BOT).send().await;
        if answer.status != StatusCode::OK {
            refused = Some(answer);
        }
    }
    let refused = refused.unwrap();
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "rate_limited")
    );
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(
        bench.get("/v1/actions").bearer(OTHER).send().await.status,
        StatusCode::OK
    );
    bench.clock.advance(countersign::domain::Seconds(1));
    assert_eq!(
        bench.get("/v1/actions").bearer(BOT).send().await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_keep_it_private() {
    let bench = Bench::start().await;
    for path in [
        "/v1/actions",
        "/v1/nothing",
        "/healthz",
        "/v1/ledger/checkpoint",
        "/v1/requests/req_x",
    ] {
        let answer = bench
            .get(path)
            .header("x-request-id", "chosen-by-caller")
            .send()
            .await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(
            answer
                .header("content-security-policy")
                .contains("default-src 'none'")
        );
        assert_eq!(
            answer.header("x-request-id").len(),
            32,
            "ours, not the caller's"
        );
        if path.starts_with("/v1") {
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
            assert!(answer.header("vary").contains("authorization"));
        }
    }
    let answer: Value = bench.get("/openapi.json").send().await.json();
    assert_eq!(answer["openapi"], "3.1.0");
}
