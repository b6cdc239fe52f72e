//! The pages in a real browser.

use std::future::Future;
use std::path::Path;

use axum::Router;
use axum::extract::RawQuery;
use axum::response::Html;
use axum::routing::get;
use countersign::domain::Seconds;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::chromium::{Browser, Setup};
use super::shop::Shop;

/// The shop's pages, served on loopback for as long as the set lives.
async fn serve(shop: &Shop) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let pages = shop.pages(&origin);
    let mut servers = JoinSet::new();
    servers.spawn(async move { axum::serve(listener, pages).await.unwrap() });
    // The provider is another origin: what our policy lets the sign-in form reach is put to the test.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = format!("http://{}", listener.local_addr().unwrap());
    let door = Router::new().route("/authorize", get(door));
    servers.spawn(async move { axum::serve(listener, door).await.unwrap() });
    *shop.people.provider.lock().unwrap() = Some((provider, origin.clone()));
    (origin, servers)
}

/// The provider's page: one link back, whatever it is asked.
async fn door(RawQuery(query): RawQuery) -> Html<String> {
    let query = query.unwrap_or_default();
    let back = query.trim_start_matches("back=");
    Html(format!(
        "<h1>Staff door</h1><a id='enter' href='{back}'>Enter</a>"
    ))
}

/// Goes through the sample provider's door.
async fn enter(browser: &Browser) {
    browser.says("Staff door").await;
    browser.find("#enter").await.click().await.unwrap();
}

/// What a reviewer does, whoever signs them in: `sign_in` is called on the provider's page of a started sign-in.
pub async fn approve_from_the_inbox<F: Future<Output = ()>>(
    browser: &Browser,
    base: &str,
    comment: &str,
    sign_in: impl FnOnce() -> F,
) {
    browser.driver.goto(base).await.unwrap();
    browser.says("Sign in to review").await;
    browser.press("form[action^='/sign-in/'] button").await;
    sign_in().await;
    browser.says("waits for you").await;
    browser.find(".ask a.cover").await.click().await.unwrap();
    browser.says("What is asked").await;
    browser
        .find("#comment")
        .await
        .send_keys(comment)
        .await
        .unwrap();
    browser.press("button.approve").await;
    browser.says("You approved this").await;
    browser.says(comment).await;
}

#[tokio::test]
async fn a_reviewer_approves_in_a_browser() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let (base, _server) = serve(&shop).await;
    let browser = Browser::start(Setup::default()).await;
    shop.people.at_the_door("ben");
    approve_from_the_inbox(&browser, &base, "Agreed with the Berlin team", || {
        enter(&browser)
    })
    .await;
    let after = shop.now(&request).await;
    assert_eq!(after.reviews.len(), 1);
    assert_eq!(after.reviews[0].reviewer.person.subject, "ben");

    // Somebody else completes it; the open page learns of it by itself.
    let digest = request.submission.digest;
    let second = crate::support::rules::people().remove(3);
    let decision = countersign::domain::request::ReviewDecision::Approve;
    shop.broker
        .review(second, request.id(), digest, decision, None)
        .await
        .unwrap();
    browser.says("The agent may collect").await;
    browser.quit().await;
}

#[tokio::test]
async fn a_reviewer_denies_without_javascript() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let (base, _server) = serve(&shop).await;
    let setup = Setup {
        without_scripts: true,
        ..Setup::default()
    };
    let browser = Browser::start(setup).await;
    shop.people.at_the_door("dmitri");
    browser
        .driver
        .goto(format!("{base}/requests/{}", request.id()))
        .await
        .unwrap();
    browser.press("form[action^='/sign-in/'] button").await;
    enter(&browser).await;
    browser.says("What is asked").await;
    browser
        .find("#comment")
        .await
        .send_keys("Not without a ticket")
        .await
        .unwrap();
    browser.press("button.deny").await;
    browser.says("Denied; nothing was issued").await;
    browser.says("Not without a ticket").await;
    assert_eq!(shop.now(&request).await.state.word(), "closed");
    browser.press(".who button").await;
    browser.says("Sign in to review").await;
    browser.quit().await;
}

#[tokio::test]
async fn case_044_buttons_rest_after_the_page_gets_the_focus() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let (base, _server) = serve(&shop).await;
    let browser = Browser::start(Setup::default()).await;
    shop.people.at_the_door("ben");
    browser
        .driver
        .goto(format!("{base}/requests/{}", request.id()))
        .await
        .unwrap();
    browser.press("form[action^='/sign-in/'] button").await;
    enter(&browser).await;
    let button = browser.find("button.approve").await;
    let deadline = browser.deadline();
    while !button.is_enabled().await.unwrap() {
        deadline.check("the button never wakes");
    }
    // In one step, so that no half second can pass in between.
    let script = "window.dispatchEvent(new Event('focus')); return document.querySelector('.approve').disabled";
    let rests = browser.driver.execute(script, Vec::new()).await.unwrap();
    assert!(rests.convert::<bool>().unwrap());
    let script = "const done = arguments[0], from = performance.now(); window.dispatchEvent(new Event('focus')); \
        const button = document.querySelector('.approve'); \
        new MutationObserver(() => { if (!button.disabled) done(performance.now() - from); }) \
            .observe(button, { attributes: true });";
    let rested = browser
        .driver
        .execute_async(script, Vec::new())
        .await
        .unwrap();
    assert!(rested.convert::<f64>().unwrap() >= 495.0);
    browser.quit().await;
}

/// What a machine can check of accessibility, in the manner of axe.
const AUDIT: &str = include_str!("audit.js");

/// A busy afternoon in the shop; the request to look at.
async fn afternoon(shop: &Shop) -> countersign::domain::Request {
    for _ in 0..2 {
        let done = shop
            .ask("reporter", "orders.report", json!({}), json!(null))
            .await;
        shop.collect(&done).await;
        shop.finish(&done).await;
        shop.clock.advance(Seconds(1380));
    }
    let denied = shop
        .ask(
            "fixer",
            "customers.export",
            json!({"country": "fr"}),
            json!({"reason": "try it"}),
        )
        .await;
    let dmitri = crate::support::rules::people().remove(3);
    let deny = countersign::domain::request::ReviewDecision::Deny;
    let words = Some("No ticket, no export.".into());
    shop.broker
        .review(
            dmitri.clone(),
            denied.id(),
            denied.submission.digest,
            deny,
            words,
        )
        .await
        .unwrap();
    shop.clock.advance(Seconds(700));
    let shown = shop.ask_for_customers().await;
    shop.clock.advance(Seconds(95));
    let live = shop
        .ask("reporter", "orders.report", json!({}), json!(null))
        .await;
    shop.collect(&live).await;
    let approve = countersign::domain::request::ReviewDecision::Approve;
    let words = Some("Matches CRM-2291; the Berlin team asked for it.".into());
    shop.broker
        .review(dmitri, shown.id(), shown.submission.digest, approve, words)
        .await
        .unwrap();
    shop.clock.advance(Seconds(40));
    let migration = json!({"migration": "2026-11-22_add_orders_channel"});
    let why = json!({"reason": "Adds the sales channel to orders; reviewed in the pull request."});
    shop.ask("fixer", "schema.migrate", migration, why).await;
    shop.clock.advance(Seconds(25));
    shown
}

#[tokio::test]
async fn pages_are_readable_in_light_dark_and_on_a_phone() {
    let shop = Shop::open().await;
    let shown = afternoon(&shop).await;
    let (base, _server) = serve(&shop).await;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    std::fs::create_dir_all(&folder).unwrap();
    for (look, dark) in [("light", false), ("dark", true)] {
        let setup = Setup {
            dark,
            ..Setup::default()
        };
        let browser = Browser::start(setup).await;
        shop.people.at_the_door("ben");
        browser.driver.goto(&base).await.unwrap();
        browser.says("Sign in to review").await;
        audit(&browser, "sign-in", look, &folder).await;
        browser.press("form[action^='/sign-in/'] button").await;
        enter(&browser).await;
        browser.says("wait for you").await;
        audit(&browser, "inbox", look, &folder).await;
        let page = format!("{base}/requests/{}", shown.id());
        browser.driver.goto(page).await.unwrap();
        browser.says("What is asked").await;
        browser.find("button.approve:enabled").await;
        audit(&browser, "request", look, &folder).await;
        browser.quit().await;
    }
}

/// Checks what a machine can, on a desk and on a phone, and keeps pictures of the whole page beside the
/// test's other output.
async fn audit(browser: &Browser, page: &str, look: &str, folder: &Path) {
    for (device, width) in [("desk", 1200), ("phone", 500)] {
        browser.resize(width, 900).await;
        let script = "return document.documentElement.scrollHeight";
        let height = browser.driver.execute(script, Vec::new()).await.unwrap();
        browser.resize(width, height.convert().unwrap()).await;
        browser
            .find("body:not(:has(button[data-guard]:disabled))")
            .await;
        let wrong = browser.driver.execute(AUDIT, Vec::new()).await.unwrap();
        let wrong: Vec<String> = wrong.convert().unwrap();
        let file = folder.join(format!("{page}-{look}-{device}.png"));
        browser.driver.screenshot(&file).await.unwrap();
        assert!(
            wrong.is_empty(),
            "{page} in {look} on a {device}: {wrong:#?}"
        );
    }
}
