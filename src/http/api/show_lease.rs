//! `GET /v1/leases/{id}`: one lease.

use axum::Json;
use axum::extract::State;

use crate::domain::{LeaseId, Request};
use crate::http::auth::{Caller, Principal};
use crate::http::headers::Id;
use crate::http::view::LeaseView;
use crate::http::{Api, Problem};

/// The open request whose lease this is, if the caller may know. People are asked about policy by the broker.
pub(super) fn holder(api: &Api, caller: &Principal, id: &LeaseId) -> Result<Request, Problem> {
    let agent = caller.agent();
    let wanted = |request: &Request| {
        request.lease() == Some(id) && agent.is_none_or(|name| request.sealed().agent == *name)
    };
    let found = api.broker.open_requests(&wanted).into_iter().next();
    found.ok_or_else(Problem::not_found)
}

/// Show a lease
///
/// While it is not proven over. A lease that is over is not here any more: its request tells how it ended.
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
    let request = holder(&api, &caller, &id)?;
    let lease = LeaseView::of(&api, &request);
    lease.map(Json).ok_or_else(Problem::not_found)
}
