//! Tokens the broker hands out itself, and assertions agents sign.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use countersign::domain::{AgentProof, Digest, Seconds};
use countersign::identity::AuthError::{InvalidClient, InvalidGrant, Unauthenticated, Unavailable};
use countersign::identity::keys::{self, TokenKind};
use countersign::identity::{Agents, Grant, Principal};
use countersign::system::{Entropy as _, SystemEntropy};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::world::{BROKER, Signer, World, assert_self, present};
use crate::support::SeededEntropy;

fn api_key(world: &World, name: &str) -> String {
    let (key, hash) = keys::generate(TokenKind::ApiKey, &*world.ports.entropy);
    world.enrol(name, AgentProof::ApiKey { hash });
    key.expose_secret().to_owned()
}

fn with_key_pair(world: &World, name: &str, signer: &Signer) {
    let jwk = signer.bare_jwk("k");
    let ed25519 = jwk["x"].as_str().unwrap().to_owned();
    world.enrol(name, AgentProof::PublicKey { ed25519 });
}

fn assertion(world: &World, name: &str, id: &str) -> Value {
    let now = world.now();
    json!({"iss": name, "sub": name, "aud": BROKER, "iat": now, "exp": now + 300, "jti": id})
}

fn signed(signer: &Signer, claims: &Value) -> String {
    signer.sign(&json!({"alg": "EdDSA", "typ": "JWT"}), claims)
}

async fn name(agents: &Agents, bearer: &str) -> Option<String> {
    match agents.authenticate(bearer).await {
        Ok(Principal::Agent(agent)) => Some(agent.name.to_string()),
        Ok(Principal::Operator) => Some("OPERATOR".into()),
        Err(Unauthenticated) => None,
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn case_074_an_api_key_has_one_spelling() {
    let world = World::new();
    let key = api_key(&world, "exporter");
    let agents = world.agents(&[]);
    assert_eq!(name(&agents, &key).await.as_deref(), Some("exporter"));
    assert_eq!(key.len(), 53);
    for length in 0..key.len() {
        assert_eq!(
            name(&agents, &key[..length]).await,
            None,
            "truncated to {length}"
        );
    }
    let mut spellings = vec![
        format!("{key} "),
        format!(" {key}"),
        format!("{key}\n"),
        format!("{key}\0"),
        format!("{key}="),
        format!("{key}0"),
        key.to_uppercase(),
        key.to_lowercase(),
        key.replacen("csk_", "cst_", 1),
        key.replacen("csk_", "CSK_", 1),
        key.replacen("csk_", "csk_ ", 1),
        format!("csk_{key}"),
    ];
    for at in 4..key.len() {
        let other = if &key[at..=at] == "x" { "y" } else { "x" };
        spellings.push(format!("{}{other}{}", &key[..at], &key[at + 1..]));
    }
    for spelling in spellings {
        assert_eq!(name(&agents, &spelling).await, None, "{spelling:?}");
    }
}

#[test]
fn case_074_tokens_are_256_random_bits_with_a_checksum_and_only_their_hash_is_kept() {
    let entropy = SeededEntropy::new(1);
    for kind in [
        TokenKind::ApiKey,
        TokenKind::AccessToken,
        TokenKind::Operator,
    ] {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let (token, digest) = keys::generate(kind, &entropy);
            let text = token.expose_secret();
            assert!(text.starts_with(kind.prefix()) && text.len() == 53);
            assert!(text[4..].bytes().all(|b| b.is_ascii_alphanumeric()));
            assert_eq!(keys::recognise(text), Some((kind, digest)));
            assert_eq!(digest, Digest::of(text.as_bytes()));
            assert!(!format!("{token:?}").contains(&text[4..]));
            assert!(seen.insert(text.to_owned()));
        }
    }
    let drawn = SystemEntropy.draw();
    assert_ne!(drawn, SystemEntropy.draw());
}

#[tokio::test]
async fn the_operator_is_whoever_holds_that_token_and_no_agent() {
    let world = World::new();
    let (token, digest) = keys::generate(TokenKind::Operator, &SystemEntropy);
    let url = BROKER.parse().unwrap();
    let with = |operator| {
        let agents = Agents::new(
            world.ports.clone(),
            world.directory.clone(),
            &BTreeMap::new(),
            &url,
            operator,
        );
        agents.unwrap_or_else(|error| panic!("{error}"))
    };
    let agents = with(Some(digest));
    assert_eq!(
        name(&agents, token.expose_secret()).await.as_deref(),
        Some("OPERATOR")
    );
    let (other, _) = keys::generate(TokenKind::Operator, &SystemEntropy);
    assert_eq!(name(&agents, other.expose_secret()).await, None);
    assert_eq!(name(&with(None), token.expose_secret()).await, None);
}

#[tokio::test]
async fn case_071_an_assertion_is_good_once_and_its_access_token_ten_minutes() {
    let world = World::new();
    let signer = Signer::ed(3);
    with_key_pair(&world, "builder", &signer);
    let agents = world.agents(&[]);
    let text = signed(&signer, &assertion(&world, "builder", "a"));
    let token = assert_self(&agents, &text).await.unwrap();
    assert_eq!(name(&agents, &token).await.as_deref(), Some("builder"));
    assert_eq!(
        assert_self(&agents, &text).await,
        Err(InvalidClient),
        "once"
    );
    assert!(
        assert_self(
            &agents,
            &signed(&signer, &assertion(&world, "builder", "b"))
        )
        .await
        .is_ok()
    );
    assert!(
        !world.remembered.dump().contains(&token[4..]),
        "only hashes are at rest"
    );
    world.clock.advance(Seconds(599));
    assert_eq!(name(&agents, &token).await.as_deref(), Some("builder"));
    world.clock.advance(Seconds(1));
    assert_eq!(name(&agents, &token).await, None);
}

#[tokio::test]
async fn case_071_an_assertion_says_exactly_who_to_whom_and_for_how_long() {
    let world = World::new();
    let signer = Signer::ed(3);
    with_key_pair(&world, "builder", &signer);
    let agents = world.agents(&[]);
    let now = world.now();
    let changes = [
        json!({"sub": "other"}),
        json!({"aud": "https://elsewhere.example"}),
        json!({"aud": format!("{BROKER}//")}),
        json!({"aud": format!("{BROKER}/v1/token")}),
        json!({"aud": [BROKER, "x"]}),
        json!({"exp": now + 301}),
        json!({"exp": now - 60, "iat": now - 100}),
        json!({"exp": null}),
        json!({"iat": null}),
        json!({"jti": null}),
        json!({"jti": ""}),
        json!({"jti": 1}),
        json!({"iss": 1}),
        json!({"nbf": now + 61}),
        json!({"iat": now + 61, "exp": now + 300}),
    ];
    for change in changes {
        let mut claims = assertion(&world, "builder", "x");
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        assert_eq!(
            assert_self(&agents, &signed(&signer, &claims)).await,
            Err(InvalidClient),
            "{change}"
        );
    }
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "ES256"}),
        json!({"alg": "EdDSA", "typ": "at+jwt"}),
        json!({}),
    ] {
        let text = signer.sign(&header, &assertion(&world, "builder", "x"));
        assert_eq!(
            assert_self(&agents, &text).await,
            Err(InvalidClient),
            "{header}"
        );
    }
    assert!(
        assert_self(
            &agents,
            &signed(&signer, &assertion(&world, "builder", "x"))
        )
        .await
        .is_ok()
    );
    let mut with_slash = assertion(&world, "builder", "y");
    with_slash["aud"] = format!("{BROKER}/").into();
    assert!(
        assert_self(&agents, &signed(&signer, &with_slash))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn case_075_all_refusals_look_the_same() {
    let world = World::new();
    let (known, stranger) = (Signer::ed(3), Signer::ed(4));
    with_key_pair(&world, "builder", &known);
    let key = api_key(&world, "exporter");
    let agents = world.agents(&[]);
    let unknown_agent = signed(&stranger, &assertion(&world, "nobody-here", "1"));
    let wrong_key = signed(&stranger, &assertion(&world, "builder", "1"));
    let wrong_proof = signed(&stranger, &assertion(&world, "exporter", "1"));
    for text in [&unknown_agent, &wrong_key, &wrong_proof] {
        let error = assert_self(&agents, text).await.unwrap_err();
        assert_eq!((error, error.code()), (InvalidClient, "invalid_client"));
    }
    let (never_issued, _) = keys::generate(TokenKind::ApiKey, &SystemEntropy);
    for bearer in [
        never_issued.expose_secret(),
        &key[..52],
        "",
        "cst_",
        &unknown_agent,
    ] {
        let error = agents.authenticate(bearer).await.unwrap_err();
        assert_eq!(error, Unauthenticated);
        assert_eq!(
            error.to_string(),
            "authenticate: the token is not accepted; get a new one"
        );
    }
    assert_eq!(present(&agents, &unknown_agent).await, Err(InvalidGrant));
}

#[tokio::test]
async fn case_076_an_agent_is_found_by_its_one_name_only() {
    let world = World::new();
    let signer = Signer::ed(3);
    with_key_pair(&world, "builder", &signer);
    let agents = world.agents(&[]);
    for alias in [
        "Builder",
        "builder ",
        " builder",
        "ｂuilder",
        "builder\0",
        "BUILDER",
    ] {
        let text = signed(&signer, &assertion(&world, alias, "1"));
        assert_eq!(
            assert_self(&agents, &text).await,
            Err(InvalidClient),
            "{alias:?}"
        );
    }
}

#[tokio::test]
async fn case_077_what_a_disabled_agent_holds_stops_working_at_once() {
    let world = World::new();
    let signer = Signer::ed(3);
    with_key_pair(&world, "builder", &signer);
    let key = api_key(&world, "exporter");
    let agents = world.agents(&[]);
    let token = assert_self(
        &agents,
        &signed(&signer, &assertion(&world, "builder", "1")),
    )
    .await
    .unwrap();
    assert!(name(&agents, &token).await.is_some() && name(&agents, &key).await.is_some());
    world.disable("builder");
    world.disable("exporter");
    assert_eq!(name(&agents, &token).await, None);
    assert_eq!(name(&agents, &key).await, None);
    assert_eq!(
        assert_self(
            &agents,
            &signed(&signer, &assertion(&world, "builder", "2"))
        )
        .await,
        Err(InvalidClient)
    );
    with_key_pair(&world, "builder", &Signer::ed(5));
    assert_eq!(
        name(&agents, &token).await,
        None,
        "a namesake inherits nothing"
    );
}

#[tokio::test]
async fn case_078_a_sibling_cannot_speak_for_an_agent() {
    let world = World::new();
    let (mine, sibling) = (Signer::ed(3), Signer::ed(4));
    with_key_pair(&world, "builder", &mine);
    with_key_pair(&world, "tester", &sibling);
    let agents = world.agents(&[]);
    let as_builder = signed(&sibling, &assertion(&world, "builder", "1"));
    assert_eq!(assert_self(&agents, &as_builder).await, Err(InvalidClient));
    let mut mixed = assertion(&world, "tester", "2");
    mixed["sub"] = "builder".into();
    assert_eq!(
        assert_self(&agents, &signed(&sibling, &mixed)).await,
        Err(InvalidClient)
    );
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn case_079_no_token_is_logged_or_part_of_an_error() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::new();
    let signer = Signer::ed(3);
    with_key_pair(&world, "builder", &signer);
    let agents = world.agents(&[]);
    let good = signed(&signer, &assertion(&world, "builder", "1"));
    let bad = signed(&Signer::ed(4), &assertion(&world, "builder", "2"));
    let token = assert_self(&agents, &good).await.unwrap();
    let mut said = format!("{:?}", assert_self(&agents, &bad).await);
    said += &format!("{:?}", agents.authenticate(&token[..50]).await);
    world
        .remembered
        .broken
        .store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(agents.authenticate(&token).await, Err(Unavailable));
    let grant = Grant::ClientAssertion(SecretString::from(bad.clone()));
    said += &format!("{:?}", agents.exchange(grant).await);
    said += &String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        said.contains("its signature does not verify"),
        "the log says why: {said}"
    );
    for secret in [&good, &bad, &token] {
        let pieces = secret
            .split('.')
            .map(|piece| &piece[4..piece.len().min(24)]);
        for piece in pieces.filter(|piece| !said.is_empty() && piece.len() > 8) {
            assert!(!said.contains(piece), "{piece} in {said}");
        }
    }
}
