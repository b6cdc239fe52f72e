//! `GET /v1/leases`: credentials that are not proven over.

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;

use super::list_requests::newest;
use crate::domain::{Lease, LeaseId};
use crate::http::auth::Caller;
use crate::http::headers::Query;
use crate::http::view::{LeaseView, Page};
use crate::http::{Api, Problem};

/// List leases
///
/// Every credential that is being minted, lives, or is not yet proven gone; newest first. An agent sees
/// its own, the operator all.
#[utoipa::path(
    get, path = "/v1/leases", operation_id = "list_leases", tag = "leases",
    params(
        ("limit" = Option<u16>, Query, description = "Page size, 1 to 200; 50 when absent.", example = 50),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.")
    ),
    responses((status = 200, description = "A page.", body = Page<LeaseView>))
)]
pub async fn list(
    State(api): State<Api>,
    Caller(caller): Caller,
    parts: Parts,
) -> Result<Response, Problem> {
    let query = Query::of(&parts, &["limit", "cursor"])?;
    let (limit, before) = (query.limit()?, query.cursor::<LeaseId>()?);
    let agent = caller.agent();
    let wanted = |lease: &Lease| {
        agent.is_none_or(|name| lease.agent == *name)
            && before.as_ref().is_none_or(|before| lease.id < *before)
    };
    let (leases, next_cursor) = newest(api.broker.leases(&wanted), |lease| &lease.id, limit);
    let mut data = Vec::new();
    for lease in &leases {
        // The request of a lease that was cut off after its answer was lost may be over.
        if let Some(request) = api.broker.request(&lease.request).await? {
            data.push(LeaseView::of(&api, &lease.id, &request));
        }
    }
    let page = Page { data, next_cursor };
    Ok(super::page("/v1/leases", &query, page))
}
