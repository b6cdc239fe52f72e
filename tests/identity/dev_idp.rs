//! The embedded provider, through the broker's own sign-in code.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign::domain::{Seconds, Time};
use countersign::identity::{
    CallbackParams, Provider, Reviewers, SignInError, SignedIn, Start, dev_idp,
};
use countersign::system::{Clock, SystemEntropy};
use reqwest::{Client, StatusCode, header};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use url::Url;

use super::world::{World, in_background};

const BROKER: &str = "http://127.0.0.1:7480";

struct Scene {
    world: World,
    reviewers: Reviewers,
    browser: Client,
    issuer: String,
}

impl Scene {
    async fn new() -> Self {
        let world = World::at(Time::from_millis(1_795_343_400_000));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = BROKER.parse().unwrap();
        let clock: Arc<dyn Clock> = world.clock.clone();
        let (config, server) =
            dev_idp::start(listener, &url, clock, Arc::new(SystemEntropy)).unwrap();
        in_background(async move { server.await.unwrap() });
        let issuer = config.issuer.clone();
        let providers = BTreeMap::from([(
            "dev".to_owned(),
            Provider {
                config,
                client_secret: None,
            },
        )]);
        let reviewers = Reviewers::new(world.ports.clone(), providers, &url).unwrap();
        let browser = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            world,
            reviewers,
            browser,
            issuer,
        }
    }

    async fn begin(&self) -> Start {
        self.reviewers
            .begin("dev", "/requests/req_1", None)
            .await
            .unwrap()
    }

    /// Chooses a person on the page and returns the query the browser comes back with.
    async fn choose(&self, start: &Start, person: &str) -> String {
        let mut form: Vec<(String, String)> = start.location.query_pairs().into_owned().collect();
        form.push(("person".into(), person.into()));
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let answer = self.post("/authorize", body).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let back: Url = answer.headers()[header::LOCATION]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            back.as_str()
                .starts_with(&format!("{BROKER}/sign-in/callback?"))
        );
        back.query().unwrap().to_owned()
    }

    async fn post(&self, path: &str, body: String) -> reqwest::Response {
        let request = self
            .browser
            .post(format!("{}{path}", self.issuer))
            .body(body);
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        request.send().await.unwrap()
    }

    async fn finish(&self, start: &Start, query: &str) -> Result<SignedIn, SignInError> {
        let cookie = start.cookie.value.expose_secret();
        self.reviewers
            .finish(CallbackParams::parse(query), Some(cookie), None)
            .await
    }
}

#[tokio::test]
async fn each_sample_person_signs_in_with_their_groups() {
    let scene = Scene::new().await;
    for (person, groups) in [
        ("ana", vec!["data-platform"]),
        ("ben", vec!["dba", "support-leads"]),
        ("chloe", vec!["security"]),
        ("dmitri", vec!["support-leads"]),
    ] {
        let start = scene.begin().await;
        let query = scene.choose(&start, person).await;
        let signed_in = scene.finish(&start, &query).await.unwrap();
        let reviewer = signed_in.session.reviewer;
        assert_eq!(
            (reviewer.person.issuer, reviewer.person.subject.as_str()),
            (scene.issuer.clone(), person)
        );
        let found: Vec<_> = reviewer.groups.iter().map(ToString::to_string).collect();
        assert_eq!(found, groups);
        assert_eq!(reviewer.evidence.auth_time, scene.world.ports.clock.now());
        assert_eq!(signed_in.return_to, "/requests/req_1");
        assert_eq!(signed_in.session_cookie.name, "countersign");
    }
}

#[tokio::test]
async fn the_page_says_what_it_is_and_signs_nobody_in_by_itself() {
    let scene = Scene::new().await;
    let start = scene.begin().await;
    let answer = scene
        .browser
        .get(start.location.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let headers = answer.headers();
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
    let page = answer.text().await.unwrap();
    assert!(page.contains("DEVELOPMENT") && page.contains("ana") && page.contains("dmitri"));
    assert!(!page.contains("<script"));
    let other_name = scene
        .browser
        .get(start.location)
        .header(header::HOST, "evil.example");
    assert_eq!(
        other_name.send().await.unwrap().status(),
        StatusCode::MISDIRECTED_REQUEST
    );
}

#[tokio::test]
async fn case_033_it_insists_on_pkce_s256_and_its_one_client() {
    let scene = Scene::new().await;
    let start = scene.begin().await;
    for (name, value) in [
        ("code_challenge_method", Some("plain")),
        ("code_challenge_method", None),
        ("code_challenge", None),
        ("code_challenge", Some("short")),
        ("redirect_uri", Some("http://127.0.0.1:7480/elsewhere")),
        ("client_id", Some("other")),
        ("response_type", Some("token")),
        ("state", None),
        ("scope", Some("profile")),
    ] {
        let mut url = start.location.clone();
        let pairs: Vec<_> = start
            .location
            .query_pairs()
            .into_owned()
            .filter(|(n, _)| n != name)
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, value);
        }
        let answer = scene.browser.get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{name} {value:?}");
    }
}

#[tokio::test]
async fn a_code_is_good_once_for_a_minute_and_for_its_verifier_only() {
    let scene = Scene::new().await;
    let start = scene.begin().await;
    let query = scene.choose(&start, "ana").await;
    let code: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let redeem = |verifier: &str| {
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "authorization_code")
            .append_pair("code", &code["code"])
            .append_pair("redirect_uri", &format!("{BROKER}/sign-in/callback"))
            .append_pair("client_id", "countersign")
            .append_pair("code_verifier", verifier)
            .finish()
    };
    let thief = scene.post("/token", redeem(&"a".repeat(43))).await;
    assert_eq!(thief.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        scene.finish(&start, &query).await.unwrap_err(),
        SignInError::Refused,
        "the code is used up"
    );
    let start = scene.begin().await;
    let query = scene.choose(&start, "ana").await;
    scene.world.clock.advance(Seconds(60));
    assert_eq!(
        scene.finish(&start, &query).await.unwrap_err(),
        SignInError::Refused,
        "a minute has passed"
    );
}

#[tokio::test]
async fn it_refuses_to_exist_outside_loopback() {
    let world = World::new();
    let start = async |address: &str, broker: &str| {
        let listener = TcpListener::bind(address).await.unwrap();
        let url: Url = broker.parse().unwrap();
        dev_idp::start(
            listener,
            &url,
            world.ports.clock.clone(),
            world.ports.entropy.clone(),
        )
        .is_ok()
    };
    assert!(start("127.0.0.1:0", BROKER).await);
    assert!(!start("0.0.0.0:0", BROKER).await);
    assert!(!start("127.0.0.1:0", "https://127.0.0.1:7480").await);
    assert!(!start("127.0.0.1:0", "https://broker.example").await);
    assert!(!start("127.0.0.1:0", "http://10.0.0.1").await);
}
