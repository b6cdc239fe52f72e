//! `GET /v1/leases/{id}`: one lease.

use axum::Json;
use axum::extract::State;

use crate::domain::{LeaseId, Request};
use crate::http::auth::{Caller, Principal, may_see};
use crate::http::headers::Id;
use crate::http::view::LeaseView;
use crate::http::{Api, Problem};

/// The request a lease serves or served, if the caller may see it.
pub(super) async fn holder(
    api: &Api,
    caller: &Principal,
    id: &LeaseId,
) -> Result<Request, Problem> {
    let found = api.broker.request_of_lease(id).await?;
    let seen = found.filter(|request| may_see(api, caller, request));
    seen.ok_or_else(Problem::not_found)
}

/// Show a lease
///
/// A lease that is `ended` is proven over; its request tells how.
#[utoipa::path(
    get, path = "/v1/leases/{id}", operation_id = "show_lease", tag = "leases",
    params(("id" = String, Path, description = "The lease.", example = "lse_01kb0m5v9s1a2b3c4d5e6f7g8h")),
    responses((status = 200, description = "The lease.", body = LeaseView))
)]
pub async fn show(
    State(api): State<Api>,
    Caller(caller): Caller,
    Id(id): Id<LeaseId>,
) -> Result<Json<LeaseView>, Problem> {
    let request = holder(&api, &caller, &id).await?;
    Ok(Json(LeaseView::of(&api, &id, &request)))
}
