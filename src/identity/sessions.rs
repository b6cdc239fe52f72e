//! What a browser holds once somebody signed in: an opaque 256-bit id in a cookie.
//!
//! The store keeps the session under the SHA-256 of the id, so a copy of the store signs nobody in. The
//! CSRF token follows from the id and is kept nowhere. Ending a session is a deletion: it holds at once,
//! at every broker on the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Ports, bytes};
use crate::domain::{Reviewer, Seconds, Time};
use crate::store::StoreError;

/// A cookie to set, as values; the surface writes the header.
#[derive(Clone, Debug)]
pub struct Cookie {
    /// Its name.
    pub name: &'static str,
    /// Its value; empty when the cookie is to be removed.
    pub value: SecretString,
    /// Only over `https`.
    pub secure: bool,
    /// Always true: scripts never see it.
    pub http_only: bool,
    /// Always `Lax`: coming back from the provider is a navigation, and must bring it along.
    pub same_site: &'static str,
    /// Always `/`, as the `__Host-` prefix demands.
    pub path: &'static str,
    /// How long the browser keeps it; zero removes it.
    pub max_age: Seconds,
}

/// Somebody is signed in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Who, with which groups, proven how.
    pub reviewer: Reviewer,
    /// The provider's name in `countersign.toml`.
    pub provider: String,
    /// Since when.
    pub created: Time,
    /// Until when.
    pub expires: Time,
}

/// Keeps sessions.
#[derive(Clone)]
pub struct Sessions {
    ports: Ports,
    secure: bool,
    /// The exact issuer of each configured provider.
    issuers: Arc<BTreeMap<String, String>>,
}

impl Sessions {
    /// `public_url` decides about the cookies' names and whether they are for `https` only. Sessions of
    /// providers that are not among `issuers` (any more) are over.
    pub(crate) fn new(ports: Ports, public_url: &Url, issuers: BTreeMap<String, String>) -> Self {
        Self {
            ports,
            secure: public_url.scheme() == "https",
            issuers: Arc::new(issuers),
        }
    }

    /// The name of the session cookie.
    pub fn cookie_name(&self) -> &'static str {
        if self.secure {
            "__Host-countersign"
        } else {
            "countersign"
        }
    }

    /// The name of the cookie that ties a sign-in to the browser that began it.
    pub fn sign_in_cookie_name(&self) -> &'static str {
        if self.secure {
            "__Host-countersign-sign-in"
        } else {
            "countersign-sign-in"
        }
    }

    pub(crate) fn cookie(&self, name: &'static str, value: String, max_age: Seconds) -> Cookie {
        Cookie {
            name,
            value: value.into(),
            secure: self.secure,
            http_only: true,
            same_site: "Lax",
            path: "/",
            max_age,
        }
    }

    /// The cookie that removes the session cookie from a browser.
    pub fn removal(&self) -> Cookie {
        self.cookie(self.cookie_name(), String::new(), Seconds(0))
    }

    /// The cookie that removes the sign-in cookie from a browser.
    pub fn sign_in_removal(&self) -> Cookie {
        self.cookie(self.sign_in_cookie_name(), String::new(), Seconds(0))
    }

    /// Begins a session under a new id.
    pub(crate) async fn begin(
        &self,
        provider: &str,
        reviewer: Reviewer,
        life: Seconds,
    ) -> Result<(Cookie, Session), StoreError> {
        let id = bytes::draw(&*self.ports.entropy);
        let now = self.ports.clock.now();
        let session = Session {
            reviewer,
            provider: provider.to_owned(),
            created: now,
            expires: now.plus(life),
        };
        let value = serde_json::to_vec(&session)
            .map_err(|error| StoreError::Damaged(format!("write a session: {error}")))?;
        let key = session_key(&id);
        let fresh = self
            .ports
            .shelf
            .remember(&key, &value, session.expires, now);
        if !fresh.await? {
            let problem = "begin a session: its random id is taken; check the source of randomness";
            return Err(StoreError::Damaged(problem.into()));
        }
        Ok((self.cookie(self.cookie_name(), id, life), session))
    }

    /// The session a cookie value belongs to, if it is still on.
    ///
    /// # Errors
    /// The store does not answer; nobody is signed in then.
    pub async fn session(&self, cookie: &str) -> Result<Option<Session>, StoreError> {
        if !is_id(cookie) {
            return Ok(None);
        }
        let now = self.ports.clock.now();
        let found = self.ports.shelf.recall(&session_key(cookie), now).await?;
        let session = found.and_then(|value| serde_json::from_slice::<Session>(&value).ok());
        Ok(session.filter(|session| {
            let issuer = self.issuers.get(&session.provider);
            now < session.expires && issuer == Some(&session.reviewer.person.issuer)
        }))
    }

    /// Ends a session, and returns it if it was on. Ending it twice is fine.
    ///
    /// # Errors
    /// The store does not answer: the session may still be on.
    pub async fn end(&self, cookie: &str) -> Result<Option<Session>, StoreError> {
        if !is_id(cookie) {
            return Ok(None);
        }
        let now = self.ports.clock.now();
        let taken = self.ports.shelf.take(&session_key(cookie), now).await?;
        Ok(taken.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// The token that forms of this session carry.
    pub fn csrf_token(&self, cookie: &str) -> SecretString {
        bytes::derive(cookie, "csrf").into()
    }

    /// Whether `token` is the one of this session; in constant time.
    pub fn csrf_token_holds(&self, cookie: &str, token: &str) -> bool {
        bytes::same(&bytes::derive(cookie, "csrf"), token)
    }
}

fn session_key(id: &str) -> String {
    bytes::store_key("session", id)
}

/// Whether a cookie value could be one of ours at all: exactly 256 bits in base64url.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 43 && bytes::decode(text).is_some_and(|bytes| bytes.len() == 32)
}
