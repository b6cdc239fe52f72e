//! `GET /v1/requests`: an agent's own requests, or all of them for the operator.

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;

use crate::domain::{Request, RequestId};
use crate::http::auth::Caller;
use crate::http::headers::Query;
use crate::http::view::{Page, RequestView};
use crate::http::{Api, Problem};

/// List requests
///
/// Newest first: an agent sees its own, the operator all. A page of closed ones may be shorter than `limit`;
/// follow `next_cursor` until it is null.
#[utoipa::path(
    get, path = "/v1/requests", operation_id = "list_requests", tag = "requests",
    params(
        ("state" = Option<String>, Query, description = "`open` or `closed`; both when absent.", example = "open"),
        ("limit" = Option<u16>, Query, description = "Page size, 1 to 200; 50 when absent.", example = 50),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.")
    ),
    responses((status = 200, description = "A page.", body = Page<RequestView>))
)]
pub async fn list(
    State(api): State<Api>,
    Caller(caller): Caller,
    parts: Parts,
) -> Result<Response, Problem> {
    let query = Query::of(&parts, &["state", "limit", "cursor"])?;
    let limit = query.limit()?;
    let agent = caller.agent();
    let mine = |request: &Request| agent.is_none_or(|name| request.sealed().agent == *name);
    let (requests, next_cursor) = match query.text("state") {
        Some("open") => {
            let before = query.cursor::<RequestId>()?;
            let wanted = |request: &Request| {
                mine(request) && before.as_ref().is_none_or(|before| request.id() < before)
            };
            newest(api.broker.open_requests(&wanted), Request::id, limit)
        }
        Some("closed") | None => {
            let before = query.cursor::<u64>()?;
            let (mut found, next) = api.broker.history(agent, before, limit).await?;
            if query.text("state").is_some() {
                found.retain(|request| request.state.word() == "closed");
            }
            (found, next.map(|next| next.to_string()))
        }
        Some(_) => return Err(Query::wrong("state", "give open or closed")),
    };
    let data = requests
        .iter()
        .map(|request| RequestView::of(&api, request));
    let page = Page {
        data: data.collect(),
        next_cursor,
    };
    Ok(super::page("/v1/requests", &query, page))
}

/// The newest `limit` of `open`, and the cursor behind them when there are more.
pub(super) fn newest<T, I: Ord + ToString>(
    mut open: Vec<T>,
    id: fn(&T) -> &I,
    limit: usize,
) -> (Vec<T>, Option<String>) {
    open.sort_by(|left, right| id(right).cmp(id(left)));
    let more = open.len() > limit;
    open.truncate(limit);
    let last = open.last().filter(|_| more);
    let last = last.map(|last| id(last).to_string());
    (open, last)
}
