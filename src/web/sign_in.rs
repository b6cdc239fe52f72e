//! Signing in and out.

use axum::extract::rejection::{FormRejection, PathRejection, QueryRejection};
use axum::extract::{Form, Path, Query, RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, HeaderValue, header};
use maud::html;
use serde::Deserialize;

use super::auth::{Landing, Provider};
use super::guard::{self, SignedIn};
use super::problem::Problem;
use super::{Pages, layout, text};

/// What may follow `/sign-in?`.
#[derive(Deserialize)]
pub(super) struct ReturnTo {
    #[serde(default)]
    return_to: String,
}

/// `GET /sign-in`: choose a provider.
pub(super) async fn choose(
    State(pages): State<Pages>,
    query: Result<Query<ReturnTo>, QueryRejection>,
) -> Response {
    let landing = query
        .map(|Query(query)| Landing::read(&query.return_to))
        .unwrap_or_default();
    let providers = pages.sign_in.providers();
    let body = html! {
        main #content .sign-in {
            div.card {
                h1 { "Sign in to review" }
                p.lead { "Agents ask for access here, and people like you countersign it." }
                @for provider in &providers {
                    form method="post" action={ "/sign-in/" (provider.name) } {
                        input type="hidden" name="return_to" value=(landing.path());
                        button.primary type="submit" { span { "Continue with " (text::line(&provider.name)) } }
                    }
                }
                @if providers.is_empty() {
                    p.note.warn { "No identity provider is configured. Add one under [people] in countersign.toml." }
                }
                p.note { "You are sent to your identity provider and come back here. Countersign never sees your password." }
            }
        }
    };
    let mut response = layout::frame("Sign in", None, &body).into_response();
    let origins: Vec<_> = providers
        .into_iter()
        .map(|Provider { origin, .. }| origin)
        .collect();
    if let Some(policy) = guard::sign_in_policy(&origins) {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// `POST /sign-in/{people}`: off to the provider.
pub(super) async fn begin(
    State(pages): State<Pages>,
    people: Result<Path<String>, PathRejection>,
    form: Result<Form<ReturnTo>, FormRejection>,
) -> Result<Response, Problem> {
    let Path(people) = people.map_err(|_| Problem::not_found())?;
    let Form(form) = form.map_err(|_| Problem::bad_form())?;
    let landing = Landing::read(&form.return_to).path();
    let departure = pages
        .sign_in
        .begin(&people, &landing)
        .await
        .map_err(Problem::sign_in)?;
    let response = Redirect::to(&departure.redirect).into_response();
    Ok(with_cookies(response, departure.set_cookies))
}

/// `GET /sign-in/callback`: back from the provider. What the provider wrote into the address is never shown.
pub(super) async fn callback(
    State(pages): State<Pages>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let arrival = pages
        .sign_in
        .finish(&query.unwrap_or_default(), &headers)
        .await
        .map_err(Problem::sign_in)?;
    pages
        .broker
        .note_sign_in(&arrival.reviewer)
        .await
        .map_err(Problem::of)?;
    let landing = Landing::read(&arrival.return_to).path();
    let response = Redirect::to(&landing).into_response();
    Ok(with_cookies(response, arrival.set_cookies))
}

/// What the sign-out form sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignOutForm {
    csrf: String,
}

/// `POST /sign-out`: the session ends on the server, and the browser forgets what it showed.
pub(super) async fn sign_out(
    State(pages): State<Pages>,
    signed_in: SignedIn,
    headers: HeaderMap,
    form: Result<Form<SignOutForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(|_| Problem::bad_form())?;
    signed_in.check(&form.csrf)?;
    let cookies = pages
        .sign_in
        .end(&headers)
        .await
        .map_err(Problem::sign_in)?;
    let person = &signed_in.0.reviewer.person;
    if let Err(error) = pages.broker.note_sign_out(person).await {
        // The session is over all the same; only its record is missing.
        tracing::warn!(%error, "a sign-out could not be recorded");
    }
    let mut response = Redirect::to("/sign-in").into_response();
    // Not "cookies": that would sign people out of every site of our domain.
    let forget = HeaderValue::from_static("\"cache\", \"storage\"");
    response.headers_mut().insert("clear-site-data", forget);
    Ok(with_cookies(response, cookies))
}

fn with_cookies(mut response: Response, cookies: Vec<HeaderValue>) -> Response {
    for mut cookie in cookies {
        cookie.set_sensitive(true);
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
