//! Who is calling, and whether their kind may call this route.
//!
//! One guard stands in front of every route and denies by default: a route that [`super::access`] does not
//! list is not there. Bearer tokens are looked at first; a session cookie counts only where people may call,
//! and changes nothing without the session's CSRF token and a same-origin browser.

use std::fmt;

use async_trait::async_trait;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};

use super::Api;
use super::access::{self, Kind};
use super::problem::Problem;
use crate::domain::{Agent, AgentName, Request as Asked, RequestId, Reviewer};

/// Longest bearer token that is looked at.
const TOKEN_BYTES_MAX: usize = 512;

/// Who proves what; implemented over `identity` where the broker is put together.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Whose token this is: an agent's API key (`csk_`), an agent's access token (`cst_`) or the operator's (`cso_`).
    async fn bearer(&self, token: &str) -> Result<Principal, AuthError>;

    /// The person whose live session the request's cookie names, if any. The session is looked up, never believed.
    async fn session(&self, headers: &HeaderMap) -> Result<Option<SignedIn>, AuthError>;

    /// Exchanges a JWT for an access token.
    async fn exchange(&self, grant: Grant) -> Result<AccessToken, GrantError>;
}

/// Who is calling.
#[derive(Clone, Debug)]
pub enum Principal {
    /// An agent that is served.
    Agent(Agent),
    /// The holder of the operator token. Administers, reads all and revokes; never reviews.
    Operator,
    /// A signed-in person.
    Person(SignedIn),
}

/// A signed-in person and what protects their session from other sites.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Who, in which groups, recognised how.
    pub reviewer: Reviewer,
    /// The session's CSRF token.
    pub csrf: SecretString,
}

/// Why a token or a cookie proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthError {
    /// Unknown, expired, malformed, or of an agent that is no longer served.
    Unauthenticated,
    /// It could not be looked up now.
    Unavailable,
}

/// What is exchanged at `/v1/token`.
#[derive(Clone, Debug)]
pub enum Grant {
    /// A JWT of a configured workload issuer.
    Workload {
        /// The JWT.
        assertion: SecretString,
    },
    /// A JWT the agent signed with its own key (`private_key_jwt`).
    Key {
        /// The JWT.
        assertion: SecretString,
    },
}

/// An access token, handed over once.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// `cst_…`
    pub token: SecretString,
    /// How long it is good for, in seconds.
    pub expires_in: u64,
}

/// Why a JWT is not exchanged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GrantError {
    /// It proves nothing; what is wrong with it, without repeating it.
    Invalid(String),
    /// It could not be checked now (keys of its issuer are not reachable, say).
    Unavailable,
}

impl Principal {
    /// Its kind, for the route table.
    pub fn kind(&self) -> Kind {
        match self {
            Principal::Agent(_) => Kind::Agent,
            Principal::Operator => Kind::Operator,
            Principal::Person(_) => Kind::Person,
        }
    }

    /// The agent's name, if it is one.
    pub fn agent(&self) -> Option<&AgentName> {
        match self {
            Principal::Agent(agent) => Some(&agent.name),
            _ => None,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::Agent(agent) => write!(f, "agent:{}", agent.name),
            Principal::Operator => f.write_str("operator"),
            Principal::Person(person) => write!(f, "person:{}", person.reviewer.person),
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unauthenticated => {
                Problem::unauthenticated("the token is not known here or is over")
            }
            AuthError::Unavailable => {
                Problem::unavailable("not_ready", "who you are cannot be checked now")
            }
        }
    }
}

/// Stands in front of every route: authenticates, then lets through only the kinds the table names.
pub async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        return next.run(request).await;
    };
    let Some(route) = access::find(request.method(), path.as_str()) else {
        return next.run(request).await;
    };
    if route.kinds.is_empty() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let principal = match admit(&api, &parts, route.kinds).await {
        Ok(principal) => principal,
        Err(problem) => return problem.into_response(),
    };
    request = Request::from_parts(parts, body);
    tracing::Span::current().record("caller", tracing::field::display(&principal));
    request.extensions_mut().insert(principal);
    next.run(request).await
}

async fn admit(api: &Api, parts: &Parts, kinds: &[Kind]) -> Result<Principal, Problem> {
    let principal = identify(api, parts, kinds).await?;
    if !kinds.contains(&principal.kind()) {
        return Err(Problem::forbidden(access::who_may(kinds)));
    }
    if let Principal::Agent(agent) = &principal {
        api.rate.take(&agent.name, api.broker.now())?;
    }
    Ok(principal)
}

async fn identify(api: &Api, parts: &Parts, kinds: &[Kind]) -> Result<Principal, Problem> {
    if parts.headers.contains_key(header::AUTHORIZATION) {
        let token = bearer_token(&parts.headers).ok_or_else(|| {
            Problem::unauthenticated("the Authorization header is not one `Bearer TOKEN`")
        })?;
        return Ok(api.authenticator.bearer(token).await?);
    }
    if parts.headers.contains_key(header::COOKIE)
        && let Some(person) = api.authenticator.session(&parts.headers).await?
    {
        if kinds.contains(&Kind::Person) && changes_state(&parts.method) {
            check_same_site(api, parts, &person)?;
        }
        return Ok(Principal::Person(person));
    }
    Err(Problem::unauthenticated("nothing says who you are"))
}

/// The token, when there is exactly one well-formed `Authorization: Bearer`.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else {
        return None;
    };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    let fits = !token.is_empty()
        && token.len() <= TOKEN_BYTES_MAX
        && token.bytes().all(|b| b.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && fits).then_some(token)
}

fn changes_state(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// A cookie alone is not consent: the browser must say it comes from our own pages, and the page must know the token.
fn check_same_site(api: &Api, parts: &Parts, person: &SignedIn) -> Result<(), Problem> {
    let given = parts
        .headers
        .get("x-csrf-token")
        .map_or(&b""[..], |v| v.as_bytes());
    let wanted = person.csrf.expose_secret().as_bytes();
    let token_fits = verify_slices_are_equal(given, wanted).is_ok() && !wanted.is_empty();
    if token_fits && is_same_origin(&parts.headers, &api.origin) {
        return Ok(());
    }
    Err(Problem::new(
        axum::http::StatusCode::FORBIDDEN,
        "csrf_failed",
        "the call does not come from a page of this broker",
        "Load the page again and send its token as X-CSRF-Token from the same origin.",
    ))
}

/// Whether the browser says the request comes from `origin`. Absent headers are no proof of another site:
/// every browser that keeps cookies sends at least one of the two with a POST.
pub fn is_same_origin(headers: &HeaderMap, origin: &str) -> bool {
    let one = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    match (one("sec-fetch-site"), one("origin")) {
        (Some(site), _) if site != "same-origin" && site != "none" => false,
        (_, Some(from)) => from == origin,
        (Some(_), None) => true,
        (None, None) => false,
    }
}

/// The request `id` if this caller may see it. Foreign and unknown ids look the same.
///
/// # Errors
/// Not found, or the ledger does not answer.
pub async fn visible(api: &Api, caller: &Principal, id: &RequestId) -> Result<Asked, Problem> {
    let found = api.broker.request(id).await?;
    let seen = found.filter(|request| may_see(api, caller, request));
    seen.ok_or_else(Problem::not_found)
}

/// Whether this caller may know of the request: its agent, the operator, and people who may decide or have decided.
pub fn may_see(api: &Api, caller: &Principal, request: &Asked) -> bool {
    match caller {
        Principal::Agent(agent) => request.sealed().agent == agent.name,
        Principal::Operator => true,
        Principal::Person(SignedIn { reviewer, .. }) => {
            let mut reviews = request.reviews.iter();
            api.broker.may_review(reviewer, request).is_ok()
                || api.broker.may_revoke(reviewer, request)
                || reviews.any(|review| review.reviewer.person == reviewer.person)
        }
    }
}

/// The caller of a route that is not public.
#[derive(Debug)]
pub struct Caller(pub Principal);

/// The agent that calls.
#[derive(Debug)]
pub struct CallingAgent(pub Agent);

/// The person who calls.
#[derive(Debug)]
pub struct CallingPerson(pub Reviewer);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let principal = parts.extensions.get::<Principal>().cloned();
        principal.map(Caller).ok_or_else(Problem::not_found)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CallingAgent {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Caller::from_request_parts(parts, state).await?.0 {
            Principal::Agent(agent) => Ok(CallingAgent(agent)),
            _ => Err(Problem::forbidden(access::who_may(&[Kind::Agent]))),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CallingPerson {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Caller::from_request_parts(parts, state).await?.0 {
            Principal::Person(person) => Ok(CallingPerson(person.reviewer)),
            _ => Err(Problem::forbidden(access::who_may(&[Kind::Person]))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn only_one_well_formed_bearer_token_is_looked_at() {
        let token = |pairs: &[_]| bearer_token(&headers(pairs)).map(ToOwned::to_owned);
        assert_eq!(
            token(&[("authorization", "Bearer csk_a")]),
            Some("csk_a".into())
        );
        assert_eq!(
            token(&[("authorization", "bearer csk_a")]),
            Some("csk_a".into())
        );
        for wrong in [
            "Basic csk_a",
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer  a",
        ] {
            assert_eq!(token(&[("authorization", wrong)]), None, "{wrong:?}");
        }
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
        assert_eq!(token(&twice), None);
    }

    #[test]
    fn another_site_is_told_from_our_own() {
        let ours = "https://countersign.example";
        let same = |pairs: &[_]| is_same_origin(&headers(pairs), ours);
        assert!(same(&[("sec-fetch-site", "same-origin"), ("origin", ours)]));
        assert!(same(&[("origin", ours)]));
        assert!(!same(&[("sec-fetch-site", "same-site"), ("origin", ours)]));
        assert!(!same(&[("sec-fetch-site", "cross-site")]));
        assert!(!same(&[
            ("sec-fetch-site", "same-origin"),
            ("origin", "null")
        ]));
        assert!(!same(&[]));
    }
}
