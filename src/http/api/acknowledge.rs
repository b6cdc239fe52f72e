//! `POST /v1/leases/{id}/acknowledge`: the agent holds the credential.

use axum::Json;
use axum::extract::State;

use super::revoke::in_force;
use super::show_lease::holder;
use crate::domain::LeaseId;
use crate::http::auth::{Caller, CallingAgent};
use crate::http::body::NoBody;
use crate::http::headers::Id;
use crate::http::view::RequestView;
use crate::http::{Api, Problem};

/// Acknowledge a credential
///
/// To be called as soon as the answer to the collect has arrived, and by `acknowledge_by` of its lease, a minute after
/// the mint: an answer that nobody acknowledges counts as lost, and its credential is ended. The request is approved
/// again then, and can be collected again while its time for that lasts. Acknowledging twice is fine; finishing counts.
#[utoipa::path(
    post, path = "/v1/leases/{id}/acknowledge", operation_id = "acknowledge_lease", tag = "leases",
    params(("id" = String, Path, description = "The lease.", example = "lse_01kb0m5v9s1a2b3c4d5e6f7g8h")),
    responses((status = 200, description = "The request, live.", body = RequestView))
)]
pub async fn acknowledge(
    State(api): State<Api>,
    CallingAgent(agent): CallingAgent,
    Caller(caller): Caller,
    Id(id): Id<LeaseId>,
    NoBody: NoBody,
) -> Result<Json<RequestView>, Problem> {
    let request = holder(&api, &caller, &id).await?;
    in_force(&request, &id)?;
    let request = api.broker.acknowledge(&agent.name, &id).await?;
    Ok(Json(RequestView::of(&api, &request)))
}
