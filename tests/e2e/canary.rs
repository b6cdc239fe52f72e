//! Secrets are nowhere they should not be: every byte the broker and its target wrote is searched.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use reqwest::StatusCode;
use serde_json::json;

use super::agents::{access_token, add_with_key, let_bot_ask};
use super::broker::Broker;
use super::cli::{countersign, run};
use super::person::Person;
use super::place::{BROKER_PASSWORD, Place, column};

/// Every file below `dir`.
fn files(dir: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
}

/// The ways in which a secret may be written down.
fn spellings(secret: &str) -> Vec<String> {
    vec![
        secret.to_owned(),
        hex::encode(secret),
        BASE64_STANDARD_NO_PAD.encode(secret),
        BASE64_URL_SAFE_NO_PAD.encode(secret),
    ]
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

/// The whole story; what must not be found afterwards, by name.
async fn live_through(place: &Place, broker: &mut Broker) -> BTreeMap<&'static str, String> {
    let operator = place.operator();
    let add = ["agent", "add", "bot", "--owner", "dev:ana"];
    let added = run(countersign(&broker.base, &operator, &add)).await.fine();
    let key = added.out.trim().to_owned();
    add_with_key(place, broker, "signer").await;
    let token = access_token(place, broker, "signer").await;
    assert_eq!(
        broker.get("/v1/actions", &token).await.status,
        StatusCode::OK
    );

    let routine = broker.ask(&key, &json!({"action": "orders.report"})).await;
    let first = broker.collect(&key, &routine).await.body["credential"].clone();
    let mut session = place.log_in(&first).await.unwrap();
    column(&mut session, "SELECT count(*)::text FROM shop.orders")
        .await
        .unwrap();
    let wrong = json!({"user": first["user"], "password": "canary-wrong", "host": first["host"],
        "port": first["port"], "database": first["database"]});
    assert!(place.log_in(&wrong).await.is_err());
    broker.finish(&key, &routine).await;

    let export = json!({"action": "customers.export", "parameters": {"country": "de"}, "reason": "Berlin team"});
    let export = broker.ask(&key, &export).await;
    let mut ana = Person::sign_in(&broker.base, "dev", "ana").await;
    ana.decide(&export, "approve", "mine").await;
    let mut ben = Person::sign_in(&broker.base, "dev", "ben").await;
    ben.approve(&export).await;
    let second = broker.collect(&key, &export).await.body["credential"].clone();
    let again = broker.collect(&key, &export).await;
    assert_eq!(again.status, StatusCode::GONE, "{again:?}");
    broker.kill().await;
    broker.start_again().await;
    broker.finish(&key, &export).await;
    let bad = broker.get("/v1/actions", &format!("{key}x")).await;
    assert_eq!(bad.status, StatusCode::UNAUTHORIZED);

    let password =
        |credential: &serde_json::Value| credential["password"].as_str().unwrap().to_owned();
    BTreeMap::from([
        ("the first password", password(&first)),
        ("the second password", password(&second)),
        ("an API key", key),
        ("an access token", token),
        ("the owner's session", ana.session().to_owned()),
        ("the reviewer's session", ben.session().to_owned()),
        ("the operator's token", operator),
        ("the broker's password", BROKER_PASSWORD.to_owned()),
    ])
}

#[tokio::test]
async fn l07_case_157_no_secret_is_in_any_byte_that_was_written() {
    let place = Place::open().await;
    let_bot_ask(&place);
    let mut broker = Broker::dev(&place).await;
    let secrets = live_through(&place, &mut broker).await;
    let export = place.dir.join("../export.jsonl");
    let arguments = ["ledger", "export", "--out", export.to_str().unwrap()];
    run(countersign(&broker.base, &place.operator(), &arguments))
        .await
        .fine();

    // Before it stops, while the write-ahead log is still there, and after.
    let mut written = BTreeMap::new();
    files(&place.dir.join("state"), &mut written);
    assert!(
        written.keys().any(|file| file.ends_with("-wal")),
        "{:?}",
        written.keys()
    );
    assert!(broker.stop().await.success());
    let mut after = BTreeMap::new();
    files(&place.dir.join("state"), &mut after);
    written.extend(
        after
            .into_iter()
            .map(|(file, bytes)| (format!("{file} after the end"), bytes)),
    );
    written.retain(|file, _| !file.contains("operator.token"));
    written.insert("the export".into(), fs::read(export).unwrap());
    written.insert("the broker's output".into(), fs::read(&broker.log).unwrap());
    written.insert("PostgreSQL's log".into(), place.server_log());

    // What is searched does hold what happened, or finding nothing would prove nothing.
    assert!(contains(&written["PostgreSQL's log"], "lease_mint("));
    assert!(contains(&written["the broker's output"], "answered"));
    assert!(contains(&written["the export"], "review.given"));
    let mut found = Vec::new();
    for (name, secret) in &secrets {
        assert!(secret.len() >= 20, "{name} is too short to search for");
        for (file, bytes) in &written {
            if spellings(secret)
                .iter()
                .any(|spelling| contains(bytes, spelling))
            {
                found.push(format!("{name} is in {file}"));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
