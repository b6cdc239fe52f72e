//! The emulator of AWS judges as AWS does, wherever what we prove on it depends on that. Only then do the other tests
//! mean something.

use serde_json::{Value, json};

use crate::support::aws::{ACCOUNT, Answer, Caller, Corner, Keys, Role};

/// A guard that denies the sessions whose names end so.
fn guard(cut: &[&str]) -> Value {
    let cut: Vec<_> = cut.iter().map(|name| format!("*{name}")).collect();
    json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"StringLike": {"aws:userid": cut}}}
    ]})
}

/// A session of `role` whose own policy is `statements`.
async fn session(corner: &Corner, role: &Role, name: &str, statements: Value) -> Caller {
    let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let fields = [
        ("RoleArn", role.arn.as_str()),
        ("RoleSessionName", name),
        ("ExternalId", &role.external_id),
        ("Policy", &policy),
    ];
    corner.broker.assume(&fields).await.unwrap()
}

async fn publish(corner: &Corner, guard_arn: &str, cut: &[&str]) -> String {
    let document = guard(cut).to_string();
    let fields = [
        ("PolicyArn", guard_arn),
        ("PolicyDocument", &document),
        ("SetAsDefault", "true"),
    ];
    let made = corner
        .broker
        .iam("CreatePolicyVersion", &fields)
        .await
        .fine();
    made.element("VersionId")
}

#[tokio::test]
async fn the_emulator_asks_for_the_external_id_and_the_session_name() {
    let corner = Corner::open().await;
    let boundary = corner.guard("guard", &guard(&["nobody"])).await;
    let rights = json!([{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]);
    let role = corner.role("role", &boundary, &rights).await;
    let assume = async |name, external_id| {
        let mut fields = vec![("RoleArn", role.arn.as_str()), ("RoleSessionName", name)];
        fields.extend(Option::map(external_id, |id| ("ExternalId", id)));
        corner.broker.assume(&fields).await.map(drop)
    };
    assert!(assume("lse_one", Some(&*role.external_id)).await.is_ok());
    for (name, id) in [
        ("lse_one", None),
        ("lse_one", Some("guessed")),
        ("one", Some(&*role.external_id)),
    ] {
        assert!(
            assume(name, id).await.unwrap_err().denied(),
            "{name} {id:?}"
        );
    }
    let stranger = corner.broker.with(Keys {
        secret: "guessed".into(),
        ..corner.broker.keys.clone()
    });
    let refused = stranger.sts("GetCallerIdentity", &[]).await;
    assert_eq!(refused.code(), Some("SignatureDoesNotMatch"), "{refused:?}");
}

#[tokio::test]
async fn the_emulator_evaluates_boundary_session_and_resource_policies() {
    let corner = Corner::open().await;
    let boundary = corner.guard("guard", &guard(&["nobody"])).await;
    let bucket = corner.bucket("data").await;
    let rights = json!([{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]);
    let role = corner.role("role", &boundary, &rights).await;
    let daily = format!("arn:aws:s3:::{bucket}/daily/*");
    let scope = json!([{"Effect": "Allow", "Action": "s3:PutObject", "Resource": daily}]);
    let one = session(&corner, &role, "lse_one", scope.clone()).await;
    let other = session(&corner, &role, "lse_other", scope.clone()).await;
    assert!(one.put(&bucket, "daily/a").await.allowed());
    assert!(one.put(&bucket, "weekly/a").await.denied());
    assert!(one.get(&bucket, "daily/a").await.denied());
    // What a bucket grants to one session by its name, no session policy takes away; only an explicit Deny does.
    let session_arn = format!(
        "arn:aws:sts::{ACCOUNT}:assumed-role/{}-role/lse_one",
        corner.name
    );
    let grant = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": session_arn}, "Action": "s3:GetObject",
        "Resource": format!("arn:aws:s3:::{bucket}/*")
    }]});
    corner
        .root
        .s3("PUT", &format!("/{bucket}?policy"), &grant.to_string())
        .await
        .fine();
    let read = one.get(&bucket, "daily/a").await;
    assert!(read.allowed(), "{read:?}");
    assert!(other.get(&bucket, "daily/a").await.denied());
    let presigned = one.presigned(&bucket, "daily/a");
    let followed = one.follow(presigned.clone()).await;
    assert!(followed.allowed(), "{followed:?}");

    assert_eq!(publish(&corner, &boundary, &["nobody", "one"]).await, "v2");
    for call in [
        one.put(&bucket, "daily/b").await,
        one.get(&bucket, "daily/a").await,
        one.follow(presigned).await,
    ] {
        assert!(call.denied(), "{call:?}");
    }
    let again = session(&corner, &role, "lse_one", scope).await;
    assert!(again.put(&bucket, "daily/b").await.denied());
    assert!(other.put(&bucket, "daily/b").await.allowed());
    // Which is why it proves nothing.
    assert!(one.sts("GetCallerIdentity", &[]).await.allowed());
}

/// Calls that name no resource are judged, too: any of them can show whether a session is denied.
#[tokio::test]
async fn the_emulator_judges_calls_that_list_everything() {
    let corner = Corner::open().await;
    let boundary = corner.guard("guard", &guard(&["nobody"])).await;
    let lists = json!([
        "s3:ListAllMyBuckets",
        "sqs:ListQueues",
        "dynamodb:ListTables"
    ]);
    let rights = json!([{"Effect": "Allow", "Action": lists, "Resource": "*"}]);
    let role = corner.role("role", &boundary, &rights).await;
    let other = json!([{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]);
    let may = session(&corner, &role, "lse_may", rights).await;
    let may_not = session(&corner, &role, "lse_may_not", other).await;
    for call in lists_of(&may).await {
        assert!(call.allowed(), "{call:?}");
    }
    for call in lists_of(&may_not).await {
        assert!(call.denied(), "{call:?}");
    }
    publish(&corner, &boundary, &["lse_may"]).await;
    for call in lists_of(&may).await {
        assert!(call.denied(), "{call:?}");
    }
}

async fn lists_of(caller: &Caller) -> [Answer; 3] {
    [
        caller.s3("GET", "/", "").await,
        caller.sqs("ListQueues", &[]).await,
        caller.dynamodb("ListTables", &json!({})).await,
    ]
}

#[tokio::test]
async fn the_emulator_keeps_five_versions_and_never_reuses_a_number() {
    let corner = Corner::open().await;
    let arn = corner.guard("guard", &guard(&["nobody"])).await;
    for number in 2..=5 {
        assert_eq!(
            publish(&corner, &arn, &["nobody"]).await,
            format!("v{number}")
        );
    }
    let document = guard(&["nobody"]).to_string();
    let fields = [
        ("PolicyArn", arn.as_str()),
        ("PolicyDocument", &document),
        ("SetAsDefault", "true"),
    ];
    let full = corner.broker.iam("CreatePolicyVersion", &fields).await;
    assert_eq!(full.code(), Some("LimitExceeded"), "{full:?}");
    let fields = [("PolicyArn", arn.as_str()), ("VersionId", "v4")];
    corner
        .broker
        .iam("DeletePolicyVersion", &fields)
        .await
        .fine();
    assert_eq!(publish(&corner, &arn, &["nobody"]).await, "v6");
}

/// What a broker needs in another account: a role there that may write that account's guard.
#[tokio::test]
async fn the_emulator_lets_a_role_of_another_account_write_its_guard_only() {
    let corner = Corner::open().await;
    let account = corner.in_account("222222222222");
    let boundary = account.guard("guard", &guard(&["nobody"])).await;
    let write =
        json!([{"Effect": "Allow", "Action": "iam:CreatePolicyVersion", "Resource": boundary}]);
    let role = account.role("writer", &boundary, &write).await;
    let fields = [
        ("RoleArn", role.arn.as_str()),
        ("RoleSessionName", "lse_writer"),
        ("ExternalId", &role.external_id),
    ];
    let writer = Corner {
        broker: corner.broker.assume(&fields).await.unwrap(),
        ..account
    };
    assert_eq!(publish(&writer, &boundary, &["nobody"]).await, "v2");
    let fields = [("PolicyArn", boundary.as_str()), ("VersionId", "v1")];
    let refused = writer.broker.iam("DeletePolicyVersion", &fields).await;
    assert!(refused.denied(), "{refused:?}");
}
