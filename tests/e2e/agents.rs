//! Agents beyond those of the bundle: added, proving themselves by key or key pair, disabled.

use std::time::Duration;

use countersign::system::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use countersign_client::{Sources, read_seed, write_jwt};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use super::broker::Broker;
use super::cli::{countersign, run};
use super::place::{Place, column};

/// Lets agents named `bot` and `signer` do what the reporter may.
pub fn let_bot_ask(place: &Place) {
    place.edit("policies/shop.cedar", |text| {
        ["bot", "signer"].iter().fold(text, |text, agent| {
            format!(
                "{text}
                 @id(\"{agent}-asks\") permit (principal == Agent::\"{agent}\",
                     action in [Action::\"request:orders.report\", Action::\"request:customers.export\"], resource);
                 @id(\"{agent}-reports\") permit (principal == Agent::\"{agent}\",
                     action == Action::\"routine:orders.report\", resource);"
            )
        })
    });
}

/// Adds an agent that holds a key pair; its seed is in the file of its name.
pub async fn add_with_key(place: &Place, broker: &Broker, name: &str) {
    let file = place.dir.join(name);
    let add = [
        "agent",
        "add",
        name,
        "--owner",
        "dev:ana",
        "--new-key-file",
        file.to_str().unwrap(),
    ];
    run(countersign(&broker.base, &place.operator(), &add))
        .await
        .fine();
}

/// A signed assertion of that agent.
fn assertion(place: &Place, broker: &Broker, name: &str) -> String {
    let sources = Sources {
        unix_seconds: || u64::try_from(SystemClock::start().now().unix_seconds()).unwrap(),
        random: |bytes| SystemEntropy.fill(bytes),
    };
    let seed = read_seed(&place.dir.join(name)).unwrap();
    write_jwt(&seed, name, &broker.base, sources)
}

async fn exchange(broker: &Broker, assertion: &str) -> (StatusCode, Value) {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair(
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        )
        .append_pair("client_assertion", assertion)
        .finish();
    let call = Client::new()
        .post(format!("{}/v1/token", broker.base))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body);
    let answer = call.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

/// An access token of that agent.
pub async fn access_token(place: &Place, broker: &Broker, name: &str) -> String {
    let (status, answer) = exchange(broker, &assertion(place, broker, name)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_added_agent_is_told_its_key_once_and_runs_a_command_with_it() {
    let place = Place::open().await;
    let_bot_ask(&place);
    let broker = Broker::dev(&place).await;
    let operator = place.operator();
    let add = ["agent", "add", "bot", "--owner", "dev:ana"];
    let added = run(countersign(&broker.base, &operator, &add)).await.fine();
    let key = added.out.trim();
    assert!(key.starts_with("csk_"), "{added:?}");
    let listed = run(countersign(
        &broker.base,
        &operator,
        &["agent", "ls", "--json"],
    ))
    .await
    .fine();
    assert!(
        listed.out.contains("\"bot\"") && !listed.out.contains(key),
        "{listed:?}"
    );

    let query = "SELECT count(*) FROM shop.orders";
    let exec = [
        "exec",
        "orders.report",
        "--reason",
        "weekly",
        "--",
        "psql",
        "-Atqc",
        query,
    ];
    let ran = run(countersign(&broker.base, key, &exec)).await.fine();
    assert_eq!(ran.out, "200\n");
    assert!(
        ran.err
            .contains("access has ended, proven at the target (completed)"),
        "{ran:?}"
    );
    assert_eq!(place.credentials().await, Vec::<String>::new());

    let others = run(countersign(&broker.base, key, &["agent", "ls"])).await;
    assert_eq!(others.code, Some(3), "{others:?}");
    let twice = run(countersign(&broker.base, &operator, &add)).await;
    assert_eq!(twice.code, Some(9), "{twice:?}");
}

#[tokio::test]
async fn an_agent_with_a_key_pair_proves_itself_and_an_assertion_is_good_once() {
    let place = Place::open().await;
    let_bot_ask(&place);
    let broker = Broker::dev(&place).await;
    add_with_key(&place, &broker, "signer").await;
    let file = place.dir.join("signer");
    let exec = [
        "--agent",
        "signer",
        "--key-file",
        file.to_str().unwrap(),
        "exec",
        "orders.report",
        "--reason",
        "weekly",
        "--",
        "psql",
        "-Atqc",
        "SELECT count(*) FROM shop.orders",
    ];
    let ran = run(countersign(&broker.base, "", &exec)).await.fine();
    assert_eq!(ran.out, "200\n");

    let assertion = assertion(&place, &broker, "signer");
    let (status, answer) = exchange(&broker, &assertion).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let (status, answer) = exchange(&broker, &assertion).await;
    assert!(
        status.is_client_error(),
        "a second use was accepted: {answer}"
    );
    let (status, answer) = exchange(&broker, &assertion.replace('.', "x")).await;
    assert!(status.is_client_error(), "{answer}");
}

#[tokio::test]
async fn case_077_a_disabled_agent_loses_what_it_holds() {
    let place = Place::open().await;
    let_bot_ask(&place);
    let broker = Broker::dev(&place).await;
    add_with_key(&place, &broker, "signer").await;
    let token = access_token(&place, &broker, "signer").await;
    let request = broker
        .ask(&token, &json!({"action": "orders.report"}))
        .await;
    let collected = broker.collect(&token, &request).await;
    let mut session = place.log_in(&collected.body["credential"]).await.unwrap();
    let export = json!({"action": "customers.export", "parameters": {"country": "de"}});
    let pending = broker.ask(&token, &export).await;

    let operator = place.operator();
    let disable = ["agent", "disable", "signer"];
    run(countersign(&broker.base, &operator, &disable))
        .await
        .fine();
    let answer = broker.get("/v1/actions", &token).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
    let outcome = broker
        .closed(Duration::from_secs(60), &operator, &request)
        .await;
    assert_eq!(outcome, "revoked");
    assert!(column(&mut session, "SELECT 1::text").await.is_err());
    assert!(place.log_in(&collected.body["credential"]).await.is_err());
    assert_eq!(broker.request(&operator, &pending).await["state"], "closed");
    let (status, _) = exchange(&broker, &assertion(&place, &broker, "signer")).await;
    assert!(status.is_client_error());

    // The name inherits nothing, because nobody gets it again.
    let body = json!({"name": "signer", "owner": "dev:ben", "proof": {"kind": "api_key"}});
    let again = broker.post("/v1/agents", &operator, &body).await;
    assert_eq!(again.body["code"], "agent_exists", "{again:?}");
}
