//! Workload tokens: headers, keys and shapes that are refused.

use countersign::identity::AuthError::InvalidGrant;
use serde_json::json;

use super::scene::{ISSUER, Scene, without};
use super::world::{KeyServer, Signer, b64, present, workload};

#[tokio::test]
async fn a_token_has_one_spelling() {
    let scene = Scene::new(Signer::ed(1)).await;
    let agents = scene.agents();
    let token = scene.token();
    for at in 0..token.len() {
        let other = match &token[at..=at] {
            "A" => "B",
            "." => "-",
            _ => "A",
        };
        let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
        assert!(present(&agents, &changed).await.is_err(), "{at}: {changed}");
        assert!(present(&agents, &token[..at]).await.is_err(), "cut at {at}");
    }
    assert!(present(&agents, &token).await.is_ok());
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
