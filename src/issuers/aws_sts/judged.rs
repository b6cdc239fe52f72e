//! Every document the broker writes, judged by an evaluator that is not ours.

use std::collections::BTreeSet;

use iam_rs::{
    Arn, Context, Decision, EvaluationOptions, IAMPolicy, IAMRequest, PolicyEvaluator, Principal,
    PrincipalId,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::arn::IamArn;
use super::documents::{
    self, CANARY_ACTION, CONTROL_SESSION, GuardKind, NEVER, REHEARSAL_SESSION, canary_policy,
};
use super::policy::Policy;
use super::scope::{self, Form, Place};
use crate::domain::{LeaseId, Time, lease};
use crate::issuers::{Deployment, GuardContent};

pub(super) const BROKER: &str = "arn:aws:iam::111111111111:role/countersign-broker";
const EXTERNAL_ID: &str = "0123456789abcdef0123456789abcdef";
pub(super) const EXPIRES: &str = "2026-11-22T12:05:00Z";

fn role() -> IamArn {
    IamArn::parse("arn:aws:iam::111111111111:role/countersign/orders", "role").unwrap()
}

fn guard_arn() -> IamArn {
    let arn = "arn:aws:iam::111111111111:policy/countersign/guard-orders";
    IamArn::parse(arn, "policy").unwrap()
}

pub(super) fn place() -> Place {
    Place::of(&role(), "eu-central-1")
}

fn lease(random: u128) -> LeaseId {
    LeaseId::draw(Time::from_millis(1_795_348_800_000), random)
}

/// What AWS knows of a call.
fn context(facts: &[(&str, &str)]) -> Context {
    facts.iter().fold(Context::new(), |context, (key, value)| {
        context.with_string(*key, *value)
    })
}

fn judge(policy: &Policy, action: &str, resource: &str, facts: &[(&str, &str)]) -> Decision {
    judge_text(
        &policy.to_text().unwrap(),
        BROKER,
        action,
        Some(resource),
        facts,
    )
}

fn judge_text(
    text: &str,
    who: &str,
    action: &str,
    resource: Option<&str>,
    facts: &[(&str, &str)],
) -> Decision {
    let policy = IAMPolicy::from_json(text).unwrap();
    let principal = Principal::Aws(PrincipalId::String(who.into()));
    let arn = Arn::parse(resource.unwrap_or("arn:aws:s3:::none")).unwrap();
    let request = IAMRequest::new_with_context(principal, action, arn, context(facts));
    let options = EvaluationOptions {
        // A trust policy names no resource: it hangs on it.
        ignore_resource_constraints: resource.is_none(),
        ..EvaluationOptions::default()
    };
    let evaluator = PolicyEvaluator::with_policies(vec![policy]).with_options(options);
    evaluator.evaluate(&request).unwrap().decision
}

fn at(time: &str) -> [(&'static str, &str); 1] {
    [("aws:CurrentTime", time)]
}

fn session(scope: &Value) -> Policy {
    let scope = scope::read(scope, &place(), Form::Rendered).unwrap();
    scope.policy(EXPIRES)
}

fn exports() -> Value {
    json!({"statements": [
        {"actions": ["s3:GetObject", "s3:PutObject"], "resources": [{"bucket": "orders", "prefix": ["exports", "acme"]}]},
        {"actions": ["s3:ListBucket"], "resources": [{"bucket": "orders", "prefix": ["exports", "acme"]}]},
        {"actions": ["s3:GetObject"], "resources": [{"bucket": "orders", "key": ["readme.txt"]}]},
        {"actions": ["dynamodb:GetItem"], "resources": [{"service": "dynamodb", "path": ["table", "orders"]}]},
        {"actions": ["dynamodb:Query"], "resources": [{"service": "dynamodb", "path": ["table", "orders"], "and_below": true}]},
        {"actions": ["lambda:InvokeFunction"], "resources": [{"service": "lambda", "path": ["function", "export"], "separator": ":"}]},
        {"effect": "deny", "actions": ["s3:PutObject"], "resources": [{"bucket": "orders", "key": ["exports", "acme", "locked"]}]},
    ]})
}

#[test]
fn a_session_may_do_what_its_scope_says_and_nothing_beside() {
    let policy = session(&exports());
    let now = at("2026-11-22T12:04:59Z");
    let table = "arn:aws:dynamodb:eu-central-1:111111111111:table/orders";
    for (action, resource) in [
        ("s3:GetObject", "arn:aws:s3:::orders/exports/acme/a"),
        ("s3:PutObject", "arn:aws:s3:::orders/exports/acme/b/c"),
        ("s3:GetObject", "arn:aws:s3:::orders/readme.txt"),
        ("dynamodb:GetItem", table),
        (
            "lambda:InvokeFunction",
            "arn:aws:lambda:eu-central-1:111111111111:function:export",
        ),
    ] {
        assert_eq!(
            judge(&policy, action, resource, &now),
            Decision::Allow,
            "{action} {resource}"
        );
    }
    let index = format!("{table}/index/by-date");
    assert_eq!(
        judge(&policy, "dynamodb:Query", &index, &now),
        Decision::Allow
    );
    for (action, resource) in [
        ("s3:GetObject", "arn:aws:s3:::orders/exports/acme2/a"),
        ("s3:GetObject", "arn:aws:s3:::orders/exports/acme"),
        ("s3:GetObject", "arn:aws:s3:::orders-exports/acme/a"),
        ("s3:GetObject", "arn:aws:s3:::orders2/exports/acme/a"),
        ("s3:PutObject", "arn:aws:s3:::orders/readme.txt"),
        ("s3:DeleteObject", "arn:aws:s3:::orders/exports/acme/a"),
        ("s3:PutObject", "arn:aws:s3:::orders/exports/acme/locked"),
        (
            "dynamodb:GetItem",
            "arn:aws:dynamodb:eu-central-1:111111111111:table/orders2",
        ),
        (
            "dynamodb:GetItem",
            "arn:aws:dynamodb:us-east-1:111111111111:table/orders",
        ),
        ("dynamodb:PutItem", table),
    ] {
        assert_ne!(
            judge(&policy, action, resource, &now),
            Decision::Allow,
            "{action} {resource}"
        );
    }
}

#[test]
fn a_listing_shows_one_prefix_and_no_sibling() {
    let policy = session(&exports());
    let list = |prefix: &str| {
        let facts = [
            ("s3:prefix", prefix),
            ("aws:CurrentTime", "2026-11-22T12:00:00Z"),
        ];
        judge(&policy, "s3:ListBucket", "arn:aws:s3:::orders", &facts)
    };
    assert_eq!(list("exports/acme/"), Decision::Allow);
    assert_eq!(list("exports/acme/2026/"), Decision::Allow);
    for sibling in [
        "",
        "exports/",
        "exports/acme",
        "exports/acme2/",
        "exports/acme-old/",
    ] {
        assert_ne!(list(sibling), Decision::Allow, "{sibling:?}");
    }
    let whole = at("2026-11-22T12:00:00Z");
    assert_ne!(
        judge(&policy, "s3:ListBucket", "arn:aws:s3:::orders", &whole),
        Decision::Allow
    );
}

#[test]
fn l04_the_fence_denies_from_its_second_on() {
    let policy = session(&exports());
    let get = |time: &str| {
        let object = "arn:aws:s3:::orders/exports/acme/a";
        judge(&policy, "s3:GetObject", object, &at(time))
    };
    assert_eq!(get("2026-11-22T12:04:59Z"), Decision::Allow);
    for late in [EXPIRES, "2026-11-22T12:05:01Z", "2027-01-01T00:00:00Z"] {
        assert_eq!(get(late), Decision::Deny, "{late}");
    }
    let half = Time::from_millis(1_795_349_100_999);
    assert_eq!(documents::instant(half), EXPIRES);
}

#[test]
fn case_087_no_session_grows_itself() {
    let everything = json!({"statements": [
        {"actions": ["s3:GetObject"], "resources": [{"everything": true}]}
    ]});
    let session = session(&everything);
    let guards = [GuardKind::Boundary, GuardKind::Inline]
        .map(|kind| documents::guard(kind, &GuardContent::default(), None));
    let facts = [
        ("aws:CurrentTime", "2026-11-22T12:00:00Z"),
        ("aws:userid", "AROAEXAMPLE:lse_01kankm00000000000000000aa"),
    ];
    for action in [
        "iam:CreateAccessKey",
        "iam:PutRolePolicy",
        "iam:DeleteRolePermissionsBoundary",
        "iam:CreatePolicyVersion",
        "iam:PassRole",
        "sts:AssumeRole",
        "sts:GetFederationToken",
        "sts:GetSessionToken",
        "organizations:LeaveOrganization",
        "account:PutContactInformation",
        "rolesanywhere:CreateProfile",
        "sso:CreateAccountAssignment",
    ] {
        let resource = "arn:aws:iam::111111111111:role/countersign/orders";
        for policy in std::iter::once(&session).chain(&guards) {
            assert_eq!(
                judge(policy, action, resource, &facts),
                Decision::Deny,
                "{action}"
            );
        }
        let scope =
            json!({"statements": [{"actions": [action], "resources": [{"everything": true}]}]});
        assert!(
            scope::read(&scope, &place(), Form::Template).is_err(),
            "{action}"
        );
    }
}

fn denied_by(guard: &Policy, userid: &str, issued: &str) -> bool {
    let facts = [("aws:userid", userid), ("aws:TokenIssueTime", issued)];
    judge(guard, "s3:GetObject", "arn:aws:s3:::orders/a", &facts) == Decision::Deny
}

#[test]
fn case_091_a_guard_denies_one_session_and_no_other() {
    let (cut, other) = (lease(7), lease(8));
    let content = GuardContent {
        cut: BTreeSet::from([lease::handle_of(&cut)]),
        issued_before: None,
    };
    for kind in [GuardKind::Boundary, GuardKind::Inline] {
        let guard = documents::guard(kind, &content, Some(&Deployment::of("us")));
        let denied = |session: &str| {
            denied_by(
                &guard,
                &format!("AROAEXAMPLE:{session}"),
                "2026-11-22T12:00:00Z",
            )
        };
        assert!(denied(cut.as_str()));
        assert!(denied(REHEARSAL_SESSION));
        assert!(!denied(other.as_str()));
        assert!(!denied(CONTROL_SESSION));
        let facts = [("aws:userid", "AROAEXAMPLE:lse_other")];
        let allowed = judge(&guard, "s3:GetObject", "arn:aws:s3:::orders/a", &facts);
        assert_eq!(allowed == Decision::Allow, kind == GuardKind::Boundary);
    }
}

#[test]
fn a_kill_switch_denies_what_was_issued_before_it_and_nothing_later() {
    let content = GuardContent {
        cut: BTreeSet::new(),
        issued_before: Some(
            "2026-11-22T12:00:00.500Z"
                .parse::<jiff::Timestamp>()
                .map(|at| Time::from_millis(at.as_millisecond()))
                .unwrap(),
        ),
    };
    let guard = documents::guard(GuardKind::Boundary, &content, None);
    for (issued, denied) in [
        ("2026-11-22T11:00:00Z", true),
        ("2026-11-22T12:00:00Z", true),
        ("2026-11-22T12:00:01Z", false),
        ("2026-11-22T13:00:00Z", false),
    ] {
        assert_eq!(
            denied_by(&guard, "AROAEXAMPLE:lse_x", issued),
            denied,
            "{issued}"
        );
    }
}

#[test]
fn case_092_a_full_guard_fits_into_its_policy() {
    for (kind, limit) in [
        (GuardKind::Boundary, documents::BOUNDARY_SIZE),
        (GuardKind::Inline, documents::INLINE_SIZE),
    ] {
        let room = documents::guard_room(kind);
        assert!(room >= 250, "{room}");
        let handles = (0..room).map(|n| lease::handle_of(&lease(u128::try_from(n).unwrap())));
        let content = GuardContent {
            cut: handles.collect(),
            issued_before: Some(Time::MAX),
        };
        let text = documents::guard(kind, &content, Some(&Deployment::of("us")))
            .to_text()
            .unwrap();
        assert!(text.len() <= limit, "{}", text.len());
        assert!(
            text.len() + 20 > limit,
            "room is given away: {}",
            text.len()
        );
    }
}

#[test]
fn case_094_a_sessions_name_is_its_lease_and_fits() {
    let id = lease(u128::MAX);
    let name = documents::session_name(&id);
    for name in [name.as_str(), CONTROL_SESSION, REHEARSAL_SESSION] {
        assert!(name.starts_with(documents::SESSION_PREFIX));
        assert!((2..=64).contains(&name.len()));
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
        );
    }
    assert_ne!(
        documents::session_name(&lease(1)),
        documents::session_name(&lease(2))
    );
    assert_eq!(super::tag("ci fixer\n<Ünï>"), "ci fixer__Ünï_");
    assert_eq!(super::tag(&"a".repeat(300)).len(), 256);
}

#[test]
fn a_canary_session_may_make_one_call_until_its_fence() {
    let expires = Time::from_millis(1_795_349_100_000);
    for (policy, late) in [
        (canary_policy(None), Decision::Allow),
        (canary_policy(Some(expires)), Decision::Deny),
    ] {
        let queues = "arn:aws:sqs:eu-central-1:111111111111:*";
        let before = at("2026-11-22T12:04:59Z");
        assert_eq!(
            judge(&policy, CANARY_ACTION, queues, &before),
            Decision::Allow
        );
        assert_eq!(judge(&policy, CANARY_ACTION, queues, &at(EXPIRES)), late);
        assert_ne!(
            judge(&policy, "sqs:SendMessage", queues, &before),
            Decision::Allow
        );
        assert_ne!(
            judge(&policy, "s3:GetObject", "arn:aws:s3:::a/b", &before),
            Decision::Allow
        );
    }
}

#[test]
fn case_093_a_role_trusts_the_broker_with_its_external_id_only() {
    let trust = documents::trust_policy(BROKER, EXTERNAL_ID)
        .to_text()
        .unwrap();
    let asked = |who: &str, id: &str, name: &str| {
        let facts = [("sts:ExternalId", id), ("sts:RoleSessionName", name)];
        judge_text(&trust, who, "sts:AssumeRole", None, &facts)
    };
    let name = lease(1);
    assert_eq!(asked(BROKER, EXTERNAL_ID, name.as_str()), Decision::Allow);
    assert_ne!(asked(BROKER, "another", name.as_str()), Decision::Allow);
    assert_ne!(asked(BROKER, EXTERNAL_ID, "mine"), Decision::Allow);
    let other = "arn:aws:iam::111111111111:role/other";
    assert_ne!(asked(other, EXTERNAL_ID, name.as_str()), Decision::Allow);
    let nothing = judge_text(&trust, BROKER, "sts:AssumeRole", None, &[]);
    assert_ne!(nothing, Decision::Allow);
}

#[test]
fn the_broker_may_assume_its_roles_write_its_guards_and_nothing_else() {
    let publish = documents::may_publish(GuardKind::Boundary, &guard_arn());
    let roles = BTreeSet::from([role()]);
    let broker = documents::broker_policy(&roles, &BTreeSet::new(), vec![publish.clone()]);
    let writer = Policy::new(vec![publish]);
    let (role, guard) = (role(), guard_arn());
    assert_eq!(
        judge(&broker, "sts:AssumeRole", role.as_str(), &[]),
        Decision::Allow
    );
    for policy in [&broker, &writer] {
        assert_eq!(
            judge(policy, "iam:CreatePolicyVersion", guard.as_str(), &[]),
            Decision::Allow
        );
        for (action, resource) in [
            (
                "iam:CreatePolicyVersion",
                "arn:aws:iam::111111111111:policy/other",
            ),
            ("iam:PutRolePolicy", role.as_str()),
            ("iam:DeleteRolePermissionsBoundary", role.as_str()),
            ("iam:DetachRolePolicy", role.as_str()),
            ("iam:UpdateAssumeRolePolicy", role.as_str()),
            ("sts:AssumeRole", "arn:aws:iam::111111111111:role/admin"),
            ("s3:GetObject", "arn:aws:s3:::orders/a"),
        ] {
            assert_ne!(
                judge(policy, action, resource, &[]),
                Decision::Allow,
                "{action}"
            );
        }
    }
    assert_ne!(
        judge(&writer, "sts:AssumeRole", role.as_str(), &[]),
        Decision::Allow
    );
    let inline = Policy::new(vec![documents::may_publish(GuardKind::Inline, &role)]);
    assert_eq!(
        judge(&inline, "iam:PutRolePolicy", role.as_str(), &[]),
        Decision::Allow
    );
    let sibling = "arn:aws:iam::111111111111:role/countersign/orders2";
    assert_ne!(
        judge(&inline, "iam:PutRolePolicy", sibling, &[]),
        Decision::Allow
    );
    let writer = documents::writer_trust_policy(BROKER, EXTERNAL_ID)
        .to_text()
        .unwrap();
    let knows = [("sts:ExternalId", EXTERNAL_ID)];
    let asked = |facts| judge_text(&writer, BROKER, "sts:AssumeRole", None, facts);
    assert_eq!(asked(&knows), Decision::Allow);
    assert_ne!(asked(&[]), Decision::Allow);
    let canary = documents::canary_permission();
    let queues = "arn:aws:sqs:eu-central-1:111111111111:*";
    assert_eq!(judge(&canary, CANARY_ACTION, queues, &[]), Decision::Allow);
}

#[test]
fn what_is_never_allowed_is_named_as_services() {
    assert!(NEVER.iter().all(|action| action.ends_with(":*")));
}

fn below(name: &str) -> Value {
    json!({"statements": [{"actions": ["s3:GetObject"], "resources": [{"bucket": "orders", "prefix": name}]}]})
}

fn table(name: &str) -> Value {
    json!({"statements": [{"actions": ["dynamodb:GetItem"], "resources": [{"service": "dynamodb", "path": ["table", name]}]}]})
}

proptest! {
    /// Whatever names are asked for: a policy for one never reaches the other.
    #[test]
    fn case_085_no_policy_reaches_another_name(
        n in "[a-cA-C0-1*?.$/_{}%\\\\\"-]{1,5}",
        m in "[a-cA-C0-1._-]{1,5}",
        glued in any::<bool>(),
    ) {
        let m = if glued { format!("{n}{m}") } else { m };
        prop_assume!(n != m && !m.contains('/'));
        let now = at("2026-11-22T12:00:00Z");
        if let Ok(scope) = scope::read(&below(&n), &place(), Form::Rendered) {
            let arn = format!("arn:aws:s3:::orders/{m}/file");
            prop_assert_ne!(judge(&scope.policy(EXPIRES), "s3:GetObject", &arn, &now), Decision::Allow);
        }
        if let Ok(scope) = scope::read(&table(&n), &place(), Form::Rendered) {
            let arn = format!("arn:aws:dynamodb:eu-central-1:111111111111:table/{m}");
            prop_assert_ne!(judge(&scope.policy(EXPIRES), "dynamodb:GetItem", &arn, &now), Decision::Allow);
        }
    }

    /// Whatever a parameter holds, the policy has the statements it would have had, or there is none.
    #[test]
    fn case_086_no_parameter_becomes_a_statement(name in any::<String>()) {
        if let Ok(scope) = scope::read(&below(&name), &place(), Form::Rendered) {
            let meaning = scope.policy(EXPIRES).meaning();
            prop_assert_eq!(meaning.len(), 4);
            prop_assert_eq!(&meaning[0].actions, &BTreeSet::from(["s3:GetObject".to_owned()]));
            let resources = BTreeSet::from([format!("arn:aws:s3:::orders/{name}/*")]);
            prop_assert_eq!(&meaning[0].resources, &resources);
            prop_assert_eq!(&meaning[2].other_resources, &resources);
        }
    }
}
