//! `POST /v1/token`: a JWT for a short access token, in the words of OAuth 2.0 (RFC 6749, 7523).

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::http::body::{check_media_type, read};
use crate::http::{Api, Grant, GrantError, Problem};

const WORKLOAD_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const KEY_GRANT: &str = "client_credentials";
const KEY_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An error in OAuth's own shape.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"error": "invalid_grant", "error_description": "the assertion is over"}))]
pub struct OauthError {
    /// `invalid_request`, `unsupported_grant_type`, `invalid_grant`, `invalid_client` or `temporarily_unavailable`.
    error: &'static str,
    /// What is wrong.
    error_description: String,
}

fn refuse(status: StatusCode, error: &'static str, description: impl Into<String>) -> Response {
    let error = OauthError {
        error,
        error_description: description.into(),
    };
    (status, Json(error)).into_response()
}

/// What is sent, as a form.
#[derive(Debug, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the form; the handler reads it pair by pair"
)]
pub struct TokenForm {
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer` or `client_credentials`.
    grant_type: String,
    /// With the first: a JWT of a configured workload issuer.
    assertion: Option<String>,
    /// With the second: `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    client_assertion_type: Option<String>,
    /// With the second: a JWT signed with the agent's own key; `iss` and `sub` are its name, `aud` the broker's
    /// URL, with a fresh `jti` and at most five minutes to live.
    client_assertion: Option<String>,
}

/// Exchange a JWT for an access token
///
/// The token is opaque, good for ten minutes, and lets the agent ask; nothing more. A JWT is accepted here and
/// nowhere else. Refusals have OAuth's shape, not that of a problem document.
#[utoipa::path(
    post, path = "/v1/token", operation_id = "exchange_token", tag = "agents",
    request_body(
        content = TokenForm, content_type = "application/x-www-form-urlencoded",
        example = json!({"grant_type": WORKLOAD_GRANT, "assertion": "eyJhbGciOi…"})
    ),
    responses(
        (status = 200, description = "The access token, once.", body = Object,
            example = json!({"access_token": "cst_…", "token_type": "Bearer", "expires_in": 600})),
        (status = 400, description = "`error` is one of: invalid_request, unsupported_grant_type, invalid_grant", body = OauthError),
        (status = 401, description = "`error` is invalid_client", body = OauthError),
        (status = 503, description = "`error` is temporarily_unavailable", body = OauthError),
    )
)]
pub async fn exchange(State(api): State<Api>, request: Request) -> Response {
    let grant = match read_grant(request).await {
        Ok(grant) => grant,
        Err(refusal) => return refusal,
    };
    let is_key = matches!(grant, Grant::Key { .. });
    match api.authenticator.exchange(grant).await {
        Ok(token) => Json(json!({
            "access_token": token.token.expose_secret(),
            "token_type": "Bearer",
            "expires_in": token.expires_in,
        }))
        .into_response(),
        Err(GrantError::Invalid(detail)) if is_key => {
            refuse(StatusCode::UNAUTHORIZED, "invalid_client", detail)
        }
        Err(GrantError::Invalid(detail)) => {
            refuse(StatusCode::BAD_REQUEST, "invalid_grant", detail)
        }
        Err(GrantError::Unavailable) => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily_unavailable",
            "the assertion cannot be checked now; try again",
        ),
    }
}

async fn read_grant(request: Request) -> Result<Grant, Response> {
    let invalid = |what: &str| refuse(StatusCode::BAD_REQUEST, "invalid_request", what);
    let as_oauth = |problem: Problem| refuse(problem.status(), "invalid_request", problem.detail());
    if request.uri().query().is_some() {
        return Err(invalid(
            "send the form in the body; a URL is no place for an assertion",
        ));
    }
    check_media_type(request.headers(), "application/x-www-form-urlencoded").map_err(as_oauth)?;
    let bytes = read(request).await.map_err(as_oauth)?;
    let mut form = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(&bytes) {
        if form
            .insert(name.into_owned(), SecretString::from(value.into_owned()))
            .is_some()
        {
            return Err(invalid("a parameter stands twice"));
        }
    }
    let word = |name: &str| form.get(name).map(ExposeSecret::expose_secret);
    match word("grant_type") {
        Some(WORKLOAD_GRANT) => {
            let assertion = form
                .remove("assertion")
                .ok_or_else(|| invalid("assertion is missing"))?;
            Ok(Grant::Workload { assertion })
        }
        Some(KEY_GRANT) if word("client_assertion_type") == Some(KEY_ASSERTION) => {
            let assertion = form.remove("client_assertion");
            let assertion = assertion.ok_or_else(|| invalid("client_assertion is missing"))?;
            Ok(Grant::Key { assertion })
        }
        Some(KEY_GRANT) => Err(invalid(&format!(
            "client_assertion_type must be {KEY_ASSERTION}"
        ))),
        Some(_) => Err(refuse(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            format!("grant_type must be {WORKLOAD_GRANT} or {KEY_GRANT}"),
        )),
        None => Err(invalid("grant_type is missing")),
    }
}
