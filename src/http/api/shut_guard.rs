//! `POST /v1/guards/{name}/shut`: the kill switch of a role group.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::GuardName;
use crate::http::body::NoBody;
use crate::http::headers::Id;
use crate::http::{Api, Problem};

/// What a kill switch did.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"guard": "orders", "leases": ["lse_01kb0m5v9s1a2b3c4d5e6f7g8h"], "published": true}))]
pub struct GuardShutView {
    /// The guard.
    guard: String,
    /// The leases it ends. Each of them is proven on its own.
    leases: Vec<String>,
    /// Whether the guard denies their sessions already, as read back from AWS. If not, it is tried again for ever.
    published: bool,
}

/// Shut a guard
///
/// Denies every session of the guard's roles that was issued until now, whoever made it, also those the ledger does not
/// know, and ends their leases. What is issued from the next second on is not affected. For the operator.
#[utoipa::path(
    post, path = "/v1/guards/{name}/shut", operation_id = "shut_guard", tag = "leases",
    params(("name" = String, Path, description = "The guard.", example = "orders")),
    responses((status = 200, description = "Recorded, and tried once.", body = GuardShutView))
)]
pub async fn shut(
    State(api): State<Api>,
    Id(guard): Id<GuardName>,
    NoBody: NoBody,
) -> Result<Json<GuardShutView>, Problem> {
    let shut = api.broker.shut_guard(&guard).await?;
    Ok(Json(GuardShutView {
        guard: guard.to_string(),
        leases: shut.leases.iter().map(ToString::to_string).collect(),
        published: shut.published,
    }))
}
