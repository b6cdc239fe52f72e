//! People sign in, against a provider that can be made to lie.

use axum::http::StatusCode;
use countersign::domain::Seconds;
use countersign::identity::CallbackParams;
use countersign::identity::SignInError::{
    Declined, ProviderUnavailable, Refused, Unavailable, UnknownProvider,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::rogue::{Rogue, Scene, id, sign_ins};
use super::world::{BROKER, Signer, b64};

#[tokio::test]
async fn somebody_signs_in_and_is_who_the_provider_says() {
    let scene = Scene::new().await;
    let gone = scene.begin_for("/requests/req_1", None).await;
    let query = format!("code=c&state={}&iss={}", gone.asked["state"], scene.idp.url);
    let signed_in = scene.back(&gone, &query, None).await.unwrap();
    let reviewer = &signed_in.session.reviewer;
    assert_eq!(
        (
            reviewer.person.issuer.as_str(),
            reviewer.person.subject.as_str()
        ),
        (scene.idp.url.as_str(), "ana")
    );
    let groups: Vec<_> = reviewer.groups.iter().map(ToString::to_string).collect();
    assert_eq!(groups, ["data-platform", "dba"]);
    assert_eq!(reviewer.evidence.channel, "web");
    assert_eq!(signed_in.return_to, "/requests/req_1");
    let sessions = scene.reviewers.sessions();
    assert_eq!(
        sessions.session(id(&signed_in)).await.unwrap().unwrap(),
        signed_in.session
    );
    scene.world.clock.advance(Seconds(8 * 3600));
    assert_eq!(
        sessions.session(id(&signed_in)).await.unwrap(),
        None,
        "eight hours later it is over"
    );
}

#[tokio::test]
async fn case_031_an_answer_belongs_to_the_browser_that_began() {
    let scene = Scene::new().await;
    let (attacker, victim) = (scene.begin().await, scene.begin().await);
    let stolen = format!("code=c&state={}", attacker.asked["state"]);
    assert_eq!(
        scene.back(&victim, &stolen, None).await.unwrap_err(),
        Refused
    );
    assert_eq!(
        scene.back(&attacker, &stolen, None).await.unwrap_err(),
        Refused,
        "the state is used up"
    );
    for query in [
        "code=c",
        "code=c&state=",
        "code=c&state=guess",
        "",
        "state=x&state=y&code=c",
    ] {
        assert_eq!(
            scene.back(&victim, query, None).await.unwrap_err(),
            Refused,
            "{query}"
        );
    }
    let good = format!("code=c&state={}", victim.asked["state"]);
    for cookie in [None, Some(""), Some("guess")] {
        let params = CallbackParams::parse(&good);
        assert_eq!(
            scene
                .reviewers
                .finish(params, cookie, None)
                .await
                .unwrap_err(),
            Refused
        );
    }
    assert!(
        scene.idp.forms.lock().unwrap().is_empty(),
        "no code was ever sent on"
    );
    assert!(scene.back(&victim, &good, None).await.is_ok());
    assert_eq!(
        scene.back(&victim, &good, None).await.unwrap_err(),
        Refused,
        "once"
    );
    let late = scene.begin().await;
    scene.world.clock.advance(Seconds(600));
    let query = format!("code=c&state={}", late.asked["state"]);
    assert_eq!(
        scene.back(&late, &query, None).await.unwrap_err(),
        Refused,
        "ten minutes"
    );
}

#[tokio::test]
async fn case_032_an_id_token_of_another_sign_in_is_refused() {
    let scene = Scene::new().await;
    for nonce in [json!(null), json!(""), json!("another")] {
        assert_eq!(
            scene.claiming(json!({"nonce": nonce})).await.unwrap_err(),
            Refused
        );
    }
    let first = scene.begin().await;
    let second = scene.begin().await;
    scene
        .idp
        .nonce
        .lock()
        .unwrap()
        .clone_from(&first.asked["nonce"]);
    let query = format!("code=c&state={}", second.asked["state"]);
    assert_eq!(
        scene.back(&second, &query, None).await.unwrap_err(),
        Refused
    );
}

#[tokio::test]
async fn case_033_pkce_is_s256_always() {
    let scene = Scene::new().await;
    *scene.idp.metadata.lock().unwrap() = json!({"code_challenge_methods_supported": ["plain"]});
    let gone = scene.begin().await;
    assert_eq!(gone.asked["code_challenge_method"], "S256");
    assert_eq!(gone.asked["response_type"], "code");
    scene
        .back(
            &gone,
            &format!("code=c&state={}", gone.asked["state"]),
            None,
        )
        .await
        .unwrap();
    let form = scene.idp.forms.lock().unwrap()[0].clone();
    let hash =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, form["code_verifier"].as_bytes());
    assert_eq!(b64(hash), gone.asked["code_challenge"]);
    assert_eq!(form["redirect_uri"], format!("{BROKER}/sign-in/callback"));
    for secret in [
        &form["code_verifier"],
        &gone.cookie,
        &gone.asked["state"],
        &gone.asked["nonce"],
    ] {
        assert!(!scene.world.remembered.dump().contains(secret.as_str()));
    }
}

#[tokio::test]
async fn case_034_the_issuer_is_exact_everywhere() {
    let scene = Scene::new().await;
    let gone = scene.begin().await;
    let query = format!(
        "code=c&state={}&iss=https://evil.example",
        gone.asked["state"]
    );
    assert_eq!(scene.back(&gone, &query, None).await.unwrap_err(), Refused);
    let slash = format!("{}/", scene.idp.url);
    for issuer in [json!(slash), json!("https://evil.example"), json!(null)] {
        assert_eq!(
            scene.claiming(json!({"iss": issuer})).await.unwrap_err(),
            Refused,
            "{issuer}"
        );
    }
    assert!(scene.sign_in().await.is_ok());
    // Discovery about another issuer, and one that promises `iss` in its answers but gives none.
    *scene.idp.metadata.lock().unwrap() = json!({"issuer": slash});
    let fresh = sign_ins(&scene.world, &[("corp", &scene.idp.url)]);
    assert_eq!(
        fresh.begin("corp", "/", None).await.unwrap_err(),
        ProviderUnavailable
    );
    *scene.idp.metadata.lock().unwrap() =
        json!({"authorization_response_iss_parameter_supported": true});
    let strict = Scene {
        reviewers: sign_ins(&scene.world, &[("corp", &scene.idp.url)]),
        ..scene
    };
    assert_eq!(strict.sign_in().await.unwrap_err(), Refused);
}

#[tokio::test]
async fn case_034_a_second_provider_cannot_answer_for_the_first() {
    let scene = Scene::new().await;
    let evil = Rogue::start(scene.world.now()).await;
    let reviewers = sign_ins(
        &scene.world,
        &[("corp", &scene.idp.url), ("evil", &evil.url)],
    );
    let start = reviewers.begin("corp", "/", None).await.unwrap();
    let state = start
        .location
        .query_pairs()
        .find(|(name, _)| name == "state")
        .unwrap()
        .1
        .into_owned();
    let params = CallbackParams::parse(&format!("code=c&state={state}&iss={}", evil.url));
    let answer = reviewers
        .finish(params, Some(start.cookie.value.expose_secret()), None)
        .await;
    assert_eq!(answer.unwrap_err(), Refused);
    assert!(evil.forms.lock().unwrap().is_empty() && scene.idp.forms.lock().unwrap().is_empty());
}

#[tokio::test]
async fn case_035_a_token_for_another_client_is_refused() {
    let scene = Scene::new().await;
    for claims in [
        json!({"aud": "other"}),
        json!({"aud": ["countersign", "other"]}),
        json!({"aud": ["countersign", "other"], "azp": "countersign"}),
        json!({"aud": []}),
        json!({"aud": null}),
        json!({"azp": "other"}),
    ] {
        assert_eq!(
            scene.claiming(claims.clone()).await.unwrap_err(),
            Refused,
            "{claims}"
        );
    }
    assert!(
        scene
            .claiming(json!({"aud": ["countersign"], "azp": "countersign"}))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn case_038_identity_is_issuer_and_subject_never_the_address() {
    let scene = Scene::new().await;
    let ana = scene.sign_in().await.unwrap().session.reviewer.person;
    let other = scene
        .claiming(json!({"sub": "1234", "email": "ana@corp.example", "preferred_username": "ana"}))
        .await;
    assert_ne!(other.unwrap().session.reviewer.person, ana);
    let renamed = scene
        .claiming(json!({"email": "attacker@evil.com@corp.example", "email_verified": false}))
        .await;
    assert_eq!(renamed.unwrap().session.reviewer.person, ana);
    for subject in [json!(""), json!(null), json!(1), json!("ana\u{0}")] {
        assert_eq!(
            scene
                .claiming(json!({"sub": subject}))
                .await
                .err()
                .map(|e| e != Declined),
            Some(true),
            "{subject}"
        );
    }
}

#[tokio::test]
async fn case_042_only_this_site_is_returned_to() {
    let scene = Scene::new().await;
    for evil in [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "/a/../../x",
        "/%2fevil",
    ] {
        let gone = scene.begin_for(evil, None).await;
        let query = format!("code=c&state={}", gone.asked["state"]);
        assert_eq!(
            scene.back(&gone, &query, None).await.unwrap().return_to,
            "/",
            "{evil}"
        );
    }
}

#[tokio::test]
async fn case_046_what_the_provider_says_is_never_repeated() {
    let scene = Scene::new().await;
    let evil = "%3Csvg%20onload%3Dalert(1)%3E";
    let gone = scene.begin().await;
    let query = format!(
        "error={evil}&error_description={evil}&state={}",
        gone.asked["state"]
    );
    let error = scene.back(&gone, &query, None).await.unwrap_err();
    assert_eq!(error, Declined);
    assert!(!error.to_string().contains("svg"));
    let answer = json!({"error": "invalid_grant", "error_description": "<svg onload=alert(1)>"});
    *scene.idp.token_answer.lock().unwrap() = Some((StatusCode::BAD_REQUEST, answer));
    assert_eq!(scene.sign_in().await.unwrap_err(), Refused);
}

#[tokio::test]
async fn case_048_step_up_needs_a_recent_proof_and_names_have_one_spelling() {
    let scene = Scene::new().await;
    let now = scene.world.now();
    let stepping_up = async |auth_time: Value| {
        *scene.idp.claims.lock().unwrap() = json!({"auth_time": auth_time, "acr": "phrh"});
        let gone = scene.begin_for("/", Some(Seconds(300))).await;
        assert_eq!(gone.asked["max_age"], "300");
        scene
            .back(
                &gone,
                &format!("code=c&state={}", gone.asked["state"]),
                None,
            )
            .await
    };
    assert_eq!(stepping_up(json!(null)).await.unwrap_err(), Refused);
    assert_eq!(stepping_up(json!(now - 361)).await.unwrap_err(), Refused);
    let evidence = stepping_up(json!(now - 200))
        .await
        .unwrap()
        .session
        .reviewer
        .evidence;
    assert_eq!(evidence.auth_time.unix_seconds(), now - 200);
    assert_eq!(evidence.acr.as_deref(), Some("phrh"));
    let bob = scene
        .claiming(json!({"sub": "bob"}))
        .await
        .unwrap()
        .session
        .reviewer
        .person;
    for alias in ["Bob", "bob ", "BOB"] {
        let other = scene
            .claiming(json!({"sub": alias}))
            .await
            .unwrap()
            .session
            .reviewer
            .person;
        assert_ne!(bob, other);
    }
}

#[tokio::test]
async fn case_049_without_the_provider_nobody_new_and_nobody_is_thrown_out() {
    let scene = Scene::new().await;
    let signed_in = scene.sign_in().await.unwrap();
    *scene.idp.down.lock().unwrap() = true;
    let fresh = sign_ins(&scene.world, &[("corp", &scene.idp.url)]);
    let error = fresh.begin("corp", "/", None).await.unwrap_err();
    assert_eq!(error, ProviderUnavailable);
    assert_eq!(
        error.to_string(),
        "sign in: the identity provider does not answer; try again in a minute"
    );
    assert!(
        fresh
            .sessions()
            .session(id(&signed_in))
            .await
            .unwrap()
            .is_some()
    );
    *scene.idp.token_answer.lock().unwrap() = Some((StatusCode::BAD_GATEWAY, json!("down")));
    assert_eq!(scene.sign_in().await.unwrap_err(), ProviderUnavailable);
    *scene.idp.down.lock().unwrap() = false;
    *scene.idp.token_answer.lock().unwrap() = None;
    scene.world.clock.advance(Seconds(30));
    assert!(fresh.begin("corp", "/", None).await.is_ok());
    scene
        .world
        .remembered
        .broken
        .store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        fresh.begin("corp", "/", None).await.unwrap_err(),
        Unavailable
    );
    assert!(
        fresh.sessions().session(id(&signed_in)).await.is_err(),
        "doubt is not a session"
    );
    assert_eq!(
        fresh.begin("nowhere", "/", None).await.unwrap_err(),
        UnknownProvider
    );
}

#[tokio::test]
async fn id_tokens_are_signed_as_configured_fresh_and_by_a_current_key() {
    let scene = Scene::new().await;
    let now = scene.world.now();
    for claims in [
        json!({"exp": now}),
        json!({"iat": now - 601}),
        json!({"iat": now + 61}),
        json!({"exp": null}),
    ] {
        assert!(scene.claiming(claims.clone()).await.is_err(), "{claims}");
    }
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "RS256"}),
        json!({"crit": ["x"]}),
        json!({"typ": "logout+jwt"}),
    ] {
        *scene.idp.header.lock().unwrap() = header.clone();
        assert!(scene.sign_in().await.is_err(), "{header}");
    }
    *scene.idp.header.lock().unwrap() = Value::Null;
    assert!(scene.sign_in().await.is_ok());
    *scene.idp.signer.lock().unwrap() = (Signer::ed(2), "k2");
    assert_eq!(
        scene.sign_in().await.unwrap_err(),
        Refused,
        "asked for keys moments ago"
    );
    scene.world.clock.advance(Seconds(31));
    assert!(scene.sign_in().await.is_ok(), "a rotated key is found");
}

#[tokio::test]
async fn groups_are_a_list_of_texts_or_nobody_signs_in() {
    let scene = Scene::new().await;
    let none = scene.claiming(json!({"groups": null})).await.unwrap();
    assert!(none.session.reviewer.groups.is_empty());
    for claims in [
        json!({"groups": "dba"}),
        json!({"groups": [1]}),
        json!({"groups": ["dba", null]}),
        json!({"groups": {"dba": true}}),
        json!({"groups": [""]}),
        json!({"groups": null, "_claim_names": {"groups": "src1"}}),
    ] {
        assert_eq!(
            scene.claiming(claims.clone()).await.unwrap_err(),
            Refused,
            "{claims}"
        );
    }
}
