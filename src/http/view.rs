//! What the API shows: JSON shapes of their own, apart from the log format, so that they may grow.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Api;
pub use super::lease_view::{LeaseBrief, LeaseView};
use crate::domain::request::{ReviewDecision, VerdictAnswer};
use crate::domain::{
    Action, Agent, AgentProof, ParameterKind, Party, Person, Request, RequestState, Time,
};

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items, newest first unless the list says otherwise.
    pub data: Vec<T>,
    /// Give it as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// A person: exactly the issuer and subject of their ID token.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({"issuer": "https://login.example.com", "subject": "00u1bob"}))]
pub struct PersonView {
    /// Exact issuer.
    pub issuer: String,
    /// Exact subject.
    pub subject: String,
}

impl From<&Person> for PersonView {
    fn from(person: &Person) -> Self {
        Self {
            issuer: person.issuer.clone(),
            subject: person.subject.clone(),
        }
    }
}

/// What policy said.
#[derive(Debug, Serialize, ToSchema)]
pub struct VerdictView {
    /// `allow`, `review` or `deny`.
    pub answer: &'static str,
    /// The policies that decided.
    pub policies: Vec<String>,
    /// The bundle that was asked.
    pub bundle: String,
}

/// One person's review, as the request shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReviewView {
    /// Who.
    pub reviewer: PersonView,
    /// `approve` or `deny`.
    pub decision: &'static str,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
}

/// A scope explained.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplanationView {
    /// What the credential can do, one fact a line.
    pub words: Vec<String>,
    /// What is sent to the target, exactly, secrets left out.
    pub exact: String,
    /// How and when access ends.
    pub ending: Vec<String>,
    /// What of the work may outlive the credential, one fact a line.
    pub outlives: Vec<String>,
}

/// A request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "req_01kb0m4v9s1a2b3c4d5e6f7g8h", "state": "pending", "outcome": null,
    "agent": "billing-bot", "action": "orders.export", "parameters": {"country": "de"},
    "ttl_seconds": 900, "asked_ttl_seconds": null, "target": "shop", "server": "postgresql 7423116822334455667 timeline 1", "scope": {"roles": ["orders_read"]},
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "on_behalf_of": null,
    "verdict": {"answer": "review", "policies": ["orders-need-a-person"], "bundle": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"},
    "reviews": [], "needs": {"support-leads": 1}, "submitted_at": "2026-11-22T10:30:00.000Z",
    "pending_until": "2026-11-22T11:30:00.000Z", "collect_until": null, "lease": null,
    "review_url": "https://countersign.example.com/requests/req_01kb0m4v9s1a2b3c4d5e6f7g8h",
    "explanation": {"words": ["read orders of Germany"], "exact": "GRANT orders_read TO jit_…", "ending": ["15 minutes after it is collected"]}
}))]
pub struct RequestView {
    /// Its id.
    pub id: String,
    /// `pending`, `approved`, `issuing`, `live`, `ending` or `closed`.
    pub state: &'static str,
    /// How it came out, once closed: `refused`, `denied`, `lapsed`, `withdrawn`, `frozen`, `stale`, `failed`,
    /// `completed`, `revoked` or `expired`.
    pub outcome: Option<&'static str>,
    /// Who asked.
    pub agent: String,
    /// For what.
    pub action: String,
    /// With which parameters.
    #[schema(value_type = Object)]
    pub parameters: Map<String, Value>,
    /// For how long, from mint.
    pub ttl_seconds: u64,
    /// The lifetime that was asked for, before it was cut to what is allowed; null when the agent did not say.
    pub asked_ttl_seconds: Option<u64>,
    /// Where.
    pub target: String,
    /// The server the target stands for: the credential is minted, ended and proven there.
    pub server: String,
    /// What the credential can do.
    #[schema(value_type = Object)]
    pub scope: Value,
    /// What reviewers approve: SHA-256 over agent, action, parameters, scope, target, its server and lifetime.
    pub digest: String,
    /// The person the agent says it acts for.
    pub on_behalf_of: Option<PersonView>,
    /// What policy said.
    pub verdict: VerdictView,
    /// What people said, in order.
    pub reviews: Vec<ReviewView>,
    /// While pending: how many more people of which group it takes.
    pub needs: BTreeMap<String, u32>,
    /// When it was asked.
    #[schema(value_type = String, format = DateTime)]
    pub submitted_at: Time,
    /// Until when it waits for reviewers.
    #[schema(value_type = String, format = DateTime)]
    pub pending_until: Time,
    /// Until when it may be collected, once approved.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub collect_until: Option<Time>,
    /// The lease in force.
    pub lease: Option<LeaseBrief>,
    /// What its credential left at the target, or had removed behind it, a line each: as seen when it ended.
    pub residue: Vec<String>,
    /// The page where people review it.
    pub review_url: String,
    /// The scope explained.
    pub explanation: ExplanationView,
}

impl RequestView {
    /// How `request` looks now.
    pub fn of(api: &Api, request: &Request) -> Self {
        let (sealed, submission) = (request.sealed(), &request.submission);
        let verdict = &request.verdict;
        let explained = api.broker.explain(request);
        Self {
            id: request.id().to_string(),
            state: request.state.word(),
            outcome: outcome(request),
            agent: sealed.agent.to_string(),
            action: sealed.action.to_string(),
            parameters: sealed.parameters.clone(),
            ttl_seconds: sealed.ttl_seconds.0,
            asked_ttl_seconds: submission.asked_ttl_seconds.map(|ttl| ttl.0),
            target: sealed.target.to_string(),
            server: sealed.server.to_string(),
            scope: sealed.scope.clone(),
            digest: submission.digest.to_string(),
            on_behalf_of: submission.on_behalf_of.as_ref().map(PersonView::from),
            verdict: VerdictView {
                answer: answer_word(verdict.answer),
                policies: verdict.policies.clone(),
                bundle: verdict.bundle.to_string(),
            },
            reviews: request.reviews.iter().map(review).collect(),
            needs: needs(api, request),
            submitted_at: request.submitted_at,
            pending_until: submission.pending_until,
            collect_until: collect_until(&request.state),
            lease: request.lease().map(|id| LeaseBrief::of(api, id, request)),
            residue: request.residue.clone(),
            review_url: api.review_url(request.id()),
            explanation: ExplanationView {
                words: explained.words,
                exact: explained.exact,
                ending: explained.ending,
                outlives: explained.outlives,
            },
        }
    }
}

fn outcome(request: &Request) -> Option<&'static str> {
    match &request.state {
        RequestState::Closed { outcome, .. } => Some(outcome.word()),
        _ => None,
    }
}

fn collect_until(state: &RequestState) -> Option<Time> {
    match state {
        RequestState::Approved { collect_until }
        | RequestState::Issuing { collect_until, .. }
        | RequestState::Live { collect_until, .. }
        | RequestState::Ending { collect_until, .. } => Some(*collect_until),
        RequestState::Pending | RequestState::Closed { .. } => None,
    }
}

fn needs(api: &Api, request: &Request) -> BTreeMap<String, u32> {
    if request.state != RequestState::Pending {
        return BTreeMap::new();
    }
    let missing = api.broker.missing(request).into_iter();
    missing.map(|(group, n)| (group.to_string(), n)).collect()
}

fn group_counts(action: &Action) -> BTreeMap<String, u32> {
    let groups = action.review.groups.iter();
    groups.map(|(group, n)| (group.to_string(), *n)).collect()
}

fn review(review: &crate::domain::request::Review) -> ReviewView {
    ReviewView {
        reviewer: PersonView::from(&review.reviewer.person),
        decision: decision_word(review.decision),
        at: review.at,
    }
}

/// The word for a decision.
pub fn decision_word(decision: ReviewDecision) -> &'static str {
    match decision {
        ReviewDecision::Approve => "approve",
        ReviewDecision::Deny => "deny",
    }
}

fn answer_word(answer: VerdictAnswer) -> &'static str {
    match answer {
        VerdictAnswer::Allow => "allow",
        VerdictAnswer::Review => "review",
        VerdictAnswer::Deny => "deny",
    }
}

/// An agent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "name": "billing-bot", "owner": {"kind": "group", "group": "billing-team"}, "proof": {"kind": "api_key"},
    "origin": "operator", "disabled_at": null
}))]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// Who answers for it.
    pub owner: OwnerView,
    /// How it proves itself.
    pub proof: ProofView,
    /// `bundle` or `operator`.
    #[schema(value_type = String)]
    pub origin: crate::domain::agent::AgentOrigin,
    /// Since when it is no longer served.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<Time>,
}

/// Who answers for an agent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OwnerView {
    /// One person.
    Person {
        /// Exact issuer.
        issuer: String,
        /// Exact subject.
        subject: String,
    },
    /// Everybody in a group.
    Group {
        /// The group.
        group: String,
    },
}

/// How an agent proves itself; nothing of it is secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ProofView {
    /// An API key; only its hash is kept, and not shown.
    ApiKey,
    /// An Ed25519 key pair.
    PublicKey {
        /// The public key, base64url.
        ed25519: String,
    },
    /// A JWT of a configured issuer.
    Workload {
        /// The issuer's name in the configuration.
        issuer: String,
        /// Claims that must have exactly these values.
        claims: BTreeMap<String, String>,
    },
}

impl AgentView {
    /// How an agent looks.
    pub fn of(agent: &Agent, disabled_at: Option<Time>) -> Self {
        Self {
            name: agent.name.to_string(),
            owner: match &agent.owner {
                Party::Person(Person { issuer, subject }) => OwnerView::Person {
                    issuer: issuer.clone(),
                    subject: subject.clone(),
                },
                Party::Group(group) => OwnerView::Group {
                    group: group.to_string(),
                },
            },
            proof: match &agent.proof {
                AgentProof::ApiKey { .. } => ProofView::ApiKey,
                AgentProof::PublicKey { ed25519 } => ProofView::PublicKey {
                    ed25519: ed25519.clone(),
                },
                AgentProof::Workload { issuer, claims } => ProofView::Workload {
                    issuer: issuer.clone(),
                    claims: claims.clone(),
                },
            },
            origin: agent.origin,
            disabled_at,
        }
    }
}

/// An action of the catalog.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "name": "orders.export", "title": "Export orders", "description": "Reads the orders of one country.",
    "target": "shop", "parameters": {"country": {"type": "choice", "values": ["de", "fr"], "hint": "one of de, fr"}},
    "ttl": {"default_seconds": 900, "longest_seconds": 3600}, "review": {"groups": {"support-leads": 1}}
}))]
pub struct ActionView {
    /// Its name.
    pub name: String,
    /// A short title.
    pub title: String,
    /// What it does and what for.
    pub description: String,
    /// Where its credential is minted.
    pub target: String,
    /// Typed parameters by name; all are required. Each has its `type`, its bounds and a `hint`.
    #[schema(value_type = Object)]
    pub parameters: BTreeMap<String, Value>,
    /// How long the credential lives.
    pub ttl: TtlView,
    /// Who reviews it when policy does not call it routine.
    pub review: ReviewRuleView,
}

/// How long a credential lives.
#[derive(Debug, Serialize, ToSchema)]
pub struct TtlView {
    /// When the agent does not say.
    pub default_seconds: u64,
    /// The longest that can be asked for.
    pub longest_seconds: u64,
}

/// Who reviews.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReviewRuleView {
    /// How many distinct people from each group.
    pub groups: BTreeMap<String, u32>,
}

impl ActionView {
    /// How an action looks.
    pub fn of(action: &Action) -> Self {
        let parameters = action.parameters.iter();
        Self {
            name: action.name.to_string(),
            title: action.title.clone(),
            description: action.description.clone(),
            target: action.target.to_string(),
            parameters: parameters
                .map(|(name, kind)| (name.clone(), parameter(kind)))
                .collect(),
            ttl: TtlView {
                default_seconds: action.ttl.default.0,
                longest_seconds: action.ttl.longest.0,
            },
            review: ReviewRuleView {
                groups: group_counts(action),
            },
        }
    }
}

fn parameter(kind: &ParameterKind) -> Value {
    let mut shown = match kind {
        ParameterKind::Text {
            pattern,
            max_length,
        } => {
            serde_json::json!({"type": "text", "pattern": pattern, "max_length": max_length})
        }
        ParameterKind::Choice { values } => serde_json::json!({"type": "choice", "values": values}),
        ParameterKind::Integer { min, max } => {
            serde_json::json!({"type": "integer", "min": min, "max": max})
        }
        ParameterKind::Boolean => serde_json::json!({"type": "boolean"}),
    };
    if let Value::Object(members) = &mut shown {
        members.insert("hint".into(), kind.hint().into());
    }
    shown
}
