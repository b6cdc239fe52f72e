//! A request's page, and the two forms on it.

use axum::extract::rejection::{FormRejection, PathRejection};
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use maud::{Markup, html};
use serde::Deserialize;

use super::auth::WebSession;
use super::decision::{self, COMMENT_CHARS_MAX};
use super::guard::SignedIn;
use super::problem::Problem;
use super::sheet::Sheet;
use super::{Pages, facts, layout, text, timeline};
use crate::domain::command::Revoker;
use crate::domain::request::ReviewDecision;
use crate::domain::{Digest, RequestId};

type IdInPath = Result<Path<String>, PathRejection>;

/// `GET /requests/{id}`
pub(super) async fn show(
    State(pages): State<Pages>,
    SignedIn(session): SignedIn,
    path: IdInPath,
) -> Result<Response, Problem> {
    page(&pages, &session, &id_of(path)?, None).await
}

/// `GET /live/requests/{id}`: the page's main part, for the script that keeps it fresh.
pub(super) async fn live(
    State(pages): State<Pages>,
    SignedIn(session): SignedIn,
    path: IdInPath,
) -> Result<Markup, Problem> {
    let sheet = gather(&pages, &session, &id_of(path)?).await?;
    Ok(main(&sheet, &session, None))
}

/// What the review form sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReviewForm {
    csrf: String,
    digest: Digest,
    decision: ReviewDecision,
    #[serde(default)]
    comment: String,
}

/// `POST /requests/{id}/review`
pub(super) async fn review(
    State(pages): State<Pages>,
    signed_in: SignedIn,
    path: IdInPath,
    form: Result<Form<ReviewForm>, FormRejection>,
) -> Result<Response, Problem> {
    let id = id_of(path)?;
    let Form(form) = form.map_err(|_| Problem::bad_form())?;
    signed_in.check(&form.csrf)?;
    let comment = form.comment.replace("\r\n", "\n").trim().to_owned();
    if comment.chars().count() > COMMENT_CHARS_MAX {
        return Err(Problem::bad_form());
    }
    let session = signed_in.0;
    let reviewer = session.reviewer.clone();
    let comment = (!comment.is_empty()).then_some(comment);
    let decided = pages
        .broker
        .review(reviewer, &id, form.digest, form.decision, comment)
        .await;
    match decided {
        Ok(_) => Ok(back_to(&id)),
        Err(error) => explain(&pages, &session, &id, Problem::of(error)).await,
    }
}

/// What the revoke form sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeForm {
    csrf: String,
}

/// `POST /requests/{id}/revoke`
pub(super) async fn revoke(
    State(pages): State<Pages>,
    signed_in: SignedIn,
    path: IdInPath,
    form: Result<Form<RevokeForm>, FormRejection>,
) -> Result<Response, Problem> {
    let id = id_of(path)?;
    let Form(form) = form.map_err(|_| Problem::bad_form())?;
    signed_in.check(&form.csrf)?;
    let session = signed_in.0;
    let by = Revoker::Person(Box::new(session.reviewer.clone()));
    match pages.broker.revoke(by, &id).await {
        Ok(_) => Ok(back_to(&id)),
        Err(error) => explain(&pages, &session, &id, Problem::of(error)).await,
    }
}

fn id_of(path: IdInPath) -> Result<RequestId, Problem> {
    path.ok()
        .and_then(|Path(text)| text.parse().ok())
        .ok_or_else(Problem::not_found)
}

fn back_to(id: &RequestId) -> Response {
    Redirect::to(&format!("/requests/{id}")).into_response()
}

async fn gather(pages: &Pages, session: &WebSession, id: &RequestId) -> Result<Sheet, Problem> {
    Sheet::gather(&pages.broker, session, id)
        .await
        .map_err(Problem::of)?
        .ok_or_else(Problem::not_found)
}

async fn page(
    pages: &Pages,
    session: &WebSession,
    id: &RequestId,
    problem: Option<&Problem>,
) -> Result<Response, Problem> {
    let sheet = gather(pages, session, id).await?;
    let body = main(&sheet, session, problem);
    let page = layout::frame(&title(&sheet), Some(session), &body);
    let status = problem.map_or(StatusCode::OK, |problem| problem.status);
    Ok((status, page).into_response())
}

/// The request as it now is, under what went wrong; the bare problem when the request cannot be shown.
async fn explain(
    pages: &Pages,
    session: &WebSession,
    id: &RequestId,
    problem: Problem,
) -> Result<Response, Problem> {
    match page(pages, session, id, Some(&problem)).await {
        Ok(response) => Ok(response),
        Err(_) => Err(problem),
    }
}

fn title(sheet: &Sheet) -> String {
    let sealed = sheet.request.sealed();
    sheet
        .action
        .as_ref()
        .map_or_else(|| sealed.action.to_string(), |action| action.title.clone())
}

fn main(sheet: &Sheet, session: &WebSession, problem: Option<&Problem>) -> Markup {
    let id = sheet.request.id();
    html! {
        main #content .wide.request data-live={ "/live/requests/" (id) } data-version=(sheet.version()) data-now=(sheet.now.millis()) {
            @if let Some(problem) = problem {
                div.alert role="alert" {
                    p { strong { (problem.title) } }
                    p { (text::line(&problem.detail)) }
                }
            }
            div.heading {
                p.crumb { a href="/" { "Inbox" } }
                div.title-line { h1 { (text::line(&title(sheet))) } (layout::badge(&sheet.request)) }
                p.lead { code { (sheet.request.sealed().agent) } " asked " (text::when(sheet.request.submitted_at, sheet.now)) }
            }
            div.columns {
                div.reading {
                    (facts::asked(sheet))
                    (facts::scope(sheet))
                    (facts::context(sheet))
                }
                (decision::panel(sheet, session))
                div.record {
                    (timeline::section(sheet))
                    (facts::proof(sheet))
                }
            }
        }
    }
}
