//! `POST /v1/requests/{id}/finish`: the agent is done.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::domain::RequestId;
use crate::http::auth::{Caller, CallingAgent, visible};
use crate::http::body::Json;
use crate::http::fields::{Fields, FromFields};
use crate::http::headers::{Id, Prefer};
use crate::http::view::RequestView;
use crate::http::{Api, Problem};

/// How it went.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"outcome": "succeeded", "exit_code": 0}))]
pub struct Report {
    /// `succeeded` or `failed`.
    #[schema(value_type = String)]
    outcome: &'static str,
    /// The exit code of the command, if there was one.
    exit_code: Option<i64>,
    /// A short note for the ledger. It is kept for ever: no personal data, no secrets.
    #[schema(max_length = 500)]
    note: Option<String>,
}

impl FromFields for Report {
    const NAMES: &'static [&'static str] = &["outcome", "exit_code", "note"];

    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let words = [("succeeded", "succeeded"), ("failed", "failed")];
        let outcome = fields.required_word("outcome", &words);
        let exit_code = fields.whole("exit_code", i64::from(i32::MIN), i64::from(i32::MAX));
        let note = fields.text("note", 500);
        Some(Self {
            outcome: outcome?,
            exit_code,
            note,
        })
    }
}

impl Report {
    fn into_members(self) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("outcome".into(), self.outcome.into());
        if let Some(code) = self.exit_code {
            members.insert("exit_code".into(), code.into());
        }
        if let Some(note) = self.note {
            members.insert("note".into(), note.into());
        }
        members
    }
}

/// Report that the work is done
///
/// The credential is ended at once: no new login, open sessions cut, proven by looking. With `Prefer: wait=N` the
/// answer waits up to N seconds (at most 50) for the proof.
#[utoipa::path(
    post, path = "/v1/requests/{id}/finish", operation_id = "finish_request", tag = "requests",
    params(
        ("id" = String, Path, description = "The request.", example = "req_01kb0m4v9s1a2b3c4d5e6f7g8h"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N seconds, at most 50.", example = "wait=10")
    ),
    request_body = Report,
    responses((status = 200, description = "The request: ending, or closed.", body = RequestView))
)]
pub async fn finish(
    State(api): State<Api>,
    CallingAgent(agent): CallingAgent,
    Caller(caller): Caller,
    Id(id): Id<RequestId>,
    prefer: Prefer,
    Json { value: report, .. }: Json<Report>,
) -> Result<Response, Problem> {
    visible(&api, &caller, &id).await?;
    let request = api
        .broker
        .finish(&agent.name, &id, report.into_members())
        .await?;
    let request = super::wait(&api, request, super::UNTIL_CLOSED, prefer).await?;
    Ok(super::shown(&api, &request, prefer))
}
