//! Deciding on a page, and every reason why a decision does not count.

use axum::http::StatusCode;
use countersign::domain::{Digest, Seconds};
use serde_json::json;

use super::people::People;
use super::shop::Shop;

#[tokio::test]
async fn two_people_approve_and_the_request_is_granted() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let path = format!("/requests/{}", request.id());
    let (ben, dmitri) = (shop.people.enter("ben"), shop.people.enter("dmitri"));

    let answer = shop
        .review(
            &ben,
            &request,
            "approve",
            "Fine, the Berlin team told me.\r\n",
        )
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.header("location"), path);
    let page = shop.get(&ben, &path).await;
    page.says(&[
        "1 of 2",
        "ben",
        "approved",
        "Fine, the Berlin team told me.",
        "You approved this",
    ]);
    assert!(!page.body.contains("name=\"decision\""));
    shop.get(&dmitri, "/").await.says(&["1 of 2 approvals"]);

    shop.review(&dmitri, &request, "approve", "").await;
    assert_eq!(shop.now(&request).await.state.word(), "approved");
    shop.get(&ben, &path).await.says(&[
        "Approved",
        "The agent may collect",
        "Granted on the word of",
    ]);
}

#[tokio::test]
async fn one_denial_is_enough() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let ben = shop.people.enter("ben");
    let answer = shop
        .review(&ben, &request, "deny", "Not this quarter.")
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let page = shop.get(&ben, &format!("/requests/{}", request.id())).await;
    page.says(&["Denied; nothing was issued", "Not this quarter."]);
    assert_eq!(shop.now(&request).await.state.word(), "closed");
}

#[tokio::test]
async fn l13_nobody_on_the_agents_side_has_buttons_and_their_form_counts_for_nothing() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let ana = shop.people.enter("ana");
    let page = shop.get(&ana, &format!("/requests/{}", request.id())).await;
    page.says(&["You cannot review this request", "You own this agent"]);
    assert!(!page.body.contains("name=\"decision\""));
    let answer = shop.review(&ana, &request, "approve", "").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    answer.says(&["role=\"alert\"", "You cannot review this request"]);
    let after = shop.now(&request).await;
    assert!(after.reviews.is_empty());
    assert_eq!(after.state.word(), "pending");
}

#[tokio::test]
async fn people_outside_the_reviewing_groups_are_told_so() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let eve = shop.people.enter("eve");
    let page = shop.get(&eve, &format!("/requests/{}", request.id())).await;
    page.says(&["This is not yours to decide"]);
    assert!(!page.body.contains("name=\"decision\""));
    let answer = shop.review(&eve, &request, "deny", "").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(shop.now(&request).await.state.word(), "pending");
}

#[tokio::test]
async fn l09_a_decision_about_another_digest_does_not_count() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let ben = shop.people.enter("ben");
    let token = People::token(&ben);
    let other = Digest::of(b"something else").to_string();
    let fields = [
        ("csrf", token.as_str()),
        ("digest", &other),
        ("decision", "approve"),
        ("comment", ""),
    ];
    let path = format!("/requests/{}/review", request.id());
    let answer = shop.post(&ben, &path, &fields).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    answer.says(&[
        "What is asked is not what you saw",
        "Load the request again",
    ]);
    assert!(shop.now(&request).await.reviews.is_empty());
}

#[tokio::test]
async fn whoever_comes_second_is_told_who_decided() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let (ben, dmitri) = (shop.people.enter("ben"), shop.people.enter("dmitri"));
    shop.review(&ben, &request, "deny", "").await;
    let answer = shop.review(&dmitri, &request, "approve", "").await;
    assert!(
        matches!(answer.status, StatusCode::CONFLICT | StatusCode::NOT_FOUND),
        "{}",
        answer.status
    );
    answer.says(&["role=\"alert\"", "Denied", "ben"]);
}

#[tokio::test]
async fn a_request_nobody_decides_lapses_on_the_page_too() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let ben = shop.people.enter("ben");
    shop.clock.advance(Seconds(3601));
    let answer = shop.review(&ben, &request, "approve", "").await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_ne!(shop.now(&request).await.state.word(), "approved");
}

#[tokio::test]
async fn live_access_is_revoked_by_those_policy_names_and_by_nobody_else() {
    let shop = Shop::open().await;
    let request = shop
        .ask("reporter", "orders.report", json!({}), json!(null))
        .await;
    shop.collect(&request).await;
    let path = format!("/requests/{}", request.id());
    let (eve, chloe) = (shop.people.enter("eve"), shop.people.enter("chloe"));
    let revoke = format!("{path}/revoke");

    assert!(!shop.get(&eve, &path).await.body.contains("Revoke access"));
    let answer = shop
        .post(&eve, &revoke, &[("csrf", &People::token(&eve))])
        .await;
    assert!(answer.status.is_client_error());
    assert_eq!(shop.now(&request).await.state.word(), "live");

    shop.get(&chloe, &path)
        .await
        .says(&["Access is live", "Revoke access"]);
    let answer = shop
        .post(&chloe, &revoke, &[("csrf", &People::token(&chloe))])
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    shop.settled(request.id()).await;
    shop.get(&chloe, &path)
        .await
        .says(&["Revoked; the credential is proven gone", "Revoked early"]);
}
