//! Workload tokens: what their claims have to say.

use countersign::identity::AuthError::{InvalidGrant, Unavailable};
use serde_json::{Value, json};

use super::scene::{ISSUER, Scene, without};
use super::world::{BROKER, KeyServer, Mood, Signer, matching, present, workload};

#[tokio::test]
async fn each_algorithm_is_verified() {
    for signer in [Signer::rsa(), Signer::ec(), Signer::ed(1)] {
        let scene = Scene::new(signer).await;
        let agents = scene.agents();
        assert_eq!(present(&agents, &scene.token()).await.unwrap(), "deployer");
        let mut broken = scene.token();
        let last = broken.pop().unwrap();
        let middle = broken.len() - 20;
        broken.replace_range(
            middle..=middle,
            if &broken[middle..=middle] == "A" {
                "B"
            } else {
                "A"
            },
        );
        broken.push(last);
        assert_eq!(present(&agents, &broken).await, Err(InvalidGrant));
    }
}

#[tokio::test]
async fn case_060_times_are_numbers_and_a_token_is_valid_now() {
    let scene = Scene::new(Signer::ed(1)).await;
    let agents = scene.agents();
    let now = scene.world.now();
    let bad = [
        ("exp", json!("9999999999")),
        ("exp", json!(null)),
        ("exp", json!([now + 60])),
        ("exp", json!(true)),
        ("exp", json!(-1)),
        ("iat", json!("1")),
        ("iat", json!(null)),
        ("nbf", json!("9999999999")),
        ("nbf", json!(null)),
        ("nbf", json!({})),
        ("nbf", json!(now + 3600)),
        ("iat", json!(now + 61)),
        ("nbf", json!(now + 61)),
        ("exp", json!(now - 60)),
        ("exp", json!(1e300)),
    ];
    for (name, value) in bad {
        let token = scene.with(|claims| claims[name] = value.clone());
        assert_eq!(
            present(&agents, &token).await,
            Err(InvalidGrant),
            "{name} {value}"
        );
    }
    for (name, value) in [
        ("nbf", json!(now + 60)),
        ("iat", json!(now + 60)),
        ("exp", json!(now as f64 + 200.5)),
    ] {
        let token = scene.with(|claims| claims[name] = value.clone());
        assert!(present(&agents, &token).await.is_ok(), "{name} {value}");
    }
    let expired = scene.with(|claims| {
        claims["iat"] = json!(now - 400);
        claims["exp"] = json!(now - 59);
    });
    assert!(
        present(&agents, &expired).await.is_ok(),
        "clocks may differ by a minute"
    );
}

#[tokio::test]
async fn case_061_the_audience_is_exactly_this_broker() {
    let scene = Scene::new(Signer::ed(1)).await;
    let agents = scene.agents();
    assert_eq!(
        present(&agents, &scene.with(without("aud"))).await,
        Err(InvalidGrant)
    );
    for audience in [
        json!(format!("{BROKER}/")),
        json!("https://BROKER.example"),
        json!([BROKER, "https://kubernetes.default.svc"]),
        json!(["https://kubernetes.default.svc"]),
        json!([]),
        json!(1),
        json!(null),
        json!([1]),
        json!("https://github.com/org"),
        json!([[BROKER]]),
        json!(format!("{BROKER} other")),
    ] {
        let token = scene.with(|claims| claims["aud"] = audience.clone());
        assert_eq!(
            present(&agents, &token).await,
            Err(InvalidGrant),
            "{audience}"
        );
    }
    let list_of_one = scene.with(|claims| claims["aud"] = json!([BROKER]));
    assert!(present(&agents, &list_of_one).await.is_ok());
}

#[tokio::test]
async fn case_062_a_token_ends_and_ends_soon() {
    let scene = Scene::new(Signer::ed(1)).await;
    let agents = scene.agents();
    let now = scene.world.now();
    for name in ["exp", "iat", "sub", "iss"] {
        assert_eq!(
            present(&agents, &scene.with(without(name))).await,
            Err(InvalidGrant),
            "{name}"
        );
    }
    for (issued, expires) in [
        (now, now + 10 * 365 * 86400),
        (now, now + 3601),
        (now - 3590, now + 20),
        (now, now),
    ] {
        let token = scene.with(|claims| {
            claims["iat"] = json!(issued);
            claims["exp"] = json!(expires);
        });
        assert_eq!(
            present(&agents, &token).await,
            Err(InvalidGrant),
            "{issued} {expires}"
        );
    }
}

#[tokio::test]
async fn case_063_a_claim_is_the_exact_text_or_it_is_no_match() {
    let scene = Scene::new(Signer::ed(1)).await;
    let agents = scene.agents();
    assert_eq!(
        present(&agents, &scene.with(without("repository_id"))).await,
        Err(InvalidGrant)
    );
    for value in [
        json!(42),
        json!(["42"]),
        json!("42 "),
        json!("042"),
        json!("*"),
        json!("421"),
        json!(null),
        json!({"42": "42"}),
        json!(true),
    ] {
        let token = scene.with(|claims| claims["repository_id"] = value.clone());
        assert_eq!(present(&agents, &token).await, Err(InvalidGrant), "{value}");
    }
    scene.world.disable("deployer");
    scene.world.enrol("nothing-asked", matching("ci", &[]));
    assert_eq!(
        present(&agents, &scene.token()).await,
        Err(InvalidGrant),
        "no conditions match nobody"
    );
    scene.world.disable("nothing-asked");
    let anybody = [("iss", ISSUER), ("aud", BROKER)];
    scene.world.enrol("anybody", matching("ci", &anybody));
    let answer = present(&agents, &scene.token()).await;
    assert_eq!(
        answer,
        Err(InvalidGrant),
        "every token of the issuer would match"
    );
    scene.world.disable("anybody");
    let conditions = [("repository_id", "42"), ("event_name", "push")];
    scene.world.enrol("both", matching("ci", &conditions));
    assert_eq!(
        present(&agents, &scene.token()).await,
        Err(InvalidGrant),
        "all conditions must hold"
    );
    let push = scene.with(|claims| claims["event_name"] = "push".into());
    assert_eq!(present(&agents, &push).await.unwrap(), "both");
}

#[tokio::test]
async fn case_063_a_token_two_agents_match_is_nobodys() {
    let scene = Scene::new(Signer::ed(1)).await;
    let agents = scene.agents();
    scene.world.enrol(
        "twin",
        matching("ci", &[("sub", "repo:org/app:ref:refs/heads/main")]),
    );
    assert_eq!(present(&agents, &scene.token()).await, Err(InvalidGrant));
}

#[tokio::test]
async fn case_063_nested_claims_are_reached_by_pointer() {
    let scene = Scene::new(Signer::ed(1)).await;
    let agents = scene.agents();
    let conditions = [
        ("/kubernetes.io/serviceaccount/uid", "c0ffee"),
        ("/kubernetes.io/namespace", "jobs"),
    ];
    scene.world.enrol("pod", matching("ci", &conditions));
    let nested = |uid: Value| {
        scene.with(|claims| {
            claims["repository_id"] = "7".into();
            claims["kubernetes.io"] =
                json!({"namespace": "jobs", "serviceaccount": {"name": "runner", "uid": uid}});
        })
    };
    assert_eq!(
        present(&agents, &nested(json!("c0ffee"))).await.unwrap(),
        "pod"
    );
    assert_eq!(
        present(&agents, &nested(json!("decaf"))).await,
        Err(InvalidGrant)
    );
    assert_eq!(
        present(&agents, &nested(json!(["c0ffee"]))).await,
        Err(InvalidGrant)
    );
}

#[tokio::test]
async fn case_064_a_recycled_name_is_another_repository() {
    let scene = Scene::new(Signer::ed(1)).await;
    let recycled = scene.with(|claims| claims["repository_id"] = "43".into());
    assert_eq!(present(&scene.agents(), &recycled).await, Err(InvalidGrant));
}

#[tokio::test]
async fn case_065_and_070_issuers_are_kept_apart() {
    let scene = Scene::new(Signer::ed(1)).await;
    let other_signer = Signer::ed(2);
    let other_server = KeyServer::start(vec![other_signer.jwk("k1")]).await;
    let agents = scene.world.agents(&[
        ("ci", workload(&scene.server, ISSUER, "EdDSA")),
        (
            "lab",
            workload(&other_server, "https://lab.example", "EdDSA"),
        ),
    ]);
    assert!(present(&agents, &scene.token()).await.is_ok());
    let lab =
        |signer: &Signer| signer.sign(&scene.header(), &scene.world.claims("https://lab.example"));
    assert_eq!(
        present(&agents, &lab(&other_signer)).await,
        Err(InvalidGrant),
        "the agent is bound to ci"
    );
    assert_eq!(
        present(&agents, &lab(&scene.signer)).await,
        Err(InvalidGrant),
        "same kid, other set"
    );
    let swapped = other_signer.sign(&scene.header(), &scene.claims());
    assert_eq!(present(&agents, &swapped).await, Err(InvalidGrant));
    for issuer in [
        "https://ci.example/",
        "https://CI.example",
        "https://ci.example ",
        "http://ci.example",
        "ci",
    ] {
        let token = scene
            .signer
            .sign(&scene.header(), &scene.world.claims(issuer));
        assert_eq!(
            present(&agents, &token).await,
            Err(InvalidGrant),
            "{issuer}"
        );
    }
    let twice = [
        ("a", workload(&scene.server, ISSUER, "EdDSA")),
        ("b", workload(&other_server, ISSUER, "EdDSA")),
    ];
    assert!(scene.world.try_agents(&twice).is_err());
}

#[tokio::test]
async fn case_071_a_single_use_token_is_good_once() {
    let scene = Scene::new(Signer::ed(1)).await;
    let mut config = workload(&scene.server, ISSUER, "EdDSA");
    config.single_use = true;
    let agents = scene.world.agents(&[("ci", config)]);
    let token = scene.token();
    assert!(present(&agents, &token).await.is_ok());
    assert_eq!(present(&agents, &token).await, Err(InvalidGrant));
    let resigned = scene.with(|claims| claims["extra"] = 1.into());
    assert_eq!(
        present(&agents, &resigned).await,
        Err(InvalidGrant),
        "it is the jti that counts"
    );
    assert_eq!(
        present(&agents, &scene.with(without("jti"))).await,
        Err(InvalidGrant)
    );
    // To the last moment of its life, leeway included, it stays used.
    scene.world.clock.advance(countersign::domain::Seconds(359));
    assert_eq!(present(&agents, &token).await, Err(InvalidGrant));
}

#[tokio::test]
async fn without_the_store_or_the_keys_nothing_is_exchanged() {
    let scene = Scene::new(Signer::ed(1)).await;
    let agents = scene.agents();
    scene.server.turns(Mood::Fails);
    assert_eq!(present(&agents, &scene.token()).await, Err(Unavailable));
    scene.server.turns(Mood::Serves);
    scene.world.clock.advance(countersign::domain::Seconds(30));
    assert!(present(&agents, &scene.token()).await.is_ok());
    scene
        .world
        .remembered
        .broken
        .store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(present(&agents, &scene.token()).await, Err(Unavailable));
}
