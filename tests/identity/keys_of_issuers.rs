//! Fetching issuers' keys: where from, how often, for how long.

use std::sync::atomic::Ordering;

use countersign::domain::Seconds;
use countersign::identity::AuthError::{InvalidGrant, Unavailable};
use serde_json::json;

use super::world::{KeyServer, Mood, Signer, World, matching, present, workload};

const ISSUER: &str = "https://ci.example";

fn token(world: &World, signer: &Signer, kid: &str) -> String {
    let header = json!({"alg": signer.algorithm(), "kid": kid});
    signer.sign(&header, &world.claims(ISSUER))
}

fn world() -> World {
    let world = World::new();
    world.enrol("deployer", matching("ci", &[("repository_id", "42")]));
    world
}

#[tokio::test]
async fn case_067_redirects_and_large_answers_are_not_followed_or_read() {
    let (world, signer) = (world(), Signer::ed(1));
    for mood in [Mood::Redirects, Mood::Huge, Mood::Fails] {
        let server = KeyServer::start(vec![signer.jwk("k1")]).await;
        server.turns(mood.clone());
        let agents = world.agents(&[("ci", workload(&server, ISSUER, "EdDSA"))]);
        let answer = present(&agents, &token(&world, &signer, "k1")).await;
        assert_eq!(answer, Err(Unavailable), "{mood:?}");
        assert_eq!(server.hits(), 1);
    }
}

#[tokio::test]
async fn case_067_issuers_outside_are_https_and_public() {
    let world = world();
    let server = KeyServer::start(Vec::new()).await;
    for url in [
        "http://ci.example/jwks",
        "https://169.254.169.254/jwks",
        "https://10.1.2.3/jwks",
        "https://[::ffff:10.1.2.3]/jwks",
        "file:///etc/passwd",
    ] {
        let mut config = workload(&server, ISSUER, "EdDSA");
        config.jwks_url = Some(url.parse().unwrap());
        let error = world.try_agents(&[("ci", config)]).err().unwrap();
        assert!(error.contains("ci"), "{error}");
    }
    let mut private = workload(&server, ISSUER, "EdDSA");
    private.jwks_url = Some("https://10.1.2.3/jwks".parse().unwrap());
    private.private_network = true;
    assert!(world.try_agents(&[("ci", private)]).is_ok());
}

#[tokio::test]
async fn case_067_discovery_is_about_exactly_the_configured_issuer() {
    let (world, signer) = (world(), Signer::ed(1));
    let server = KeyServer::start(vec![signer.jwk("k1")]).await;
    let mut config = workload(&server, &server.url, "EdDSA");
    config.jwks_url = None;
    let agents = world.agents(&[("ci", config)]);
    let token = signer.sign(
        &json!({"alg": "EdDSA", "kid": "k1"}),
        &world.claims(&server.url),
    );
    *server.calls_itself.lock().unwrap() = format!("{}/", server.url);
    assert_eq!(present(&agents, &token).await, Err(Unavailable));
    assert_eq!(server.hits(), 0, "its keys were not even fetched");
    server.calls_itself.lock().unwrap().clone_from(&server.url);
    world.clock.advance(Seconds(30));
    assert_eq!(present(&agents, &token).await.unwrap(), "deployer");
}

#[tokio::test]
async fn case_068_unknown_key_ids_cost_one_fetch_in_30_seconds() {
    let (world, signer) = (world(), Signer::ed(1));
    let server = KeyServer::start(vec![signer.jwk("k1")]).await;
    let agents = world.agents(&[("ci", workload(&server, ISSUER, "EdDSA"))]);
    assert!(
        present(&agents, &token(&world, &signer, "k1"))
            .await
            .is_ok()
    );
    assert_eq!(server.hits(), 1);
    let flood: Vec<_> = (0..200)
        .map(|n| token(&world, &signer, &format!("random-{n}")))
        .collect();
    let answers =
        futures::future::join_all(flood.iter().map(|token| present(&agents, token))).await;
    assert!(answers.iter().all(|answer| *answer == Err(InvalidGrant)));
    assert_eq!(server.hits(), 1, "the first fetch was less than 30 s ago");
    world.clock.advance(Seconds(30));
    let answers =
        futures::future::join_all(flood.iter().map(|token| present(&agents, token))).await;
    assert!(answers.iter().all(|answer| *answer == Err(InvalidGrant)));
    assert_eq!(server.hits(), 2);
    assert!(
        present(&agents, &token(&world, &signer, "k1"))
            .await
            .is_ok(),
        "known keys stay"
    );
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn case_068_many_first_tokens_are_one_fetch() {
    let (world, signer) = (world(), Signer::ed(1));
    let server = KeyServer::start(vec![signer.jwk("k1")]).await;
    let agents = world.agents(&[("ci", workload(&server, ISSUER, "EdDSA"))]);
    let good = token(&world, &signer, "k1");
    let answers = futures::future::join_all((0..100).map(|_| present(&agents, &good))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn case_069_rotated_keys_are_picked_up_and_dropped_ones_forgotten() {
    let (world, old, new) = (world(), Signer::ed(1), Signer::ed(2));
    let server = KeyServer::start(vec![old.jwk("k1")]).await;
    let agents = world.agents(&[("ci", workload(&server, ISSUER, "EdDSA"))]);
    assert!(present(&agents, &token(&world, &old, "k1")).await.is_ok());
    *server.keys.lock().unwrap() = vec![new.jwk("k2")];
    world.clock.advance(Seconds(30));
    assert!(present(&agents, &token(&world, &new, "k2")).await.is_ok());
    assert_eq!(
        present(&agents, &token(&world, &old, "k1")).await,
        Err(InvalidGrant)
    );
}

#[tokio::test]
async fn case_069_old_keys_serve_a_day_while_the_issuer_is_away_and_then_nothing_does() {
    let (world, signer) = (world(), Signer::ed(1));
    let server = KeyServer::start(vec![signer.jwk("k1")]).await;
    let agents = world.agents(&[("ci", workload(&server, ISSUER, "EdDSA"))]);
    assert!(
        present(&agents, &token(&world, &signer, "k1"))
            .await
            .is_ok()
    );
    server.turns(Mood::Fails);
    world.clock.advance(Seconds(3600));
    for _ in 0..5 {
        assert!(
            present(&agents, &token(&world, &signer, "k1"))
                .await
                .is_ok()
        );
    }
    assert_eq!(server.hits(), 2, "it was asked once for fresher ones");
    world.clock.advance(Seconds(23 * 3600 - 1));
    assert!(
        present(&agents, &token(&world, &signer, "k1"))
            .await
            .is_ok()
    );
    world.clock.advance(Seconds(1));
    assert_eq!(
        present(&agents, &token(&world, &signer, "k1")).await,
        Err(Unavailable)
    );
    server.turns(Mood::Serves);
    world.clock.advance(Seconds(30));
    assert!(
        present(&agents, &token(&world, &signer, "k1"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn case_069_an_answer_without_good_keys_replaces_nothing() {
    let (world, signer) = (world(), Signer::ed(1));
    let server = KeyServer::start(vec![signer.jwk("k1")]).await;
    let agents = world.agents(&[("ci", workload(&server, ISSUER, "EdDSA"))]);
    assert!(
        present(&agents, &token(&world, &signer, "k1"))
            .await
            .is_ok()
    );
    for keys in [
        vec![],
        vec![json!(1)],
        vec![signer.jwk("k1"), Signer::ed(2).jwk("k1")],
        vec![signer.jwk("k"); 101],
    ] {
        *server.keys.lock().unwrap() = keys;
        world.clock.advance(Seconds(3600));
        let before = server.hits.load(Ordering::SeqCst);
        assert!(
            present(&agents, &token(&world, &signer, "k1"))
                .await
                .is_ok()
        );
        assert_eq!(server.hits(), before + 1);
    }
}
