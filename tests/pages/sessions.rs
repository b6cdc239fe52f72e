//! Signing in and out.

use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use countersign::domain::RequestId;

use super::people::People;
use super::shop::Shop;

#[tokio::test]
async fn signing_in_leads_back_to_the_request() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let path = format!("/requests/{}", request.id());
    let page = shop.get("", &format!("/sign-in?return_to={path}")).await;
    page.says(&[
        "action=\"/sign-in/staff\"",
        &format!("value=\"{path}\""),
        "Continue with",
    ]);

    shop.people.at_the_door("ben");
    let away = shop
        .post("", "/sign-in/staff", &[("return_to", &path)])
        .await;
    assert_eq!(away.status, StatusCode::SEE_OTHER);
    let back = shop.get("", away.header("location")).await;
    assert_eq!(back.status, StatusCode::SEE_OTHER);
    assert_eq!(back.header("location"), path);
    let cookie = back
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(shop.get(&cookie, &path).await.status, StatusCode::OK);
    let again = shop.get("", away.header("location")).await;
    assert_eq!(
        again.status,
        StatusCode::BAD_REQUEST,
        "one sign-in, one session"
    );
}

#[tokio::test]
async fn case_042_signing_in_never_leads_elsewhere() {
    let shop = Shop::open().await;
    shop.people.at_the_door("ben");
    for elsewhere in [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "/requests/../..//evil.example",
        "/sign-out",
    ] {
        let query = super::shop::form(&[("return_to", elsewhere)]);
        let page = shop.get("", &format!("/sign-in?{query}")).await;
        page.says(&["name=\"return_to\" value=\"/\""]);
        let away = shop
            .post("", "/sign-in/staff", &[("return_to", elsewhere)])
            .await;
        let back = shop.get("", away.header("location")).await;
        assert_eq!(back.header("location"), "/", "{elsewhere}");
    }
}

#[tokio::test]
async fn case_046_what_the_provider_says_is_never_shown() {
    let shop = Shop::open().await;
    let path = "/sign-in/callback?error=access_denied&error_description=%3Csvg%20onload%3Dalert(1)%3E&state=x";
    let page = shop.get("", path).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    page.says(&[
        "You are not signed in",
        "broken off at the identity provider",
    ]);
    for word in ["svg onload", "onload", "alert(1)", "access_denied"] {
        assert!(!page.body.contains(word), "{word}");
    }
}

#[tokio::test]
async fn case_047_signing_out_ends_the_session_and_clears_the_browser() {
    let shop = Shop::open().await;
    let ben = shop.people.enter("ben");
    let page = shop.get(&ben, "/").await;
    assert_eq!(page.header("cache-control"), "no-store");
    page.says(&["action=\"/sign-out\""]);
    let out = shop
        .post(&ben, "/sign-out", &[("csrf", &People::token(&ben))])
        .await;
    assert_eq!(out.status, StatusCode::SEE_OTHER);
    assert_eq!(out.header("clear-site-data"), "\"cache\", \"storage\"");
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(
        shop.get(&ben, "/").await.status,
        StatusCode::SEE_OTHER,
        "a kept cookie opens nothing"
    );
    let forged = shop.people.enter("ben");
    let answer = shop.post(&forged, "/sign-out", &[("csrf", "x")]).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_expired_session_says_so_and_loses_no_decision_silently() {
    let shop = Shop::open().await;
    let request: RequestId = shop.ask_for_customers().await.id().clone();
    let answer = shop
        .post(
            "countersign=old",
            &format!("/requests/{request}/review"),
            &[],
        )
        .await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    answer.says(&["You are signed out", "Nothing was changed"]);
}

#[tokio::test]
async fn when_nobody_can_tell_who_calls_nothing_is_shown() {
    let shop = Shop::open().await;
    shop.ask_for_customers().await;
    let ben = shop.people.enter("ben");
    shop.people.away.store(true, Ordering::SeqCst);
    let page = shop.get(&ben, "/").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(page.header("retry-after"), "5");
    assert!(!page.body.contains("reporter"));
    let away = shop.post("", "/sign-in/staff", &[]).await;
    assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
    shop.people.away.store(false, Ordering::SeqCst);
    let unknown = shop.post("", "/sign-in/other", &[]).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}
