//! Signing in and out: `identity` behind the port of the pages.

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;

use crate::config::PeopleConfig;
use crate::http::gate::cookie;
use crate::identity::{self, CallbackParams, Cookie, Reviewers};
use crate::store::StoreError;
use crate::web;

/// People's sign-ins and sessions.
pub(super) struct Doorkeeper {
    pub(super) reviewers: Reviewers,
    /// Providers in the order they are shown.
    pub(super) providers: Vec<(String, PeopleConfig)>,
}

impl Doorkeeper {
    /// The session of the request's cookie: exactly one cookie of that name, or none.
    async fn session_of<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> Result<Option<(&'h str, identity::Session)>, StoreError> {
        let sessions = self.reviewers.sessions();
        let Some(cookie) = cookie(headers, sessions.cookie_name()) else {
            return Ok(None);
        };
        let session = sessions.session(cookie).await?;
        Ok(session.map(|session| (cookie, session)))
    }
}

/// A `Set-Cookie` value.
fn set_cookie(cookie: &Cookie) -> Option<HeaderValue> {
    let mut text = format!(
        "{}={}; Path={}; Max-Age={}; SameSite={}",
        cookie.name,
        cookie.value.expose_secret(),
        cookie.path,
        cookie.max_age.0,
        cookie.same_site
    );
    if cookie.http_only {
        text.push_str("; HttpOnly");
    }
    if cookie.secure {
        text.push_str("; Secure");
    }
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn sign_in_error(error: identity::SignInError) -> web::auth::SignInError {
    use identity::SignInError as From;
    use web::auth::SignInError as To;
    match error {
        From::UnknownProvider => To::UnknownProvider,
        From::Refused => To::Stale,
        From::Declined => To::BrokenOff,
        From::ProviderUnavailable | From::Unavailable => To::Unavailable,
    }
}

#[async_trait]
impl web::auth::SignIn for Doorkeeper {
    fn providers(&self) -> Vec<web::auth::Provider> {
        let origin = |issuer: &str| {
            let url = url::Url::parse(issuer).ok();
            url.map_or_else(
                || issuer.to_owned(),
                |url| url.origin().ascii_serialization(),
            )
        };
        let providers = self.providers.iter();
        providers
            .map(|(name, config)| web::auth::Provider {
                name: name.clone(),
                origin: origin(&config.issuer),
            })
            .collect()
    }

    async fn begin(
        &self,
        provider: &str,
        return_to: &str,
    ) -> Result<web::auth::Departure, web::auth::SignInError> {
        let start = self.reviewers.begin(provider, return_to, None).await;
        let start = start.map_err(sign_in_error)?;
        Ok(web::auth::Departure {
            redirect: start.location.into(),
            set_cookies: set_cookie(&start.cookie).into_iter().collect(),
        })
    }

    async fn finish(
        &self,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<web::auth::Arrival, web::auth::SignInError> {
        let sessions = self.reviewers.sessions();
        let sign_in = cookie(headers, sessions.sign_in_cookie_name());
        let old = cookie(headers, sessions.cookie_name());
        let params = CallbackParams::parse(query);
        let finished = self.reviewers.finish(params, sign_in, old).await;
        let signed_in = finished.map_err(sign_in_error)?;
        let reviewer = signed_in.session.reviewer;
        let cookies = [&signed_in.session_cookie, &signed_in.sign_in_removal];
        Ok(web::auth::Arrival {
            return_to: signed_in.return_to,
            set_cookies: cookies.into_iter().filter_map(set_cookie).collect(),
            reviewer,
        })
    }

    async fn session(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<web::auth::WebSession>, web::auth::SignInError> {
        let session = self.session_of(headers).await.map_err(|error| {
            tracing::error!(%error, "sessions cannot be read");
            web::auth::SignInError::Unavailable
        })?;
        Ok(session.map(|(cookie, session)| web::auth::WebSession {
            display_name: session.reviewer.person.subject.clone(),
            csrf_token: self.reviewers.sessions().csrf_token(cookie),
            reviewer: session.reviewer,
        }))
    }

    async fn end(&self, headers: &HeaderMap) -> Result<Vec<HeaderValue>, web::auth::SignInError> {
        let sessions = self.reviewers.sessions();
        if let Some(cookie) = cookie(headers, sessions.cookie_name()) {
            sessions.end(cookie).await.map_err(|error| {
                tracing::error!(%error, "a session could not be ended");
                web::auth::SignInError::Unavailable
            })?;
        }
        Ok(set_cookie(&sessions.removal()).into_iter().collect())
    }
}
