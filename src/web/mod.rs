//! The reviewers' pages: what is asked, decided in the browser.
//!
//! Server-rendered and complete without JavaScript. Promises:
//! * facts come from the sealed request only; the agent's words stand below them, fenced and labelled;
//! * a GET changes nothing and a link carries no authority: only a POST from our own page, by a
//!   signed-in person, with the token of their session and the digest they saw, decides anything;
//! * nothing is shown to anybody who is not signed in, and no secret is ever here to be shown.
//!
//! | file | what it is |
//! |---|---|
//! | [`auth`] | the port to signing in and sessions |
//! | `guard` | headers, the origin check, the session of a call |
//! | `inbox`, `request`, `sign_in` | one file a page: handlers and markup |
//! | `sheet`, `facts`, `decision`, `timeline` | what a request page is made of |
//! | `layout`, `problem`, `assets`, `text` | the frame, errors, files, safe text |

pub mod auth;

mod assets;
mod decision;
mod facts;
mod guard;
mod inbox;
mod layout;
mod problem;
mod request;
mod sheet;
mod sign_in;
mod text;
mod timeline;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{get, post};
use url::Url;

use crate::broker::Broker;
use auth::SignIn;

/// The longest form that is read: a comment and a few short fields.
const FORM_BYTES_MAX: usize = 32 * 1024;

/// What every page needs.
#[derive(Clone)]
pub struct Pages {
    broker: Broker,
    sign_in: Arc<dyn SignIn>,
    origin: Arc<str>,
}

impl Pages {
    /// Pages over `broker`, for people who sign in through `sign_in`, reached at `public_url`.
    pub fn new(broker: Broker, sign_in: Arc<dyn SignIn>, public_url: &Url) -> Self {
        Self {
            broker,
            sign_in,
            origin: public_url.origin().ascii_serialization().into(),
        }
    }
}

/// The pages, with their own answer to every unknown path. Every route is listed here; each one that
/// shows or changes anything takes a [`guard::SignedIn`], so a route without a session has nothing to show.
pub fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(inbox::show))
        .route("/live/inbox", get(inbox::live))
        .route("/requests/{id}", get(request::show))
        .route("/live/requests/{id}", get(request::live))
        .route("/requests/{id}/review", post(request::review))
        .route("/requests/{id}/revoke", post(request::revoke))
        .route("/sign-in", get(sign_in::choose))
        .route("/sign-in/callback", get(sign_in::callback))
        .route("/sign-in/{people}", post(sign_in::begin))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/assets/{file}", get(assets::serve))
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(from_fn_with_state(pages.clone(), guard::same_origin))
        .layer(map_response(guard::harden))
        .with_state(pages)
}
