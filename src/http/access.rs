//! The route table: every route of the API, who may call it, and the codes it refuses with.
//!
//! The guard asks only this table; the OpenAPI document is completed from it; tests walk it. A handler that is
//! not in it is refused to everybody, and a row without a handler fails a test.

use axum::http::Method;

/// A kind of caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An agent.
    Agent,
    /// The holder of the operator token.
    Operator,
    /// A signed-in person.
    Person,
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Its method.
    pub method: &'static str,
    /// Its path as the router writes it.
    pub path: &'static str,
    /// Who may call it. Empty means everybody.
    pub kinds: &'static [Kind],
    /// Codes it refuses with, beside those every guarded route has.
    pub codes: &'static [(u16, &'static str)],
}

use Kind::{Agent, Operator, Person};

const fn get(
    path: &'static str,
    kinds: &'static [Kind],
    codes: &'static [(u16, &'static str)],
) -> Route {
    Route {
        method: "GET",
        path,
        kinds,
        codes,
    }
}

const fn post(
    path: &'static str,
    kinds: &'static [Kind],
    codes: &'static [(u16, &'static str)],
) -> Route {
    Route {
        method: "POST",
        path,
        kinds,
        codes,
    }
}

/// Codes of a route that reads a JSON body.
macro_rules! with_body {
    ($($more:expr),* $(,)?) => {
        &[
            (400, "empty_body"), (400, "invalid_json"), (400, "duplicate_field"), (400, "too_deep"),
            (400, "unknown_field"), (400, "missing_field"), (400, "wrong_type"), (400, "invalid_value"),
            (400, "invalid_request"), (408, "body_timeout"), (413, "body_too_large"),
            (415, "unsupported_media_type"), $($more),*
        ]
    };
}

/// Codes of a route that takes no body.
macro_rules! no_body {
    ($($more:expr),* $(,)?) => {
        &[(400, "unknown_field"), (408, "body_timeout"), (413, "body_too_large"), $($more),*]
    };
}

const LIST: &[(u16, &str)] = &[
    (400, "unknown_parameter"),
    (400, "invalid_value"),
    (400, "invalid_cursor"),
];
const ONE: &[(u16, &str)] = &[(404, "not_found")];

/// Every route of the API.
pub const ROUTES: &[Route] = &[
    get("/healthz", &[], &[]),
    get(
        "/readyz",
        &[],
        &[(503, "not_ready"), (503, "ledger_in_doubt")],
    ),
    get("/openapi.json", &[], &[]),
    get("/v1/ledger/checkpoint", &[], &[(503, "not_ready")]),
    get("/v1/ledger/key", &[], &[]),
    post("/v1/token", &[], &[]),
    get("/v1/actions", &[Agent, Operator], &[]),
    get("/v1/requests", &[Agent, Operator], LIST),
    post(
        "/v1/requests",
        &[Agent],
        with_body![
            (400, "unknown_action"),
            (400, "invalid_parameters"),
            (400, "invalid_ttl"),
            (400, "invalid_scope"),
            (400, "invalid_idempotency_key"),
            (403, "agent_disabled"),
            (403, "policy_denied"),
            (403, "frozen"),
            (410, "expired"),
            (422, "idempotency_mismatch"),
            (429, "too_many_open_requests"),
            (503, "target_unidentified"),
        ],
    ),
    get("/v1/requests/{id}", &[Agent, Operator], ONE),
    post(
        "/v1/requests/{id}/withdraw",
        &[Agent],
        no_body![(404, "not_found"), (409, "not_pending"), (410, "gone")],
    ),
    post(
        "/v1/requests/{id}/credential",
        &[Agent],
        no_body![
            (400, "idempotency_key_required"),
            (400, "invalid_idempotency_key"),
            (403, "policy_denied"),
            (403, "self_approval"),
            (403, "frozen"),
            (404, "not_found"),
            (409, "approval_required"),
            (409, "binding_mismatch"),
            (409, "mint_underway"),
            (410, "gone"),
            (410, "expired"),
            (502, "target_refused"),
            (503, "target_unavailable"),
            (503, "target_changed"),
            (503, "clock_apart"),
        ],
    ),
    post(
        "/v1/requests/{id}/finish",
        &[Agent],
        with_body![(404, "not_found"), (409, "not_live"), (410, "gone")],
    ),
    get("/v1/requests/{id}/reviews", &[Agent, Operator, Person], ONE),
    post(
        "/v1/requests/{id}/reviews",
        &[Person],
        with_body![
            (403, "csrf_failed"),
            (403, "self_approval"),
            (403, "not_a_reviewer"),
            (403, "frozen"),
            (404, "not_found"),
            (409, "already_reviewed"),
            (409, "digest_mismatch"),
            (409, "not_pending"),
            (410, "expired"),
        ],
    ),
    get("/v1/leases", &[Agent, Operator], LIST),
    get("/v1/leases/{id}", &[Agent, Operator], ONE),
    post(
        "/v1/leases/{id}/acknowledge",
        &[Agent],
        no_body![(404, "not_found"), (409, "not_live")],
    ),
    post(
        "/v1/leases/{id}/revoke",
        &[Agent, Operator, Person],
        no_body![
            (403, "csrf_failed"),
            (403, "policy_denied"),
            (404, "not_found"),
            (409, "not_live")
        ],
    ),
    post(
        "/v1/leases/{id}/abandon",
        &[Operator],
        with_body![(404, "not_found"), (409, "not_stuck")],
    ),
    post(
        "/v1/guards/{name}/shut",
        &[Operator],
        no_body![(404, "not_found"), (404, "unknown_guard")],
    ),
    get("/v1/targets", &[Operator], &[]),
    post(
        "/v1/targets/{name}/move",
        &[Operator],
        with_body![
            (404, "not_found"),
            (503, "target_changed"),
            (503, "target_unidentified"),
        ],
    ),
    post(
        "/v1/clock/accept",
        &[Operator],
        with_body![(409, "clock_not_apart"), (409, "clocks_differ")],
    ),
    get("/v1/agents", &[Operator], &[]),
    post("/v1/agents", &[Operator], with_body![(409, "agent_exists")]),
    post(
        "/v1/agents/{name}/disable",
        &[Operator],
        no_body![
            (404, "not_found"),
            (404, "unknown_agent"),
            (403, "agent_disabled")
        ],
    ),
    get("/v1/ledger/entries", &[Operator], LIST),
];

/// The row of a route. A HEAD is a GET without its body.
pub fn find(method: &Method, path: &str) -> Option<&'static Route> {
    let wanted = if method == Method::HEAD {
        "GET"
    } else {
        method.as_str()
    };
    ROUTES
        .iter()
        .find(|route| route.method == wanted && route.path == path)
}

/// Who may call a route of these kinds, as a sentence.
pub fn who_may(kinds: &[Kind]) -> String {
    let words: Vec<_> = kinds
        .iter()
        .map(|kind| match kind {
            Kind::Agent => "an agent",
            Kind::Operator => "the operator",
            Kind::Person => "a signed-in person",
        })
        .collect();
    format!("This is for {}; call it as one.", words.join(" or "))
}
