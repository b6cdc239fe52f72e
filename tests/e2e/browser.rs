//! A reviewer with a real browser at a real broker.

use reqwest::StatusCode;
use serde_json::json;

use super::MIGRATOR;
use super::broker::Broker;
use super::person::Person;
use super::place::Place;
use crate::pages::browser::approve_from_the_inbox;
use crate::pages::chromium::{Browser, Setup};

#[tokio::test]
async fn l09_a_reviewer_signs_in_reads_and_approves_in_a_browser() {
    let place = Place::open().await;
    let broker = Broker::dev(&place).await;
    let body = json!({"action": "schema.migrate", "reason": "Adds the sales channel"});
    let migration = broker.ask(MIGRATOR, &body).await;
    let browser = Browser::start(Setup::default()).await;
    let comment = "Agreed, see the pull request";
    approve_from_the_inbox(&browser, &broker.base, comment, async || {
        browser.says("Who are you today?").await;
        browser.press("button[value='ben']").await;
    })
    .await;
    browser.says("Acts as shop_owner in database shop").await;
    browser.says("Adds the sales channel").await;
    let half = broker.request(MIGRATOR, &migration).await;
    assert_eq!(half["state"], "pending");
    assert_eq!(half["reviews"][0]["reviewer"]["subject"], "ben");

    // The open page follows what happens elsewhere.
    let mut chloe = Person::sign_in(&broker.base, "dev", "chloe").await;
    chloe.approve(&migration).await;
    browser.says("The agent may collect").await;
    let collected = broker.collect(MIGRATOR, &migration).await;
    assert_eq!(collected.status, StatusCode::OK, "{collected:?}");
    browser.says("Access is live").await;
    broker.finish(MIGRATOR, &migration).await;
    browser.says("Completed").await;
    browser.quit().await;
}
