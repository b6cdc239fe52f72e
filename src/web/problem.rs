//! Errors as pages: what happened, and what to do next. Never a cause from inside, never a word from outside.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use maud::html;

use super::auth::{Landing, SignInError};
use super::{layout, text};
use crate::broker::BrokerError;
use crate::domain::Refusal;
use crate::domain::command::RefusalCode;

/// An error page.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    pub(super) detail: String,
    /// Where to go: label and path.
    way_out: (&'static str, String),
}

impl Problem {
    fn new(status: StatusCode, title: &'static str, detail: &str) -> Self {
        Self {
            status,
            title,
            detail: detail.into(),
            way_out: ("Go to the inbox", "/".into()),
        }
    }

    /// There is nothing here, or nothing that may be named.
    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "There is nothing here",
            "The address may be incomplete, or the request was never made. Open it from the inbox.",
        )
    }

    /// A form that none of our pages sent.
    pub(super) fn foreign_form() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "This did not come from our page",
            "Nothing was changed. The form was sent from another site, or the page it was on is out of date. \
             Open the request again and decide there.",
        )
    }

    /// A form that is not filled in as our page would.
    pub(super) fn bad_form() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "The form could not be read",
            "Nothing was changed. Open the request again; if you wrote a comment, keep it under 2,000 characters.",
        )
    }

    /// The session is over.
    pub(super) fn signed_out(landing: &Landing) -> Self {
        let mut problem = Self::new(
            StatusCode::UNAUTHORIZED,
            "You are signed out",
            "Nothing was changed. Sessions end after a while; sign in again to go on.",
        );
        problem.way_out = (
            "Sign in",
            match landing {
                Landing::Inbox => "/sign-in".into(),
                Landing::Request(_) => format!("/sign-in?return_to={}", landing.path()),
            },
        );
        problem
    }

    /// Signing in did not work.
    pub(super) fn sign_in(error: SignInError) -> Self {
        let (status, detail) = match error {
            SignInError::UnknownProvider => (
                StatusCode::NOT_FOUND,
                "There is no such way to sign in. Choose one from the list.",
            ),
            SignInError::BrokenOff => (
                StatusCode::FORBIDDEN,
                "Signing in was broken off at the identity provider. Start again when you are ready.",
            ),
            SignInError::Stale => (
                StatusCode::BAD_REQUEST,
                "This sign-in is too old, was already used, or was started in another browser. Start again.",
            ),
            SignInError::Refused => (
                StatusCode::FORBIDDEN,
                "The identity provider's answer did not pass our checks, so you are not signed in. \
                 Start again; if it keeps happening, ask whoever runs Countersign to look at its log.",
            ),
            SignInError::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The identity provider or the session store does not answer. Try again in a moment.",
            ),
        };
        let mut problem = Self::new(status, "You are not signed in", detail);
        problem.way_out = ("Sign in", "/sign-in".into());
        problem
    }

    /// What the broker said no to, or could not do.
    pub(super) fn of(error: BrokerError) -> Self {
        match error {
            BrokerError::Refused(refusal) => Self {
                detail: format!("{} {}", sentence(&refusal.detail), sentence(&refusal.next)),
                ..Self::new(status_of(&refusal), title_of(refusal.code), "")
            },
            BrokerError::Unavailable { what } => {
                tracing::warn!(what, "a page could not be served");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "Countersign cannot answer right now",
                    "Nothing was changed. Its ledger or the target does not answer; try again in a moment.",
                )
            }
            BrokerError::InDoubt => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Countersign decides nothing right now",
                "Nothing was changed. What is in its store is not the ledger it knows, which whoever runs Countersign has to look into; access that is over ends all the same.",
            ),
        }
    }
}

/// Status of a refusal: not there, not yours, or not any more.
fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal.code {
        RefusalCode::NotFound => StatusCode::NOT_FOUND,
        RefusalCode::SelfApproval | RefusalCode::NotAReviewer | RefusalCode::PolicyDenied => {
            StatusCode::FORBIDDEN
        }
        RefusalCode::Invalid => StatusCode::BAD_REQUEST,
        _ => StatusCode::CONFLICT,
    }
}

/// A refusal's headline, as a reviewer would say it.
pub(super) fn title_of(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::NotFound => "There is nothing here",
        RefusalCode::SelfApproval => "You cannot review this request",
        RefusalCode::NotAReviewer | RefusalCode::PolicyDenied => "This is not yours to decide",
        RefusalCode::AlreadyReviewed => "You have already decided",
        RefusalCode::DigestMismatch => "What is asked is not what you saw",
        RefusalCode::NotPending => "Somebody decided first",
        RefusalCode::Expired => "The time to decide is over",
        RefusalCode::NotLive => "There is no access left to end",
        RefusalCode::Frozen => "A freeze covers this request",
        _ => "That did not go through",
    }
}

/// A refusal's words as a sentence: a capital first, a full stop last.
pub(super) fn sentence(text: &str) -> String {
    let mut said = text::capital(text);
    if !said.is_empty() && !said.ends_with(['.', '?', '!']) {
        said.push('.');
    }
    said
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = html! {
            main #content .notice-page {
                p.code { (self.status.as_u16()) }
                h1 { (self.title) }
                p.lead { (text::line(&self.detail)) }
                p { a.button href=(self.way_out.1) { (self.way_out.0) } }
            }
        };
        let mut response = (self.status, layout::frame(self.title, None, &body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = HeaderValue::from_static("5");
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// The answer to a path that is no page.
pub(super) async fn unknown_path() -> Problem {
    Problem::not_found()
}

/// The answer to a method a page does not have.
pub(super) async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "That cannot be done here",
        "Nothing was changed. Open the request from the inbox and use the buttons on its page.",
    )
}
