//! `POST /v1/clock/accept`: the operator's word that the wall clock is right.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{Apart, Time};
use crate::http::body::Json;
use crate::http::fields::{Fields, FromFields};
use crate::http::{Api, Problem};

/// The operator's word.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"now": "2026-11-22T11:30:00.000Z", "reason": "the host was paused for an hour, CHG-91"}))]
pub struct AcceptClock {
    /// What the caller's own clock shows. A broker whose wall clock is more than a minute from it accepts nothing.
    #[schema(value_type = String, format = DateTime)]
    now: Time,
    /// Why, for the record. Kept erasable.
    #[schema(max_length = 2000)]
    reason: Option<String>,
}

impl FromFields for AcceptClock {
    const NAMES: &'static [&'static str] = &["now", "reason"];

    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let now = fields.required::<jiff::Timestamp>("now");
        let reason = fields.text("reason", 2000);
        Some(Self {
            now: Time::from_millis(now?.as_millisecond()),
            reason,
        })
    }
}

/// A wall clock and the ledger's time, which are apart.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"wall": "2026-11-22T11:30:00.000Z", "ledger": "2026-11-22T10:30:00.000Z"}))]
pub struct ApartView {
    /// What the wall clock shows.
    #[schema(value_type = String, format = DateTime)]
    wall: Time,
    /// The ledger's time.
    #[schema(value_type = String, format = DateTime)]
    ledger: Time,
}

impl From<Apart> for ApartView {
    fn from(Apart { wall, ledger }: Apart) -> Self {
        Self { wall, ledger }
    }
}

/// Accept the wall clock
///
/// Says that the wall clock is right although it is apart from the ledger's time, so that credentials are minted again.
/// Where the wall clock is ahead, the ledger's time goes on from it and what is over by then ends; where it is behind,
/// the ledger's time stays ahead and comes closer by half a millisecond each second. For the operator.
#[utoipa::path(
    post, path = "/v1/clock/accept", operation_id = "accept_clock", tag = "health",
    request_body = AcceptClock,
    responses((status = 200, description = "Recorded. The two as they were.", body = ApartView))
)]
pub async fn accept(
    State(api): State<Api>,
    Json { value: word, .. }: Json<AcceptClock>,
) -> Result<axum::Json<ApartView>, Problem> {
    let accepted = api.broker.accept_clock(word.now, word.reason).await?;
    Ok(axum::Json(accepted.into()))
}
