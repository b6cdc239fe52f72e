//! Two brokers on one PostgreSQL store.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::broker::{Broker, id};
use super::cli::{countersign, local, run};
use super::place::{Place, private_file, try_sql};
use super::{REPORTER, until};

/// The configuration of one broker: all the same but where it listens and keeps its files.
fn configure(place: &Place, name: &str, port: u16) -> PathBuf {
    let text = fs::read_to_string(place.dir.join("countersign.toml")).unwrap();
    let text = text
        .replace(
            &format!("listen = \"127.0.0.1:{}\"", place.port),
            &format!("listen = \"127.0.0.1:{port}\""),
        )
        .replace("state_dir = \"state\"", &format!("state_dir = \"{name}\""));
    let path = place.dir.join(format!("{name}.toml"));
    let more = "\n[store]\nkind = \"postgres\"\nurl_file = \"store-url\"\n\
                [people.dev]\nissuer = \"http://127.0.0.1:1\"\nclient_id = \"countersign\"\n";
    fs::write(&path, text + more).unwrap();
    path
}

async fn prepare_store(place: &Place) {
    let mut connection = place.superuser("postgres").await;
    for sql in [
        "CREATE ROLE ledger LOGIN PASSWORD 'ledger'",
        "CREATE DATABASE ledger OWNER ledger",
    ] {
        try_sql(&mut connection, sql).await.unwrap();
    }
    let port = place.superuser.port().unwrap();
    let url = format!("postgres://ledger:ledger@127.0.0.1:{port}/ledger?sslmode=disable");
    private_file(&place.dir.join("store-url"), &url);
}

/// Asks, collects and finishes, whichever broker answers which call.
async fn errand(brokers: [&Broker; 2], number: usize) -> String {
    let [one, other] = [brokers[number % 2], brokers[(number + 1) % 2]];
    let request = one
        .ask(
            REPORTER,
            &json!({"action": "orders.report", "ttl_seconds": 60}),
        )
        .await;
    // A broker that has not read so far yet says so, and one that the agent calls too often; then it is asked again.
    let collected = until("the other broker knows the request", async || {
        let answer = other.collect(REPORTER, &request).await;
        let later = [StatusCode::NOT_FOUND, StatusCode::TOO_MANY_REQUESTS];
        (!later.contains(&answer.status)).then_some(answer)
    })
    .await;
    assert_eq!(collected.status, StatusCode::OK, "{collected:?}");
    let path = format!("/v1/requests/{}/finish", id(&request));
    until("the request is finished", async || {
        let report = json!({"outcome": "succeeded"});
        let answer = one.post(&path, REPORTER, &report).await;
        (answer.status.is_success() || answer.body["code"] == "closed").then_some(())
    })
    .await;
    id(&request).to_owned()
}

fn events(ledger: &[String], kind: &str) -> Vec<Value> {
    let entries = ledger
        .iter()
        .map(|entry| serde_json::from_str::<Value>(entry).unwrap());
    entries
        .map(|entry| entry["event"].clone())
        .filter(|event| event["kind"] == kind)
        .collect()
}

#[tokio::test]
async fn l12_case_137_two_brokers_serve_a_hundred_requests_and_act_once_on_each() {
    let place = Place::open().await;
    prepare_store(&place).await;
    let (left, right) = (
        configure(&place, "left", place.port),
        configure(&place, "right", place.port + 1),
    );
    let base = |port: u16| format!("http://127.0.0.1:{port}");
    let left = Broker::serve(&left, base(place.port), &place.dir.join("../left.log")).await;
    // Replicas sign one log with one key and have one operator.
    fs::create_dir(place.dir.join("right")).unwrap();
    for name in ["ledger.key", "operator.token"] {
        let text = fs::read_to_string(place.dir.join("left").join(name)).unwrap();
        private_file(&place.dir.join("right").join(name), &text);
    }
    chmod_private(&place.dir.join("right"));
    let right = Broker::serve(
        &right,
        base(place.port + 1),
        &place.dir.join("../right.log"),
    )
    .await;

    let errands = (0..100).map(|number| errand([&left, &right], number));
    let done: BTreeSet<String> = join_all(errands).await.into_iter().collect();
    assert_eq!(done.len(), 100);
    let operator = fs::read_to_string(place.dir.join("left/operator.token")).unwrap();
    for broker in [&left, &right] {
        until("all leases have ended", async || {
            let live = broker.get("/v1/leases", &operator).await.body;
            live["data"].as_array().unwrap().is_empty().then_some(())
        })
        .await;
    }
    assert_eq!(place.credentials().await, Vec::<String>::new());

    let ledger = left.ledger(&operator).await;
    once_each(&ledger, &done);
    let acted: BTreeSet<_> = events(&ledger, "lease.end_claimed")
        .iter()
        .map(|e| e["broker"].to_string())
        .collect();
    assert!(!acted.is_empty());
    assert!(events(&ledger, "orphan.found").is_empty());
    let export = place.dir.join("../export.jsonl");
    let arguments = ["ledger", "export", "--out", export.to_str().unwrap()];
    run(countersign(&right.base, &operator, &arguments))
        .await
        .fine();
    let key = fs::read_to_string(place.dir.join("left/ledger.vkey")).unwrap();
    let verify = [
        "ledger",
        "verify",
        export.to_str().unwrap(),
        "--key",
        key.trim(),
    ];
    local(&verify, &place.dir).await.fine();
}

/// Every request went through each of these exactly once.
fn once_each(ledger: &[String], done: &BTreeSet<String>) {
    for kind in [
        "request.submitted",
        "lease.intended",
        "lease.live",
        "lease.ending",
        "lease.ended",
    ] {
        let of_requests = events(ledger, kind);
        let about: BTreeSet<_> = of_requests
            .iter()
            .map(|event| {
                event["request"]
                    .as_str()
                    .or(event["submission"]["request"].as_str())
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!((of_requests.len(), about.len()), (100, 100), "{kind}");
        assert_eq!(&about, done, "{kind}");
    }
}

/// A second broker with a key of its own would sign the same history in another name.
#[tokio::test]
async fn l06_a_broker_with_another_key_is_refused_by_the_store() {
    let place = Place::open().await;
    prepare_store(&place).await;
    let left = configure(&place, "left", place.port);
    let mut broker = Broker::serve(&left, place.base(), &place.dir.join("../left.log")).await;
    configure(&place, "right", place.port + 1);
    let refused = local(&["serve", "--config", "right.toml"], &place.dir).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("key"), "{refused:?}");
    assert!(broker.stop().await.success());
}

fn chmod_private(dir: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
}
