//! A bundle's document: everything that its verdicts depend on, and nothing of how one broker is set up.

use std::collections::BTreeMap;

use countersign::config::Config;
use countersign::domain::rules::Limits;
use countersign::domain::{Digest, Policy, Seconds, TargetName, Targets};
use countersign::issuers::{DeclaredTargets, IssuerSet, declare};
use countersign::policy::{Bundle, Document};
use serde_json::{Value, json};

use super::{FakeTargets, directory, document};

fn digest(document: &Document) -> Digest {
    Bundle::compile(document, &FakeTargets).unwrap().bundle()
}

#[test]
fn finding_b04_the_digest_covers_everything_a_verdict_depends_on() {
    let shop = document(&directory("examples/shop"));
    let mut files = shop.clone();
    let more =
        "@id(\"more\")\nforbid (principal, action == Action::\"request:orders.report\", resource);";
    files
        .files
        .insert("policies/more.cedar".into(), more.into());
    let mut people = shop.clone();
    people
        .people
        .insert("dev".into(), "https://other.example".into());
    let mut targets = shop.clone();
    let settings = json!({"longest_ttl_seconds": 60});
    targets.targets.insert("shop".parse().unwrap(), settings);
    let mut limits = shop.clone();
    limits.limits.open_requests_per_agent = 7;
    let all = [&shop, &files, &people, &targets, &limits];
    let digests: std::collections::BTreeSet<_> = all.map(digest).into();
    assert_eq!(digests.len(), all.len());
    let bundle = Bundle::compile(&limits, &FakeTargets).unwrap();
    assert_eq!(bundle.limits().open_requests_per_agent, 7, "and keeps them");
    assert_eq!(Document::from_bytes(bundle.bytes()).unwrap(), limits);
    assert_ne!(Limits::default().open_requests_per_agent, 7);
}

const SETUP: &str = r#"
[server]
public_url = "http://127.0.0.1:7480"
state_dir = "state"
[aws]
region = "eu-central-1"
credentials = "environment"
[targets.shop]
kind = "postgres"
host = "db.example"
database = "shop"
user = "countersign"
password_file = "one"
[targets.stock]
kind = "mariadb"
host = "stock.example"
database = "stock"
user = "countersign"
password_file = "one"
[targets.cloud]
kind = "aws_sts"
role_arn = "arn:aws:iam::111111111111:role/countersign/orders"
external_id = "0123456789abcdef0123456789abcdef"
guard = "orders"
[guards.orders]
kind = "boundary"
policy_arn = "arn:aws:iam::111111111111:policy/countersign/guard-orders"
"#;

fn declared(text: &str) -> BTreeMap<TargetName, Value> {
    declare(&Config::parse(text).unwrap()).unwrap()
}

#[test]
fn finding_b04_a_target_is_declared_as_what_it_is_and_not_as_how_it_is_reached() {
    let before = declared(SETUP);
    for (old, new) in [
        (
            "password_file = \"one\"",
            "password_file = \"two\"\nmax_connections = 9",
        ),
        ("credentials = \"environment\"", "credentials = \"profile\""),
        (
            "0123456789abcdef0123456789abcdef",
            "ffffffffffffffffffffffffffffffff",
        ),
    ] {
        let after = SETUP.replace(old, new);
        assert_ne!(after, SETUP);
        assert_eq!(declared(&after), before, "{new}");
    }
    for (old, new) in [
        ("db.example", "db2.example"),
        (
            "\"stock.example\"",
            "\"stock.example\"\nlongest_ttl_seconds = 60",
        ),
        ("database = \"shop\"", "database = \"shop2\""),
        ("eu-central-1", "eu-west-1"),
        ("role/countersign/orders", "role/countersign/other"),
        ("guard-orders", "guard-other"),
    ] {
        let after = SETUP.replace(old, new);
        assert_ne!(after, SETUP);
        assert_ne!(declared(&after), before, "{new}");
    }
}

/// Who has the document judges as the broker did, without a password or a connection.
#[test]
fn finding_b04_declared_targets_judge_by_themselves() {
    let targets = DeclaredTargets::read(&declared(SETUP), IssuerSet(BTreeMap::new())).unwrap();
    let name = |text: &str| text.parse::<TargetName>().unwrap();
    let (shop, stock, cloud) = (name("shop"), name("stock"), name("cloud"));
    assert_eq!(targets.longest_ttl(&shop), Some(Seconds(12 * 3600)));
    assert_eq!(targets.longest_ttl(&cloud), Some(Seconds(3600)));
    assert_eq!(targets.longest_ttl(&name("nowhere")), None);
    let guard = targets.guard(&cloud).unwrap();
    assert!(guard.name.as_str() == "orders" && guard.room > 10);
    assert!(targets.guard(&shop).is_none());
    let role = json!({"roles": ["orders_ro"]});
    assert_eq!(targets.check_scope(&shop, &role), Ok(()));
    let own = targets.check_scope(&shop, &json!({"roles": ["countersign"]}));
    assert!(own.is_err(), "the broker's own role is never handed out");
    for target in [&stock, &cloud, &name("nowhere")] {
        assert!(targets.check_scope(target, &role).is_err(), "{target}");
    }
    let broken = BTreeMap::from([(shop, json!({"kind": "postgres"}))]);
    assert!(DeclaredTargets::read(&broken, IssuerSet(BTreeMap::new())).is_err());
}
