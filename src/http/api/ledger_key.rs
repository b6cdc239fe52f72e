//! `GET /v1/ledger/key`: the key that checkpoints are verified with.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::http::Api;

/// Show the ledger's verifier key
///
/// `NAME+HASH+KEY` (C2SP vkey), one line. Public. Keep it where the operator of this broker cannot change it:
/// a key that comes with the ledger it verifies proves nothing.
#[utoipa::path(
    get, path = "/v1/ledger/key", operation_id = "ledger_key", tag = "ledger",
    responses((status = 200, description = "The key.", body = String, content_type = "text/plain",
        example = "countersign.example.com+8f2c91d0+AXm4…=\n"))
)]
pub async fn show(State(api): State<Api>) -> Response {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    let key = format!("{}\n", api.broker.verifying_key());
    ([(header::CONTENT_TYPE, plain)], key).into_response()
}
