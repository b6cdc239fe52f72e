//! `GET /v1/requests/{id}`: one request.

use axum::extract::State;
use axum::response::Response;

use crate::domain::RequestId;
use crate::http::auth::{Caller, visible};
use crate::http::headers::{Id, Prefer};
use crate::http::view::RequestView;
use crate::http::{Api, Problem};

/// Show a request
///
/// With `Prefer: wait=N` the answer waits up to N seconds (at most 50) while it is pending. A pending request is
/// an answer, not an error.
#[utoipa::path(
    get, path = "/v1/requests/{id}", operation_id = "show_request", tag = "requests",
    params(
        ("id" = String, Path, description = "The request.", example = "req_01kb0m4v9s1a2b3c4d5e6f7g8h"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N seconds, at most 50.", example = "wait=30")
    ),
    responses((status = 200, description = "The request as it is now.", body = RequestView))
)]
pub async fn show(
    State(api): State<Api>,
    Caller(caller): Caller,
    prefer: Prefer,
    Id(id): Id<RequestId>,
) -> Result<Response, Problem> {
    let request = visible(&api, &caller, &id).await?;
    let request = super::wait(&api, request, &["pending"], prefer).await?;
    Ok(super::shown(&api, &request, prefer))
}
