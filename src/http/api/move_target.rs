//! `POST /v1/targets/{name}/move`: the operator's word that a target moved as planned.

use axum::extract::State;
use utoipa::ToSchema;

use super::list_targets::TargetView;
use crate::domain::{ServerId, TargetName};
use crate::http::body::Json;
use crate::http::fields::{Fields, FromFields};
use crate::http::headers::Id;
use crate::http::{Api, Problem};

/// A planned move.
#[derive(Debug, ToSchema)]
#[schema(example = json!({
    "from": "postgresql 7423116822334455667 timeline 1", "to": "postgresql 7423116822334455667 timeline 2",
    "reason": "planned failover, CHG-88"
}))]
pub struct Move {
    /// The server the target stands for by the ledger.
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    from: ServerId,
    /// The server it stands for from now on.
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    to: ServerId,
    /// Why, for the record. Kept erasable.
    #[schema(max_length = 2000)]
    reason: Option<String>,
}

impl FromFields for Move {
    const NAMES: &'static [&'static str] = &["from", "to", "reason"];

    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let from = fields.required("from");
        let to = fields.required("to");
        let reason = fields.text("reason", 2000);
        Some(Self {
            from: from?,
            to: to?,
            reason,
        })
    }
}

/// Announce that a target moved
///
/// What was minted at the old server is ended and proven at the new one from now on, and approvals for the old one are void.
/// Say so only when the old server serves nobody any more: nobody looks there again. For the operator.
#[utoipa::path(
    post, path = "/v1/targets/{name}/move", operation_id = "move_target", tag = "targets",
    params(("name" = String, Path, description = "The target.", example = "shop")),
    request_body = Move,
    responses((status = 200, description = "Recorded. The target as it is now.", body = TargetView))
)]
pub async fn announce(
    State(api): State<Api>,
    Id(target): Id<TargetName>,
    Json { value: moved, .. }: Json<Move>,
) -> Result<axum::Json<TargetView>, Problem> {
    let Move { from, to, reason } = moved;
    api.broker.move_target(&target, &from, &to, reason).await?;
    let standings = api.broker.target_standings();
    let standing = standings.iter().find(|standing| standing.target == target);
    standing
        .map(|standing| axum::Json(TargetView::from(standing)))
        .ok_or_else(Problem::not_found)
}
