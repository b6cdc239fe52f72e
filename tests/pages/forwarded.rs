//! Headers that a proxy would write and anybody can.

use axum::http::{Method, StatusCode};

use super::people::People;
use super::shop::{Shop, form};

const EVIL: &str = "https://evil.example";
const SPOOFED: [(&str, &str); 9] = [
    ("forwarded", "for=127.0.0.1;host=evil.example;proto=https"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-for", "not an address, 999.1"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-uri", "/assets/app.css"),
    ("x_forwarded_uri", "/assets/app.css"),
    ("x-original-url", "/assets/app.css"),
    ("x-real-ip", "127.0.0.1"),
];

#[tokio::test]
async fn case_039_forwarded_headers_change_nothing() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let path = format!("/requests/{}", request.id());
    let ben = shop.people.enter("ben");
    let plain = shop.get("", "/sign-in").await;
    let token = People::token(&ben);
    let digest = request.submission.digest.to_string();
    let fields = form(&[
        ("csrf", &token),
        ("digest", &digest),
        ("decision", "approve"),
        ("comment", ""),
    ]);
    for spoofed in &SPOOFED {
        let page = shop.call(Method::GET, "/sign-in", &[*spoofed], "").await;
        assert_eq!(page.status, plain.status);
        assert!(!page.body.contains("evil"), "{spoofed:?}");
        for header in ["location", "content-security-policy", "set-cookie"] {
            assert!(!page.header(header).contains("evil"), "{spoofed:?}");
        }
        let page = shop.call(Method::GET, &path, &[*spoofed], "").await;
        assert_ne!(page.status, StatusCode::OK, "{spoofed:?} opened a page");
        let headers = [
            *spoofed,
            ("cookie", ben.as_str()),
            ("origin", EVIL),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let page = shop
            .call(Method::POST, &format!("{path}/review"), &headers, &fields)
            .await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{spoofed:?}");
    }
    assert!(shop.now(&request).await.reviews.is_empty());
}
