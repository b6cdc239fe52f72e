//! `GET /v1/actions`: what can be asked for.

use axum::Json;
use axum::extract::State;

use crate::http::Api;
use crate::http::view::{ActionView, Page};

/// List the actions of the catalog
///
/// With their typed parameters, lifetimes and who reviews them. Whether policy lets this agent ask is decided
/// when it asks.
#[utoipa::path(
    get, path = "/v1/actions", operation_id = "list_actions", tag = "requests",
    responses((status = 200, description = "All of them, by name.", body = Page<ActionView>))
)]
pub async fn list(State(api): State<Api>) -> Json<Page<ActionView>> {
    let policy = api.broker.policy();
    Json(Page {
        data: policy.actions().into_iter().map(ActionView::of).collect(),
        next_cursor: None,
    })
}
