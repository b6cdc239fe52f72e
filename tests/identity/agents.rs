//! Workload tokens: what makes one good, and everything that does not.

use countersign::identity::AuthError::{InvalidGrant, Unavailable};
use serde_json::{Value, json};

use super::world::{BROKER, KeyServer, Mood, Signer, World, b64, matching, present, workload};

const ISSUER: &str = "https://ci.example";

/// One issuer, one key, one agent that is bound to repository 42.
struct Scene {
    world: World,
    signer: Signer,
    server: std::sync::Arc<KeyServer>,
}

impl Scene {
    async fn new(signer: Signer) -> Self {
        let server = KeyServer::start(vec![signer.jwk("k1")]).await;
        let world = World::new();
        world.enrol("deployer", matching("ci", &[("repository_id", "42")]));
        Self {
            world,
            signer,
            server,
        }
    }

    fn agents(&self) -> countersign::identity::Agents {
        let config = workload(&self.server, ISSUER, self.signer.algorithm());
        self.world.agents(&[("ci", config)])
    }

    fn header(&self) -> Value {
        json!({"alg": self.signer.algorithm(), "kid": "k1", "typ": "JWT"})
    }

    fn claims(&self) -> Value {
        self.world.claims(ISSUER)
    }

    fn token(&self) -> String {
        self.signer.sign(&self.header(), &self.claims())
    }

    /// A correctly signed token whose claims were changed.
    fn with(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.signer.sign(&self.header(), &claims)
    }

    /// A correctly signed token whose header was changed.
    fn headed(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut header = self.header();
        change(&mut header);
        self.signer.sign(&header, &self.claims())
    }
}

fn without(name: &'static str) -> impl FnOnce(&mut Value) {
    move |claims| {
        claims.as_object_mut().unwrap().remove(name);
    }
}

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
async fn case_058_the_algorithm_comes_from_the_configuration() {
    let scene = Scene::new(Signer::rsa()).await;
    let agents = scene.agents();
    for alg in [
        json!("none"),
        json!("None"),
        json!("HS256"),
        json!("ES256K"),
        json!("RS512"),
        json!(1),
        json!(null),
    ] {
        let token = scene.headed(|header| header["alg"] = alg.clone());
        assert_eq!(present(&agents, &token).await, Err(InvalidGrant), "{alg}");
    }
    let unsigned = format!(
        "{}.{}.",
        b64(json!({"alg": "none", "kid": "k1"}).to_string()),
        b64(scene.claims().to_string())
    );
    assert_eq!(present(&agents, &unsigned).await, Err(InvalidGrant));
    let missing = scene.headed(without("alg"));
    assert_eq!(present(&agents, &missing).await, Err(InvalidGrant));
    let config = |name: &str| workload(&scene.server, ISSUER, name);
    for name in ["none", "HS256", "ES256K", "rs256", ""] {
        assert!(
            scene.world.try_agents(&[("ci", config(name))]).is_err(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn case_059_a_public_key_is_never_a_shared_secret() {
    let signer = Signer::rsa();
    let jwk = signer.bare_jwk("k1");
    let scene = Scene::new(signer).await;
    let oct = json!({"kty": "oct", "kid": "k2", "k": b64("shared")});
    *scene.server.keys.lock().unwrap() = vec![jwk.clone(), oct];
    let agents = scene.agents();
    assert!(
        present(&agents, &scene.token()).await.is_ok(),
        "a key need not name its algorithm"
    );
    let secrets = [
        Vec::new(),
        jwk["n"].as_str().unwrap().as_bytes().to_vec(),
        jwk.to_string().into_bytes(),
        b"shared".to_vec(),
    ];
    for (kid, secret) in ["k1", "k1", "k1", "k2"].iter().zip(secrets) {
        for alg in ["HS256", "RS256"] {
            let message = format!(
                "{}.{}",
                b64(json!({"alg": alg, "kid": kid}).to_string()),
                b64(scene.claims().to_string())
            );
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
            let mac = b64(aws_lc_rs::hmac::sign(&key, message.as_bytes()));
            let answer = present(&agents, &format!("{message}.{mac}")).await;
            assert_eq!(answer, Err(InvalidGrant), "{alg} {kid}");
        }
    }
}

#[tokio::test]
async fn case_059_a_key_for_another_purpose_is_passed_over() {
    let scene = Scene::new(Signer::rsa()).await;
    for change in [
        json!({"use": "enc"}),
        json!({"alg": "PS256"}),
        json!({"alg": "RS512"}),
        json!({"use": 1}),
        json!({"key_ops": ["encrypt"]}),
    ] {
        let mut jwk = scene.signer.jwk("k1");
        for (name, value) in change.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        *scene.server.keys.lock().unwrap() = vec![jwk];
        let refused = present(&scene.agents(), &scene.token()).await;
        assert!(refused.is_err(), "{change}");
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
async fn case_066_the_header_cannot_bring_its_own_key() {
    let scene = Scene::new(Signer::ed(1)).await;
    let agents = scene.agents();
    let thief = Signer::ed(9);
    let lair = KeyServer::start(vec![thief.jwk("k1")]).await;
    let header = json!({
        "alg": "EdDSA", "kid": "k1", "jku": format!("{}/jwks", lair.url),
        "x5u": format!("{}/jwks", lair.url), "jwk": thief.jwk("k1"),
    });
    assert_eq!(
        present(&agents, &thief.sign(&header, &scene.claims())).await,
        Err(InvalidGrant)
    );
    for kid in [
        json!("../../etc/passwd"),
        json!(format!("{}/jwks", lair.url)),
        json!("k1' OR 1=1"),
        json!(""),
        json!(1),
        json!(null),
    ] {
        let token = scene.headed(|header| header["kid"] = kid.clone());
        assert_eq!(present(&agents, &token).await, Err(InvalidGrant), "{kid}");
    }
    assert_eq!(
        present(&agents, &scene.headed(without("kid"))).await,
        Err(InvalidGrant)
    );
    assert_eq!(lair.hits(), 0, "nobody asked there");
}

#[tokio::test]
async fn case_072_bombs_are_refused_before_they_are_opened() {
    let scene = Scene::new(Signer::ed(1)).await;
    let agents = scene.agents();
    let good = scene.token();
    let padded = scene.with(|claims| claims["padding"] = "x".repeat(13_000).into());
    for token in [
        padded,
        ".".repeat(100_000),
        "a".repeat(1 << 20),
        "..".into(),
        "...".into(),
        String::new(),
        "a.b.c".into(),
        format!("{good}.{good}"),
        format!("{good}.a.b"),
        format!(" {good}"),
        format!("{good}="),
        format!("{good}\n"),
    ] {
        assert_eq!(present(&agents, &token).await, Err(InvalidGrant));
    }
    let encrypted = json!({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2_000_000_000, "zip": "DEF", "kid": "k1"});
    let five = format!("{}.a.b.c.d", b64(encrypted.to_string()));
    assert_eq!(present(&agents, &five).await, Err(InvalidGrant));
    let deep = format!("{}.{}.AA", b64("[".repeat(8000)), b64("[".repeat(4000)));
    assert_eq!(present(&agents, &deep).await, Err(InvalidGrant));
    assert_eq!(scene.server.hits(), 0, "no key was fetched for any of them");
}

#[tokio::test]
async fn case_073_a_token_of_another_kind_is_refused() {
    let scene = Scene::new(Signer::ed(1)).await;
    let agents = scene.agents();
    for typ in [
        json!("at+jwt"),
        json!("logout+jwt"),
        json!("secevent+jwt"),
        json!("dpop+jwt"),
        json!("JWE"),
        json!(1),
        json!(""),
    ] {
        let token = scene.headed(|header| header["typ"] = typ.clone());
        assert_eq!(present(&agents, &token).await, Err(InvalidGrant), "{typ}");
    }
    for change in [
        json!({"crit": ["b64"]}),
        json!({"crit": []}),
        json!({"b64": false}),
    ] {
        let token = scene.headed(|header| {
            for (name, value) in change.as_object().unwrap() {
                header[name] = value.clone();
            }
        });
        assert_eq!(
            present(&agents, &token).await,
            Err(InvalidGrant),
            "{change}"
        );
    }
    for (name, value) in [
        (
            "events",
            json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
        ),
        ("nonce", json!("n")),
        ("cnf", json!({"jkt": "x"})),
    ] {
        let token = scene.with(|claims| claims[name] = value);
        assert_eq!(present(&agents, &token).await, Err(InvalidGrant), "{name}");
    }
    assert!(
        present(&agents, &scene.headed(without("typ")))
            .await
            .is_ok()
    );
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
        .shelf
        .broken
        .store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(present(&agents, &scene.token()).await, Err(Unavailable));
}
