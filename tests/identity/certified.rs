//! Sign-in against a certified OpenID provider that shares no code with us (`oidc-provider` on Node).

use std::collections::BTreeMap;

use countersign::config::Config;
use countersign::domain::Seconds;
use countersign::identity::{CallbackParams, Provider, Reviewers, SignInError, SignedIn, Start};
use countersign::system::{Clock as _, SystemClock};
use reqwest::{Client, Method, header};
use secrecy::ExposeSecret as _;
use url::Url;

use super::world::World;
use crate::support::oidc_provider::OidcProvider;

const BROKER: &str = "http://127.0.0.1:7480";
const SECRET: &str = "a secret only for tests, with : and % in it";

struct Scene {
    world: World,
    provider: OidcProvider,
    reviewers: Reviewers,
}

impl Scene {
    async fn new() -> Self {
        // The provider lives in real time, so the injected clock starts there.
        let world = World::at(SystemClock::start().now());
        let provider = OidcProvider::start(&format!("{BROKER}/sign-in/callback")).await;
        let issuer = &provider.issuer;
        let text = format!(
            "[server]\npublic_url = \"{BROKER}\"\nstate_dir = \"x\"\n
             [people.rs256]\nissuer = \"{issuer}\"\nclient_id = \"countersign-rs256\"\nscopes = [\"groups\"]\n
             [people.es256]\nissuer = \"{issuer}\"\nclient_id = \"countersign-es256\"\nscopes = [\"groups\"]\nalgorithm = \"ES256\"\n
             [people.mismatched]\nissuer = \"{issuer}\"\nclient_id = \"countersign-es256\"\nscopes = [\"groups\"]\nalgorithm = \"RS256\"\n
             [people.wrong-secret]\nissuer = \"{issuer}\"\nclient_id = \"countersign-rs256\"\n"
        );
        let config = Config::parse(&text).unwrap();
        let secrets = BTreeMap::from([("rs256", SECRET), ("wrong-secret", "wrong")]);
        let providers = config.people.into_iter().map(|(name, config)| {
            let client_secret = secrets.get(name.as_str()).map(|secret| (*secret).into());
            (
                name,
                Provider {
                    config,
                    client_secret,
                },
            )
        });
        let reviewers = Reviewers::new(
            world.ports.clone(),
            providers.collect(),
            &config.server.public_url,
        );
        let reviewers = reviewers.unwrap();
        Self {
            world,
            provider,
            reviewers,
        }
    }

    async fn begin(&self, name: &str) -> Start {
        self.reviewers.begin(name, "/", None).await.unwrap()
    }

    async fn finish(&self, start: &Start, back: &Url) -> Result<SignedIn, SignInError> {
        let params = CallbackParams::parse(back.query().unwrap());
        let cookie = start.cookie.value.expose_secret();
        self.reviewers.finish(params, Some(cookie), None).await
    }

    async fn sign_in(&self, name: &str, person: &str) -> Result<SignedIn, SignInError> {
        let start = self.begin(name).await;
        let back = go(&start.location, person).await;
        self.finish(&start, &back).await
    }
}

/// Follows the provider's pages like a browser (redirects, cookies, its sign-in and consent forms) until it
/// sends us back to the broker.
async fn go(location: &Url, person: &str) -> Url {
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let mut cookies: BTreeMap<String, String> = BTreeMap::new();
    let (mut url, mut method, mut body) = (location.clone(), Method::GET, String::new());
    for _ in 0..12 {
        let jar: Vec<_> = cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = client
            .request(method.clone(), url.clone())
            .header(header::COOKIE, jar.join("; "))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.clone());
        let answer = request.send().await.unwrap();
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            cookies.insert(name.into(), value.into());
        }
        if let Some(next) = answer.headers().get(header::LOCATION) {
            url = url.join(next.to_str().unwrap()).unwrap();
            (method, body) = (Method::GET, String::new());
            if url.as_str().starts_with(BROKER) {
                return url;
            }
            continue;
        }
        let status = answer.status();
        let page = answer.text().await.unwrap();
        method = Method::POST;
        body = if page.contains("value=\"login\"") {
            format!("prompt=login&login={person}&password=x")
        } else if page.contains("value=\"consent\"") {
            "prompt=consent".into()
        } else {
            panic!("{status} at {url}: {page}");
        };
    }
    panic!("the provider never sent us back; last at {url}");
}

#[tokio::test]
async fn people_sign_in_with_rs256_and_es256_and_their_groups() {
    let scene = Scene::new().await;
    for name in ["rs256", "es256"] {
        let signed_in = scene.sign_in(name, "ben").await.unwrap();
        let reviewer = signed_in.session.reviewer;
        assert_eq!(
            (
                reviewer.person.issuer.as_str(),
                reviewer.person.subject.as_str()
            ),
            (scene.provider.issuer.as_str(), "ben")
        );
        let groups: Vec<_> = reviewer.groups.iter().map(ToString::to_string).collect();
        assert_eq!(groups, ["dba", "support-leads"]);
        let age = scene
            .world
            .ports
            .clock
            .now()
            .since(reviewer.evidence.auth_time);
        assert!(age <= Seconds(60), "auth_time was {age} ago");
        let nobody = scene.sign_in(name, "nobody").await.unwrap();
        assert!(nobody.session.reviewer.groups.is_empty());
    }
}

#[tokio::test]
async fn case_032_a_token_with_another_nonce_is_refused() {
    let scene = Scene::new().await;
    let start = scene.begin("rs256").await;
    let pairs = start
        .location
        .query_pairs()
        .into_owned()
        .map(|(name, value)| {
            let value = if name == "nonce" {
                "planted".into()
            } else {
                value
            };
            (name, value)
        });
    let mut changed = start.location.clone();
    changed
        .query_pairs_mut()
        .clear()
        .extend_pairs(pairs.collect::<Vec<_>>());
    let back = go(&changed, "ana").await;
    assert_eq!(
        scene.finish(&start, &back).await.unwrap_err(),
        SignInError::Refused
    );
}

#[tokio::test]
async fn case_033_a_code_bound_to_another_challenge_is_refused() {
    let scene = Scene::new().await;
    let (thief, victim) = (scene.begin("rs256").await, scene.begin("rs256").await);
    let stolen = go(&victim.location, "ana").await;
    let state = thief
        .location
        .query_pairs()
        .find(|(name, _)| name == "state")
        .unwrap()
        .1
        .into_owned();
    let mut injected = stolen.clone();
    let pairs = stolen.query_pairs().into_owned().map(|(name, value)| {
        let value = if name == "state" {
            state.clone()
        } else {
            value
        };
        (name, value)
    });
    injected
        .query_pairs_mut()
        .clear()
        .extend_pairs(pairs.collect::<Vec<_>>());
    assert_eq!(
        scene.finish(&thief, &injected).await.unwrap_err(),
        SignInError::Refused
    );
}

#[tokio::test]
async fn case_034_and_035_its_own_answers_hold_and_changed_ones_do_not() {
    let scene = Scene::new().await;
    let start = scene.begin("rs256").await;
    let mut back = go(&start.location, "ana").await;
    assert!(
        back.query().unwrap().contains("iss="),
        "it names its issuer: {back}"
    );
    let without: Vec<_> = back
        .query_pairs()
        .into_owned()
        .filter(|(name, _)| name != "iss")
        .collect();
    back.query_pairs_mut().clear().extend_pairs(without);
    assert_eq!(
        scene.finish(&start, &back).await.unwrap_err(),
        SignInError::Refused
    );
    // The algorithm is ours to say: the same provider signing this client's tokens otherwise is refused.
    assert_eq!(
        scene.sign_in("mismatched", "ana").await.unwrap_err(),
        SignInError::Refused
    );
    assert_eq!(
        scene.sign_in("wrong-secret", "ana").await.unwrap_err(),
        SignInError::Refused
    );
}

#[tokio::test]
async fn case_069_rotated_keys_are_found_without_a_restart() {
    let scene = Scene::new().await;
    assert!(scene.sign_in("rs256", "ana").await.is_ok());
    scene.provider.rotate_keys().await;
    scene.world.clock.advance(Seconds(31));
    assert!(scene.sign_in("rs256", "ana").await.is_ok());
}

#[tokio::test]
async fn case_049_a_provider_that_went_away_is_said_so() {
    let scene = Scene::new().await;
    let signed_in = scene.sign_in("es256", "ana").await.unwrap();
    let start = scene.begin("es256").await;
    let back = go(&start.location, "ana").await;
    scene.provider.stop().await;
    assert_eq!(
        scene.finish(&start, &back).await.unwrap_err(),
        SignInError::ProviderUnavailable
    );
    let cookie = signed_in.session_cookie.value.expose_secret();
    assert!(
        scene
            .reviewers
            .sessions()
            .session(cookie)
            .await
            .unwrap()
            .is_some()
    );
}
