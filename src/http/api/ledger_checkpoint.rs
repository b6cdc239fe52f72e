//! `GET /v1/ledger/checkpoint`: the newest signed head of the ledger.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::http::{Api, Problem};

/// Show the newest checkpoint
///
/// A C2SP signed note over the size and root of the ledger. Public: keep it, and later prove that nothing
/// before it was changed.
#[utoipa::path(
    get, path = "/v1/ledger/checkpoint", operation_id = "ledger_checkpoint", tag = "ledger",
    responses((status = 200, description = "The signed note.", body = String, content_type = "text/plain",
        example = "countersign.example.com\n42\nq1F3…=\n\n— countersign.example.com 8f2c…=\n"))
)]
pub async fn show(State(api): State<Api>) -> Result<Response, Problem> {
    let note = api.broker.checkpoint().await?;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, plain)], note).into_response())
}
