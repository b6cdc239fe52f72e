//! What can be asked of the broker, and how it says no.

mod about;
mod prepared;

pub(super) use prepared::Outcome;
pub use prepared::Prepared;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::agent::Agent;
use super::due::Owed;
use super::event::{Actor, BlobRef, Event, Freeze};
use super::ids::{
    ActionName, AgentName, Digest, GroupName, GuardName, LeaseId, RequestId, ServerId, TargetName,
};
use super::lease::{EndCause, Proof};
use super::person::{Person, Reviewer};
use super::request::ReviewDecision;
use super::time::{Seconds, Time};
use super::world::Recent;

/// A command. Ids and randomness are in it; the time comes with `decide`.
#[derive(Clone, Debug)]
pub enum Command {
    /// Start a ledger. Does nothing when it is started.
    Open {
        /// The log's origin.
        origin: String,
    },
    /// Put the bundle behind [`super::Policy`] in force: enrol its agents, disable those that left it.
    ApplyBundle {
        /// Where its files are kept.
        content: BlobRef,
    },
    /// Add an agent outside the bundle.
    EnrollAgent {
        /// The agent.
        agent: Box<Agent>,
    },
    /// Stop serving an agent and end what it holds.
    DisableAgent {
        /// Which.
        agent: AgentName,
    },
    /// An agent asks for an action.
    Submit(Box<Submit>),
    /// An agent takes its request back.
    Withdraw {
        /// Who.
        agent: AgentName,
        /// Which.
        request: RequestId,
    },
    /// A person approves or denies.
    Review(Box<GiveReview>),
    /// An agent collects the credential of an approved request.
    Collect {
        /// Who.
        agent: AgentName,
        /// Which request.
        request: RequestId,
        /// The lease to use if one is minted now.
        lease: LeaseId,
        /// SHA-256 of the collect's idempotency key.
        key: Digest,
    },
    /// The target answered a mint.
    RecordMint {
        /// The lease.
        lease: LeaseId,
        /// What it answered.
        result: MintResult,
    },
    /// An agent holds the credential of a lease.
    Acknowledge {
        /// Who.
        agent: AgentName,
        /// Which lease.
        lease: LeaseId,
    },
    /// An agent is done.
    Finish {
        /// Who.
        agent: AgentName,
        /// Which request.
        request: RequestId,
        /// What it reports: small facts, such as an exit code.
        report: Map<String, Value>,
    },
    /// Somebody ends a lease early, by its lease or by its request.
    Revoke {
        /// Who: the agent itself, a person, or the operator.
        by: Revoker,
        /// Which request.
        request: RequestId,
    },
    /// A target answered: it is this server.
    IdentifyTarget {
        /// Which target.
        target: TargetName,
        /// The server.
        server: ServerId,
    },
    /// The operator's word that a target moved as planned.
    MoveTarget {
        /// Which target.
        target: TargetName,
        /// The server it stood for.
        from: ServerId,
        /// The server it stands for now.
        to: ServerId,
        /// Why, if they say.
        reason: Option<BlobRef>,
    },
    /// The operator's word that the wall clock is right, where it is apart from the ledger's time.
    AcceptClock {
        /// What the wall clock shows.
        wall: Time,
        /// Why, if they say.
        reason: Option<BlobRef>,
    },
    /// The operator's word that the ledger goes on from here, although a broker knew another.
    AcceptLedger {
        /// How many entries the newest head had that it knew.
        size: u64,
        /// Their root.
        root: Digest,
        /// Why.
        reason: BlobRef,
    },
    /// The kill switch of a role group: deny every session there is, and end its leases.
    ShutGuard {
        /// Which guard.
        guard: GuardName,
    },
    /// A standing order, or its end.
    SetFreeze {
        /// The operator or a person.
        by: Actor,
        /// What it covers.
        freeze: Freeze,
        /// Set or lift.
        on: bool,
    },
    /// Time has passed for requests or their leases, or an order stops them: do what is due, for as many as there are.
    Lapse {
        /// The requests.
        requests: Vec<RequestId>,
    },
    /// A broker takes the duty to end credentials. Its entries say which of them it has.
    ClaimEnds {
        /// Which broker.
        broker: String,
        /// The credentials.
        owed: Vec<Owed>,
    },
    /// How attempts to end credentials went. Those whose duty another broker has are left out.
    RecordEnds {
        /// Which broker tried.
        broker: String,
        /// The proof, or what is in the way, for each.
        results: Vec<(Owed, Result<Proof, EndFailure>)>,
    },
    /// A broker can end nothing at a target.
    NoteTargetAway {
        /// Which target.
        target: TargetName,
        /// Which broker.
        broker: String,
        /// The stable code of what is in the way.
        code: String,
        /// What is in the way and what to do about it; no secret.
        detail: String,
    },
    /// A target answers again.
    NoteTargetBack {
        /// Which target.
        target: TargetName,
    },
    /// The operator gives up a lease that cannot be proven ended.
    AbandonLease {
        /// Which lease.
        lease: LeaseId,
        /// Why.
        reason: BlobRef,
    },
    /// A credential at a target that no open lease explains.
    FindOrphan {
        /// Where.
        target: TargetName,
        /// Its name there.
        handle: String,
    },
    /// The answer that carried a credential was never taken.
    LoseAnswer {
        /// The lease.
        lease: LeaseId,
    },
    /// A person signed in.
    NoteSignIn {
        /// Who.
        person: Person,
        /// The groups their provider named.
        groups: BTreeSet<GroupName>,
    },
    /// A person signed out.
    NoteSignOut {
        /// Who.
        person: Person,
    },
}

/// An agent asks for an action.
#[derive(Clone, Debug)]
pub struct Submit {
    /// The new request's id.
    pub request: RequestId,
    /// Who asks.
    pub agent: AgentName,
    /// For whom, if it says so.
    pub on_behalf_of: Option<Person>,
    /// For what.
    pub action: ActionName,
    /// With which parameters.
    pub parameters: Map<String, Value>,
    /// For how long, if it says so.
    pub ttl: Option<Seconds>,
    /// The agent's own words, if any.
    pub context: Option<BlobRef>,
    /// SHA-256 of the idempotency key, if any.
    pub idempotency_key: Option<Digest>,
    /// What the agent's key led to, as the ledger has it. Looked up after `request` was drawn: what came in between is
    /// in the world, as long as the command is decided soon.
    pub earlier: Option<Recent>,
    /// SHA-256 of the canonical request body.
    pub fingerprint: Digest,
    /// What was found out before its turn.
    pub prepared: Option<Box<Prepared>>,
}

/// A person approves or denies.
#[derive(Clone, Debug)]
pub struct GiveReview {
    /// Who, freshly resolved.
    pub reviewer: Reviewer,
    /// Which request.
    pub request: RequestId,
    /// The digest they saw.
    pub digest: Digest,
    /// Yes or no.
    pub decision: ReviewDecision,
    /// Their words, if any.
    pub comment: Option<BlobRef>,
}

/// Who ends a lease early.
#[derive(Clone, Debug)]
pub enum Revoker {
    /// The agent that holds it.
    Agent(AgentName),
    /// A signed-in person, if policy lets them.
    Person(Box<Reviewer>),
    /// The operator.
    Operator,
}

/// What the target answered to a mint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MintResult {
    /// The credential exists.
    Minted,
    /// Nothing was minted.
    Failed {
        /// Stable code.
        code: String,
        /// Whether asking again may help.
        retryable: bool,
    },
    /// Nobody knows.
    Unknown,
}

/// A failed attempt to end a credential.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndFailure {
    /// Stable code.
    pub code: String,
    /// What is in the way and what to do about it; no secret.
    pub detail: String,
    /// How many attempts have failed by now, as far as the broker knows.
    pub attempts: u32,
    /// How long to wait before the next attempt.
    pub retry_in: Seconds,
}

/// A command that is refused: a stable code, a sentence, what to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What kind of no.
    pub code: RefusalCode,
    /// What is wrong, for the one who asked.
    pub detail: String,
    /// What to do next, one sentence.
    pub next: String,
    /// Entries that record the refusal, when it must be accounted for.
    pub record: Vec<Event>,
}

impl Refusal {
    /// A refusal that leaves no entry.
    pub fn new(code: RefusalCode, detail: impl Into<String>, next: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            code,
            detail: detail.into(),
            next: next.into(),
            record: Vec::new(),
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.word(), self.detail)
    }
}

impl std::error::Error for Refusal {}

/// The stable codes of refusals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each code's meaning stands beside its word")]
pub enum RefusalCode {
    NotFound,
    UnknownAction,
    UnknownAgent,
    UnknownGuard,
    AgentExists,
    AgentDisabled,
    InvalidParameters,
    InvalidScope,
    InvalidTtl,
    TooManyOpen,
    IdempotencyMismatch,
    PolicyDenied,
    SelfApproval,
    NotAReviewer,
    AlreadyReviewed,
    DigestMismatch,
    BindingMismatch,
    NotPending,
    NotApproved,
    NotLive,
    NotStuck,
    Gone,
    Frozen,
    Expired,
    StaleClaim,
    MintUnderway,
    GuardFull,
    TargetUnidentified,
    TargetChanged,
    TargetRefused,
    ClockApart,
    ClockNotApart,
    ClocksDiffer,
    Invalid,
}

impl RefusalCode {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            // Not there, or not yours: the two look the same.
            RefusalCode::NotFound => "not_found",
            // The catalog has no such action.
            RefusalCode::UnknownAction => "unknown_action",
            // No such agent.
            RefusalCode::UnknownAgent => "unknown_agent",
            // There is no such guard.
            RefusalCode::UnknownGuard => "unknown_guard",
            // The name is taken, now or in the past.
            RefusalCode::AgentExists => "agent_exists",
            // The agent may no longer ask.
            RefusalCode::AgentDisabled => "agent_disabled",
            // Parameters do not fit the catalog.
            RefusalCode::InvalidParameters => "invalid_parameters",
            // The target does not accept the rendered scope.
            RefusalCode::InvalidScope => "invalid_scope",
            // The lifetime asked for is zero or too long.
            RefusalCode::InvalidTtl => "invalid_ttl",
            // The agent has too many open requests.
            RefusalCode::TooManyOpen => "too_many_open_requests",
            // The idempotency key was used with another body.
            RefusalCode::IdempotencyMismatch => "idempotency_mismatch",
            // Policy says no.
            RefusalCode::PolicyDenied => "policy_denied",
            // The reviewer stands on the requester's side.
            RefusalCode::SelfApproval => "self_approval",
            // The reviewer is not eligible.
            RefusalCode::NotAReviewer => "not_a_reviewer",
            // The reviewer has decided already.
            RefusalCode::AlreadyReviewed => "already_reviewed",
            // The reviewer saw another digest.
            RefusalCode::DigestMismatch => "digest_mismatch",
            // What would be minted is no longer what was approved.
            RefusalCode::BindingMismatch => "binding_mismatch",
            // The request is not waiting for reviewers.
            RefusalCode::NotPending => "not_pending",
            // The request is not approved yet.
            RefusalCode::NotApproved => "approval_required",
            // There is nothing live to end.
            RefusalCode::NotLive => "not_live",
            // Its end has not failed, so there is nothing to give up.
            RefusalCode::NotStuck => "not_stuck",
            // The credential was collected, or the request is over.
            RefusalCode::Gone => "gone",
            // A freeze covers it.
            RefusalCode::Frozen => "frozen",
            // Too late.
            RefusalCode::Expired => "expired",
            // Another broker holds the claim, or the lease moved on.
            RefusalCode::StaleClaim => "stale_claim",
            // The same collect is under way.
            RefusalCode::MintUnderway => "mint_underway",
            // A credential minted now could not be cut off alone.
            RefusalCode::GuardFull => "guard_full",
            // The target has not answered since it was configured, so nobody knows which server it is.
            RefusalCode::TargetUnidentified => "target_unidentified",
            // Another server answers for the target than the ledger knows.
            RefusalCode::TargetChanged => "target_changed",
            // The target refused to mint; nothing exists there.
            RefusalCode::TargetRefused => "target_refused",
            // The wall clock and the ledger's time are apart: nothing is minted.
            RefusalCode::ClockApart => "clock_apart",
            // There is nothing to accept.
            RefusalCode::ClockNotApart => "clock_not_apart",
            // The operator's clock shows another time than the one to be accepted.
            RefusalCode::ClocksDiffer => "clocks_differ",
            // Anything else that does not fit.
            RefusalCode::Invalid => "invalid_request",
        }
    }
}

impl EndCause {
    /// The stable word, as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            EndCause::Finished => "finished",
            EndCause::Expired => "expired",
            EndCause::Revoked => "revoked",
            EndCause::Frozen => "frozen",
            EndCause::AgentDisabled => "agent_disabled",
            EndCause::AnswerLost => "answer_lost",
            EndCause::Unacknowledged => "unacknowledged",
            EndCause::MintUnknown => "mint_unknown",
        }
    }
}
