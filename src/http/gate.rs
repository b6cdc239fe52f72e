//! The [`Authenticator`] over `identity`: tokens of agents and the operator, sessions of people.

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::{HeaderMap, header};

use super::auth::{AccessToken, AuthError, Authenticator, Grant, GrantError, Principal, SignedIn};
use crate::broker::Broker;
use crate::domain::{Agent, AgentName, Digest};
use crate::identity::{self, AgentDirectory, Agents, Sessions};

/// Agents as the broker serves them now.
#[derive(Clone)]
pub struct Directory(pub Broker);

impl AgentDirectory for Directory {
    fn named(&self, name: &AgentName) -> Option<Agent> {
        self.0.agent(name)
    }

    fn with_key(&self, hash: &Digest) -> Vec<Agent> {
        self.0.agents_with_key(hash)
    }

    fn of_issuer(&self, issuer: &str, wanted: &dyn Fn(&Agent) -> bool) -> Vec<Agent> {
        self.0.agents_of_issuer(issuer, wanted)
    }
}

/// Agents and people, recognised by `identity`.
pub struct Gate {
    /// Agents and the operator.
    pub agents: Arc<Agents>,
    /// People.
    pub sessions: Sessions,
}

#[async_trait]
impl Authenticator for Gate {
    async fn bearer(&self, token: &str) -> Result<Principal, AuthError> {
        match self.agents.authenticate(token).await {
            Ok(identity::Principal::Agent(agent)) => Ok(Principal::Agent(agent)),
            Ok(identity::Principal::Operator) => Ok(Principal::Operator),
            Err(identity::AuthError::Unavailable) => Err(AuthError::Unavailable),
            Err(_) => Err(AuthError::Unauthenticated),
        }
    }

    async fn session(&self, headers: &HeaderMap) -> Result<Option<SignedIn>, AuthError> {
        let Some(cookie) = cookie(headers, self.sessions.cookie_name()) else {
            return Ok(None);
        };
        let found = self.sessions.session(cookie).await;
        let session = found.map_err(|error| {
            tracing::warn!(%error, "a session could not be looked up");
            AuthError::Unavailable
        })?;
        Ok(session.map(|session| SignedIn {
            reviewer: session.reviewer,
            csrf: self.sessions.csrf_token(cookie),
        }))
    }

    async fn exchange(&self, grant: Grant) -> Result<AccessToken, GrantError> {
        let grant = match grant {
            Grant::Workload { assertion } => identity::Grant::WorkloadToken(assertion),
            Grant::Key { assertion } => identity::Grant::ClientAssertion(assertion),
        };
        match self.agents.exchange(grant).await {
            Ok(identity::AccessToken {
                token, expires_in, ..
            }) => Ok(AccessToken {
                token,
                expires_in: expires_in.0,
            }),
            Err(identity::AuthError::Unavailable) => Err(GrantError::Unavailable),
            Err(error) => Err(GrantError::Invalid(error.to_string())),
        }
    }
}

/// The value of the cookie `name`, when it is there exactly once.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE);
    let mut values = all
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(given, _)| *given == name)
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_counts_when_it_is_there_once() {
        let found = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, line.parse().unwrap());
            }
            cookie(&headers, "__Host-countersign").map(ToOwned::to_owned)
        };
        assert_eq!(found(&["a=b; __Host-countersign=x"]), Some("x".into()));
        assert_eq!(found(&["a=b", "__Host-countersign=x"]), Some("x".into()));
        assert_eq!(found(&["__Host-countersign=x; __Host-countersign=y"]), None);
        assert_eq!(found(&["countersign=x"]), None);
    }
}
