//! What the pages show, and what they keep apart.

use axum::http::StatusCode;
use countersign::domain::Seconds;
use serde_json::json;

use super::shop::{SECRET, Shop};

#[tokio::test]
async fn the_inbox_puts_first_what_waits_for_you() {
    let shop = Shop::open().await;
    let ben = shop.people.enter("ben");
    shop.get(&ben, "/")
        .await
        .says(&["Nothing waits for you", "All quiet"]);

    let waiting = shop.ask_for_customers().await;
    let live = shop
        .ask("reporter", "orders.report", json!({}), json!(null))
        .await;
    shop.collect(&live).await;
    let over = shop
        .ask("fixer", "orders.report", json!({}), json!(null))
        .await;
    shop.collect(&over).await;
    shop.finish(&over).await;
    shop.clock.advance(Seconds(180));

    let page = shop.get(&ben, "/").await;
    assert_eq!(page.status, StatusCode::OK);
    page.says(&[
        "<title>Inbox (1)",
        "One request waits for you",
        &format!("href=\"/requests/{}\"", waiting.id()),
        "Export customers of one country",
        "0 of 2 approvals",
        "reporter",
        "ana",
        "country",
        "de",
        "10 minutes",
        "3 minutes ago",
        "in 57 minutes",
        "Live access",
        &format!("href=\"/requests/{}\"", live.id()),
        "in 7 minutes",
        "Lately",
        &format!("href=\"/requests/{}\"", over.id()),
        "Completed",
    ]);
    // Ana owns the agent: the same request is there, but it is not hers to decide.
    let ana = shop.people.enter("ana");
    shop.get(&ana, "/")
        .await
        .says(&["Nothing waits for you", "Also open", "Yours; others decide"]);
}

#[tokio::test]
async fn case_009_facts_come_first_and_the_agents_words_are_fenced_below() {
    let shop = Shop::open().await;
    let lie = json!({"reason": "read-only, staging database, already approved by the owner"});
    let request = shop
        .ask(
            "reporter",
            "customers.export",
            json!({"country": "fr"}),
            lie,
        )
        .await;
    let ben = shop.people.enter("ben");
    let page = shop.get(&ben, &format!("/requests/{}", request.id())).await;
    page.says(&[
        "Export customers of one country",
        "What is asked",
        "customers.export",
        "Reads name, e-mail and sign-up date",
        "country",
        "fr",
        "shop",
        "10 minutes",
        "reporter",
        "ana",
        "What the credential can do",
        "Only rows where country = fr",
        "Exactly what is sent to",
        "INSERT INTO countersign.lease_scope",
        "How access ends",
        "Written by the agent, not verified",
        "read-only, staging database, already approved by the owner",
        "</section>",
        "0 of 2",
        "from <strong><bdi>support-leads",
        &format!("name=\"digest\" value=\"{}\"", request.submission.digest),
        &request.submission.digest.short(),
        "Timeline",
        "asked for",
        "Policy: people decide",
        "What is on record",
        &request.submission.digest.to_string(),
    ]);
    // The claim stands in one place only: inside the fence.
    assert_eq!(page.body.matches("staging database").count(), 1);
}

#[tokio::test]
async fn case_010_a_scope_that_cannot_be_put_in_words_is_not_made_to_look_harmless() {
    let shop = Shop::open().await;
    let text = json!({"migration": "DROP TABLE orders"});
    let request = shop
        .ask("reporter", "schema.migrate", text, json!(null))
        .await;
    let ben = shop.people.enter("ben");
    let page = shop.get(&ben, &format!("/requests/{}", request.id())).await;
    page.says(&[
        "migration",
        "<code><bdi>DROP TABLE orders</bdi></code>",
        "This scope cannot be summarised",
        "CREATE ROLE",
    ]);
}

#[tokio::test]
async fn case_011_what_is_invisible_is_shown_wherever_text_comes_from_outside() {
    let shop = Shop::open().await;
    let words = json!({
        "reason": "safe \u{202e}gpj.troper\u{202c} \u{200b}\u{e0041}x",
        "ta\u{2066}sk": "a\u{0301}\u{0301}\u{0301}\u{0301}",
    });
    let parameters = json!({"migration": "оrders\u{200d}"});
    let request = shop
        .ask("reporter", "schema.migrate", parameters, words)
        .await;
    let ben = shop.people.enter("ben");
    let page = shop.get(&ben, &format!("/requests/{}", request.id())).await;
    for shown in [
        "U+202E", "U+202C", "U+200B", "U+E0041", "U+2066", "U+200D", "U+0301",
    ] {
        assert!(page.body.contains(shown), "{shown}");
    }
    for hidden in [
        '\u{202e}',
        '\u{202c}',
        '\u{200b}',
        '\u{e0041}',
        '\u{2066}',
        '\u{200d}',
    ] {
        assert!(!page.body.contains(hidden), "{hidden:?}");
    }
    page.says(&["has letters beyond ASCII"]);
}

#[tokio::test]
async fn case_013_markup_and_links_stay_text() {
    let shop = Shop::open().await;
    let words = json!({
        "reason": "<script>alert(1)</script> [Approve](http://evil.example) <img src=x onerror=y>",
        "<b>task</b>": "http://evil.example/approve",
    });
    let request = shop
        .ask(
            "reporter",
            "customers.export",
            json!({"country": "de"}),
            words,
        )
        .await;
    let ben = shop.people.enter("ben");
    let page = shop.get(&ben, &format!("/requests/{}", request.id())).await;
    page.says(&["&lt;b&gt;task&lt;/b&gt;", "http://evil.example/approve"]);
    page.says(&["&lt;script&gt;alert(1)&lt;/script&gt; [Approve](http://evil.example) &lt;img"]);
    assert!(!page.body.contains("href=\"http"));
    assert!(!page.body.contains("<script>"));
    assert!(!page.body.contains("<img"));
}

#[tokio::test]
async fn l07_no_page_shows_a_secret() {
    let shop = Shop::open().await;
    let request = shop
        .ask("reporter", "orders.report", json!({}), json!(null))
        .await;
    shop.collect(&request).await;
    let chloe = shop.people.enter("chloe");
    for path in ["/".to_owned(), format!("/requests/{}", request.id())] {
        let page = shop.get(&chloe, &path).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(!page.body.contains(SECRET));
    }
}

#[tokio::test]
async fn the_whole_life_of_a_request_is_told_in_words() {
    let shop = Shop::open().await;
    let request = shop
        .ask("reporter", "orders.report", json!({}), json!(null))
        .await;
    shop.collect(&request).await;
    shop.finish(&request).await;
    let ben = shop.people.enter("ben");
    let page = shop.get(&ben, &format!("/requests/{}", request.id())).await;
    page.says(&[
        "Completed; the credential is proven gone",
        "asked for",
        "Policy: routine, no person needed",
        "The agent collects",
        "Credential issued, good until",
        "The agent is done",
        "exit_code",
        "Proven gone",
        "no session",
    ]);
}

#[tokio::test]
async fn files_keep_for_ever_under_the_hash_of_their_content() {
    let shop = Shop::open().await;
    let page = shop.get("", "/sign-in").await;
    for (kind, before, after) in [
        ("text/css", "rel=\"stylesheet\" href=\"", "\""),
        ("text/javascript", "<script src=\"", "\""),
        ("image/svg+xml", "type=\"image/svg+xml\" href=\"", "\""),
    ] {
        let path = page
            .body
            .split(before)
            .nth(1)
            .unwrap()
            .split(after)
            .next()
            .unwrap();
        let file = shop.get("", path).await;
        assert_eq!(file.status, StatusCode::OK, "{path}");
        assert!(file.header("content-type").starts_with(kind));
        assert!(file.header("cache-control").contains("immutable"));
        assert_eq!(
            shop.get("", &format!("{path}x")).await.status,
            StatusCode::NOT_FOUND
        );
    }
}
