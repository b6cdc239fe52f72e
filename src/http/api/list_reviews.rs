//! `GET /v1/requests/{id}/reviews`: what people said of a request.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{RequestId, Time};
use crate::http::auth::{Caller, visible};
use crate::http::headers::Id;
use crate::http::view::{Page, PersonView, decision_word};
use crate::http::{Api, Problem};

/// One person's review.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "reviewer": {"issuer": "https://login.example.com", "subject": "00u1bob"}, "decision": "approve",
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "comment": "as agreed", "at": "2026-11-22T10:31:00.000Z"
}))]
pub struct FullReview {
    /// Who.
    reviewer: PersonView,
    /// `approve` or `deny`.
    decision: &'static str,
    /// The digest they saw.
    digest: String,
    /// Their words, unless they gave none or they were erased. Untrusted text.
    comment: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Time,
}

/// List the reviews of a request
///
/// In the order they were given.
#[utoipa::path(
    get, path = "/v1/requests/{id}/reviews", operation_id = "list_reviews", tag = "reviews",
    params(("id" = String, Path, description = "The request.", example = "req_01kb0m4v9s1a2b3c4d5e6f7g8h")),
    responses((status = 200, description = "All of them.", body = Page<FullReview>))
)]
pub async fn list(
    State(api): State<Api>,
    Caller(caller): Caller,
    Id(id): Id<RequestId>,
) -> Result<Json<Page<FullReview>>, Problem> {
    let request = visible(&api, &caller, &id).await?;
    let mut data = Vec::new();
    for review in &request.reviews {
        let comment = match &review.comment {
            Some(blob) => api.broker.text(blob).await?,
            None => None,
        };
        data.push(FullReview {
            reviewer: PersonView::from(&review.reviewer.person),
            decision: decision_word(review.decision),
            digest: review.digest.to_string(),
            comment,
            at: review.at,
        });
    }
    Ok(Json(Page {
        data,
        next_cursor: None,
    }))
}
