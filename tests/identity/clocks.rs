//! L15: a ledger whose time is ahead of everybody else's clocks.

use countersign::domain::{AgentProof, Seconds};
use countersign::identity::Principal;
use serde_json::json;

use super::world::{BROKER, Signer, World, assert_self};

/// What others wrote is judged by their clocks, and a jump of the ledger's time brings no token back.
#[tokio::test]
async fn finding_b05_tokens_of_others_are_judged_by_their_time_and_good_once() {
    let world = World::new();
    let signer = Signer::ed(3);
    let jwk = signer.bare_jwk("k");
    let ed25519 = jwk["x"].as_str().unwrap().to_owned();
    world.enrol("builder", AgentProof::PublicKey { ed25519 });
    let agents = world.agents(&[]);
    let exchange = async |id: &str| {
        let now = world.now();
        let claims = json!({"iss": "builder", "sub": "builder", "aud": BROKER, "iat": now, "exp": now + 300, "jti": id});
        let assertion = signer.sign(&json!({"alg": "EdDSA", "typ": "JWT"}), &claims);
        assert_self(&agents, &assertion).await
    };
    let first = exchange("a").await.unwrap();
    world.clock.put_ahead(Seconds(3600));
    assert!(exchange("a").await.is_err(), "it was used already");
    let second = exchange("b").await.unwrap();
    let holds = async |token: &str| {
        let known = agents.authenticate(token).await;
        matches!(known, Ok(Principal::Agent(_)))
    };
    assert!(
        !holds(&first).await,
        "our own tokens end by the ledger's time"
    );
    assert!(holds(&second).await);
    world.clock.advance(Seconds(600));
    assert!(!holds(&second).await);
}
