//! The JSON API: strict in what it reads, one shape for every no, denied by default.
//!
//! * [`api`] one endpoint a file; [`access`] who may call which
//! * [`auth`] who is calling, [`gate`] over `identity`; [`body`], [`fields`], [`headers`] what they say; [`rate`] how often
//! * [`view`] what is shown; [`problem`] how it says no
//! * [`call`] the id and log line of a call; [`serve`] the listener; [`docs`] the OpenAPI document
//!
//! A change of state takes a POST. What a call may see or do is decided here by kind of caller and in the
//! broker by the rules; a foreign id answers like an unknown one.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::any;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use url::Url;

use crate::broker::Broker;
use crate::domain::RequestId;
use crate::system::Entropy;

pub mod access;
pub mod api;
pub mod auth;
pub mod body;
pub mod call;
pub mod docs;
pub mod fields;
pub mod gate;
pub mod headers;
mod lease_view;
pub mod problem;
pub mod rate;
pub mod serve;
pub mod view;

pub use auth::{AccessToken, AuthError, Authenticator, Grant, GrantError, Principal, SignedIn};
pub use gate::{Directory, Gate};
pub use problem::Problem;
pub use serve::{Bounds, serve};

/// What every handler works with. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// The broker.
    pub broker: Broker,
    /// Who proves what.
    pub authenticator: Arc<dyn Authenticator>,
    /// Randomness for call ids and API keys.
    pub entropy: Arc<dyn Entropy>,
    /// Exact issuer URLs by the short names of `countersign.toml`, for `owner`.
    pub people: Arc<BTreeMap<String, String>>,
    /// How people and agents reach the broker, without a slash at the end.
    pub public_url: String,
    /// The origin of `public_url`, as browsers write it.
    pub origin: String,
    /// How often each agent may call.
    pub rate: Arc<rate::Buckets>,
    /// Cancelled when the broker stops: calls that wait answer at once.
    pub stopping: CancellationToken,
}

impl Api {
    /// An API on `broker`.
    pub fn new(
        broker: Broker,
        authenticator: Arc<dyn Authenticator>,
        entropy: Arc<dyn Entropy>,
        public_url: &Url,
        people: BTreeMap<String, String>,
    ) -> Self {
        Self {
            broker,
            authenticator,
            entropy,
            people: Arc::new(people),
            public_url: public_url.as_str().trim_end_matches('/').into(),
            origin: public_url.origin().ascii_serialization(),
            rate: Arc::default(),
            stopping: CancellationToken::new(),
        }
    }

    /// The page where people review a request.
    pub fn review_url(&self, id: &RequestId) -> String {
        format!("{}/requests/{id}", self.public_url)
    }
}

/// The API's routes, guarded. `pages` are merged beside them, share ids, log lines and security headers, and answer
/// for unknown paths outside `/v1`.
pub fn router(api: Api, pages: impl Into<Option<Router>>) -> Router {
    let (routes, _) = docs::split(api::routes());
    let routes = routes
        .method_not_allowed_fallback(headers::unknown_method)
        .route("/v1/{*unknown}", any(headers::unknown_path))
        .layer(from_fn_with_state(api.clone(), auth::guard))
        .with_state(api.clone());
    let routes = match pages.into() {
        Some(pages) => routes.merge(pages),
        None => routes.fallback(headers::unknown_path),
    };
    routes
        .layer(CatchPanicLayer::custom(call::panicked))
        .layer(from_fn(headers::secure))
        .layer(from_fn_with_state(api, call::identify))
}
