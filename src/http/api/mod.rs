//! The endpoints, one a file.

use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::headers::{Prefer, Query};
use super::problem::Problem;
use super::{Api, view};
use crate::domain::{Request, RequestId};

pub mod abandon;
pub mod accept_clock;
pub mod acknowledge;
pub mod collect;
pub mod disable_agent;
pub mod enroll_agent;
pub mod finish;
pub mod give_review;
pub mod health;
pub mod ledger_checkpoint;
pub mod ledger_entries;
pub mod ledger_key;
pub mod list_actions;
pub mod list_agents;
pub mod list_leases;
pub mod list_requests;
pub mod list_reviews;
pub mod list_targets;
pub mod move_target;
pub mod revoke;
pub mod show_lease;
pub mod show_request;
pub mod shut_guard;
pub mod submit;
pub mod token;
pub mod withdraw;

/// Every endpoint.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::document))
        .routes(routes!(token::exchange))
        .routes(routes!(list_actions::list))
        .routes(routes!(list_requests::list, submit::submit))
        .routes(routes!(show_request::show))
        .routes(routes!(withdraw::withdraw))
        .routes(routes!(collect::collect))
        .routes(routes!(finish::finish))
        .routes(routes!(list_reviews::list, give_review::give))
        .routes(routes!(list_leases::list))
        .routes(routes!(show_lease::show))
        .routes(routes!(acknowledge::acknowledge))
        .routes(routes!(revoke::revoke))
        .routes(routes!(abandon::abandon))
        .routes(routes!(shut_guard::shut))
        .routes(routes!(list_targets::list))
        .routes(routes!(move_target::announce))
        .routes(routes!(accept_clock::accept))
        .routes(routes!(list_agents::list, enroll_agent::enroll))
        .routes(routes!(disable_agent::disable))
        .routes(routes!(ledger_checkpoint::show))
        .routes(routes!(ledger_key::show))
        .routes(routes!(ledger_entries::list))
}

/// Waits until the request has left every one of `states`, the preference is used up, or the broker stops.
async fn wait(
    api: &Api,
    request: Request,
    states: &[&str],
    prefer: Prefer,
) -> Result<Request, Problem> {
    let Prefer(at_most) = prefer;
    let id: RequestId = request.id().clone();
    let mut stage = api.broker.stage(&request);
    if at_most.is_zero() || !states.contains(&stage) {
        return Ok(request);
    }
    let left_them = async {
        loop {
            let waited = api.broker.wait(&id, stage, at_most).await;
            let now = match &waited {
                Ok(Some(request)) => api.broker.stage(request),
                _ => return waited,
            };
            if now == stage || !states.contains(&now) {
                return waited;
            }
            stage = now;
        }
    };
    let waited = tokio::select! {
        waited = tokio::time::timeout(at_most + Duration::from_millis(250), left_them) => waited.ok(),
        () = api.stopping.cancelled() => None,
    };
    let now = match waited {
        Some(now) => now?,
        None => api.broker.request(&id).await?,
    };
    now.ok_or_else(Problem::not_found)
}

/// Stages in which a credential may still work.
const UNTIL_CLOSED: &[&str] = &["issuing", "live", "ending"];

/// A request as the answer to a call that may have waited.
fn shown(api: &Api, request: &Request, prefer: Prefer) -> Response {
    use axum::response::IntoResponse;
    prefer.applied(axum::Json(view::RequestView::of(api, request)).into_response())
}

/// A page with its `Link` to the next one.
fn page<T: serde::Serialize>(path: &str, query: &Query, page: view::Page<T>) -> Response {
    use axum::response::IntoResponse;
    let link = page.next_cursor.as_deref().map(|cursor| {
        let mut next = url::form_urlencoded::Serializer::new(String::new());
        for name in ["state", "limit"] {
            if let Some(value) = query.text(name) {
                next.append_pair(name, value);
            }
        }
        next.append_pair("cursor", cursor);
        format!("<{path}?{}>; rel=\"next\"", next.finish())
    });
    let mut response = axum::Json(page).into_response();
    if let Some(value) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
        response.headers_mut().insert(header::LINK, value);
    }
    response
}
