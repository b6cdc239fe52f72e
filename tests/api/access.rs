//! Who may call what: the route table is walked, not a hand list.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use countersign::http::access::{Kind, ROUTES, Route};
use serde_json::{Value, json};

use super::bench::{Answer, BOT, Bench, Call, LEAD, OPERATOR, OTHER, text};

const UNKNOWN_REQUEST: &str = "req_01jd00000000000000000000zz";
const UNKNOWN_LEASE: &str = "lse_01jd00000000000000000000zz";

fn path_of(route: &Route) -> String {
    let id = if route.path.contains("/leases/") {
        UNKNOWN_LEASE
    } else {
        UNKNOWN_REQUEST
    };
    route.path.replace("{id}", id).replace("{name}", "nobody")
}

fn with_body<'a>(route: &Route, call: Call<'a>) -> Call<'a> {
    let call = call.header("idempotency-key", "k1");
    match route.path {
        "/v1/requests/{id}/finish" => call.json(&json!({"outcome": "succeeded"})),
        "/v1/requests/{id}/reviews" if route.method == "POST" => {
            call.json(&json!({"decision": "deny", "digest": "0".repeat(64)}))
        }
        _ => call,
    }
}

async fn as_kind(bench: &Bench, route: &Route, kind: Option<Kind>) -> Answer {
    let call = with_body(route, bench.call(route.method, &path_of(route)));
    match kind {
        None => call.send().await,
        Some(Kind::Agent) => call.bearer(BOT).send().await,
        Some(Kind::Operator) => call.bearer(OPERATOR).send().await,
        Some(Kind::Person) => call.person(LEAD).send().await,
    }
}

#[tokio::test]
async fn case_023_every_route_serves_its_own_kinds_and_refuses_the_others() {
    let bench = Bench::start().await;
    for route in ROUTES.iter().filter(|route| !route.kinds.is_empty()) {
        let name = format!("{} {}", route.method, route.path);
        let unknown = as_kind(&bench, route, None).await;
        assert_eq!(unknown.status, StatusCode::UNAUTHORIZED, "{name}");
        assert_eq!(unknown.code(), "unauthenticated", "{name}");
        assert!(
            unknown.header("www-authenticate").starts_with("Bearer"),
            "{name}"
        );
        for kind in [Kind::Agent, Kind::Operator, Kind::Person] {
            let answer = as_kind(&bench, route, Some(kind)).await;
            if route.kinds.contains(&kind) {
                let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
                assert!(
                    !refused.contains(&answer.status),
                    "{name} as {kind:?}: {answer:?}"
                );
            } else {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name} as {kind:?}");
                assert_eq!(answer.code(), "forbidden", "{name} as {kind:?}");
            }
        }
    }
}

#[tokio::test]
async fn case_023_an_agent_and_the_operator_never_review() {
    let bench = Bench::start().await;
    let request = bench.ask(BOT, "orders.export").await;
    let path = format!("/v1/requests/{}/reviews", text(&request, "id"));
    let body = json!({"decision": "approve", "digest": request["digest"]});
    for token in [BOT, OTHER, OPERATOR] {
        let answer = bench.post(&path).bearer(token).json(&body).send().await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{token}");
        // A session beside the token does not help: the token decides.
        let answer = bench
            .post(&path)
            .bearer(token)
            .person(LEAD)
            .json(&body)
            .send()
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{token}");
    }
    assert_eq!(bench.ask_state(&request).await, "pending");
}

impl Bench {
    async fn ask_state(&self, request: &Value) -> String {
        let path = format!("/v1/requests/{}", text(request, "id"));
        text(
            &self.get(&path).bearer(OPERATOR).send().await.json(),
            "state",
        )
        .to_owned()
    }
}

#[tokio::test]
async fn case_040_the_table_the_router_and_the_document_are_one_list() {
    let document = serde_json::to_value(countersign::http::docs::document()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let table = ROUTES
        .iter()
        .map(|route| (route.method.to_owned(), route.path.to_owned()));
    assert_eq!(documented, table.collect());
}

#[tokio::test]
async fn case_040_no_spelling_of_a_path_goes_around_the_guard() {
    let bench = Bench::start().await;
    let spellings = [
        "//v1/agents",
        "/v1//agents",
        "/v1/agents/",
        "/v1/agents;x=1",
        "/v1/agents%2f",
        "/v1%2fagents",
        "/v1/../v1/agents",
        "/healthz/../v1/agents",
        "/v1/./agents",
        "/V1/agents",
        "/v1/agents%00",
        "/v1/%61gents",
        "/v1/agents?x=/healthz",
        "/healthz/v1/agents",
        "/v1/agents/..%2f/disable",
        "/v1/ledger/entries%3f",
        "/v1/requests/%ff",
        "/v1/agents/%2e%2e/disable",
    ];
    for path in spellings {
        for agent in ["kube-probe/1.30", "curl"] {
            for method in ["GET", "POST", "HEAD"] {
                for token in [None, Some(BOT)] {
                    let call = bench.call(method, path).header("user-agent", agent);
                    let call = match token {
                        Some(token) => call.bearer(token),
                        None => call,
                    };
                    let status = call.send().await.status.as_u16();
                    assert!(
                        [401, 403, 404, 405].contains(&status),
                        "{method} {path}: {status}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn case_028_reading_never_changes_anything() {
    let bench = Bench::start().await;
    let live = bench.live(BOT).await;
    let before = bench.size().await;
    for route in ROUTES {
        let path = route
            .path
            .replace("{id}", text(&live["request"], "id"))
            .replace("{name}", "bot");
        for method in ["GET", "HEAD", "OPTIONS"] {
            for token in [BOT, OPERATOR] {
                bench.call(method, &path).bearer(token).send().await;
            }
            bench.call(method, &path).person(LEAD).send().await;
        }
    }
    assert_eq!(bench.size().await, before);
}

#[tokio::test]
async fn case_030_case_131_a_foreign_id_answers_like_an_unknown_one_everywhere() {
    let bench = Bench::start().await;
    let live = bench.live(BOT).await;
    let pending = bench.ask(BOT, "orders.export").await;
    let before = bench.size().await;
    let lease = text(&live["lease"], "id").to_owned();
    let requests = [
        text(&live["request"], "id").to_owned(),
        text(&pending, "id").to_owned(),
    ];
    for route in ROUTES.iter().filter(|route| route.path.contains("{id}")) {
        let (foreign, malformed) = if route.path.contains("/leases/") {
            (
                vec![lease.clone()],
                [UNKNOWN_LEASE, "lse_x", "%00", "%ff", UNKNOWN_REQUEST],
            )
        } else {
            (
                requests.to_vec(),
                [UNKNOWN_REQUEST, "req_x", "%00", "%ff", UNKNOWN_LEASE],
            )
        };
        for kind in route.kinds.iter().filter(|kind| **kind != Kind::Operator) {
            // The person's own review of a foreign request is refused and recorded, not hidden.
            if *kind == Kind::Person && route.path.ends_with("/reviews") && route.method == "POST" {
                continue;
            }
            let mut answers = BTreeSet::new();
            let ids = foreign.iter().map(String::as_str).chain(malformed);
            for id in ids {
                let call = bench.call(route.method, &route.path.replace("{id}", id));
                let call = with_body(route, call);
                let call = match kind {
                    Kind::Agent => call.bearer(OTHER),
                    _ => call.person("stranger"),
                };
                let answer = call.send().await;
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{route:?} {id}");
                answers.insert(answer.fingerprint());
            }
            assert_eq!(answers.len(), 1, "{route:?} as {kind:?}: {answers:#?}");
        }
    }
    assert_eq!(
        bench.size().await,
        before,
        "nothing was recorded or changed"
    );
    let mine = bench.get("/v1/requests").bearer(OTHER).send().await.json();
    assert_eq!(mine["data"], json!([]));
    assert_eq!(
        bench.get("/v1/leases").bearer(OTHER).send().await.json()["data"],
        json!([])
    );
}

#[tokio::test]
async fn a_session_changes_nothing_without_its_token_and_our_own_origin() {
    let bench = Bench::start().await;
    let request = bench.ask(BOT, "orders.export").await;
    let path = format!("/v1/requests/{}/reviews", text(&request, "id"));
    let body = json!({"decision": "approve", "digest": request["digest"]});
    let attempts: [&[(&str, &str)]; 6] = [
        &[],
        &[("x-csrf-token", "csrf-lead")],
        &[
            ("x-csrf-token", "csrf-owner"),
            ("origin", "https://countersign.example"),
        ],
        &[
            ("x-csrf-token", ""),
            ("origin", "https://countersign.example"),
        ],
        &[
            ("x-csrf-token", "csrf-lead"),
            ("origin", "https://evil.example"),
        ],
        &[
            ("x-csrf-token", "csrf-lead"),
            ("sec-fetch-site", "cross-site"),
        ],
    ];
    for headers in attempts {
        let mut call = bench
            .post(&path)
            .header("cookie", "countersign=lead")
            .json(&body);
        for (name, value) in headers {
            call = call.header(name, value);
        }
        let answer = call.send().await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::FORBIDDEN, "csrf_failed"),
            "{headers:?}"
        );
    }
    assert_eq!(bench.ask_state(&request).await, "pending");
    let own = bench.review(LEAD, &request, "approve").await;
    assert_eq!(own.status, StatusCode::CREATED);
}

#[tokio::test]
async fn tokens_that_are_nobodys_prove_nothing_and_an_outage_is_not_a_no() {
    let bench = Bench::start().await;
    for token in [
        "csk_",
        "cst_bot",
        "CSK_bot",
        "csk_bot ",
        "eyJhbGciOiJub25lIn0.e30.",
    ] {
        let answer = bench.get("/v1/actions").bearer(token).send().await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{token}");
        assert!(
            !answer.text.contains(token.trim()),
            "a token is never repeated"
        );
    }
    let answer = bench.get("/v1/actions").bearer("csk_outage").send().await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    );
    bench
        .broker
        .disable_agent(&"bot".parse().unwrap())
        .await
        .unwrap();
    let answer = bench.get("/v1/actions").bearer(BOT).send().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn pages_beside_the_api_answer_for_their_own_paths_only() {
    let mut bench = Bench::start().await;
    let pages = axum::Router::new().fallback(async || "a page");
    bench.router = countersign::http::router(bench.api.clone(), Some(pages));
    assert_eq!(bench.get("/nothing").send().await.text, "a page");
    assert_eq!(bench.get("/v1/nothing").send().await.code(), "not_found");
    assert_eq!(
        bench.get("/v1/agents").send().await.status,
        StatusCode::UNAUTHORIZED
    );
}
