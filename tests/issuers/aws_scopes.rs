//! What a session's scope reaches when the resources' own policies are generous.

use countersign::domain::Seconds;
use countersign::issuers::{Credential, Issuer};
use serde_json::{Value, json};

use super::aws_account::Account;
use super::orders::{draw_lease, order_for};
use crate::support::aws::{ACCOUNT, Caller};

/// A session with this scope, and its ARN.
async fn session(account: &Account, scope: &Value) -> (Caller, String) {
    account.issuer.check_scope(scope).unwrap();
    let lease = draw_lease();
    let server = account.issuer.identify().await.unwrap();
    let order = order_for(&lease, scope, &server);
    let Credential::Aws(credential) = account.issuer.mint(&order).await.unwrap() else {
        panic!("not AWS's");
    };
    let role = account.role.arn.rsplit('/').next().unwrap();
    let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{lease}");
    (account.holder(&credential), arn)
}

#[tokio::test]
async fn finding_t15_a_bucket_open_to_everybody_or_to_the_session_adds_nothing() {
    let account = Account::open().await;
    let (own, shared) = (&account.bucket, account.corner.bucket("handbook").await);
    for bucket in [own, &shared] {
        account.corner.root.put(bucket, "page").await.fine();
    }
    let scope = json!({"statements": [
        {"actions": ["s3:PutObject"], "resources": [{"bucket": own, "prefix": "in"}]},
        {"actions": ["s3:ListBucket"], "resources": [{"bucket": own, "prefix": "in"}]},
    ]});
    let (holder, arn) = session(&account, &scope).await;
    for principal in [json!("*"), json!({"AWS": "*"}), json!({"AWS": arn})] {
        for bucket in [own, &shared] {
            account.corner.open_bucket(bucket, &principal).await;
        }
        assert!(holder.put(own, "in/a").await.allowed());
        let listed = holder
            .s3("GET", &format!("/{own}?list-type=2&prefix=in/"), "")
            .await;
        assert!(listed.allowed(), "{listed:?}");
        for (method, path) in [
            ("PUT", format!("/{own}/page")),
            ("GET", format!("/{own}/page")),
            ("GET", format!("/{own}/in/a")),
            ("GET", format!("/{own}?list-type=2")),
            ("GET", format!("/{own}?list-type=2&prefix=")),
            ("GET", format!("/{own}?list-type=2&prefix=other/")),
            ("GET", format!("/{own}?policy")),
            ("GET", format!("/{shared}/page")),
            ("PUT", format!("/{shared}/in/a")),
            ("GET", format!("/{shared}?list-type=2&prefix=in/")),
        ] {
            let answer = holder.s3(method, &path, "").await;
            assert!(answer.denied(), "{principal} {method} {path}: {answer:?}");
        }
    }
}

/// With no room to deny everything else, the page says so and AWS shows it.
#[tokio::test]
async fn finding_t15_what_could_not_be_denied_is_what_the_page_says() {
    let account = Account::open().await;
    let shared = account.corner.bucket("handbook").await;
    account.corner.root.put(&shared, "page").await.fine();
    let many: Vec<_> = (0..22)
        .map(|n| json!({"bucket": account.bucket, "prefix": ["exports", "of", "customer", n.to_string()]}))
        .collect();
    let scope = json!({"statements": [{"actions": ["s3:GetObject"], "resources": many}]});
    let told = account.issuer.explain(&scope, Seconds(600));
    let said = "can add to this: s3:GetObject on other resources";
    assert!(
        told.words.iter().any(|line| line.contains(said)),
        "{told:#?}"
    );
    let (holder, arn) = session(&account, &scope).await;
    account
        .corner
        .open_bucket(&shared, &json!({"AWS": arn}))
        .await;
    assert!(holder.get(&shared, "page").await.allowed());
    assert!(holder.put(&shared, "page").await.denied());
}

#[tokio::test]
async fn finding_t16_what_outlives_is_told() {
    let account = Account::open().await;
    let resource = json!({"service": "sqs", "path": "orders"});
    let scope = |outlives: bool| {
        json!({"outlives": outlives, "statements": [
            {"actions": ["sqs:AddPermission"], "resources": [resource]}
        ]})
    };
    let error = account.issuer.check_scope(&scope(false)).unwrap_err();
    assert!(error.contains("outlives = true"), "{error}");
    account.issuer.check_scope(&scope(true)).unwrap();
    let told = account.issuer.explain(&scope(true), Seconds(60));
    let said = "action sqs:AddPermission changes who may do what, and the change stays";
    assert_eq!(told.outlives, [said]);
    let plain = account.issuer.explain(&account.scope(), Seconds(60));
    assert_eq!(plain.outlives, [""; 0]);
}

#[tokio::test]
async fn finding_t20_names_with_blanks_and_colons_are_reached_exactly() {
    let account = Account::open().await;
    let bucket = &account.bucket;
    let keys = ["daily reports", "2026-11-22 12:00 (final).csv"];
    let scope = json!({"statements": [
        {"actions": ["s3:GetObject", "s3:PutObject"], "resources": [{"bucket": bucket, "key": keys}]}
    ]});
    let (holder, _) = session(&account, &scope).await;
    let path = "daily%20reports/2026-11-22%2012%3A00%20%28final%29.csv";
    let put = holder.put(bucket, path).await;
    assert!(put.allowed(), "{put:?}");
    assert!(holder.get(bucket, path).await.allowed());
    for other in ["daily%20reports/x", "daily", &format!("{path}x")] {
        assert!(holder.put(bucket, other).await.denied(), "{other}");
    }
}
