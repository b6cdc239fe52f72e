//! What stands before every page: the headers, the origin check, the session.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};
use secrecy::ExposeSecret;

use super::Pages;
use super::auth::{Landing, WebSession};
use super::problem::Problem;

/// The content security policy of every page but the sign-in page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Sets the headers every answer has, unless the handler chose its own value.
pub(super) async fn harden(mut response: Response) -> Response {
    let fixed: [(HeaderName, &'static str); 9] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // `no-referrer` would make browsers send `Origin: null` with our own forms.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=()",
        ),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ];
    for (name, value) in fixed {
        response
            .headers_mut()
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// The policy of the sign-in page: its form leads to a provider, and browsers check every step of the way there.
pub(super) fn sign_in_policy(provider_origins: &[String]) -> Option<HeaderValue> {
    let targets = format!("form-action 'self' https: {}", provider_origins.join(" "));
    HeaderValue::from_str(&POLICY.replace("form-action 'self'", targets.trim_end())).ok()
}

/// Refuses every call that may change something unless a page of ours sent it.
pub(super) async fn same_origin(
    State(pages): State<Pages>,
    request: Request,
    next: Next,
) -> Response {
    let reads = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    if reads || is_ours(request.headers(), &pages.origin) {
        next.run(request).await
    } else {
        Problem::foreign_form().into_response()
    }
}

/// What the browser says of where the call comes from: each of the two headers must be right when it is there,
/// and one must be there.
fn is_ours(headers: &HeaderMap, origin: &str) -> bool {
    let fits = |name: &str, wanted: &str| {
        let mut given = headers.get_all(name).iter();
        match (given.next(), given.next()) {
            (None, _) => None,
            (Some(value), None) => Some(value.as_bytes() == wanted.as_bytes()),
            (Some(_), Some(_)) => Some(false),
        }
    };
    let said = [
        fits("origin", origin),
        fits("sec-fetch-site", "same-origin"),
    ];
    said.contains(&Some(true)) && !said.contains(&Some(false))
}

/// The signed-in person behind a call. A page without it has nothing to show.
#[derive(Debug)]
pub(super) struct SignedIn(pub(super) WebSession);

impl SignedIn {
    /// Checks the token a form sent back.
    pub(super) fn check(&self, token: &str) -> Result<(), Problem> {
        let own = self.0.csrf_token.expose_secret().as_bytes();
        verify_slices_are_equal(own, token.as_bytes()).map_err(|_| Problem::foreign_form())
    }
}

impl FromRequestParts<Pages> for SignedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, pages: &Pages) -> Result<Self, Response> {
        match pages.sign_in.session(&parts.headers).await {
            Ok(Some(session)) => Ok(Self(session)),
            Ok(None) => Err(turn_away(parts)),
            Err(error) => Err(Problem::sign_in(error).into_response()),
        }
    }
}

/// A page leads to signing in and back; a form or a live update says that the session is over.
fn turn_away(parts: &Parts) -> Response {
    let path = parts.uri.path();
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    if reads && !path.starts_with("/live/") {
        let landing = Landing::read(path);
        let to = match &landing {
            Landing::Inbox => "/sign-in".to_owned(),
            Landing::Request(_) => format!("/sign-in?return_to={}", landing.path()),
        };
        return Redirect::to(&to).into_response();
    }
    let page = path.trim_end_matches("/review").trim_end_matches("/revoke");
    Problem::signed_out(&Landing::read(page)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        is_ours(&headers, "https://sign.example")
    }

    #[test]
    fn case_043_only_our_own_pages_may_post() {
        let ours = ("origin", "https://sign.example");
        assert!(from(&[ours]));
        assert!(from(&[ours, ("sec-fetch-site", "same-origin")]));
        assert!(from(&[("sec-fetch-site", "same-origin")]));
        for foreign in [
            &[] as &[_],
            &[("origin", "null")],
            &[("origin", "https://evil.example")],
            &[("origin", "https://sub.sign.example")],
            &[("origin", "http://sign.example")],
            &[ours, ("sec-fetch-site", "same-site")],
            &[ours, ("sec-fetch-site", "cross-site")],
            &[ours, ("sec-fetch-site", "none")],
            &[ours, ("origin", "https://evil.example")],
            &[
                ("origin", "https://evil.example"),
                ("sec-fetch-site", "same-origin"),
            ],
        ] {
            assert!(!from(foreign), "{foreign:?}");
        }
    }
}
