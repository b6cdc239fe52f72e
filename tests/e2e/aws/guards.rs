//! Guards of every kind, the kill switch, and two brokers that write one guard.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use countersign::system::{Clock as _, SystemClock};
use futures::future::join_all;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::laws::{denied_within, survives_revocation};
use super::place::{AwsPlace, OTHER_ACCOUNT, Setting, allow_everything};
use super::{EXPORTER, lease, live, revoke};
use crate::e2e::broker::Broker;
use crate::e2e::cli::{countersign, run};
use crate::e2e::place::private_file;
use crate::e2e::until;
use crate::support::postgres_servers;

/// Two leases, of which one is revoked.
async fn one_of_two_is_cut_off(place: &AwsPlace) {
    let broker = place.dev().await;
    let (one, credential) = live(&broker, 120).await;
    let (_, others) = live(&broker, 120).await;
    let (holder, other) = (place.holder(&credential), place.holder(&others));
    let findings = survives_revocation(place, &broker, (&one, &holder), &other).await;
    assert!(findings.is_empty(), "{findings:#?}");
    let cut = revoke(&broker, &place.operator(), &one).await;
    assert_eq!(cut["lease"]["state"], "cut_off", "{cut}");
}

#[tokio::test]
async fn l04_an_inline_guard_cuts_one_of_two_sessions_off() {
    one_of_two_is_cut_off(&AwsPlace::set(Setting::Inline).await).await;
}

#[tokio::test]
async fn l04_a_guard_in_another_account_cuts_one_of_two_sessions_off() {
    let place = AwsPlace::set(Setting::OtherAccount).await;
    assert!(place.guard.contains(OTHER_ACCOUNT));
    one_of_two_is_cut_off(&place).await;
    // The broker itself has no right there but to become who has.
    let document = allow_everything().to_string();
    let fields = [
        ("PolicyArn", place.guard.as_str()),
        ("PolicyDocument", &document),
    ];
    let refused = place
        .corner
        .broker
        .iam("CreatePolicyVersion", &fields)
        .await;
    assert!(!refused.allowed(), "{refused:?}");
}

#[tokio::test]
async fn the_kill_switch_ends_every_session_of_the_role_group_whoever_made_it() {
    let place = AwsPlace::open().await;
    let broker = place.dev().await;
    let mut holders = Vec::new();
    for _ in 0..3 {
        let (_, credential) = live(&broker, 120).await;
        holders.push(place.holder(&credential));
    }
    // Somebody with the broker's keys made one that no entry tells of.
    let stray = [
        ("RoleArn", place.role.arn.as_str()),
        ("RoleSessionName", "lse_stray"),
        ("ExternalId", &place.role.external_id),
    ];
    let stray = place.corner.broker.assume(&stray).await.unwrap();
    holders.push(stray);
    for holder in &holders {
        assert!(place.works(holder).await);
    }
    let operator = place.operator();
    let shut = ["revoke", "--guard", "exports", "--json"];
    let shut = run(countersign(&broker.base, &operator, &shut))
        .await
        .fine()
        .json();
    assert_eq!(shut["leases"].as_array().map(Vec::len), Some(3), "{shut}");
    for holder in &holders {
        assert!(denied_within(Duration::from_secs(5), &place, holder).await);
    }
    // What is issued from the next second on is not affected.
    let second = SystemClock::start().now().unix_seconds() + 1;
    until("the next second", async || {
        (SystemClock::start().now().unix_seconds() > second).then_some(())
    })
    .await;
    let (_, credential) = live(&broker, 120).await;
    assert!(place.works(&place.holder(&credential)).await);
    for holder in &holders {
        assert!(!place.works(holder).await);
    }
    let agent = run(countersign(
        &broker.base,
        EXPORTER,
        &["revoke", "--guard", "exports"],
    ))
    .await;
    assert_eq!(agent.code, Some(3), "{agent:?}");
}

/// Puts the ledger into a PostgreSQL database of its own.
async fn store_in_postgres(place: &AwsPlace) {
    let mut url = postgres_servers().pop().unwrap().url;
    let mut connection = PgConnection::connect(url.as_str()).await.unwrap();
    let name = &place.corner.name;
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(create)
        .execute(&mut connection)
        .await
        .unwrap();
    url.set_path(name);
    url.set_query(Some("sslmode=disable"));
    private_file(&place.dir.join("store-url"), url.as_str());
}

/// Starts one of two brokers on one store.
async fn replica(place: &AwsPlace, name: &str, port: u16) -> Broker {
    let text = fs::read_to_string(place.dir.join("countersign.toml")).unwrap();
    let text = text
        .replace(
            &format!("listen = \"127.0.0.1:{}\"", place.port),
            &format!("listen = \"127.0.0.1:{port}\""),
        )
        .replace("state_dir = \"state\"", &format!("state_dir = \"{name}\""));
    let more = "\n[store]\nkind = \"postgres\"\nurl_file = \"store-url\"\n\
                [people.dev]\nissuer = \"http://127.0.0.1:1\"\nclient_id = \"countersign\"\n";
    let config = place.dir.join(format!("{name}.toml"));
    fs::write(&config, text + more).unwrap();
    let log = place.dir.join(format!("../{name}.log"));
    let base = format!("http://127.0.0.1:{port}");
    Broker::serve_with(&config, place.environment(), base, &log).await
}

#[tokio::test]
async fn l12_case_092_two_brokers_revoke_at_once_through_one_guard_and_lose_no_entry() {
    let place = AwsPlace::open().await;
    store_in_postgres(&place).await;
    let left = replica(&place, "left", place.port).await;
    let private = fs::Permissions::from_mode(0o700);
    fs::create_dir(place.dir.join("right")).unwrap();
    fs::set_permissions(place.dir.join("right"), private).unwrap();
    for name in ["ledger.key", "operator.token"] {
        let text = fs::read_to_string(place.dir.join("left").join(name)).unwrap();
        private_file(&place.dir.join("right").join(name), &text);
    }
    let right = replica(&place, "right", place.port + 1).await;
    let operator = fs::read_to_string(place.dir.join("left/operator.token")).unwrap();
    let brokers = [&left, &right];

    let mut leases = Vec::new();
    for number in 0..12 {
        let (request, credential) = live(brokers[number % 2], 300).await;
        leases.push((request, place.holder(&credential)));
    }
    let (revoked, spared) = leases.split_at(8);
    // Each is revoked at the broker that did not mint it.
    let revocations = revoked
        .iter()
        .enumerate()
        .map(async |(number, (request, _))| {
            let broker = brokers[(number + 1) % 2];
            until("the other broker has read of the lease", async || {
                let path = format!("/v1/leases/{}/revoke", lease(request));
                let answer = broker.post(&path, &operator, &json!({})).await;
                answer.status.is_success().then_some(())
            })
            .await;
        });
    join_all(revocations).await;
    for (request, holder) in revoked {
        assert!(
            denied_within(Duration::from_secs(20), &place, holder).await,
            "{request}"
        );
    }
    for (request, _) in revoked {
        until("it is called cut off", async || {
            let now = left.request(EXPORTER, request).await;
            (now["lease"]["state"] == "cut_off").then_some(())
        })
        .await;
    }
    // Whoever wrote last wrote all of them.
    for (request, holder) in revoked {
        assert!(!place.works(holder).await, "an entry was lost: {request}");
    }
    for (request, holder) in spared {
        assert!(
            place.works(holder).await,
            "it was revoked with the others: {request}"
        );
    }
}
