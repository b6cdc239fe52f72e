//! A sign-in that believes everybody: whoever is next at the door is let in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use axum::http::{HeaderMap, HeaderValue, header};
use countersign::domain::Reviewer;
use countersign::web::auth::{Arrival, Departure, Provider, SignIn, SignInError, WebSession};

use crate::support::rules;

/// Everybody of the sample shop, and their sessions.
#[derive(Default)]
pub struct People {
    next: Mutex<String>,
    drawn: AtomicU32,
    under_way: Mutex<HashMap<String, String>>,
    sessions: Mutex<BTreeMap<String, String>>,
    /// Where the provider is, and where it sends people back to; nowhere for tests without a network.
    pub provider: Mutex<Option<(String, String)>>,
    /// Answers [`SignInError::Unavailable`] to everything.
    pub away: std::sync::atomic::AtomicBool,
}

impl People {
    /// Who signs in next.
    pub fn at_the_door(&self, subject: &str) {
        *self.next.lock().unwrap() = subject.into();
    }

    /// A session as if this person had signed in; its cookie.
    pub fn enter(&self, subject: &str) -> String {
        let id = format!("session-{}", self.drawn.fetch_add(1, Ordering::SeqCst));
        let mut sessions = self.sessions.lock().unwrap();
        sessions.insert(id.clone(), subject.into());
        format!("countersign={id}")
    }

    /// The token forms of this cookie's session carry.
    pub fn token(cookie: &str) -> String {
        format!("token-of-{}", cookie.trim_start_matches("countersign="))
    }

    fn id(headers: &HeaderMap) -> Option<String> {
        let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
        let mut cookies = cookies.split("; ");
        cookies.find_map(|cookie| Some(cookie.strip_prefix("countersign=")?.to_owned()))
    }

    fn check(&self) -> Result<(), SignInError> {
        if self.away.load(Ordering::SeqCst) {
            Err(SignInError::Unavailable)
        } else {
            Ok(())
        }
    }
}

fn reviewer(subject: &str) -> Reviewer {
    let mut people = rules::people().into_iter();
    people
        .find(|reviewer| reviewer.person.subject == subject)
        .unwrap()
}

fn cookie(text: &str) -> Vec<HeaderValue> {
    vec![
        format!("{text}; Path=/; HttpOnly; SameSite=Lax")
            .parse()
            .unwrap(),
    ]
}

#[async_trait]
impl SignIn for People {
    fn providers(&self) -> Vec<Provider> {
        let provider = self.provider.lock().unwrap();
        let origin = provider.as_ref().map(|(origin, _)| origin.clone());
        vec![Provider {
            name: "staff".into(),
            origin: origin.unwrap_or_else(|| "https://idp.example".into()),
        }]
    }

    async fn begin(&self, provider: &str, return_to: &str) -> Result<Departure, SignInError> {
        self.check()?;
        if provider != "staff" {
            return Err(SignInError::UnknownProvider);
        }
        let state = format!("state-{}", self.drawn.fetch_add(1, Ordering::SeqCst));
        let mut under_way = self.under_way.lock().unwrap();
        under_way.insert(state.clone(), return_to.into());
        let callback = format!("/sign-in/callback?code=c&state={state}");
        Ok(Departure {
            redirect: match &*self.provider.lock().unwrap() {
                Some((provider, us)) => format!("{provider}/authorize?back={us}{callback}"),
                None => callback,
            },
            set_cookies: cookie(&format!("countersign-sign-in={state}")),
        })
    }

    async fn finish(&self, query: &str, _: &HeaderMap) -> Result<Arrival, SignInError> {
        self.check()?;
        if query.contains("error=") {
            return Err(SignInError::BrokenOff);
        }
        let state = query.rsplit("state=").next().unwrap_or_default();
        let known = self.under_way.lock().unwrap().remove(state);
        let return_to = known.ok_or(SignInError::Stale)?;
        let subject = self.next.lock().unwrap().clone();
        Ok(Arrival {
            return_to,
            set_cookies: cookie(&self.enter(&subject)),
            reviewer: reviewer(&subject),
        })
    }

    async fn session(&self, headers: &HeaderMap) -> Result<Option<WebSession>, SignInError> {
        self.check()?;
        let sessions = self.sessions.lock().unwrap();
        let Some(id) = Self::id(headers) else {
            return Ok(None);
        };
        Ok(sessions.get(&id).map(|subject| WebSession {
            reviewer: reviewer(subject),
            display_name: subject.clone(),
            csrf_token: Self::token(&id).into(),
        }))
    }

    async fn end(&self, headers: &HeaderMap) -> Result<Vec<HeaderValue>, SignInError> {
        self.check()?;
        let id = Self::id(headers).unwrap_or_default();
        self.sessions.lock().unwrap().remove(&id);
        Ok(cookie("countersign=; Max-Age=0"))
    }
}
