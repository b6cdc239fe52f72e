//! `POST /v1/leases/{id}/revoke`: end a credential early.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::show_lease::holder;
use crate::domain::command::Revoker;
use crate::domain::{LeaseId, Request};
use crate::http::auth::{Caller, Principal};
use crate::http::body::NoBody;
use crate::http::headers::{Id, Prefer};
use crate::http::view::RequestView;
use crate::http::{Api, Problem};

/// Revoke a lease
///
/// For the agent that holds it, the operator, and people whom policy lets. With `Prefer: wait=N` the answer waits
/// up to N seconds (at most 50) for the proof that nothing can be done with the credential any more. Revoking what
/// is over is fine.
#[utoipa::path(
    post, path = "/v1/leases/{id}/revoke", operation_id = "revoke_lease", tag = "leases",
    params(
        ("id" = String, Path, description = "The lease.", example = "lse_01kb0m5v9s1a2b3c4d5e6f7g8h"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N seconds, at most 50.", example = "wait=10")
    ),
    responses((status = 200, description = "The request: ending, or closed.", body = RequestView))
)]
pub async fn revoke(
    State(api): State<Api>,
    Caller(caller): Caller,
    Id(id): Id<LeaseId>,
    prefer: Prefer,
    NoBody: NoBody,
) -> Result<Response, Problem> {
    let request = holder(&api, &caller, &id).await?;
    if request.state.word() == "closed" {
        return Ok(super::shown(&api, &request, prefer));
    }
    in_force(&request, &id)?;
    let by = match caller {
        Principal::Agent(agent) => Revoker::Agent(agent.name),
        Principal::Operator => Revoker::Operator,
        Principal::Person(person) => Revoker::Person(Box::new(person.reviewer)),
    };
    let request = api.broker.revoke(by, request.id()).await?;
    let request = super::wait(&api, request, super::UNTIL_CLOSED, prefer).await?;
    Ok(super::shown(&api, &request, prefer))
}

/// Whether `lease` is the one its request stands or falls with.
pub(super) fn in_force(request: &Request, lease: &LeaseId) -> Result<(), Problem> {
    if request.lease() == Some(lease) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::CONFLICT,
        "not_live",
        "this lease is over or cut off",
        "Look at its request for how it stands, and for the lease in force.",
    ))
}
