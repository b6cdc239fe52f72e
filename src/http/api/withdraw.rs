//! `POST /v1/requests/{id}/withdraw`: the agent takes its request back.

use axum::Json;
use axum::extract::State;

use crate::domain::RequestId;
use crate::http::auth::{Caller, CallingAgent, visible};
use crate::http::body::NoBody;
use crate::http::headers::Id;
use crate::http::view::RequestView;
use crate::http::{Api, Problem};

/// Withdraw a request
///
/// While it is pending, or approved and not collected. It is then closed as `withdrawn`.
#[utoipa::path(
    post, path = "/v1/requests/{id}/withdraw", operation_id = "withdraw_request", tag = "requests",
    params(("id" = String, Path, description = "The request.", example = "req_01kb0m4v9s1a2b3c4d5e6f7g8h")),
    responses((status = 200, description = "The request, closed.", body = RequestView))
)]
pub async fn withdraw(
    State(api): State<Api>,
    CallingAgent(agent): CallingAgent,
    Caller(caller): Caller,
    Id(id): Id<RequestId>,
    NoBody: NoBody,
) -> Result<Json<RequestView>, Problem> {
    visible(&api, &caller, &id).await?;
    let request = api.broker.withdraw(&agent.name, &id).await?;
    Ok(Json(RequestView::of(&api, &request)))
}
