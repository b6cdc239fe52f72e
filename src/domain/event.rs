//! What the ledger can say. This is the frozen log format: a kind or a member, once written, keeps its meaning.

mod about;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::agent::Agent;
pub use super::freeze::Freeze;
use super::ids::{
    AgentName, Digest, GroupName, GuardName, LeaseId, RequestId, ServerId, TargetName,
};
use super::lease::EndCause;
use super::person::Person;
use super::request::{Outcome, Review, Submission, Verdict};
use super::time::{Seconds, Time};

/// One record of the ledger.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Format version: 2.
    pub v: u8,
    /// Its index, from 0.
    pub seq: u64,
    /// When the broker decided it.
    pub time: Time,
    /// Who caused it.
    pub actor: Actor,
    /// What happened.
    pub event: Event,
}

/// Who caused an entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Actor {
    /// An authenticated agent.
    Agent {
        /// Which.
        name: AgentName,
    },
    /// A signed-in person.
    Person {
        /// Who.
        person: Person,
    },
    /// The holder of the operator token. May administer and revoke, never review.
    Operator,
    /// The broker itself: time passed, or a duty was done.
    Broker,
}

/// A text kept outside the ledger so that it can be erased: the entry holds a salted hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobRef {
    /// SHA-256 of salt and text; also the key in the blob table.
    pub sha256: Digest,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
pub enum Event {
    /// The first entry of a ledger.
    #[serde(rename = "ledger.opened")]
    LedgerOpened {
        /// The log's origin (C2SP): its URL without scheme.
        origin: String,
    },
    /// A bundle came into force.
    #[serde(rename = "bundle.applied")]
    BundleApplied {
        /// Its content address.
        bundle: Digest,
        /// The files it is made of.
        content: BlobRef,
    },
    /// An agent may ask from now on.
    #[serde(rename = "agent.enrolled")]
    AgentEnrolled {
        /// The agent.
        agent: Agent,
    },
    /// An agent may no longer ask. What it has open now is closed or ended, entry by entry.
    #[serde(rename = "agent.disabled")]
    AgentDisabled {
        /// The agent.
        agent: AgentName,
    },
    /// A target answered for the first time: this is the server it stands for.
    #[serde(rename = "target.identified")]
    TargetIdentified {
        /// Which target.
        target: TargetName,
        /// The server.
        server: ServerId,
    },
    /// A target was moved as planned: what was minted at one server is to be ended and proven at another.
    #[serde(rename = "target.moved")]
    TargetMoved {
        /// Which target.
        target: TargetName,
        /// The server it stood for.
        from: ServerId,
        /// The server it stands for from now on.
        to: ServerId,
        /// Why, in the operator's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<BlobRef>,
    },
    /// A broker could end nothing at a target, and no probe answered: nothing is claimed there until it is back. What that
    /// broker had claimed there is free again. Said again when something else is in the way.
    #[serde(rename = "target.away")]
    TargetAway {
        /// Which target.
        target: TargetName,
        /// The broker that noticed.
        broker: String,
        /// The stable code of what was in the way.
        code: String,
        /// What is in the way and what to do about it, when the target said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// A target that was away answers again: what is owed there is done.
    #[serde(rename = "target.back")]
    TargetBack {
        /// Which target.
        target: TargetName,
    },
    /// A request was made and policy spoke: routine ones are approved by this entry, refused ones closed by it.
    #[serde(rename = "request.submitted")]
    RequestSubmitted {
        /// What was asked.
        submission: Box<Submission>,
        /// What policy said.
        verdict: Verdict,
    },
    /// A person approved or denied.
    #[serde(rename = "review.given")]
    ReviewGiven {
        /// Which request.
        request: RequestId,
        /// Their review.
        review: Box<Review>,
    },
    /// A person tried to review and may not.
    #[serde(rename = "review.refused")]
    ReviewRefused {
        /// Which request.
        request: RequestId,
        /// Who tried.
        person: Person,
        /// The stable code of the refusal.
        code: String,
    },
    /// A quorum is reached: the request may be minted.
    #[serde(rename = "grant.made")]
    GrantMade {
        /// Which request.
        request: RequestId,
        /// The digest that may be minted.
        digest: Digest,
        /// The people who were counted, one for each required place.
        people: Vec<Person>,
        /// Until when it may be collected.
        collect_until: Time,
    },
    /// A request is over without a lease.
    #[serde(rename = "request.closed")]
    RequestClosed {
        /// Which request.
        request: RequestId,
        /// How.
        outcome: Outcome,
    },
    /// The target is about to be called. Written before any call.
    #[serde(rename = "lease.intended")]
    LeaseIntended {
        /// For which request.
        request: RequestId,
        /// The lease.
        lease: LeaseId,
        /// The digest of what is minted; equals the grant's.
        digest: Digest,
        /// Who will hold it.
        agent: AgentName,
        /// Where.
        target: TargetName,
        /// The server it is minted at.
        server: ServerId,
        /// What it can do.
        scope: Value,
        /// How long from mint.
        ttl_seconds: Seconds,
        /// The mint is over by then.
        mint_until: Time,
        /// When the credential must end: its lifetime counts from here on.
        expires: Time,
        /// The idempotency key of the collect, hashed.
        collect_key: Digest,
        /// The bundle under which everything was checked again.
        bundle: Digest,
    },
    /// The target answered: the credential exists.
    #[serde(rename = "lease.live")]
    LeaseLive {
        /// For which request.
        request: RequestId,
        /// The lease.
        lease: LeaseId,
        /// When it must end.
        expires: Time,
        /// Until when its agent has to say that it holds the credential.
        acknowledge_by: Time,
    },
    /// The agent says that it holds the credential.
    #[serde(rename = "lease.acknowledged")]
    LeaseAcknowledged {
        /// For which request.
        request: RequestId,
        /// The lease.
        lease: LeaseId,
    },
    /// The target answered: nothing was minted.
    #[serde(rename = "lease.failed")]
    LeaseFailed {
        /// For which request.
        request: RequestId,
        /// The lease.
        lease: LeaseId,
        /// The stable code of the failure.
        code: String,
        /// How its request came out; absent when the grant may be collected again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<Outcome>,
    },
    /// The lease must end. From here on it is retried until proven.
    #[serde(rename = "lease.ending")]
    LeaseEnding {
        /// For which request.
        request: RequestId,
        /// The lease.
        lease: LeaseId,
        /// Why.
        cause: EndCause,
        /// What the agent reported, when it finished: small facts, such as an exit code.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        report: Map<String, Value>,
    },
    /// A broker takes the duty to end it; others keep off until then.
    #[serde(rename = "lease.end_claimed")]
    LeaseEndClaimed {
        /// For which request.
        request: RequestId,
        /// The lease.
        lease: LeaseId,
        /// Which broker.
        broker: String,
        /// How long the claim holds.
        until: Time,
    },
    /// Attempts to end it failed or could not be proven. Written when what is in the way changes, and after 1, 2, 4, 8 …
    /// attempts.
    #[serde(rename = "lease.end_failed")]
    LeaseEndFailed {
        /// For which request.
        request: RequestId,
        /// The lease.
        lease: LeaseId,
        /// Which broker tried.
        broker: String,
        /// The stable code of the failure.
        code: String,
        /// What is in the way and what to do about it, when the target said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
        /// How many attempts have failed by now.
        attempts: u32,
        /// When it is tried again.
        retry_at: Time,
    },
    /// Seen: the credential is denied everything, though it lives on at the target until it runs out by itself.
    #[serde(rename = "lease.cut_off")]
    LeaseCutOff {
        /// For which request.
        request: RequestId,
        /// The lease.
        lease: LeaseId,
        /// Which broker saw it.
        broker: String,
        /// What was seen, such as `canary_denied`.
        proof: Vec<String>,
        /// When it runs out. What denies it stays in place until then.
        until: Time,
        /// Whether the grant may be collected again: nobody received this credential.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        handed_back: bool,
    },
    /// Proven: nothing can be done with the credential any more.
    #[serde(rename = "lease.ended")]
    LeaseEnded {
        /// For which request.
        request: RequestId,
        /// The lease.
        lease: LeaseId,
        /// What was seen, such as `login_refused`, `no_session`, `no_role`.
        proof: Vec<String>,
        /// What of it outlives it at the target, or was removed behind it, a line each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        residue: Vec<String>,
        /// How its request came out; absent when the grant may be collected again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<Outcome>,
    },
    /// The operator gave up a lease whose end could not be proven. Its request is over; its end is tried all the same, and
    /// it stays on the list of what may still work until that is proven.
    #[serde(rename = "lease.abandoned")]
    LeaseAbandoned {
        /// For which request.
        request: RequestId,
        /// The lease.
        lease: LeaseId,
        /// Why, in the operator's words.
        reason: BlobRef,
    },
    /// A credential at a target that no open lease explains. It is being ended.
    #[serde(rename = "orphan.found")]
    OrphanFound {
        /// Where.
        target: TargetName,
        /// Its name there.
        handle: String,
    },
    /// A broker takes the duty to end an orphan; others keep off until then.
    #[serde(rename = "orphan.end_claimed")]
    OrphanEndClaimed {
        /// Where.
        target: TargetName,
        /// Its name there.
        handle: String,
        /// Which broker.
        broker: String,
        /// How long the claim holds.
        until: Time,
    },
    /// Attempts to end an orphan failed or could not be proven. Written as seldom as `lease.end_failed`.
    #[serde(rename = "orphan.end_failed")]
    OrphanEndFailed {
        /// Where.
        target: TargetName,
        /// Its name there.
        handle: String,
        /// Which broker tried.
        broker: String,
        /// The stable code of the failure.
        code: String,
        /// What is in the way and what to do about it, when the target said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
        /// How many attempts have failed by now.
        attempts: u32,
        /// When it is tried again.
        retry_at: Time,
    },
    /// The orphan is proven gone.
    #[serde(rename = "orphan.ended")]
    OrphanEnded {
        /// Where.
        target: TargetName,
        /// Its name there.
        handle: String,
        /// What was seen.
        proof: Vec<String>,
        /// What of it outlives it at the target, or was removed behind it, a line each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        residue: Vec<String>,
    },
    /// Every session of a guard's targets issued before an instant is denied, whoever made it. The leases there are ended,
    /// entry by entry.
    #[serde(rename = "guard.shut")]
    GuardShut {
        /// Which guard.
        guard: GuardName,
        /// Sessions issued before then are denied.
        issued_before: Time,
        /// The targets of the leases that it ends.
        targets: BTreeSet<TargetName>,
    },
    /// A standing order: nothing new is let in, and what is open now is closed or ended, entry by entry. Lifting it brings
    /// nothing of that back.
    #[serde(rename = "freeze.set")]
    FreezeSet {
        /// What it covers.
        freeze: Freeze,
    },
    /// The order is lifted.
    #[serde(rename = "freeze.lifted")]
    FreezeLifted {
        /// What it covered.
        freeze: Freeze,
    },
    /// The operator's word that the wall clock is right: the ledger's time goes on from it, or stays ahead of it.
    #[serde(rename = "clock.accepted")]
    ClockAccepted {
        /// What the wall clock showed.
        wall: Time,
        /// The ledger's time then.
        ledger: Time,
        /// Why, in the operator's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<BlobRef>,
    },
    /// The operator's word that the ledger goes on from here, although this is not the ledger a broker knew.
    #[serde(rename = "ledger.accepted")]
    LedgerAccepted {
        /// How many entries the newest head had that it knew.
        size: u64,
        /// Their root.
        root: Digest,
        /// Why, in the operator's words.
        reason: BlobRef,
    },
    /// A person signed in.
    #[serde(rename = "person.signed_in")]
    PersonSignedIn {
        /// Who.
        person: Person,
        /// The groups their provider named.
        groups: BTreeSet<GroupName>,
    },
    /// A person signed out.
    #[serde(rename = "person.signed_out")]
    PersonSignedOut {
        /// Who.
        person: Person,
    },
}
