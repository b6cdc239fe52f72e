//! `GET /v1/leases/{id}`: one lease.

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::domain::{LeaseId, Request};
use crate::http::auth::{Caller, Principal, may_see};
use crate::http::headers::{Id, Prefer};
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

/// States of a request whose credential works, or is about to.
const WHILE_ALIVE: &[&str] = &["issuing", "live"];

/// Show a lease
///
/// A lease that is `ended` is proven over; its request tells how. With `Prefer: wait=N` the answer waits up to N
/// seconds (at most 50) while the lease lives, so that its holder learns of an early end at once.
#[utoipa::path(
    get, path = "/v1/leases/{id}", operation_id = "show_lease", tag = "leases",
    params(
        ("id" = String, Path, description = "The lease.", example = "lse_01kb0m5v9s1a2b3c4d5e6f7g8h"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N seconds, at most 50.", example = "wait=30")
    ),
    responses((status = 200, description = "The lease.", body = LeaseView))
)]
pub async fn show(
    State(api): State<Api>,
    Caller(caller): Caller,
    prefer: Prefer,
    Id(id): Id<LeaseId>,
) -> Result<Response, Problem> {
    let request = holder(&api, &caller, &id).await?;
    let serves = request.lease() == Some(&id);
    let request = if serves {
        super::wait(&api, request, WHILE_ALIVE, prefer).await?
    } else {
        request
    };
    let lease = axum::Json(LeaseView::of(&api, &id, &request));
    Ok(prefer.applied(lease.into_response()))
}
