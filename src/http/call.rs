//! What happens around every call: an id, one line in the log, and a panic that stays in its own call.

use std::any::Any;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use super::Api;
use super::problem::Problem;

/// The header that carries the id of a call.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of the call, for handlers and pages that show it.
#[derive(Clone, Debug)]
pub struct CallId(pub String);

/// Gives the call an id, logs it by its route (never its URL, headers or body), and completes problem documents.
pub async fn identify(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let id = format!("{:032x}", api.entropy.draw());
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("-", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!(
        "call",
        request_id = %id,
        method = %request.method(),
        route,
        caller = tracing::field::Empty
    );
    request.extensions_mut().insert(CallId(id.clone()));
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    let mut response = complete(response, &id);
    span.in_scope(|| tracing::info!(status, "answered"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Writes the id into a problem document.
fn complete(mut response: Response, id: &str) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    let problem = problem.with_request_id(id);
    let is_page = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    if let Ok(body) = serde_json::to_vec(&problem)
        && !is_page
    {
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(body);
    }
    response
}

/// The answer of a call that panicked. What it said goes to the log.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape the catch-panic layer asks for"
)]
pub fn panicked(cause: Box<dyn Any + Send + 'static>) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(cause = text.unwrap_or("?"), "a call panicked");
    Problem::internal().into_response()
}
