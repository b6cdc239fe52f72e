//! A reviewer with a real browser at a real broker.

use reqwest::StatusCode;
use serde_json::json;

use super::REPORTER;
use super::broker::Broker;
use super::place::Place;
use crate::pages::browser::approve_from_the_inbox;
use crate::pages::chromium::{Browser, Setup};

#[tokio::test]
async fn l09_a_reviewer_signs_in_reads_and_approves_in_a_browser() {
    let place = Place::open().await;
    let broker = Broker::dev(&place).await;
    let body = json!({"action": "customers.export", "parameters": {"country": "de"}, "reason": "Berlin campaign"});
    let export = broker.ask(REPORTER, &body).await;
    let browser = Browser::start(Setup::default()).await;
    approve_from_the_inbox(
        &browser,
        &broker.base,
        "Agreed with the Berlin team",
        async || {
            browser.says("Who are you today?").await;
            browser.press("button[value='dmitri']").await;
        },
    )
    .await;
    browser.says("country = de").await;
    browser.says("Berlin campaign").await;
    let approved = broker.request(REPORTER, &export).await;
    assert_eq!(approved["state"], "approved");
    assert_eq!(approved["reviews"][0]["reviewer"]["subject"], "dmitri");
    let collected = broker.collect(REPORTER, &export).await;
    assert_eq!(collected.status, StatusCode::OK, "{collected:?}");
    browser.says("Access is live").await;
    broker.finish(REPORTER, &export).await;
    browser.says("Completed").await;
    browser.quit().await;
}
