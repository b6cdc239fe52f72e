//! `countersign finish`: report the outcome, end the access.

use std::time::Duration;

use clap::{Args, ValueEnum};
use countersign_client::{Outcome, RequestView, State};
use serde_json::{Map, Value, json};

use super::connect::Global;
use super::exit::{Exit, Failure};
use super::facts;

/// `countersign finish`.
#[derive(Args, Debug)]
pub(crate) struct Finish {
    /// The request's id.
    request: String,
    /// How it went.
    #[arg(long, value_enum, default_value = "succeeded")]
    outcome: Reported,
    /// The exit code of what ran.
    #[arg(long)]
    exit_code: Option<i32>,
    /// A word about it, for the record.
    #[arg(long)]
    note: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Reported {
    /// As intended.
    Succeeded,
    /// Not as intended.
    Failed,
}

/// How long to wait for the proof that access has ended.
pub(crate) const PROOF_WITHIN: Duration = Duration::from_secs(30);

impl Finish {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let outcome = match self.outcome {
            Reported::Succeeded => "succeeded",
            Reported::Failed => "failed",
        };
        let mut report = Map::new();
        report.insert("outcome".into(), json!(outcome));
        report.extend(self.exit_code.map(|code| ("exit_code".into(), json!(code))));
        report.extend(self.note.map(|note| ("note".into(), json!(note))));
        let request = global
            .client()?
            .finish(&self.request, &Value::Object(report), Some(PROOF_WITHIN))
            .await?;
        output.say(&how_it_ended(&request));
        if output.json {
            output.object(&request)?
        } else {
            output.facts(&facts::of_request(&request))?
        }
        Ok(Exit::Ok)
    }
}

/// Whether access has ended, told no better than it is known.
pub(crate) fn how_it_ended(request: &RequestView) -> String {
    match (&request.state, &request.outcome) {
        (
            State::Closed,
            Some(outcome @ (Outcome::Completed | Outcome::Revoked | Outcome::Expired)),
        ) => {
            let left = match request.residue.len() {
                0 => String::new(),
                1 => "; it changed 1 thing there".into(),
                some => format!("; it changed {some} things there"),
            };
            format!("access has ended, proven at the target ({outcome}){left}")
        }
        (State::Closed, Some(outcome)) => format!("the request is closed ({outcome})"),
        (State::Closed, None) => "the request is closed".into(),
        _ if lease_state(request) == Some("cut_off") => {
            let end = request
                .lease
                .as_ref()
                .and_then(|lease| lease.expires_at.as_deref());
            format!(
                "access is cut off, as seen at the target; it ends for good at {}",
                end.unwrap_or("the end of its time")
            )
        }
        _ => format!(
            "access is not proven ended yet{}; the broker goes on until it is; see `countersign show {}`",
            in_the_way(request).map_or_else(String::new, |why| format!(": {why}")),
            request.id
        ),
    }
}

/// What keeps the broker from ending it, as far as it is known.
pub(crate) fn in_the_way(request: &RequestView) -> Option<String> {
    let lease = request.lease.as_ref()?;
    let away = lease.target_away_since.as_deref();
    let away = away.map(|since| format!("its target is away since {since}"));
    let failed = || {
        lease
            .trouble
            .as_deref()
            .map(|code| format!("the last attempt failed ({code})"))
    };
    let is_ending = lease.state.as_deref() == Some("ending");
    away.or_else(failed).filter(|_| is_ending)
}

fn lease_state(request: &RequestView) -> Option<&str> {
    request.lease.as_ref()?.state.as_deref()
}
