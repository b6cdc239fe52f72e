//! `POST /v1/requests/{id}/reviews`: a person approves or denies the digest they saw.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use utoipa::ToSchema;

use crate::domain::request::ReviewDecision;
use crate::domain::{Digest, RequestId};
use crate::http::auth::CallingPerson;
use crate::http::body::Json;
use crate::http::fields::{Fields, FromFields};
use crate::http::headers::Id;
use crate::http::view::RequestView;
use crate::http::{Api, Problem};

/// A decision.
#[derive(Debug, ToSchema)]
#[schema(example = json!({
    "decision": "approve", "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
}))]
pub struct Decision {
    /// `approve` or `deny`.
    #[schema(value_type = String)]
    decision: ReviewDecision,
    /// The digest of what was seen.
    #[schema(value_type = String)]
    digest: Digest,
    /// Why, for the record. Kept erasable.
    #[schema(max_length = 2000)]
    comment: Option<String>,
}

impl FromFields for Decision {
    const NAMES: &'static [&'static str] = &["decision", "digest", "comment"];

    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let words = [
            ("approve", ReviewDecision::Approve),
            ("deny", ReviewDecision::Deny),
        ];
        let decision = fields.required_word("decision", &words);
        let digest = fields.required("digest");
        let comment = fields.text("comment", 2000);
        Some(Self {
            decision: decision?,
            digest: digest?,
            comment,
        })
    }
}

/// Review a request
///
/// For signed-in people only: with the session cookie, its `X-CSRF-Token`, and from the broker's own origin. An
/// agent cannot review, the operator cannot, and nobody can on their own side. One deny closes the request.
#[utoipa::path(
    post, path = "/v1/requests/{id}/reviews", operation_id = "give_review", tag = "reviews",
    params(
        ("id" = String, Path, description = "The request.", example = "req_01kb0m4v9s1a2b3c4d5e6f7g8h"),
        ("X-CSRF-Token" = String, Header, description = "The session's token, from the page.")
    ),
    request_body = Decision,
    responses((status = 201, description = "Recorded. The request as it is now.", body = RequestView))
)]
pub async fn give(
    State(api): State<Api>,
    CallingPerson(reviewer): CallingPerson,
    Id(id): Id<RequestId>,
    Json { value: given, .. }: Json<Decision>,
) -> Result<Response, Problem> {
    let Decision {
        decision,
        digest,
        comment,
    } = given;
    let request = api
        .broker
        .review(reviewer, &id, digest, decision, comment)
        .await?;
    let view = RequestView::of(&api, &request);
    Ok((StatusCode::CREATED, axum::Json(view)).into_response())
}
