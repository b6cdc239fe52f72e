//! `GET /v1/targets`: which server each target stands for.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::broker::{Seen, Standing};
use crate::http::Api;
use crate::http::view::Page;

/// A target.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "name": "shop", "server": "postgresql 7423116822334455667 timeline 1",
    "seen": "postgresql 7423116822334455667 timeline 2", "trouble": null, "in_order": false
}))]
pub struct TargetView {
    /// Its name in `countersign.toml`.
    name: String,
    /// The server it stands for: credentials are minted, ended and proven there. Null until it first answered.
    server: Option<String>,
    /// The server that answered last. Null when none did.
    seen: Option<String>,
    /// Why the last look gave no server, as `code: words`.
    trouble: Option<String>,
    /// Whether the two servers are the same.
    in_order: bool,
}

impl From<&Standing> for TargetView {
    fn from(standing: &Standing) -> Self {
        let (seen, trouble) = match &standing.seen {
            Some(Seen::Server(server)) => (Some(server.to_string()), None),
            Some(Seen::Trouble(error)) => (None, Some(error.to_string())),
            None => (None, None),
        };
        Self {
            name: standing.target.to_string(),
            server: standing.server.as_ref().map(ToString::to_string),
            seen,
            trouble,
            in_order: standing.is_in_order(),
        }
    }
}

/// List targets
///
/// Which server each one stands for by the ledger, and which one answered when it was last asked. Where the two differ,
/// nothing is minted, ended or proven until the target points back or the operator says that it moved. For the operator.
#[utoipa::path(
    get, path = "/v1/targets", operation_id = "list_targets", tag = "targets",
    responses((status = 200, description = "All of them, by name.", body = Page<TargetView>))
)]
pub async fn list(State(api): State<Api>) -> Json<Page<TargetView>> {
    let standings = api.broker.target_standings();
    Json(Page {
        data: standings.iter().map(TargetView::from).collect(),
        next_cursor: None,
    })
}
