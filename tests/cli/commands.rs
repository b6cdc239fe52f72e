//! Every command but `exec`: what it prints, and how it ends.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::fake::{Fake, LEASE, REQUEST, TOKEN};
use super::{countersign, run};

const ASK: [&str; 4] = ["request", "orders.report", "--param", "days=7"];

#[tokio::test]
async fn an_answer_in_json_is_the_brokers_object_with_what_is_new_in_it() {
    let fake = Fake::start("approved").await;
    for arguments in [
        &ASK[..],
        &["show", REQUEST],
        &["wait", REQUEST],
        &["ls"],
        &["finish", REQUEST],
        &["revoke", REQUEST],
    ] {
        let ran = run(countersign(&fake, &[arguments, &["--json"]].concat())).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
        assert_eq!(ran.out.lines().count(), 1);
        assert_eq!(ran.json()["id"], REQUEST);
        assert_eq!(ran.json()["a_member_to_come"], 1);
    }
    let ran = run(countersign(&fake, &["actions", "--json"])).await;
    let names: Vec<Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone())
        .collect();
    assert_eq!(names, ["orders.report", "orders.refund"]);
}

#[tokio::test]
async fn people_get_aligned_facts() {
    let fake = Fake::start("pending").await;
    let ran = run(countersign(&fake, &ASK)).await;
    assert_eq!(
        ran.code,
        Some(0),
        "asking without waiting is done when it is asked: {ran:?}"
    );
    for line in [
        "state       pending",
        "parameters  days=7",
        "digest      ab12cd34ef56",
        "needs       1 of dba",
        "can         read public.orders",
    ] {
        assert!(
            ran.out.lines().any(|found| found == line),
            "{line}: {}",
            ran.out
        );
    }
    let ran = run(countersign(&fake, &["ls"])).await;
    assert!(ran.out.starts_with("REQUEST "), "{ran:?}");
    let ran = run(countersign(&fake, &["actions", "orders.report"])).await;
    assert!(
        ran.out
            .contains("parameter    days: a whole number from 1 to 31"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn how_a_request_came_out_is_the_exit_code() {
    for (state, outcome, code, name) in [
        ("closed", Some("denied"), 4, "denied"),
        ("closed", Some("refused"), 5, "denied_by_policy"),
        ("pending", None, 6, "pending"),
        ("closed", Some("lapsed"), 7, "expired_or_revoked"),
        ("closed", Some("revoked"), 7, "expired_or_revoked"),
        ("closed", Some("expired"), 7, "expired_or_revoked"),
        ("closed", Some("failed"), 8, "unavailable"),
        ("closed", Some("a_word_to_come"), 1, "failed"),
    ] {
        let fake = Fake::start(state).await;
        fake.set("outcome", outcome);
        for arguments in [
            &[&ASK[..], &["--wait", "1s"]].concat(),
            &vec!["wait", REQUEST, "--timeout", "1s"],
        ] {
            let ran = run(countersign(&fake, &[&arguments[..], &["--json"]].concat())).await;
            assert_eq!(ran.code, Some(code), "{ran:?}");
            assert_eq!(ran.json()["error"]["exit_name"], name);
            assert_eq!(ran.json()["error"]["exit_code"], code);
            assert_eq!(ran.json()["request"]["id"], REQUEST);
        }
    }
}

#[tokio::test]
async fn what_the_broker_refuses_is_the_exit_code_and_says_what_next() {
    let path = format!("GET /v1/requests/{REQUEST}");
    for (status, word, code) in [
        (401, "unauthenticated", 3),
        (403, "forbidden", 3),
        (403, "policy_denied", 5),
        (404, "not_found", 1),
        (409, "approval_required", 6),
        (409, "wrong_state", 9),
        (410, "gone", 7),
        (400, "invalid_request", 2),
        (503, "not_ready", 8),
    ] {
        let fake = Fake::start("approved").await;
        let problem = json!({"status": status, "code": word, "title": "no", "detail": "not this way", "next": "do it that way",
            "request_id": "call-1", "errors": [{"pointer": "/ttl_seconds", "code": "x", "detail": "too long"}], "retryable": false});
        fake.can(&path, status, problem);
        let ran = run(countersign(&fake, &["show", REQUEST])).await;
        assert_eq!(ran.code, Some(code), "{word}: {ran:?}");
        assert!(ran.out.is_empty());
        for part in [
            &format!("countersign: not this way [{word}]"),
            "/ttl_seconds: too long",
            "next: do it that way",
            "call-1",
        ] {
            assert!(ran.err.contains(part), "{part}: {ran:?}");
        }
        let ran = run(countersign(&fake, &["show", REQUEST, "--json"])).await;
        assert_eq!(
            (&ran.json()["error"]["code"], ran.err.as_str()),
            (&json!(word), "")
        );
    }
}

#[tokio::test]
async fn a_broker_that_is_down_is_8_and_one_that_hiccups_is_asked_again() {
    let fake = Fake::start("approved").await;
    let mut command = countersign(&fake, &["ls"]);
    command.env("COUNTERSIGN_ADDR", "http://127.0.0.1:1");
    let ran = run(command).await;
    assert_eq!(ran.code, Some(8), "{ran:?}");
    assert!(
        ran.err.contains("[unreachable]") && ran.err.contains("COUNTERSIGN_ADDR"),
        "{ran:?}"
    );

    fake.can(
        "GET /v1/requests",
        503,
        json!({"code": "not_ready", "retryable": true}),
    );
    assert_eq!(run(countersign(&fake, &["ls"])).await.code, Some(8));
    assert_eq!(
        fake.calls("GET /v1/requests").len(),
        5,
        "tried a few times, not for ever"
    );

    fake.can(
        &format!("POST /v1/requests/{REQUEST}/finish"),
        503,
        json!({"code": "not_ready", "retryable": true}),
    );
    assert_eq!(
        run(countersign(&fake, &["finish", REQUEST])).await.code,
        Some(8)
    );
    assert_eq!(
        fake.calls(&format!("POST /v1/requests/{REQUEST}/finish"))
            .len(),
        1,
        "no key, no repetition"
    );
}

#[tokio::test]
async fn the_token_goes_to_the_broker_only() {
    let fake = Fake::start("approved").await;
    for address in [
        "http://broker.example",
        "ftp://127.0.0.1",
        "https://user:pass@broker.example",
        "nonsense",
    ] {
        let mut command = countersign(&fake, &["ls"]);
        command.env("COUNTERSIGN_ADDR", address);
        let ran = run(command).await;
        assert_eq!(ran.code, Some(2), "{address}: {ran:?}");
        assert!(ran.err.contains("[address]"), "{ran:?}");
    }
    let elsewhere = Fake::start("approved").await;
    let mut command = countersign(&fake, &["ls"]);
    command
        .env("http_proxy", &elsewhere.address)
        .env("HTTP_PROXY", &elsewhere.address)
        .env("ALL_PROXY", &elsewhere.address);
    assert_eq!(run(command).await.code, Some(0));
    assert!(elsewhere.calls("GET /v1/requests").is_empty());
    assert_eq!(
        fake.calls("GET /v1/requests")[0].authorization,
        format!("Bearer {TOKEN}")
    );

    fake.can("GET /v1/requests", 307, json!({}));
    let ran = run(countersign(&fake, &["ls"])).await;
    assert_eq!(ran.code, Some(8), "{ran:?}");
    assert!(ran.err.contains("redirect"), "{ran:?}");
}

#[tokio::test]
async fn without_credentials_it_says_how_to_give_them() {
    let fake = Fake::start("approved").await;
    let mut command = countersign(&fake, &["ls"]);
    command.env_remove("COUNTERSIGN_TOKEN_FILE");
    let ran = run(command).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.err.contains("[no_credentials]") && ran.err.contains("COUNTERSIGN_TOKEN_FILE"),
        "{ran:?}"
    );
    let mut command = countersign(&fake, &["ls"]);
    command.env("COUNTERSIGN_TOKEN_FILE", fake.path("nothing"));
    assert_eq!(run(command).await.code, Some(3));
    let mut command = countersign(&fake, &["ls"]);
    command
        .env_remove("COUNTERSIGN_TOKEN_FILE")
        .env("COUNTERSIGN_TOKEN", TOKEN);
    assert_eq!(run(command).await.code, Some(0));
    // There is no option for a secret itself.
    assert_eq!(
        run(countersign(&fake, &["ls", "--token", TOKEN]))
            .await
            .code,
        Some(2)
    );
}

#[tokio::test]
async fn parameters_are_typed_and_slips_are_named_before_anybody_is_asked() {
    let fake = Fake::start("approved").await;
    run(countersign(
        &fake,
        &[
            &ASK[..],
            &[
                "--context",
                "ticket=OPS-1",
                "--on-behalf-of",
                "https://idp",
                "ada",
            ],
        ]
        .concat(),
    ))
    .await;
    let asked = fake.calls("POST /v1/requests")[0].json();
    assert_eq!(asked["parameters"], json!({"days": 7}));
    assert_eq!(
        (
            &asked["context"]["ticket"],
            &asked["on_behalf_of"]["subject"]
        ),
        (&json!("OPS-1"), &json!("ada"))
    );
    for (arguments, part) in [
        (
            &["request", "orders.raport"][..],
            "did you mean orders.report",
        ),
        (
            &["request", "orders.report", "--param", "days=many"],
            "a whole number from 1 to 31",
        ),
        (
            &["request", "orders.report", "--param", "day=7"],
            "it takes days",
        ),
        (&["request", "orders.report"], "missing: --param days"),
        (
            &["request", "orders.report", "--param", "days"],
            "NAME=VALUE",
        ),
    ] {
        let ran = run(countersign(&fake, arguments)).await;
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains(part), "{part}: {ran:?}");
    }
    assert_eq!(fake.calls("POST /v1/requests").len(), 1);
}

#[tokio::test]
async fn revoking_a_request_ends_its_lease_or_takes_it_back() {
    let fake = Fake::start("pending").await;
    assert_eq!(
        run(countersign(&fake, &["revoke", REQUEST])).await.code,
        Some(0)
    );
    assert_eq!(
        fake.calls(&format!("POST /v1/requests/{REQUEST}/withdraw"))
            .len(),
        1
    );
    let fake = Fake::start("live").await;
    fake.set(
        "lease",
        json!({"id": LEASE, "state": "live", "expires_at": "2026-11-22T10:30:00.000Z"}),
    );
    let ran = run(countersign(&fake, &["revoke", REQUEST])).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    run(countersign(&fake, &["revoke", LEASE])).await;
    assert_eq!(
        fake.calls(&format!("POST /v1/leases/{LEASE}/revoke")).len(),
        2
    );
}

#[tokio::test]
async fn an_agents_key_is_made_registered_and_proves_it() {
    let fake = Fake::start("approved").await;
    fake.can(
        "POST /v1/agents",
        201,
        json!({"agent": {"name": "billing", "owner": "dev:ada", "proof": {"kind": "public_key"}}}),
    );
    let key_file = fake.path("agent.key");
    let key = key_file.to_str().unwrap();
    let ran = run(countersign(
        &fake,
        &[
            "agent",
            "add",
            "billing",
            "--owner",
            "dev:ada",
            "--new-key-file",
            key,
        ],
    ))
    .await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        std::fs::metadata(&key_file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let sent = fake.calls("POST /v1/agents")[0].json();
    let seed = std::fs::read_to_string(&key_file).unwrap();
    assert!(
        !fake.calls("POST /v1/agents")[0].body.contains(seed.trim()),
        "the seed stays here"
    );

    fake.can(
        "POST /v1/token",
        200,
        json!({"access_token": "cst_fresh", "token_type": "Bearer", "expires_in": 600}),
    );
    let mut command = countersign(&fake, &["actions", "--json"]);
    command
        .env_remove("COUNTERSIGN_TOKEN_FILE")
        .env("COUNTERSIGN_KEY_FILE", key)
        .env("COUNTERSIGN_AGENT", "billing");
    let ran = run(command).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        fake.calls("GET /v1/actions")[0].authorization,
        "Bearer cst_fresh"
    );
    let form = fake.calls("POST /v1/token")[0].body.clone();
    let form: std::collections::BTreeMap<_, _> = url::form_urlencoded::parse(form.as_bytes())
        .into_owned()
        .collect();
    assert_eq!(form["grant_type"], "client_credentials");
    let (signed, signature) = form["client_assertion"].rsplit_once('.').unwrap();
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
    let public = decode(sent["proof"]["ed25519"].as_str().unwrap());
    UnparsedPublicKey::new(&ED25519, public)
        .verify(signed.as_bytes(), &decode(signature))
        .unwrap();
    let claims: Value = serde_json::from_slice(&decode(signed.split_once('.').unwrap().1)).unwrap();
    assert_eq!(
        (&claims["aud"], &claims["sub"]),
        (&json!(fake.address), &json!("billing"))
    );
}

#[tokio::test]
async fn a_workload_token_is_exchanged_and_a_refusal_is_3() {
    let fake = Fake::start("approved").await;
    std::fs::write(fake.path("jwt"), "aaa.bbb.ccc\n").unwrap();
    let command = |fake: &Fake| {
        let mut command = countersign(fake, &["ls"]);
        command
            .env_remove("COUNTERSIGN_TOKEN_FILE")
            .env("COUNTERSIGN_WORKLOAD_TOKEN_FILE", fake.path("jwt"));
        command
    };
    fake.can(
        "POST /v1/token",
        200,
        json!({"access_token": "cst_fresh", "token_type": "Bearer", "expires_in": 600}),
    );
    assert_eq!(run(command(&fake)).await.code, Some(0));
    let form = &fake.calls("POST /v1/token")[0].body;
    assert!(
        form.contains("assertion=aaa.bbb.ccc") && form.contains("jwt-bearer"),
        "{form}"
    );
    // A token that is refused is renewed once, not for ever.
    fake.can("GET /v1/requests", 401, json!({"code": "unauthenticated"}));
    assert_eq!(run(command(&fake)).await.code, Some(3));
    assert_eq!(fake.calls("POST /v1/token").len(), 3);
    fake.can(
        "POST /v1/token",
        400,
        json!({"error": "invalid_grant", "error_description": "the token is not for this broker"}),
    );
    let ran = run(command(&fake)).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.err.contains("not for this broker [invalid_grant]"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_new_api_key_is_shown_once_or_goes_to_a_file() {
    let fake = Fake::start("approved").await;
    fake.can(
        "POST /v1/agents",
        201,
        json!({"agent": {"name": "ci", "owner": "group:ops"}, "api_key": "csk_new"}),
    );
    let ran = run(countersign(
        &fake,
        &["agent", "add", "ci", "--owner", "group:ops"],
    ))
    .await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "csk_new\n"),
        "{ran:?}"
    );
    let file = fake.path("new-key");
    let arguments = [
        "agent",
        "add",
        "ci",
        "--owner",
        "group:ops",
        "--api-key-file",
        file.to_str().unwrap(),
    ];
    let ran = run(countersign(&fake, &arguments)).await;
    assert!(
        !ran.out.contains("csk_new") && !ran.err.contains("csk_new"),
        "{ran:?}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "csk_new\n");
    let ran = run(countersign(&fake, &arguments)).await;
    assert_eq!(
        ran.code,
        Some(2),
        "an existing file is not overwritten: {ran:?}"
    );
    fake.can(
        "GET /v1/agents",
        200,
        json!({"data": [{"name": "ci", "owner": {"kind": "group", "group": "ops"}, "proof": {"kind": "api_key"}}]}),
    );
    let ran = run(countersign(&fake, &["agent", "ls"])).await;
    assert!(
        ran.out.contains("ci     group:ops  api_key  served"),
        "{ran:?}"
    );
    fake.can("POST /v1/agents/ci/disable", 200, json!({"name": "ci"}));
    assert_eq!(
        run(countersign(&fake, &["agent", "disable", "ci"]))
            .await
            .code,
        Some(0)
    );
}

#[tokio::test]
async fn help_and_version_are_data_and_a_wrong_command_line_is_2() {
    let fake = Fake::start("approved").await;
    let ran = run(countersign(&fake, &["--help"])).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(ran.out.contains("Exit codes"));
    assert_eq!(run(countersign(&fake, &["--version"])).await.code, Some(0));
    for wrong in [
        &[][..],
        &["frobnicate"],
        &["show"],
        &["exec-not"],
        &["ls", "--limit", "0"],
    ] {
        assert_eq!(
            run(countersign(&fake, wrong)).await.code,
            Some(2),
            "{wrong:?}"
        );
    }
}
