//! `GET /healthz`, `GET /readyz`, `GET /openapi.json`: for load balancers and tools. Nobody has to sign in.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::domain::Apart;
use crate::http::{Api, Problem, docs};

/// Whether the process answers
///
/// Says nothing about what the broker depends on; see `/readyz`.
#[utoipa::path(
    get, path = "/healthz", operation_id = "healthz", tag = "health",
    responses((status = 200, description = "It answers.", body = Value, example = json!({"status": "ok"})))
)]
pub async fn alive() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Whether the broker can decide
///
/// Its ledger answers. Send it no calls while it does not. `clock_apart` stands there while the wall clock and the
/// ledger's time are more than five seconds apart: nothing is minted then, and everything else goes on.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "health",
    responses((status = 200, description = "It can decide.", body = Value, example = json!({"status": "ready"})))
)]
pub async fn ready(State(api): State<Api>) -> Response {
    match api.broker.ready().await {
        Ok(()) => Json(standing(api.broker.clock_apart())).into_response(),
        Err(reason) => {
            tracing::warn!(reason, "not ready");
            match api.broker.doubt() {
                Some(doubt) => Problem::in_doubt(doubt),
                None => Problem::unavailable("not_ready", "the broker cannot decide now"),
            }
            .into_response()
        }
    }
}

fn standing(apart: Option<Apart>) -> Value {
    match apart {
        None => json!({"status": "ready"}),
        Some(Apart { wall, ledger }) => {
            json!({"status": "ready", "clock_apart": {"wall": wall, "ledger": ledger}})
        }
    }
}

/// This document
///
/// OpenAPI 3.1, generated from the running code.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "health",
    responses((status = 200, description = "The document.", body = Value, example = json!({"openapi": "3.1.0"})))
)]
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(docs::document())
}
