//! `POST /v1/leases/{id}/abandon`: the operator gives up a lease whose end cannot be proven.

use axum::extract::State;
use utoipa::ToSchema;

use super::show_lease::holder;
use crate::domain::LeaseId;
use crate::http::auth::Caller;
use crate::http::body::Json;
use crate::http::fields::{Fields, FromFields};
use crate::http::headers::Id;
use crate::http::view::LeaseView;
use crate::http::{Api, Problem};

/// A lease that is given up.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"reason": "the server is gone for good, INC-12"}))]
pub struct Abandon {
    /// Why, for the record. Kept erasable.
    #[schema(min_length = 1, max_length = 2000)]
    reason: String,
}

impl FromFields for Abandon {
    const NAMES: &'static [&'static str] = &["reason"];

    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let reason = fields.required_text("reason", 2000);
        Some(Self { reason: reason? })
    }
}

/// Give up a lease
///
/// For the operator, when the target is gone for good: only a lease that is being ended, and whose end has failed or whose
/// target is away. Its request closes as `abandoned`, and it holds no place in the agent's quota or in the configuration any more.
/// Nobody has proven its credential gone: it stays in the list of leases, and is ended should the target answer again.
#[utoipa::path(
    post, path = "/v1/leases/{id}/abandon", operation_id = "abandon_lease", tag = "leases",
    params(("id" = String, Path, description = "The lease.", example = "lse_01kb0m5v9s1a2b3c4d5e6f7g8h")),
    request_body = Abandon,
    responses((status = 200, description = "Recorded. The lease as it is now.", body = LeaseView))
)]
pub async fn abandon(
    State(api): State<Api>,
    Caller(caller): Caller,
    Id(id): Id<LeaseId>,
    Json { value: given, .. }: Json<Abandon>,
) -> Result<axum::Json<LeaseView>, Problem> {
    let request = holder(&api, &caller, &id).await?;
    api.broker.abandon(&id, given.reason).await?;
    Ok(axum::Json(LeaseView::of(&api, &id, &request)))
}
