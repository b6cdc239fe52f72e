//! An identity provider for trying Countersign out: real OpenID Connect, four sample people, no passwords.
//!
//! Whoever reaches it can sign in as anybody in it, so it refuses to exist anywhere but on loopback, and
//! only for a broker that is itself used over plain `http` on loopback. The broker talks to it exactly as
//! to any other provider. Its key is new at each start.

mod page;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::{Host, Url};

use super::fetch::SetupError;
use super::{bytes, reviewers};
use crate::config::PeopleConfig;
use crate::domain::{Digest, Seconds, Time};
use crate::system::{Clock, Entropy};

const CLIENT: &str = "countersign";
const KEY_ID: &str = "development";
const CODE_LIFE: Seconds = Seconds(60);
const TOKEN_LIFE: Seconds = Seconds(300);
const SESSION_SECONDS: u64 = 8 * 3600;
const MAX_CODES: usize = 1000;
const PART: &str = "development identity provider";

/// A sample person.
#[derive(Clone, Copy, Debug)]
pub struct SamplePerson {
    /// The subject.
    pub subject: &'static str,
    /// For show.
    pub name: &'static str,
    /// The groups in the ID token.
    pub groups: &'static [&'static str],
}

/// Everybody there is.
pub const PEOPLE: [SamplePerson; 4] = [
    SamplePerson {
        subject: "ana",
        name: "Ana",
        groups: &["data-platform"],
    },
    SamplePerson {
        subject: "ben",
        name: "Ben",
        groups: &["support-leads", "dba"],
    },
    SamplePerson {
        subject: "chloe",
        name: "Chloe",
        groups: &["security"],
    },
    SamplePerson {
        subject: "dmitri",
        name: "Dmitri",
        groups: &["support-leads"],
    },
];

/// The running provider.
struct DevIdp {
    issuer: String,
    host: String,
    redirect_uri: String,
    content_policy: HeaderValue,
    key: Ed25519KeyPair,
    codes: Mutex<HashMap<Digest, Granted>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// What a code stands for.
struct Granted {
    person: SamplePerson,
    challenge: String,
    nonce: Option<String>,
    at: Time,
}

/// An authorization request. Unknown parameters are ignored, as the standard says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ask {
    response_type: String,
    client_id: String,
    redirect_uri: String,
    scope: String,
    state: String,
    code_challenge: String,
    code_challenge_method: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(flatten)]
    ask: Ask,
    person: String,
}

#[derive(Deserialize)]
struct Redemption {
    grant_type: String,
    code: String,
    redirect_uri: String,
    client_id: String,
    code_verifier: String,
}

/// Makes a provider for the broker at `public_url`. Returns how the broker is configured for it, and the
/// server, to be awaited; it runs until it is dropped.
///
/// # Errors
/// The listener is not on loopback, or the broker is not on `http` and loopback.
pub fn start(
    listener: TcpListener,
    public_url: &Url,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<
    (
        PeopleConfig,
        impl Future<Output = std::io::Result<()>> + Send + 'static,
    ),
    SetupError,
> {
    let wrong = |problem: &str| SetupError::new(PART, public_url.as_str(), problem);
    let address = listener
        .local_addr()
        .map_err(|error| wrong(&format!("its listener has no address: {error}")))?;
    let local = match public_url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if !address.ip().is_loopback() || !local || public_url.scheme() != "http" {
        return Err(wrong(
            "anybody could sign in as anybody; it runs on loopback for a public_url of http on loopback only",
        ));
    }
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    entropy.fill(seed.as_mut());
    let key = Ed25519KeyPair::from_seed_unchecked(seed.as_ref())
        .map_err(|_| wrong("no key could be generated"))?;
    let origin = public_url.origin().ascii_serialization();
    let policy = format!(
        "default-src 'none'; style-src 'self'; form-action 'self' {origin}; frame-ancestors 'none'; base-uri 'none'"
    );
    let issuer = format!("http://{address}");
    let idp = DevIdp {
        host: address.to_string(),
        redirect_uri: format!(
            "{}{}",
            super::audience(public_url),
            reviewers::CALLBACK_PATH
        ),
        content_policy: HeaderValue::try_from(policy)
            .map_err(|_| wrong("its origin is not a header value"))?,
        issuer: issuer.clone(),
        key,
        codes: Mutex::default(),
        clock,
        entropy,
    };
    let people = PeopleConfig {
        issuer,
        client_id: CLIENT.into(),
        client_secret_file: None,
        groups_claim: "groups".into(),
        scopes: Vec::new(),
        algorithm: "EdDSA".into(),
        session_seconds: SESSION_SECONDS,
        private_network: false,
    };
    let router = router(Arc::new(idp));
    Ok((people, async move { axum::serve(listener, router).await }))
}

fn router(idp: Arc<DevIdp>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/jwks", get(keys))
        .route("/authorize", get(ask).post(choose))
        .route("/token", post(redeem))
        .route("/style.css", get(style))
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&idp),
            guard,
        ))
        .with_state(idp)
}

/// Answers only to its own name (no site can be re-pointed here) and sets the headers of every answer.
async fn guard(State(idp): State<Arc<DevIdp>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let mut answer = if host.is_some_and(|host| host.as_bytes() == idp.host.as_bytes()) {
        next.run(request).await
    } else {
        StatusCode::MISDIRECTED_REQUEST.into_response()
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, idp.content_policy.clone());
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

async fn discovery(State(idp): State<Arc<DevIdp>>) -> Json<Value> {
    let issuer = &idp.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
        "token_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "name", "groups"],
        "authorization_response_iss_parameter_supported": true,
    }))
}

async fn keys(State(idp): State<Arc<DevIdp>>) -> Json<Value> {
    let public = bytes::encode(idp.key.public_key().as_ref());
    Json(json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "x": public, "kid": KEY_ID, "alg": "EdDSA", "use": "sig",
    }]}))
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css")], page::STYLE).into_response()
}

async fn ask(State(idp): State<Arc<DevIdp>>, ask: Result<Query<Ask>, QueryRejection>) -> Response {
    match ask {
        Ok(Query(ask)) if idp.accepts(&ask) => page::choose(&ask).into_response(),
        Ok(_) | Err(_) => refuse(),
    }
}

async fn choose(
    State(idp): State<Arc<DevIdp>>,
    choice: Result<Form<Choice>, FormRejection>,
) -> Response {
    let Ok(Form(Choice { ask, person })) = choice else {
        return refuse();
    };
    let person = PEOPLE.into_iter().find(|known| known.subject == person);
    let (Some(person), true) = (person, idp.accepts(&ask)) else {
        return refuse();
    };
    let Some(code) = idp.grant(person, &ask) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("code", &code)
        .append_pair("state", &ask.state)
        .append_pair("iss", &idp.issuer)
        .finish();
    let location = format!("{}?{query}", idp.redirect_uri);
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

fn refuse() -> Response {
    (StatusCode::BAD_REQUEST, page::refused()).into_response()
}

async fn redeem(
    State(idp): State<Arc<DevIdp>>,
    redemption: Result<Form<Redemption>, FormRejection>,
) -> Response {
    let bad = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": error})));
    let Ok(Form(redemption)) = redemption else {
        return bad("invalid_request").into_response();
    };
    if redemption.grant_type != "authorization_code" {
        return bad("unsupported_grant_type").into_response();
    }
    match idp.id_token(&redemption) {
        Some(token) => Json(json!({
            "access_token": bytes::draw(&*idp.entropy),
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFE,
            "id_token": token,
        }))
        .into_response(),
        None => bad("invalid_grant").into_response(),
    }
}

impl DevIdp {
    fn accepts(&self, ask: &Ask) -> bool {
        ask.client_id == CLIENT
            && ask.redirect_uri == self.redirect_uri
            && ask.response_type == "code"
            && ask.code_challenge_method == "S256"
            && ask.code_challenge.len() == 43
            && ask.scope.split(' ').any(|scope| scope == "openid")
    }

    fn grant(&self, person: SamplePerson, ask: &Ask) -> Option<String> {
        let code = bytes::draw(&*self.entropy);
        let at = self.clock.utc();
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|_, granted| at < granted.at.plus(CODE_LIFE));
        if codes.len() >= MAX_CODES {
            return None;
        }
        let granted = Granted {
            person,
            challenge: ask.code_challenge.clone(),
            nonce: ask.nonce.clone(),
            at,
        };
        codes.insert(Digest::of(code.as_bytes()), granted);
        Some(code)
    }

    fn id_token(&self, redemption: &Redemption) -> Option<String> {
        let now = self.clock.utc();
        let code = Digest::of(redemption.code.as_bytes());
        // Taken out before it is judged: a code has one chance.
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        let granted = codes.remove(&code)?;
        drop(codes);
        let challenge = bytes::encode(&Digest::of(redemption.code_verifier.as_bytes()).0);
        let good = redemption.client_id == CLIENT
            && redemption.redirect_uri == self.redirect_uri
            && bytes::same(&challenge, &granted.challenge)
            && now < granted.at.plus(CODE_LIFE);
        good.then(|| self.sign(&granted, now))
    }

    fn sign(&self, granted: &Granted, now: Time) -> String {
        let header = json!({"alg": "EdDSA", "kid": KEY_ID, "typ": "JWT"});
        let mut claims = json!({
            "iss": self.issuer,
            "sub": granted.person.subject,
            "aud": CLIENT,
            "iat": now.unix_seconds(),
            "exp": now.plus(TOKEN_LIFE).unix_seconds(),
            "auth_time": granted.at.unix_seconds(),
            "name": granted.person.name,
            "groups": granted.person.groups,
        });
        if let (Some(nonce), Some(claims)) = (&granted.nonce, claims.as_object_mut()) {
            claims.insert("nonce".into(), nonce.as_str().into());
        }
        let part = |value: &Value| bytes::encode(value.to_string().as_bytes());
        let message = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", bytes::encode(signature.as_ref()))
    }
}
