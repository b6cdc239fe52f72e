//! People sign in, against a provider that can be made to lie.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use countersign::config::PeopleConfig;
use countersign::domain::Seconds;
use countersign::identity::SignInError::{
    Declined, ProviderUnavailable, Refused, Unavailable, UnknownProvider,
};
use countersign::identity::{CallbackParams, Provider, Reviewers, SignInError, SignedIn};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

use super::world::{BROKER, Signer, World, b64, in_background};

/// A provider whose every statement a test can change.
struct Rogue {
    url: String,
    signer: Mutex<(Signer, &'static str)>,
    now: i64,
    /// Merged into the metadata, the ID token's header and its claims; `null` removes.
    metadata: Mutex<Value>,
    header: Mutex<Value>,
    claims: Mutex<Value>,
    nonce: Mutex<String>,
    forms: Mutex<Vec<BTreeMap<String, String>>>,
    token_answer: Mutex<Option<(StatusCode, Value)>>,
    down: Mutex<bool>,
}

fn merge(base: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(base.as_object_mut().unwrap().remove(name)),
            value => base[name] = value.clone(),
        }
    }
}

impl Rogue {
    async fn start(now: i64) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rogue = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            signer: Mutex::new((Signer::ed(1), "k1")),
            now,
            metadata: Mutex::default(),
            header: Mutex::default(),
            claims: Mutex::default(),
            nonce: Mutex::default(),
            forms: Mutex::default(),
            token_answer: Mutex::default(),
            down: Mutex::default(),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .with_state(Arc::clone(&rogue));
        in_background(async move { axum::serve(listener, router).await.unwrap() });
        rogue
    }
}

async fn metadata(State(rogue): State<Arc<Rogue>>) -> Response {
    if *rogue.down.lock().unwrap() {
        return (StatusCode::BAD_GATEWAY, "<svg onload=alert(1)>").into_response();
    }
    let url = &rogue.url;
    let mut document = json!({
        "issuer": url, "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/jwks"), "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
    });
    merge(&mut document, &rogue.metadata.lock().unwrap());
    Json(document).into_response()
}

async fn jwks(State(rogue): State<Arc<Rogue>>) -> Json<Value> {
    let signer = rogue.signer.lock().unwrap();
    Json(json!({"keys": [signer.0.jwk(signer.1)]}))
}

async fn token(
    State(rogue): State<Arc<Rogue>>,
    Form(form): Form<BTreeMap<String, String>>,
) -> Response {
    rogue.forms.lock().unwrap().push(form);
    if let Some((status, body)) = rogue.token_answer.lock().unwrap().clone() {
        return (status, Json(body)).into_response();
    }
    let signer = rogue.signer.lock().unwrap();
    let mut header = json!({"alg": "EdDSA", "kid": signer.1, "typ": "JWT"});
    merge(&mut header, &rogue.header.lock().unwrap());
    let nonce = rogue.nonce.lock().unwrap().clone();
    let mut claims = json!({
        "iss": rogue.url, "sub": "ana", "aud": "countersign", "iat": rogue.now, "exp": rogue.now + 300,
        "nonce": nonce, "groups": ["data-platform", "dba"], "email": "ana@corp.example",
    });
    merge(&mut claims, &rogue.claims.lock().unwrap());
    let id_token = signer.0.sign(&header, &claims);
    Json(json!({"access_token": "a", "token_type": "Bearer", "id_token": id_token})).into_response()
}

struct Scene {
    world: World,
    idp: Arc<Rogue>,
    reviewers: Reviewers,
}

/// A browser that was sent to the provider.
struct Gone {
    asked: BTreeMap<String, String>,
    cookie: String,
}

fn people(issuer: &str) -> PeopleConfig {
    let text = format!(
        "server = {{ public_url = \"{BROKER}\", state_dir = \"x\" }}\n[people.corp]\nissuer = \"{issuer}\"\nclient_id = \"countersign\"\nalgorithm = \"EdDSA\"\n"
    );
    countersign::config::Config::parse(&text).unwrap().people["corp"].clone()
}

fn sign_ins(world: &World, issuers: &[(&str, &str)]) -> Reviewers {
    let providers = issuers.iter().map(|(name, issuer)| {
        let provider = Provider {
            config: people(issuer),
            client_secret: None,
        };
        ((*name).to_owned(), provider)
    });
    let url: Url = BROKER.parse().unwrap();
    Reviewers::new(world.ports.clone(), providers.collect(), &url).unwrap()
}

impl Scene {
    async fn new() -> Self {
        let world = World::new();
        let idp = Rogue::start(world.now()).await;
        let reviewers = sign_ins(&world, &[("corp", &idp.url)]);
        Self {
            world,
            idp,
            reviewers,
        }
    }

    async fn begin(&self) -> Gone {
        self.begin_for("/", None).await
    }

    async fn begin_for(&self, return_to: &str, max_age: Option<Seconds>) -> Gone {
        let start = self
            .reviewers
            .begin("corp", return_to, max_age)
            .await
            .unwrap();
        let asked: BTreeMap<_, _> = start.location.query_pairs().into_owned().collect();
        self.idp.nonce.lock().unwrap().clone_from(&asked["nonce"]);
        Gone {
            asked,
            cookie: start.cookie.value.expose_secret().to_owned(),
        }
    }

    async fn back(
        &self,
        gone: &Gone,
        query: &str,
        old: Option<&str>,
    ) -> Result<SignedIn, SignInError> {
        let params = CallbackParams::parse(query);
        self.reviewers.finish(params, Some(&gone.cookie), old).await
    }

    async fn sign_in(&self) -> Result<SignedIn, SignInError> {
        self.sign_in_over(None).await
    }

    async fn sign_in_over(&self, old: Option<&str>) -> Result<SignedIn, SignInError> {
        let gone = self.begin().await;
        self.back(&gone, &format!("code=c&state={}", gone.asked["state"]), old)
            .await
    }

    /// The outcome of a sign-in in which the provider's claims are changed.
    async fn claiming(&self, claims: Value) -> Result<SignedIn, SignInError> {
        *self.idp.claims.lock().unwrap() = claims;
        let outcome = self.sign_in().await;
        *self.idp.claims.lock().unwrap() = Value::Null;
        outcome
    }
}

fn id(signed_in: &SignedIn) -> &str {
    signed_in.session_cookie.value.expose_secret()
}

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
        assert!(!scene.world.shelf.dump().contains(secret.as_str()));
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
async fn case_036_a_sign_in_always_begins_a_new_session() {
    let scene = Scene::new().await;
    let planted = b64([7; 32]);
    let first = scene.sign_in_over(Some(&planted)).await.unwrap();
    assert_ne!(id(&first), planted);
    let sessions = scene.reviewers.sessions();
    assert_eq!(sessions.session(&planted).await.unwrap(), None);
    let second = scene.sign_in_over(Some(id(&first))).await.unwrap();
    assert_ne!(id(&first), id(&second));
    assert_eq!(
        sessions.session(id(&first)).await.unwrap(),
        None,
        "the old id is dead"
    );
    assert!(sessions.session(id(&second)).await.unwrap().is_some());
    let cookie = &second.session_cookie;
    assert_eq!(
        (cookie.name, cookie.path, cookie.same_site),
        ("__Host-countersign", "/", "Lax")
    );
    assert!(cookie.secure && cookie.http_only);
    assert!(
        !format!("{second:?}").contains(id(&second)),
        "it cannot be printed"
    );
    assert!(
        !scene.world.shelf.dump().contains(id(&second)),
        "it is not at rest"
    );
}

#[tokio::test]
async fn case_037_signing_in_as_somebody_else_ends_the_old_session() {
    let scene = Scene::new().await;
    let ana = scene.sign_in().await.unwrap();
    *scene.idp.claims.lock().unwrap() = json!({"sub": "ben"});
    let ben = scene.sign_in_over(Some(id(&ana))).await.unwrap();
    assert_eq!(ben.session.reviewer.person.subject, "ben");
    assert_eq!(
        scene.reviewers.sessions().session(id(&ana)).await.unwrap(),
        None
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
async fn case_041_signing_out_ends_the_session_for_every_broker() {
    let scene = Scene::new().await;
    let signed_in = scene.sign_in().await.unwrap();
    let replica = sign_ins(&scene.world, &[("corp", &scene.idp.url)]);
    assert!(
        replica
            .sessions()
            .session(id(&signed_in))
            .await
            .unwrap()
            .is_some()
    );
    let ended = scene
        .reviewers
        .sessions()
        .end(id(&signed_in))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.reviewer.person.subject, "ana");
    assert_eq!(
        replica.sessions().session(id(&signed_in)).await.unwrap(),
        None
    );
    assert_eq!(replica.sessions().end(id(&signed_in)).await.unwrap(), None);
    assert_eq!(scene.reviewers.sessions().removal().max_age, Seconds(0));
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
async fn case_043_forms_carry_a_token_of_their_session() {
    let scene = Scene::new().await;
    let (ana, ben) = (
        scene.sign_in().await.unwrap(),
        scene.sign_in().await.unwrap(),
    );
    let sessions = scene.reviewers.sessions();
    let token = sessions.csrf_token(id(&ana));
    assert!(sessions.csrf_token_holds(id(&ana), token.expose_secret()));
    assert!(!sessions.csrf_token_holds(id(&ben), token.expose_secret()));
    for wrong in [
        "",
        " ",
        &token.expose_secret()[..42],
        &token.expose_secret().to_uppercase(),
    ] {
        assert!(!sessions.csrf_token_holds(id(&ana), wrong));
    }
    assert!(!scene.world.shelf.dump().contains(token.expose_secret()));
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
        .shelf
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

#[test]
fn on_loopback_the_cookie_is_not_for_https_only() {
    let world = World::new();
    let url: Url = "http://127.0.0.1:7480".parse().unwrap();
    let reviewers = Reviewers::new(world.ports.clone(), BTreeMap::new(), &url).unwrap();
    assert_eq!(reviewers.sessions().cookie_name(), "countersign");
    assert!(!reviewers.sessions().removal().secure);
}
