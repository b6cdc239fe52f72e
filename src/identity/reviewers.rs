//! People sign in through OpenID Connect: authorization code, PKCE (S256), state, nonce.
//!
//! The state is tied to a cookie of the browser that began, is good once and for ten minutes. The PKCE
//! verifier and the nonce follow from that cookie, so nothing secret is kept. Identity is exactly
//! (`iss`, `sub`); e-mail is not looked at. Nothing a provider or a browser says is shown to anybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use openidconnect::core::CoreAuthenticationFlow;
use openidconnect::{CsrfToken, Nonce, PkceCodeChallenge, PkceCodeVerifier, Scope};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use super::fetch::SetupError;
use super::jwt::LEEWAY;
use super::provider::{Exchange, Identity, OpenIdProvider, Trouble, without_fragment};
use super::sessions::{self, Cookie, Session, Sessions};
use super::{Ports, bytes};
use crate::config::PeopleConfig;
use crate::domain::person::Evidence;
use crate::domain::{Digest, GroupName, Person, Reviewer, Seconds, Time};
use crate::store::StoreError;

/// How long somebody has to come back from the provider.
const SIGN_IN_LIFE: Seconds = Seconds(600);
/// Where providers send people back to, below `public_url`.
pub const CALLBACK_PATH: &str = "/sign-in/callback";

/// A provider to sign in with.
pub struct Provider {
    /// Its configuration.
    pub config: PeopleConfig,
    /// Our secret there, read from the configured file.
    pub client_secret: Option<SecretString>,
}

/// What the provider sent the browser back with.
#[derive(Default)]
pub struct CallbackParams {
    code: Option<String>,
    state: Option<String>,
    issuer: Option<String>,
    error: bool,
}

impl CallbackParams {
    /// Reads the query of the callback. A parameter given twice makes it unusable.
    pub fn parse(query: &str) -> Self {
        let mut params = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "code" => &mut params.code,
                "state" => &mut params.state,
                "iss" => &mut params.issuer,
                "error" => {
                    params.error = true;
                    continue;
                }
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return Self::default();
            }
        }
        params
    }
}

/// Where to send the browser, and the cookie to give it.
#[derive(Debug)]
pub struct Start {
    /// The provider's authorization endpoint, with everything it needs to know.
    pub location: Url,
    /// Ties the sign-in to this browser.
    pub cookie: Cookie,
}

/// Somebody signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// The cookie that is the session.
    pub session_cookie: Cookie,
    /// Removes the cookie that tied the sign-in to the browser.
    pub sign_in_removal: Cookie,
    /// Who, and until when.
    pub session: Session,
    /// Where they wanted to go: a path on this site.
    pub return_to: String,
}

/// Why nobody signed in. The texts are fixed and fit to be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignInError {
    /// No provider of that name.
    #[error("sign in: there is no such identity provider; choose another")]
    UnknownProvider,
    /// The answer does not belong to a sign-in that began in this browser, or is not good.
    #[error("sign in: it could not be completed; begin again")]
    Refused,
    /// The provider reported an error instead of signing the person in.
    #[error(
        "sign in: the identity provider did not sign you in; begin again or ask its administrator"
    )]
    Declined,
    /// The provider does not answer.
    #[error("sign in: the identity provider does not answer; try again in a minute")]
    ProviderUnavailable,
    /// Our own store does not answer.
    #[error("sign in: not possible right now; try again in a minute")]
    Unavailable,
}

impl SignInError {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            SignInError::UnknownProvider => "unknown_provider",
            SignInError::Refused => "sign_in_refused",
            SignInError::Declined => "sign_in_declined",
            SignInError::ProviderUnavailable => "provider_unavailable",
            SignInError::Unavailable => "unavailable",
        }
    }
}

impl From<StoreError> for SignInError {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "cannot sign in");
        SignInError::Unavailable
    }
}

/// A sign-in under way, as remembered: nothing in it is secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnderWay {
    provider: String,
    return_to: String,
    /// SHA-256 of the cookie of the browser that began.
    browser: Digest,
    max_age: Option<Seconds>,
}

/// Signs people in.
pub struct Reviewers {
    ports: Ports,
    sessions: Sessions,
    providers: BTreeMap<String, OpenIdProvider>,
}

impl Reviewers {
    /// `providers` by the name they have in `countersign.toml`.
    ///
    /// # Errors
    /// A mistake in the configuration of a provider.
    pub fn new(
        ports: Ports,
        providers: BTreeMap<String, Provider>,
        public_url: &Url,
    ) -> Result<Self, SetupError> {
        let redirect = format!("{}{CALLBACK_PATH}", super::audience(public_url));
        let mut built = BTreeMap::new();
        let issuers = providers.iter();
        let issuers = issuers.map(|(name, given)| (name.clone(), given.config.issuer.clone()));
        let issuers = issuers.collect();
        for (
            name,
            Provider {
                config,
                client_secret,
            },
        ) in providers
        {
            let clock = Arc::clone(&ports.clock);
            let redirect = redirect.clone();
            let provider = OpenIdProvider::new(&name, config, client_secret, redirect, clock)?;
            built.insert(name, provider);
        }
        Ok(Self {
            sessions: Sessions::new(ports.clone(), public_url, issuers),
            ports,
            providers: built,
        })
    }

    /// The names people can choose from.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.providers.keys().map(String::as_str)
    }

    /// The sessions that sign-ins lead to.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Begins a sign-in with `provider`. Afterwards the browser goes to `return_to` if that is a plain path on
    /// this site, and to `/` otherwise. With `max_age` the provider must have seen the person that recently.
    ///
    /// # Errors
    /// [`SignInError::UnknownProvider`], [`SignInError::ProviderUnavailable`] or [`SignInError::Unavailable`].
    pub async fn begin(
        &self,
        provider: &str,
        return_to: &str,
        max_age: Option<Seconds>,
    ) -> Result<Start, SignInError> {
        let entry = self.providers.get_key_value(provider);
        let (name, provider) = entry.ok_or(SignInError::UnknownProvider)?;
        let metadata = provider
            .metadata(false)
            .await
            .map_err(|trouble| report(name, &trouble))?;
        let browser = bytes::draw(&*self.ports.entropy);
        let state = bytes::draw(&*self.ports.entropy);
        let verifier = PkceCodeVerifier::new(bytes::derive(&browser, "pkce"));
        let nonce = bytes::derive(&browser, "nonce");
        let client = provider.client(&metadata);
        let (given_state, given_nonce) = (state.clone(), nonce);
        let mut request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(given_state),
                move || Nonce::new(given_nonce),
            )
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .add_scopes(provider.config.scopes.iter().cloned().map(Scope::new));
        if let Some(Seconds(age)) = max_age {
            request = request.set_max_age(std::time::Duration::from_secs(age));
        }
        let (location, _, _) = request.url();
        let under_way = UnderWay {
            provider: name.clone(),
            return_to: on_this_site(return_to).unwrap_or("/").to_owned(),
            browser: Digest::of(browser.as_bytes()),
            max_age,
        };
        let value = serde_json::to_vec(&under_way).map_err(|_| SignInError::Unavailable)?;
        let now = self.ports.clock.now();
        let until = now.plus(SIGN_IN_LIFE);
        let key = bytes::store_key("sign-in", &state);
        if !self.ports.shelf.remember(&key, &value, until, now).await? {
            return Err(SignInError::Unavailable);
        }
        let cookie_name = self.sessions.sign_in_cookie_name();
        Ok(Start {
            location: without_fragment(location),
            cookie: self.sessions.cookie(cookie_name, browser, SIGN_IN_LIFE),
        })
    }

    /// Completes a sign-in: `sign_in_cookie` is the value [`Reviewers::begin`] set. A session the browser still
    /// has (`old_session`) is ended, whoever it belonged to, and a new id drawn.
    ///
    /// # Errors
    /// All of [`SignInError`]; nobody is signed in then, and an older session goes on.
    pub async fn finish(
        &self,
        params: CallbackParams,
        sign_in_cookie: Option<&str>,
        old_session: Option<&str>,
    ) -> Result<SignedIn, SignInError> {
        let browser = sign_in_cookie.filter(|cookie| sessions::is_id(cookie));
        let (Some(state), Some(browser)) = (params.state, browser) else {
            return Err(SignInError::Refused);
        };
        let now = self.ports.clock.now();
        let key = bytes::store_key("sign-in", &state);
        let under_way = self.ports.shelf.take(&key, now).await?;
        let under_way = under_way.ok_or(SignInError::Refused)?;
        let under_way: UnderWay =
            serde_json::from_slice(&under_way).map_err(|_| SignInError::Refused)?;
        if !bytes::same_digest(&under_way.browser, &Digest::of(browser.as_bytes())) {
            tracing::warn!(provider = %under_way.provider, "a sign-in came back to another browser");
            return Err(SignInError::Refused);
        }
        let provider = self.providers.get(&under_way.provider);
        let provider = provider.ok_or(SignInError::UnknownProvider)?;
        let fail = |trouble: Trouble| report(&under_way.provider, &trouble);
        let metadata = provider.metadata(false).await.map_err(fail)?;
        if !provider.response_issuer_holds(&metadata, params.issuer.as_deref()) {
            return Err(fail(Trouble::Token(
                "the answer names another issuer".into(),
            )));
        }
        let code = match (params.code, params.error) {
            (Some(code), false) => code,
            (_, true) => return Err(SignInError::Declined),
            (None, false) => return Err(SignInError::Refused),
        };
        let exchange = Exchange {
            code,
            verifier: bytes::derive(browser, "pkce"),
            nonce: bytes::derive(browser, "nonce"),
        };
        let mut identity = Box::pin(provider.redeem(exchange)).await.map_err(fail)?;
        let clock = &self.ports.clock;
        let now = clock.now();
        identity.auth_time = identity.auth_time.map(|at| clock.ours(at));
        if !recent_enough(&identity, under_way.max_age, now) {
            return Err(fail(Trouble::Token(
                "the person was not seen recently".into(),
            )));
        }
        let reviewer = reviewer(&provider.config, identity, now).map_err(fail)?;
        if let Some(old) = old_session {
            self.sessions.end(old).await?;
        }
        let life = Seconds(provider.config.session_seconds);
        let begun = self
            .sessions
            .begin(&under_way.provider, reviewer, life)
            .await;
        let (session_cookie, session) = begun?;
        Ok(SignedIn {
            session_cookie,
            sign_in_removal: self.sessions.sign_in_removal(),
            session,
            return_to: under_way.return_to,
        })
    }
}

fn recent_enough(identity: &Identity, max_age: Option<Seconds>, now: Time) -> bool {
    match (max_age, identity.auth_time) {
        (None, _) => true,
        (Some(age), Some(at)) => now <= at.plus(age).plus(LEEWAY),
        (Some(_), None) => false,
    }
}

fn reviewer(config: &PeopleConfig, identity: Identity, now: Time) -> Result<Reviewer, Trouble> {
    let groups = identity
        .groups
        .iter()
        .map(|group| group.parse::<GroupName>());
    Ok(Reviewer {
        person: Person {
            issuer: config.issuer.clone(),
            subject: identity.subject,
        },
        groups: groups
            .collect::<Result<_, _>>()
            .map_err(|_| Trouble::Token("one of its groups has no valid name".into()))?,
        evidence: Evidence {
            // Never later than now: a provider's clock may be a little ahead.
            auth_time: identity.auth_time.unwrap_or(now).min(now),
            acr: identity.acr,
            channel: "web".into(),
        },
    })
}

/// The path, if it is one a browser cannot read as another site: `/` or plain segments, no query.
fn on_this_site(path: &str) -> Option<&str> {
    let plain = |segment: &str| {
        !segment.is_empty()
            && segment
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let rest = path.strip_prefix('/').filter(|_| path.len() <= 256)?;
    (rest.is_empty() || rest.split('/').all(plain)).then_some(path)
}

fn report(provider: &str, trouble: &Trouble) -> SignInError {
    match trouble {
        Trouble::Unavailable(_) => {
            tracing::warn!(provider, reason = %trouble, "an identity provider does not work");
            SignInError::ProviderUnavailable
        }
        Trouble::CodeRefused | Trouble::Token(_) => {
            tracing::warn!(provider, reason = %trouble, "refused a sign-in");
            SignInError::Refused
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_042_only_plain_paths_on_this_site_are_returned_to() {
        for fine in ["/", "/requests/req_01abc", "/log"] {
            assert_eq!(on_this_site(fine), Some(fine));
        }
        for wrong in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a//b",
            "/a/../b",
            "/%2fevil.example",
            "/a?next=//evil.example",
            "/a#b",
            "/a\n",
            "/\t/evil",
            "javascript:x",
            "/a/",
            "/@evil.example",
            "/a:b",
            "evil",
        ] {
            assert_eq!(on_this_site(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_callback_parameter_given_twice_is_none_at_all() {
        let params = CallbackParams::parse("code=a&state=b&code=c");
        assert!(params.code.is_none() && params.state.is_none());
        let params = CallbackParams::parse("code=a&state=b&iss=x&session_state=y");
        assert_eq!(params.code.as_deref(), Some("a"));
        assert_eq!(params.issuer.as_deref(), Some("x"));
    }
}
