//! Who is calling: `identity` behind the ports of the API and the pages.

use std::sync::Arc;

use async_trait::async_trait;
use axum_extra::extract::CookieJar;
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;

use crate::broker::Broker;
use crate::config::PeopleConfig;
use crate::domain::Agent;
use crate::http as api;
use crate::identity::{self, AgentDirectory, Agents, CallbackParams, Cookie, Reviewers};
use crate::store::StoreError;
use crate::web;

/// Agents are those the broker serves.
pub(super) struct ServedAgents(pub(super) Broker);

impl AgentDirectory for ServedAgents {
    fn find(&self, wanted: &dyn Fn(&Agent) -> bool) -> Option<Agent> {
        self.0.find_agent(wanted)
    }
}

/// Agents' tokens and people's sessions.
pub(super) struct Doorkeeper {
    pub(super) agents: Agents,
    pub(super) reviewers: Reviewers,
    /// Providers in the order they are shown.
    pub(super) providers: Vec<(String, PeopleConfig)>,
}

impl Doorkeeper {
    /// The session of the request's cookie: exactly one cookie of that name, or none.
    async fn session_of(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<(String, identity::Session)>, StoreError> {
        let sessions = self.reviewers.sessions();
        let Some(cookie) = cookie(headers, sessions.cookie_name()) else {
            return Ok(None);
        };
        let session = sessions.session(&cookie).await?;
        Ok(session.map(|session| (cookie, session)))
    }
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    CookieJar::from_headers(headers)
        .get(name)
        .map(|cookie| cookie.value().to_owned())
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

#[async_trait]
impl api::Authenticator for Doorkeeper {
    async fn bearer(&self, token: &str) -> Result<api::Principal, api::AuthError> {
        match self.agents.authenticate(token).await {
            Ok(identity::Principal::Agent(agent)) => Ok(api::Principal::Agent(agent)),
            Ok(identity::Principal::Operator) => Ok(api::Principal::Operator),
            Err(identity::AuthError::Unavailable) => Err(api::AuthError::Unavailable),
            Err(_) => Err(api::AuthError::Unauthenticated),
        }
    }

    async fn session(&self, headers: &HeaderMap) -> Result<Option<api::SignedIn>, api::AuthError> {
        let session = self.session_of(headers).await.map_err(|error| {
            tracing::error!(%error, "sessions cannot be read");
            api::AuthError::Unavailable
        })?;
        Ok(session.map(|(cookie, session)| api::SignedIn {
            csrf: self.reviewers.sessions().csrf_token(&cookie),
            reviewer: session.reviewer,
        }))
    }

    async fn exchange(&self, grant: api::Grant) -> Result<api::AccessToken, api::GrantError> {
        let grant = match grant {
            api::Grant::Workload { assertion } => identity::Grant::WorkloadToken(assertion),
            api::Grant::Key { assertion } => identity::Grant::ClientAssertion(assertion),
        };
        match self.agents.exchange(grant).await {
            Ok(token) => Ok(api::AccessToken {
                token: token.token,
                expires_in: token.expires_in.0,
            }),
            Err(identity::AuthError::Unavailable) => Err(api::GrantError::Unavailable),
            Err(error) => Err(api::GrantError::Invalid(error.to_string())),
        }
    }
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
        let finished = self
            .reviewers
            .finish(params, sign_in.as_deref(), old.as_deref())
            .await;
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
            csrf_token: self.reviewers.sessions().csrf_token(&cookie),
            reviewer: session.reviewer,
        }))
    }

    async fn end(&self, headers: &HeaderMap) -> Result<Vec<HeaderValue>, web::auth::SignInError> {
        let sessions = self.reviewers.sessions();
        if let Some(cookie) = cookie(headers, sessions.cookie_name()) {
            sessions.end(&cookie).await.map_err(|error| {
                tracing::error!(%error, "a session could not be ended");
                web::auth::SignInError::Unavailable
            })?;
        }
        Ok(set_cookie(&sessions.removal()).into_iter().collect())
    }
}

/// The doorkeeper, as the API sees it and as the pages see it.
pub(super) fn both(
    doorkeeper: Doorkeeper,
) -> (Arc<dyn api::Authenticator>, Arc<dyn web::auth::SignIn>) {
    let doorkeeper = Arc::new(doorkeeper);
    (
        Arc::clone(&doorkeeper) as Arc<dyn api::Authenticator>,
        doorkeeper,
    )
}
