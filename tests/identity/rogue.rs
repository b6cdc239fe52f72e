//! A provider that can be made to lie, and the sign-ins that meet it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use countersign::config::PeopleConfig;
use countersign::domain::Seconds;
use countersign::identity::{CallbackParams, Provider, Reviewers, SignInError, SignedIn};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

use super::world::{BROKER, Signer, World, in_background};

/// A provider whose every statement a test can change.
pub struct Rogue {
    pub url: String,
    pub signer: Mutex<(Signer, &'static str)>,
    pub now: i64,
    /// Merged into the metadata, the ID token's header and its claims; `null` removes.
    pub metadata: Mutex<Value>,
    pub header: Mutex<Value>,
    pub claims: Mutex<Value>,
    pub nonce: Mutex<String>,
    pub forms: Mutex<Vec<BTreeMap<String, String>>>,
    pub token_answer: Mutex<Option<(StatusCode, Value)>>,
    pub down: Mutex<bool>,
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
    pub async fn start(now: i64) -> Arc<Self> {
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

pub struct Scene {
    pub world: World,
    pub idp: Arc<Rogue>,
    pub reviewers: Reviewers,
}

/// A browser that was sent to the provider.
pub struct Gone {
    pub asked: BTreeMap<String, String>,
    pub cookie: String,
}

pub fn people(issuer: &str) -> PeopleConfig {
    let text = format!(
        "server = {{ public_url = \"{BROKER}\", state_dir = \"x\" }}\n[people.corp]\nissuer = \"{issuer}\"\nclient_id = \"countersign\"\nalgorithm = \"EdDSA\"\n"
    );
    countersign::config::Config::parse(&text).unwrap().people["corp"].clone()
}

pub fn sign_ins(world: &World, issuers: &[(&str, &str)]) -> Reviewers {
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
    pub async fn new() -> Self {
        let world = World::new();
        let idp = Rogue::start(world.now()).await;
        let reviewers = sign_ins(&world, &[("corp", &idp.url)]);
        Self {
            world,
            idp,
            reviewers,
        }
    }

    pub async fn begin(&self) -> Gone {
        self.begin_for("/", None).await
    }

    pub async fn begin_for(&self, return_to: &str, max_age: Option<Seconds>) -> Gone {
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

    pub async fn back(
        &self,
        gone: &Gone,
        query: &str,
        old: Option<&str>,
    ) -> Result<SignedIn, SignInError> {
        let params = CallbackParams::parse(query);
        self.reviewers.finish(params, Some(&gone.cookie), old).await
    }

    pub async fn sign_in(&self) -> Result<SignedIn, SignInError> {
        self.sign_in_over(None).await
    }

    pub async fn sign_in_over(&self, old: Option<&str>) -> Result<SignedIn, SignInError> {
        let gone = self.begin().await;
        self.back(&gone, &format!("code=c&state={}", gone.asked["state"]), old)
            .await
    }

    /// The outcome of a sign-in in which the provider's claims are changed.
    pub async fn claiming(&self, claims: Value) -> Result<SignedIn, SignInError> {
        *self.idp.claims.lock().unwrap() = claims;
        let outcome = self.sign_in().await;
        *self.idp.claims.lock().unwrap() = Value::Null;
        outcome
    }
}

pub fn id(signed_in: &SignedIn) -> &str {
    signed_in.session_cookie.value.expose_secret()
}
