//! Who may send a form, what a link can do, and which paths are there.

use axum::http::{Method, StatusCode};

use super::people::People;
use super::shop::{ORIGIN, Shop, form};

#[tokio::test]
async fn case_028_reading_changes_nothing() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let before = shop.broker.timeline(request.id()).await.unwrap().len();
    let path = format!("/requests/{}", request.id());
    let ben = shop.people.enter("ben");
    let query = format!("decision=approve&digest={}", request.submission.digest);
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        for path in [
            path.clone(),
            format!("{path}?{query}"),
            format!("{path}/review?{query}"),
            format!("{path}/revoke"),
            format!("/live{path}"),
            "/".into(),
            "/sign-out".into(),
            "/sign-in/staff".into(),
        ] {
            for cookie in [ben.as_str(), ""] {
                let headers = [("cookie", cookie), ("sec-purpose", "prefetch")];
                shop.call(method.clone(), &path, &headers, "").await;
            }
        }
    }
    assert_eq!(
        shop.broker.timeline(request.id()).await.unwrap().len(),
        before
    );
    assert_eq!(
        shop.get(&ben, "/").await.status,
        StatusCode::OK,
        "still signed in"
    );
}

#[tokio::test]
async fn case_028_nothing_is_revealed_without_a_session() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let unknown = request
        .id()
        .as_str()
        .replace(&request.id().as_str()[20..], "0000000000");
    for id in [request.id().as_str(), &unknown] {
        let page = shop.get("", &format!("/requests/{id}")).await;
        assert_eq!(page.status, StatusCode::SEE_OTHER);
        assert_eq!(
            page.header("location"),
            format!("/sign-in?return_to=/requests/{id}")
        );
        assert_eq!(page.body, "");
        assert_eq!(
            shop.get("", &format!("/live/requests/{id}")).await.status,
            StatusCode::UNAUTHORIZED
        );
    }
}

#[tokio::test]
async fn case_029_a_link_carries_no_authority() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let (ben, eve) = (shop.people.enter("ben"), shop.people.enter("eve"));
    let path = format!("/requests/{}", request.id());
    // What ben's page holds is of no use to eve: her own session decides, and his token is not hers.
    let digest = request.submission.digest.to_string();
    let stolen = People::token(&ben);
    let fields = [
        ("csrf", stolen.as_str()),
        ("digest", &digest),
        ("decision", "approve"),
        ("comment", ""),
    ];
    let answer = shop.post(&eve, &format!("{path}/review"), &fields).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let answer = shop.post("", &format!("{path}/review"), &fields).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    answer.says(&["You are signed out", &format!("/sign-in?return_to={path}")]);
    assert!(shop.now(&request).await.reviews.is_empty());
}

#[tokio::test]
async fn case_040_no_spelling_of_a_path_goes_round_the_session() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let id = request.id();
    for path in [
        format!("//requests/{id}"),
        format!("/requests//{id}"),
        format!("/requests/{id}/"),
        format!("/requests/{id};x=1"),
        format!("/requests/{id}%00"),
        format!("/requests/{id}%2freview"),
        format!("/requests%2f{id}"),
        format!("/assets/../requests/{id}"),
        format!("/assets/%2e%2e%2frequests%2f{id}"),
        "/assets/..%2f..%2fetc%2fpasswd".into(),
        format!("/healthz/../requests/{id}"),
        format!("/sign-in/../requests/{id}"),
        format!("/requests/{id}?x=/assets/"),
        format!("/Requests/{id}"),
        format!("/live//requests/{id}"),
        format!("/live/requests/{id}"),
        "/%ff".into(),
        "/requests/%ff".into(),
    ] {
        for agent in ["kube-probe/1.30", "ELB-HealthChecker/2.0"] {
            let page = shop
                .call(Method::GET, &path, &[("user-agent", agent)], "")
                .await;
            assert_ne!(page.status, StatusCode::OK, "{path}");
            for fact in [
                "customers",
                "Export",
                "reporter",
                request.submission.digest.short().as_str(),
            ] {
                assert!(!page.body.contains(fact), "{path} says {fact}");
            }
        }
    }
}

#[tokio::test]
async fn case_043_forms_of_other_sites_are_refused() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let ben = shop.people.enter("ben");
    let token = People::token(&ben);
    let digest = request.submission.digest.to_string();
    let body = |csrf: &str| {
        form(&[
            ("csrf", csrf),
            ("digest", &digest),
            ("decision", "approve"),
            ("comment", ""),
        ])
    };
    let path = format!("/requests/{}/review", request.id());
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let cookie = ("cookie", ben.as_str());
    let ours = ("origin", ORIGIN);
    for (headers, csrf) in [
        (vec![cookie, kind], token.as_str()),
        (
            vec![
                cookie,
                kind,
                ("origin", "https://evil.example"),
                ("sec-fetch-site", "cross-site"),
            ],
            &token,
        ),
        (vec![cookie, kind, ("origin", "null")], &token),
        (
            vec![
                cookie,
                kind,
                ("origin", "https://other.sign.example"),
                ("sec-fetch-site", "same-site"),
            ],
            &token,
        ),
        (vec![cookie, kind, ours], ""),
        (vec![cookie, kind, ours], "token-of-somebody"),
    ] {
        let answer = shop.call(Method::POST, &path, &headers, &body(csrf)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    assert!(shop.now(&request).await.reviews.is_empty());
}

#[tokio::test]
async fn case_043_only_our_own_form_is_read_and_nothing_more_than_it_has() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let ben = shop.people.enter("ben");
    let token = People::token(&ben);
    let digest = request.submission.digest.to_string();
    let body = |comment: &str| {
        form(&[
            ("csrf", &token),
            ("digest", &digest),
            ("decision", "approve"),
            ("comment", comment),
        ])
    };
    let path = format!("/requests/{}/review", request.id());
    let cookie = ("cookie", ben.as_str());
    let ours = ("origin", ORIGIN);
    let form_kind = "application/x-www-form-urlencoded";
    for (kind, body, why) in [
        ("text/plain", body(""), "only forms"),
        ("application/json", body(""), "only forms"),
        ("multipart/form-data", body(""), "only forms"),
        (form_kind, body("") + "&as=admin", "no field more"),
        (form_kind, body(&"x".repeat(2001)), "no longer comment"),
        (form_kind, body(&"x".repeat(1 << 20)), "no longer body"),
        (form_kind, body("").replace(&digest, "abc"), "a digest"),
        (
            form_kind,
            body("").replace("approve", "Approve"),
            "a decision",
        ),
    ] {
        let headers = [cookie, ("content-type", kind), ours];
        let answer = shop.call(Method::POST, &path, &headers, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{why}");
    }
    assert!(shop.now(&request).await.reviews.is_empty());
}

#[tokio::test]
async fn case_044_no_page_can_be_framed_and_none_runs_foreign_code() {
    let shop = Shop::open().await;
    let request = shop.ask_for_customers().await;
    let ben = shop.people.enter("ben");
    let path = format!("/requests/{}", request.id());
    for path in [
        "/",
        &path,
        &format!("/live{path}"),
        "/sign-in",
        "/nowhere",
        "/requests/x",
        "/sign-in/callback?error=x",
    ] {
        let page = shop.get(&ben, path).await;
        let policy = page.header("content-security-policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self';",
            "style-src 'self';",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
        ] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert_eq!(page.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("referrer-policy"), "same-origin");
        assert_eq!(page.header("cross-origin-opener-policy"), "same-origin");
        assert!(!page.body.contains("style=\""), "{path}");
        assert!(!page.body.contains(" onclick="), "{path}");
    }
    // Decision buttons rest for half a second; the script knows them by this mark.
    shop.get(&ben, &path)
        .await
        .says(&["value=\"approve\" data-guard", "value=\"deny\" data-guard"]);
}

#[tokio::test]
async fn unknown_pages_and_methods_answer_as_pages() {
    let shop = Shop::open().await;
    let ben = shop.people.enter("ben");
    for path in [
        "/nowhere",
        "/requests/x",
        "/requests/req_00000000000000000000000000",
    ] {
        let page = shop.get(&ben, path).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{path}");
        page.says(&["There is nothing here", "Go to the inbox"]);
    }
    let page = shop
        .call(
            Method::DELETE,
            "/",
            &[("origin", ORIGIN), ("cookie", &ben)],
            "",
        )
        .await;
    assert_eq!(page.status, StatusCode::METHOD_NOT_ALLOWED);
}
