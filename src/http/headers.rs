//! Request headers and query parameters the API understands, and the headers every answer carries.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::{Mistake, Problem};

/// Longest `Prefer: wait` that is honoured.
pub const WAIT_MAX: Duration = Duration::from_secs(50);
/// Longest idempotency key.
const KEY_CHARACTERS_MAX: usize = 255;
/// Page size when the client does not say, and the largest.
const PAGE: (usize, usize) = (50, 200);

/// `Prefer: wait=N` (RFC 7240), at most [`WAIT_MAX`]. Zero when absent or not understood: a preference is never an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefer(pub Duration);

impl<S: Send + Sync> FromRequestParts<S> for Prefer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.headers))
    }
}

impl Prefer {
    fn of(headers: &HeaderMap) -> Self {
        let all = headers.get_all("prefer");
        let wait = all
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split([',', ';']))
            .filter_map(|preference| preference.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
            .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse::<u32>().ok())
            .unwrap_or(0);
        Self(Duration::from_secs(wait.into()).min(WAIT_MAX))
    }

    /// Says in the answer what was honoured.
    #[must_use]
    pub fn applied(self, mut response: Response) -> Response {
        if let Ok(value) = HeaderValue::from_str(&format!("wait={}", self.0.as_secs()))
            && !self.0.is_zero()
        {
            let name = HeaderName::from_static("preference-applied");
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// An idempotency key, quoted (structured field) or bare.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdempotencyKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut all = parts.headers.get_all("idempotency-key").iter();
        let Some(first) = all.next() else {
            return Ok(Self(None));
        };
        let text = first.to_str().ok().map(str::trim);
        let key = text.map(|text| {
            text.strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .unwrap_or(text)
        });
        let fits = |key: &&str| {
            (1..=KEY_CHARACTERS_MAX).contains(&key.len())
                && key
                    .bytes()
                    .all(|b| (b' '..=b'~').contains(&b) && b != b'"' && b != b'\\')
        };
        match (key.filter(fits), all.next()) {
            (Some(key), None) => Ok(Self(Some(key.into()))),
            _ => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_idempotency_key",
                format!(
                    "an Idempotency-Key has 1 to {KEY_CHARACTERS_MAX} printable ASCII characters, once"
                ),
                "Send a fresh UUID, and the same one again when you retry.",
            )),
        }
    }
}

impl IdempotencyKey {
    /// The key, where one is required.
    ///
    /// # Errors
    /// A problem when it is missing.
    pub fn required(self) -> Result<String, Problem> {
        self.0.ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "idempotency_key_required",
                "without an Idempotency-Key a lost answer could not be told from a second attempt",
                "Send a fresh UUID as Idempotency-Key, and the same one again when you retry.",
            )
        })
    }
}

/// The one path parameter, as a `T`. What is no `T` is not there: it looks like an unknown one.
#[derive(Debug)]
pub struct Id<T>(pub T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parameters = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::not_found())?;
        let text = parameters.iter().next().map(|(_, value)| value);
        text.and_then(|text| text.parse().ok())
            .map(Id)
            .ok_or_else(Problem::not_found)
    }
}

/// Query parameters: each known and given once.
#[derive(Debug)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads the query of `parts`, which may have the parameters `known`.
    ///
    /// # Errors
    /// A problem that names the parameter that is unknown or repeated.
    pub fn of(parts: &Parts, known: &[&str]) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let mut all = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let short: String = name.chars().take(64).collect();
            if !known.contains(&name.as_ref()) {
                let detail = format!("is not a parameter here: {}", known.join(", "));
                return Err(Problem::mistake(
                    &format!("?{short}"),
                    "unknown_parameter",
                    detail,
                ));
            }
            if all.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(Self::wrong(&short, "is given twice"));
            }
        }
        Ok(Self(all))
    }

    /// A problem with a parameter's value.
    pub fn wrong(name: &str, detail: &str) -> Problem {
        Problem::invalid(vec![Mistake {
            pointer: format!("?{name}"),
            code: "invalid_value".into(),
            detail: detail.into(),
        }])
    }

    /// A parameter as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The page size.
    ///
    /// # Errors
    /// A problem when it is not a number in range.
    pub fn limit(&self) -> Result<usize, Problem> {
        let (default, most) = PAGE;
        let Some(text) = self.text("limit") else {
            return Ok(default);
        };
        let limit = text.parse().ok().filter(|n| (1..=most).contains(n));
        limit.ok_or_else(|| Self::wrong("limit", &format!("give a whole number from 1 to {most}")))
    }

    /// The cursor as a `T`.
    ///
    /// # Errors
    /// A problem when it is not one we gave.
    pub fn cursor<T: FromStr>(&self) -> Result<Option<T>, Problem> {
        let cursor = self.text("cursor").map(str::parse).transpose();
        cursor.map_err(|_| {
            Problem::mistake(
                "?cursor",
                "invalid_cursor",
                "is not a `next_cursor` of this list",
            )
        })
    }
}

/// Headers every answer of the broker carries; the pages put their own content policy over it.
pub async fn secure(request: Request, next: Next) -> Response {
    let api = request.uri().path().starts_with("/v1");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
    ];
    for (name, value) in fixed {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    if api {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        let vary = HeaderValue::from_static("authorization, cookie, prefer");
        headers.entry(header::VARY).or_insert(vary);
    }
    response
}

/// The answer to a path that is not there.
pub async fn unknown_path() -> Response {
    Problem::not_found().into_response()
}

/// The answer to a method that a path does not have.
pub async fn unknown_method() -> Response {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path does not have this method",
        "See /openapi.json for what it has.",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_understood_and_capped() {
        let wait = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", text.parse().unwrap());
            Prefer::of(&headers).0.as_secs()
        };
        for (text, seconds) in [
            ("wait=30", 30),
            ("respond-async, wait=7", 7),
            ("Wait = 5", 5),
            ("wait=\"9\"", 9),
            ("wait=51", 50),
            ("wait=4000000000", 50),
            ("wait=-1", 0),
            ("wait=x", 0),
            ("await=3", 0),
            ("return=minimal", 0),
            ("wait", 0),
            ("wait=99999999999999", 0),
        ] {
            assert_eq!(wait(text), seconds, "{text}");
        }
    }
}
