//! A lease as the API shows it.

use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use crate::domain::{EndCause, Lease, LeaseId, LeaseState, Request, Time};

/// The lease in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeaseBrief {
    /// Its id.
    pub id: String,
    /// `issuing`, `live`, `ending` or `cut_off`; see the lease itself.
    pub state: &'static str,
    /// Why it is being ended: `finished`, `expired`, `revoked`, `frozen`, `agent_disabled`, `answer_lost`,
    /// `unacknowledged` or `mint_unknown`.
    #[schema(value_type = Option<String>)]
    pub cause: Option<EndCause>,
    /// Since when it is being ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Time>,
    /// Since when it is seen to be cut off.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub cut_off_at: Option<Time>,
    /// When the credential runs out: while it lives, and while it is cut off.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
    /// While it lives and its agent has not said that it holds the credential: until when it has to.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub acknowledge_by: Option<Time>,
    /// What was in the way when its end failed last: a stable code, such as `cleanup_blocked`.
    pub trouble: Option<String>,
    /// Since when its target is away, so that nothing can be ended there.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub target_away_since: Option<Time>,
}

impl LeaseBrief {
    /// The lease `id` of `request`.
    pub fn of(api: &Api, id: &LeaseId, request: &Request) -> Self {
        let lease = api.broker.lease(id);
        let end = lease.as_ref().and_then(end);
        Self {
            id: id.to_string(),
            state: api.broker.stage(request),
            cause: end.map(|(cause, _)| cause),
            since: end.map(|(_, since)| since),
            cut_off_at: lease.as_ref().and_then(Lease::cut_off_at),
            expires_at: lease.as_ref().and_then(expires_at),
            acknowledge_by: lease.as_ref().and_then(acknowledge_by),
            trouble: lease.as_ref().and_then(|lease| failures(lease).1),
            target_away_since: lease.and_then(|lease| away_since(api, &lease)),
        }
    }
}

fn away_since(api: &Api, lease: &Lease) -> Option<Time> {
    let outage = api.broker.outage(&lease.target);
    outage.map(|outage| outage.since)
}

fn expires_at(lease: &Lease) -> Option<Time> {
    match lease.state {
        LeaseState::Live
        | LeaseState::Ending {
            cut_off: Some(_), ..
        } => Some(lease.expires),
        LeaseState::Issuing { .. } | LeaseState::Ending { cut_off: None, .. } => None,
    }
}

fn acknowledge_by(lease: &Lease) -> Option<Time> {
    match lease.state {
        LeaseState::Live => lease.acknowledge_by,
        LeaseState::Issuing { .. } | LeaseState::Ending { .. } => None,
    }
}

/// Why it is being ended, and since when.
fn end(lease: &Lease) -> Option<(EndCause, Time)> {
    match lease.state {
        LeaseState::Ending { cause, since, .. } => Some((cause, since)),
        LeaseState::Issuing { .. } | LeaseState::Live => None,
    }
}

/// How many attempts to end it have failed, and what was in the way.
fn failures(lease: &Lease) -> (u32, Option<String>) {
    match &lease.state {
        LeaseState::Ending {
            attempts, trouble, ..
        } => (*attempts, trouble.clone()),
        LeaseState::Issuing { .. } | LeaseState::Live => (0, None),
    }
}

/// A lease.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "lse_01kb0m5v9s1a2b3c4d5e6f7g8h", "request": "req_01kb0m4v9s1a2b3c4d5e6f7g8h",
    "agent": "billing-bot", "action": "orders.export", "target": "shop", "state": "live",
    "expires_at": "2026-11-22T10:45:00.000Z", "acknowledge_by": "2026-11-22T10:31:00.000Z"
}))]
pub struct LeaseView {
    /// Its id.
    pub id: String,
    /// The request it serves.
    pub request: String,
    /// Who holds it.
    pub agent: String,
    /// For what.
    pub action: String,
    /// Where.
    pub target: String,
    /// `issuing`, `live`, `ending`, `cut_off`, `abandoned` or `ended`. A credential that is `cut_off` is denied everything; it is
    /// `ended` once it has run out. One that is `abandoned` was given up by the operator, and nobody has proven it gone.
    pub state: &'static str,
    /// Why it is being ended: `finished`, `expired`, `revoked`, `frozen`, `agent_disabled`, `answer_lost`,
    /// `unacknowledged` or `mint_unknown`.
    #[schema(value_type = Option<String>)]
    pub cause: Option<EndCause>,
    /// Since when it is being ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Time>,
    /// Since when it is seen to be cut off.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub cut_off_at: Option<Time>,
    /// When the credential runs out: while it lives, and while it is cut off.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
    /// While it lives and its agent has not said that it holds the credential: until when it has to.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub acknowledge_by: Option<Time>,
    /// How many attempts to end it have failed, as far as they are recorded.
    pub failed_attempts: u32,
    /// What was in the way at the last of them: a stable code, such as `cleanup_blocked`.
    pub trouble: Option<String>,
    /// Since when its target is away, so that nothing can be ended there.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub target_away_since: Option<Time>,
}

impl LeaseView {
    /// The lease `id` of `request`.
    pub fn of(api: &Api, id: &LeaseId, request: &Request) -> Self {
        let lease = api.broker.lease(id);
        let brief = LeaseBrief::of(api, id, request);
        Self {
            id: brief.id,
            request: request.id().to_string(),
            agent: request.sealed().agent.to_string(),
            action: request.sealed().action.to_string(),
            target: request.sealed().target.to_string(),
            state: lease.as_ref().map_or("ended", |lease| lease.state.word()),
            cause: brief.cause,
            since: brief.since,
            cut_off_at: brief.cut_off_at,
            expires_at: brief.expires_at,
            acknowledge_by: brief.acknowledge_by,
            failed_attempts: lease.as_ref().map_or(0, |lease| failures(lease).0),
            trouble: brief.trouble,
            target_away_since: brief.target_away_since,
        }
    }
}
