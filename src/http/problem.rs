//! Problem documents (RFC 9457): how the API says no.
//!
//! Every error answer has this one shape, with a stable `code`, what to do `next` and the `request_id` to
//! quote. What is behind a 5xx goes to the log under that id and never into the answer. A problem for
//! something that is not there is the same, byte for byte, as for something that belongs to somebody else.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::broker::BrokerError;
use crate::domain::Refusal;
use crate::domain::command::RefusalCode;

/// The media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// One mistake in the request body or query.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Mistake {
    /// JSON Pointer (RFC 6901) into the body; for a query parameter `?name`.
    #[schema(example = "/ttl_seconds")]
    pub pointer: String,
    /// Stable code: `unknown_field`, `wrong_type`, `missing_field`, `invalid_value`, …
    #[schema(example = "wrong_type")]
    pub code: String,
    /// What is wrong and what would be right.
    #[schema(example = "give a whole number")]
    pub detail: String,
}

/// A problem document, ready to be answered with.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Problem(Box<Document>);

/// A problem document.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "about:blank", "title": "Conflict", "status": 409, "code": "approval_required",
    "detail": "the request is not approved yet", "next": "Wait for its reviewers, then collect again.",
    "request_id": "5f3c2f0e9b7a4d6c8e1f203142536475", "errors": [], "retryable": false
}))]
pub struct Document {
    /// Always `about:blank`: `code` says what kind it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The phrase of the status.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// The stable code.
    code: String,
    /// What is wrong, for the one who asked.
    detail: String,
    /// What to do next, one sentence.
    next: String,
    /// The id of this call, also in `X-Request-Id` and in the broker's log.
    request_id: String,
    /// Each mistake, when there are several or they have a place.
    errors: Vec<Mistake>,
    /// Whether the same call may succeed later.
    retryable: bool,
    #[serde(skip)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with a stable code.
    pub fn new(
        status: StatusCode,
        code: &str,
        detail: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self(Box::new(Document {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: code.into(),
            detail: detail.into(),
            next: next.into(),
            request_id: String::new(),
            errors: Vec::new(),
            retryable: false,
            headers: Vec::new(),
        }))
    }

    /// Something that is not there, or not yours: the two look the same.
    pub fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            RefusalCode::NotFound.word(),
            "there is nothing here for you",
            "Check the path and the id, and that it belongs to you.",
        )
    }

    /// No usable proof of who is calling.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            detail,
            "Send `Authorization: Bearer` with an API key or an access token from /v1/token.",
        )
        .with_header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"countersign\""),
        )
    }

    /// The caller is known and may not do this.
    pub fn forbidden(next: impl Into<String>) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "your kind of caller may not do this",
            next,
        )
    }

    /// The broker could not serve. Say why in the log before making one.
    pub fn unavailable(code: &str, detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            code,
            detail,
            "Try again after the time in Retry-After; nothing was granted.",
        )
        .retry_after(2)
    }

    /// The ledger's store is not believed.
    pub fn in_doubt(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ledger_in_doubt",
            detail,
            "Tell the operator, who restores the ledger's store, or accepts it as it is: countersign ledger accept --help. Nothing is granted until then; what has to end ends.",
        )
        .retry_after(30)
    }

    /// Something broke inside. Say what in the log before making one.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the broker made a mistake; it is in its log under the request id",
            "Give the operator the request_id.",
        )
    }

    /// A body or query that does not fit. The code is the mistakes' own when they agree.
    pub fn invalid(errors: Vec<Mistake>) -> Self {
        let unknown = errors.iter().find(|error| error.code == "unknown_field");
        let first = unknown.or(errors.first());
        let agree = unknown.is_some() || errors.windows(2).all(same_code);
        let code = first.filter(|_| agree).map(|error| error.code.clone());
        let detail = first.map_or_else(
            || "the request does not fit".into(),
            |error| match error.pointer.as_str() {
                "" => error.detail.clone(),
                pointer => format!("{pointer}: {}", error.detail),
            },
        );
        let code = code.unwrap_or_else(|| RefusalCode::Invalid.word().into());
        Self::new(
            StatusCode::BAD_REQUEST,
            &code,
            detail,
            "Correct what `errors` lists and send it again; /openapi.json describes every field.",
        )
        .with_errors(errors)
    }

    /// A problem with one mistake.
    pub fn mistake(pointer: &str, code: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![Mistake {
            pointer: pointer.into(),
            code: code.into(),
            detail: detail.into(),
        }])
    }

    /// Adds the mistakes.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<Mistake>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The same call may succeed after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retryable = true;
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What is wrong, for the one who asked.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What to do next.
    pub fn next(&self) -> &str {
        &self.0.next
    }

    /// Names the call it belongs to.
    #[must_use]
    pub fn with_request_id(mut self, id: &str) -> Self {
        self.0.request_id = id.into();
        self
    }
}

fn same_code(pair: &[Mistake]) -> bool {
    matches!(pair, [left, right] if left.code == right.code)
}

/// The status of each refusal.
pub fn status_of(code: RefusalCode) -> StatusCode {
    match code {
        RefusalCode::NotFound | RefusalCode::UnknownAgent | RefusalCode::UnknownGuard => {
            StatusCode::NOT_FOUND
        }
        RefusalCode::UnknownAction
        | RefusalCode::InvalidParameters
        | RefusalCode::InvalidScope
        | RefusalCode::InvalidTtl
        | RefusalCode::Invalid => StatusCode::BAD_REQUEST,
        RefusalCode::AgentDisabled
        | RefusalCode::PolicyDenied
        | RefusalCode::SelfApproval
        | RefusalCode::NotAReviewer
        | RefusalCode::Frozen => StatusCode::FORBIDDEN,
        RefusalCode::AgentExists
        | RefusalCode::AlreadyReviewed
        | RefusalCode::DigestMismatch
        | RefusalCode::BindingMismatch
        | RefusalCode::NotPending
        | RefusalCode::NotApproved
        | RefusalCode::NotLive
        | RefusalCode::NotStuck
        | RefusalCode::StaleClaim
        | RefusalCode::ClockNotApart
        | RefusalCode::ClocksDiffer
        | RefusalCode::MintUnderway => StatusCode::CONFLICT,
        RefusalCode::TargetRefused => StatusCode::BAD_GATEWAY,
        RefusalCode::Gone | RefusalCode::Expired => StatusCode::GONE,
        RefusalCode::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalCode::TooManyOpen => StatusCode::TOO_MANY_REQUESTS,
        RefusalCode::GuardFull
        | RefusalCode::TargetUnidentified
        | RefusalCode::TargetChanged
        | RefusalCode::ClockApart => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl From<Box<Refusal>> for Problem {
    fn from(refusal: Box<Refusal>) -> Self {
        let Refusal {
            code, detail, next, ..
        } = *refusal;
        if code == RefusalCode::NotFound {
            return Self::not_found();
        }
        let problem = Self::new(status_of(code), code.word(), detail, next);
        match code {
            RefusalCode::MintUnderway | RefusalCode::StaleClaim => problem.retry_after(1),
            RefusalCode::TooManyOpen | RefusalCode::GuardFull => problem.retry_after(5),
            _ => problem,
        }
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Refused(refusal) => refusal.into(),
            BrokerError::Unavailable { what } => {
                tracing::warn!(what, "the broker could not serve a call");
                if what == "ledger" {
                    Self::unavailable("not_ready", "the ledger is unavailable")
                } else {
                    Self::unavailable("target_unavailable", "the target is unavailable")
                }
            }
            BrokerError::InDoubt => {
                Self::in_doubt("the broker does not know its ledger in its store")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in &self.0.headers {
            headers.insert(name.clone(), value.clone());
        }
        // The layer that knows the request id writes the body again from this.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(pointer: &str, code: &str) -> Mistake {
        Mistake {
            pointer: pointer.into(),
            code: code.into(),
            detail: "is wrong".into(),
        }
    }

    #[test]
    fn mistakes_that_agree_give_the_problem_their_code() {
        let code = |errors| Problem::invalid(errors).code().to_owned();
        assert_eq!(code(vec![mistake("/a", "wrong_type")]), "wrong_type");
        let two = vec![mistake("/a", "wrong_type"), mistake("/b", "missing_field")];
        assert_eq!(code(two), "invalid_request");
        let unknown = vec![mistake("/a", "wrong_type"), mistake("/b", "unknown_field")];
        assert_eq!(code(unknown), "unknown_field");
    }

    #[test]
    fn what_is_behind_a_refusal_of_a_foreign_thing_never_shows() {
        let said = Refusal::new(RefusalCode::NotFound, "it is of agent b", "ask b");
        let problem = serde_json::to_string(&Problem::from(said)).unwrap();
        assert_eq!(
            problem,
            serde_json::to_string(&Problem::not_found()).unwrap()
        );
    }

    #[test]
    fn an_unavailable_target_is_not_described() {
        let problem = Problem::from(BrokerError::Unavailable {
            what: "postgres://broker:hunter2@10.0.0.7".into(),
        });
        let text = serde_json::to_string(&problem).unwrap();
        assert!(
            !text.contains("hunter2") && !text.contains("10.0.0.7"),
            "{text}"
        );
        assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
