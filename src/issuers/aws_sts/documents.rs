//! The documents of the scheme: session policies, guards, and what an administrator sets up once.

use std::collections::BTreeSet;

use super::arn::IamArn;
use super::policy::{Effect, Meaning, Policy, Statement};
use crate::domain::{LeaseId, Seconds, Time, lease};
use crate::issuers::{Deployment, GuardContent};

/// Prefix of every session's name; the roles' trust policies ask for it.
pub(super) const SESSION_PREFIX: &str = "lse_";
/// A session that no guard ever denies. Hyphens and `l` are in no lease id.
pub(super) const CONTROL_SESSION: &str = "lse_countersign-control";
/// A session that every guard always denies, so that anybody can see that the guard is in force.
pub(super) const REHEARSAL_SESSION: &str = "lse_countersign-rehearsal";
/// The one action of canary calls. It lists queues whose names begin with a text no queue's name begins with.
pub(super) const CANARY_ACTION: &str = "sqs:ListQueues";
/// The inline policy that is a guard where the boundary is taken.
pub(super) const INLINE_GUARD: &str = "countersign-guard";

/// How much of a session's name a guard's entry holds: 80 random bits of a lease id.
const SUFFIX: usize = 16;
/// Characters of one entry: quotes, asterisk, suffix, comma.
const ENTRY: usize = SUFFIX + 4;
/// Characters of a managed policy.
pub(super) const BOUNDARY_SIZE: usize = 6_144;
/// Characters left to an inline guard: 10,240 for all inline policies of the role, 4,096 of them its own.
pub(super) const INLINE_SIZE: usize = 6_144;
/// Shortest life of a session at STS.
pub(super) const SHORTEST_SESSION: Seconds = Seconds(900);

/// What no session may do: calls with which it could grow, outlive its end, or become somebody else.
pub(super) const NEVER: [&str; 7] = [
    "account:*",
    "iam:*",
    "organizations:*",
    "rolesanywhere:*",
    "sso-directory:*",
    "sso:*",
    "sts:*",
];

/// What the broker does with a role.
const ASSUME: [&str; 3] = ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"];
/// What the broker does with a guard that is a boundary.
const PUBLISH: [&str; 4] = [
    "iam:CreatePolicyVersion",
    "iam:DeletePolicyVersion",
    "iam:GetPolicyVersion",
    "iam:ListPolicyVersions",
];
/// What the broker does with a guard that is inline.
const PUBLISH_INLINE: [&str; 2] = ["iam:GetRolePolicy", "iam:PutRolePolicy"];

/// An instant as IAM writes it, to the second, rounded down.
pub(super) fn instant(time: Time) -> String {
    let seconds = jiff::Timestamp::from_second(time.unix_seconds());
    seconds.map_or_else(|_| time.to_string(), |seconds| seconds.to_string())
}

/// Denies everything from `expires` on, by AWS's own clock.
fn fence(expires: &str) -> Statement {
    Statement::deny_all().when("DateGreaterThanEquals", "aws:CurrentTime", [expires])
}

fn never() -> Statement {
    Statement::new(Effect::Deny, NEVER, ["*"])
}

/// What a lease's session may do: its scope, which denies all else, and nothing from `expires` on.
pub(super) fn session_policy(scope: Vec<Statement>, expires: &str) -> Policy {
    let mut statements = scope;
    statements.push(fence(expires));
    Policy::new(statements)
}

/// What a session of the broker's own may do: the canary call, until `expires` if that is given.
pub(super) fn canary_policy(expires: Option<Time>) -> Policy {
    let mut statements = vec![Statement::new(Effect::Allow, [CANARY_ACTION], ["*"])];
    statements.extend(expires.map(|expires| fence(&instant(expires))));
    Policy::new(statements)
}

/// The end of a session's name, by which a guard knows it.
fn suffix(session: &str) -> &str {
    let start = session.len().saturating_sub(SUFFIX);
    session.get(start..).unwrap_or(session)
}

/// Whether a guard is a boundary or an inline policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GuardKind {
    Boundary,
    Inline,
}

/// What the statement of a guard that names sessions is called, before the name of whose it is.
const KEPT_BY: &str = "Countersign";

/// What the statement is called that names the sessions a deployment has cut off.
fn mark(keeper: &Deployment) -> String {
    format!("{KEPT_BY}{}", keeper.as_str())
}

/// Which other deployment keeps a guard that says this.
pub(super) fn other_keeper(guard: &[Meaning], keeper: &Deployment) -> Option<String> {
    let names = guard
        .iter()
        .filter_map(|statement| statement.sid.as_deref());
    let mut others = names.filter_map(|name| name.strip_prefix(KEPT_BY));
    others
        .find(|other| *other != keeper.as_str())
        .map(str::to_owned)
}

/// A guard: allows everything, as a boundary must, and denies what has to be denied. Inline it allows nothing. It says
/// whose it is, once somebody keeps it.
pub(super) fn guard(
    kind: GuardKind,
    content: &GuardContent,
    keeper: Option<&Deployment>,
) -> Policy {
    let leases = content
        .cut
        .iter()
        .filter_map(|handle| lease::lease_of(handle));
    let sessions: BTreeSet<String> = leases.map(|lease| session_name(&lease)).collect();
    let denied = sessions.iter().map(String::as_str);
    let entries = denied.chain([REHEARSAL_SESSION]);
    let entries: BTreeSet<String> = entries.map(|name| format!("*{}", suffix(name))).collect();
    let mut statements = Vec::new();
    if kind == GuardKind::Boundary {
        statements.push(Statement::new(Effect::Allow, ["*"], ["*"]));
    }
    statements.push(never());
    if let Some(before) = content.issued_before {
        let before = instant(before.plus(Seconds(1)));
        statements.push(Statement::deny_all().when("DateLessThan", "aws:TokenIssueTime", [before]));
    }
    let cut = Statement::deny_all().when("StringLike", "aws:userid", entries);
    statements.push(match keeper {
        Some(keeper) => cut.called(mark(keeper)),
        None => cut,
    });
    Policy::new(statements)
}

/// The name of a lease's session: the lease's id.
pub(super) fn session_name(lease: &LeaseId) -> String {
    lease.as_str().to_owned()
}

/// How many leases a guard can deny at a time, with the watermark in place.
pub(super) fn guard_room(kind: GuardKind) -> usize {
    let content = GuardContent {
        cut: BTreeSet::new(),
        issued_before: Some(Time::MAX),
    };
    let keeper = Deployment::of("any of them");
    let fixed = guard(kind, &content, Some(&keeper))
        .to_text()
        .map_or(0, |text| text.len());
    let size = match kind {
        GuardKind::Boundary => BOUNDARY_SIZE,
        GuardKind::Inline => INLINE_SIZE,
    };
    // A list of one is written without its brackets.
    size.saturating_sub(fixed + 2) / ENTRY
}

/// The trust policy of a lease role.
pub(super) fn trust_policy(broker: &str, external_id: &str) -> Policy {
    let names = [format!("{SESSION_PREFIX}*")];
    Policy::new(vec![
        Statement::new(Effect::Allow, ASSUME, ["*"])
            .of_principal(broker)
            .when("StringEquals", "sts:ExternalId", [external_id])
            .when("StringLike", "sts:RoleSessionName", names),
    ])
}

/// The trust policy of a guard's writer.
pub(super) fn writer_trust_policy(broker: &str, external_id: &str) -> Policy {
    Policy::new(vec![
        Statement::new(Effect::Allow, ["sts:AssumeRole"], ["*"])
            .of_principal(broker)
            .when("StringEquals", "sts:ExternalId", [external_id]),
    ])
}

/// What the broker has to be allowed, and no more.
pub(super) fn broker_policy(
    roles: &BTreeSet<IamArn>,
    writers: &BTreeSet<IamArn>,
    guards: Vec<Statement>,
) -> Policy {
    let mut statements = Vec::new();
    if !roles.is_empty() {
        let roles = roles.iter().map(IamArn::as_str);
        statements.push(Statement::new(Effect::Allow, ASSUME, roles));
    }
    if !writers.is_empty() {
        let writers = writers.iter().map(IamArn::as_str);
        statements.push(Statement::new(Effect::Allow, ["sts:AssumeRole"], writers));
    }
    statements.extend(guards);
    Policy::new(statements)
}

/// The right to write one guard, for the broker or the guard's writer.
pub(super) fn may_publish(kind: GuardKind, guard: &IamArn) -> Statement {
    match kind {
        GuardKind::Boundary => Statement::new(Effect::Allow, PUBLISH, [guard.as_str()]),
        GuardKind::Inline => Statement::new(Effect::Allow, PUBLISH_INLINE, [guard.as_str()]),
    }
}

/// What a lease role must be allowed beside its work: the canary call.
pub(super) fn canary_permission() -> Policy {
    Policy::new(vec![Statement::new(Effect::Allow, [CANARY_ACTION], ["*"])])
}
