//! The main job: routine goes through, an export waits for a reviewer, a migration for two.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::broker::{Broker, id};
use super::cli::local;
use super::person::Person;
use super::place::{Place, column, try_sql};
use super::{MIGRATOR, REPORTER};

fn entries_of<'a>(ledger: &'a [String], kind: &str) -> Vec<&'a String> {
    let kind = format!("\"kind\":\"{kind}\"");
    ledger
        .iter()
        .filter(|entry| entry.contains(&kind))
        .collect()
}

/// The kinds of the entries about one request, in order.
fn life(ledger: &[String], request: &Value) -> Vec<String> {
    let about = ledger.iter().filter(|entry| entry.contains(id(request)));
    about
        .map(|entry| {
            let entry: Value = serde_json::from_str(entry).unwrap();
            entry["event"]["kind"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[tokio::test]
async fn l01_routine_goes_at_once_and_an_export_waits_for_its_reviewer() {
    let place = Place::open().await;
    let mut broker = Broker::dev(&place).await;
    let (report, credential) = broker.live(60).await;
    let mut session = place.log_in(&credential).await.unwrap();
    let count = column(&mut session, "SELECT count(*)::text FROM shop.orders").await;
    assert_eq!(count.unwrap(), ["200"]);
    let closed = broker.finish(REPORTER, &report).await;
    assert_eq!(closed["outcome"], "completed");

    let body = json!({"action": "customers.export", "parameters": {"country": "de"}});
    let export = broker.ask(REPORTER, &body).await;
    assert_eq!(export["state"], "pending");
    let early = broker.collect(REPORTER, &export).await;
    assert_eq!(early.status, StatusCode::CONFLICT);
    assert_eq!(early.body["code"], "approval_required");
    let mut dmitri = Person::sign_in(&broker.base, "dev", "dmitri").await;
    assert!(dmitri.page("/").await.text.contains(id(&export)));
    dmitri.approve(&export).await;
    let collected = broker.collect(REPORTER, &export).await;
    assert_eq!(collected.status, StatusCode::OK, "{collected:?}");

    // What the reviewer saw is what the database lets through: rows of one country, three columns.
    let mut session = place.log_in(&collected.body["credential"]).await.unwrap();
    let names = column(&mut session, "SELECT name FROM shop.customers ORDER BY id").await;
    assert_eq!(names.unwrap(), ["Anja Vogel", "Bernd Krause"]);
    for forbidden in [
        "SELECT email FROM shop.customers",
        "SELECT id FROM shop.orders",
    ] {
        let refused = column(&mut session, forbidden).await.unwrap_err();
        assert!(
            refused.to_string().contains("permission denied"),
            "{refused}"
        );
    }
    broker.finish(REPORTER, &export).await;

    let ledger = broker.ledger(&place.operator()).await;
    let routine = [
        "request.submitted",
        "lease.intended",
        "lease.live",
        "lease.acknowledged",
        "lease.ending",
        "lease.end_claimed",
        "lease.ended",
    ];
    assert_eq!(life(&ledger, &report), routine);
    let mut reviewed = routine.to_vec();
    reviewed.splice(1..1, ["review.given", "grant.made"]);
    assert_eq!(life(&ledger, &export), reviewed);
    assert_eq!(place.credentials().await, Vec::<String>::new());
    assert!(broker.stop().await.success());

    // Whoever has the state directory decides all of it again, under the bundle kept in it.
    let verify = ["ledger", "verify", "state", "--json"];
    let verified: Value =
        serde_json::from_str(&local(&verify, &place.dir).await.fine().out).unwrap();
    assert_eq!(verified["decisions_replayed"], 5, "{verified}");
    assert_eq!(verified["decisions_not_replayed"], 0, "{verified}");
}

#[tokio::test]
async fn l13_an_owner_cannot_approve_and_a_migration_needs_two_people() {
    let place = Place::open().await;
    let broker = Broker::dev(&place).await;
    let body = json!({"action": "customers.export", "parameters": {"country": "fr"}});
    let export = broker.ask(REPORTER, &body).await;
    let mut ana = Person::sign_in(&broker.base, "dev", "ana").await;
    let page = ana
        .decide(&export, "approve", "It is mine, so it is fine")
        .await;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{page:?}");
    assert!(
        page.text.contains("You cannot review this request"),
        "{page:?}"
    );
    let answer = ana.decide_by_api(&export, "approve").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    assert_eq!(answer.body["code"], "self_approval");
    let operator = place.operator();
    let path = format!("/v1/requests/{}/reviews", id(&export));
    let review = json!({"decision": "approve", "digest": export["digest"]});
    for token in [&operator, REPORTER] {
        let answer = broker.post(&path, token, &review).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    }
    assert_eq!(broker.request(REPORTER, &export).await["state"], "pending");

    let migration = broker
        .ask(MIGRATOR, &json!({"action": "schema.migrate"}))
        .await;
    assert_eq!(migration["needs"], json!({"dba": 1, "security": 1}));
    let mut chloe = Person::sign_in(&broker.base, "dev", "chloe").await;
    let mut ben = Person::sign_in(&broker.base, "dev", "ben").await;
    ben.approve(&migration).await;
    let again = ben.decide_by_api(&migration, "approve").await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{again:?}");
    let waiting = broker.request(MIGRATOR, &migration).await;
    assert_eq!(waiting["state"], "pending");
    assert_eq!(waiting["needs"], json!({"security": 1}));
    chloe.approve(&migration).await;
    let collected = broker.collect(MIGRATOR, &migration).await;
    assert_eq!(collected.status, StatusCode::OK, "{collected:?}");
    let mut session = place.log_in(&collected.body["credential"]).await.unwrap();
    let change = "ALTER TABLE shop.orders ADD COLUMN channel text";
    try_sql(&mut session, change).await.unwrap();
    broker.finish(MIGRATOR, &migration).await;

    let ledger = broker.ledger(&operator).await;
    let refused = entries_of(&ledger, "review.refused");
    assert!(refused.len() >= 2, "{refused:#?}");
    assert!(
        refused
            .iter()
            .any(|entry| entry.contains("\"ana\"") && entry.contains("self_approval"))
    );
    assert_eq!(entries_of(&ledger, "review.given").len(), 2);
    assert_eq!(entries_of(&ledger, "grant.made").len(), 1);
}

/// Somebody in both groups is one person all the same.
#[tokio::test]
async fn l13_one_person_in_two_groups_is_not_two_people() {
    let place = Place::open().await;
    // Ben is in both of these groups, Dmitri in the first.
    place.edit("catalog/shop.toml", |text| {
        text.replace(
            "groups = { dba = 1, security = 1 }",
            "groups = { dba = 1, support-leads = 1 }",
        )
    });
    let broker = Broker::dev(&place).await;
    let migration = broker
        .ask(MIGRATOR, &json!({"action": "schema.migrate"}))
        .await;
    let mut ben = Person::sign_in(&broker.base, "dev", "ben").await;
    ben.approve(&migration).await;
    assert_eq!(
        broker.request(MIGRATOR, &migration).await["state"],
        "pending"
    );
    let mut ben_elsewhere = Person::sign_in(&broker.base, "dev", "ben").await;
    let again = ben_elsewhere.decide_by_api(&migration, "approve").await;
    assert_eq!(again.body["code"], "already_reviewed", "{again:?}");
    assert_eq!(
        broker.collect(MIGRATOR, &migration).await.status,
        StatusCode::CONFLICT
    );
    let mut dmitri = Person::sign_in(&broker.base, "dev", "dmitri").await;
    dmitri.approve(&migration).await;
    assert_eq!(
        broker.request(MIGRATOR, &migration).await["state"],
        "approved"
    );
}
