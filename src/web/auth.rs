//! The port to signing in: what the pages need of whoever knows people and sessions.
//!
//! The pages never see a token, a state or a cookie's meaning. They hand over the request's headers and
//! pass the `Set-Cookie` values they are given on to the browser.

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue};
use secrecy::SecretString;

use crate::domain::{RequestId, Reviewer};

/// An identity provider a person may choose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Provider {
    /// Its short name in `countersign.toml`.
    pub name: String,
    /// Its origin, such as `https://login.example.com`; the sign-in form may lead there.
    pub origin: String,
}

/// Where to send the browser to sign in.
#[derive(Debug)]
pub struct Departure {
    /// The provider's address, with our state in it.
    pub redirect: String,
    /// `Set-Cookie` values to send along.
    pub set_cookies: Vec<HeaderValue>,
}

/// A person who came back from the provider and is signed in.
#[derive(Debug)]
pub struct Arrival {
    /// What was given to [`SignIn::begin`].
    pub return_to: String,
    /// `Set-Cookie` values to send along.
    pub set_cookies: Vec<HeaderValue>,
    /// Who it is.
    pub reviewer: Reviewer,
}

/// A signed-in person's session, as a page needs it.
#[derive(Clone, Debug)]
pub struct WebSession {
    /// Who it is, as fresh as sessions keep it.
    pub reviewer: Reviewer,
    /// What the provider calls them; shown, never compared.
    pub display_name: String,
    /// What forms must send back; bound to this session.
    pub csrf_token: SecretString,
}

/// Why signing in did not work. The words people see are ours; nothing of the provider's answer is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignInError {
    /// There is no provider of that name.
    #[error("sign in: no such provider; choose one of the sign-in page")]
    UnknownProvider,
    /// The person or the provider broke it off.
    #[error("sign in: broken off at the provider; start again")]
    BrokenOff,
    /// The answer belongs to no sign-in of this browser, or to one that is too old or was used.
    #[error("sign in: the answer fits no sign-in under way; start again")]
    Stale,
    /// The provider's answer did not pass our checks.
    #[error("sign in: the provider's answer was refused; ask the operator to look at the log")]
    Refused,
    /// The provider or the session store does not answer.
    #[error("sign in: the provider or the session store is unavailable; try again")]
    Unavailable,
}

/// Signing people in and out, and knowing them again.
#[async_trait]
pub trait SignIn: Send + Sync + 'static {
    /// The providers to choose from, in the order to show them.
    fn providers(&self) -> Vec<Provider>;

    /// Starts signing in at `provider`. `return_to` comes back from [`SignIn::finish`] unchanged.
    ///
    /// # Errors
    /// [`SignInError::UnknownProvider`] or [`SignInError::Unavailable`]; nothing is remembered.
    async fn begin(&self, provider: &str, return_to: &str) -> Result<Departure, SignInError>;

    /// Ends signing in with the callback's query and the browser's cookies. At most one call succeeds for one `begin`.
    ///
    /// # Errors
    /// Any of [`SignInError`]; nobody is signed in.
    async fn finish(&self, query: &str, headers: &HeaderMap) -> Result<Arrival, SignInError>;

    /// The session the request's cookies name, if it lives. Changes nothing that matters.
    ///
    /// # Errors
    /// [`SignInError::Unavailable`] when nobody can tell.
    async fn session(&self, headers: &HeaderMap) -> Result<Option<WebSession>, SignInError>;

    /// Ends the session the cookies name, on the server too. Ending twice is fine.
    ///
    /// # Errors
    /// [`SignInError::Unavailable`] when it may still live.
    async fn end(&self, headers: &HeaderMap) -> Result<Vec<HeaderValue>, SignInError>;
}

/// Where a person may land after signing in: a page of ours, never a text that came from outside.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Landing {
    /// The inbox.
    #[default]
    Inbox,
    /// A request's page.
    Request(RequestId),
}

impl Landing {
    /// Reads one of exactly our two kinds of path; anything else is the inbox.
    pub(super) fn read(path: &str) -> Self {
        path.strip_prefix("/requests/")
            .and_then(|id| id.parse().ok())
            .map_or(Landing::Inbox, Landing::Request)
    }

    /// Its path.
    pub(super) fn path(&self) -> String {
        match self {
            Landing::Inbox => "/".into(),
            Landing::Request(id) => format!("/requests/{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Time;

    #[test]
    fn case_042_only_our_own_pages_are_landed_on() {
        let id = RequestId::draw(Time::from_millis(1), 1);
        let page = format!("/requests/{id}");
        assert_eq!(Landing::read(&page).path(), page);
        for elsewhere in [
            "//evil.example",
            "/\\evil.example",
            "https://evil.example/",
            "/requests//evil.example",
            "/requests/../sign-out",
            &format!("{page}/review"),
            &format!("{page}?x=1"),
            &format!("{page}\r\nset-cookie: a=b"),
            " /",
            "",
        ] {
            assert_eq!(Landing::read(elsewhere), Landing::Inbox, "{elsewhere:?}");
        }
    }
}
