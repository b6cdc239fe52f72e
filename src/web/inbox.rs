//! The inbox: what waits for this person, what else is open, what is live, what is over.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::auth::WebSession;
use super::guard::SignedIn;
use super::problem::Problem;
use super::sheet::{Tally, ends_at, sealed_action, tally};
use super::{Pages, layout, text};
use crate::broker::BrokerError;
use crate::domain::command::RefusalCode;
use crate::domain::{Digest, Request, RequestState, Time};

/// How many requests that are over the inbox shows.
const HISTORY: usize = 12;
/// How many of the latest requests are looked through for them.
const LATEST: usize = 30;

/// One request, as a line of the inbox.
struct Row {
    request: Request,
    title: String,
    tally: Option<Tally>,
    /// Why this person cannot decide it, in a few words.
    aside: Option<&'static str>,
    expires: Option<Time>,
}

struct Inbox {
    now: Time,
    yours: Vec<Row>,
    others: Vec<Row>,
    live: Vec<Row>,
    over: Vec<Row>,
}

/// `GET /`
pub(super) async fn show(
    State(pages): State<Pages>,
    SignedIn(session): SignedIn,
) -> Result<Response, Problem> {
    let inbox = gather(&pages, &session).await.map_err(Problem::of)?;
    let title = match inbox.yours.len() {
        0 => "Inbox".to_owned(),
        n => format!("Inbox ({n})"),
    };
    Ok(layout::frame(&title, Some(&session), &main(&inbox)).into_response())
}

/// `GET /live/inbox`: the page's main part, for the script that keeps it fresh.
pub(super) async fn live(
    State(pages): State<Pages>,
    SignedIn(session): SignedIn,
) -> Result<Markup, Problem> {
    let inbox = gather(&pages, &session).await.map_err(Problem::of)?;
    Ok(main(&inbox))
}

async fn gather(pages: &Pages, session: &WebSession) -> Result<Inbox, BrokerError> {
    let broker = &pages.broker;
    let mut inbox = Inbox {
        now: broker.now(),
        yours: Vec::new(),
        others: Vec::new(),
        live: Vec::new(),
        over: Vec::new(),
    };
    for request in broker.open_requests(&|_| true) {
        let mut row = row(pages, request);
        match row.request.state {
            RequestState::Pending => match broker.may_review(&session.reviewer, &row.request) {
                Ok(()) => inbox.yours.push(row),
                Err(refusal) => {
                    row.aside = Some(aside(refusal.code));
                    inbox.others.push(row);
                }
            },
            RequestState::Live { .. } | RequestState::Ending { .. } => {
                row.expires = ends_at(broker, &row.request);
                inbox.live.push(row);
            }
            _ => inbox.others.push(row),
        }
    }
    let (latest, _) = broker.history(None, None, LATEST).await?;
    inbox.over = latest
        .into_iter()
        .filter(|request| matches!(request.state, RequestState::Closed { .. }))
        .take(HISTORY)
        .map(|request| row(pages, request))
        .collect();
    Ok(inbox)
}

fn row(pages: &Pages, request: Request) -> Row {
    let broker = &pages.broker;
    let action = sealed_action(broker, &request);
    Row {
        title: action.as_ref().map_or_else(
            || request.sealed().action.to_string(),
            |action| action.title.clone(),
        ),
        tally: tally(broker, &request),
        aside: None,
        expires: None,
        request,
    }
}

fn aside(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::SelfApproval => "Yours; others decide",
        RefusalCode::AlreadyReviewed => "You have decided",
        RefusalCode::NotAReviewer => "For other reviewers",
        _ => "Not yours to decide",
    }
}

/// Changes whenever the inbox would say something new.
fn version(inbox: &Inbox) -> String {
    let mut seen = String::new();
    for row in [&inbox.yours, &inbox.others, &inbox.live, &inbox.over]
        .into_iter()
        .flatten()
    {
        seen += row.request.id().as_str();
        seen += row.request.state.word();
        seen += &row.request.reviews.len().to_string();
    }
    Digest::of(seen.as_bytes()).short()
}

fn main(inbox: &Inbox) -> Markup {
    let waiting = inbox.yours.len();
    html! {
        main #content .wide.inbox data-live="/live/inbox" data-version=(version(inbox)) data-now=(inbox.now.millis()) {
            div.heading {
                h1 { "Inbox" }
                p.lead aria-live="polite" {
                    @match waiting {
                        0 => "Nothing waits for you.",
                        1 => "One request waits for you.",
                        n => { (n) " requests wait for you." }
                    }
                }
            }
            @if waiting == 0 { (empty()) } @else {
                section aria-labelledby="yours" {
                    h2.sr #yours { "Waiting for you" }
                    ul.cards { @for row in &inbox.yours { (card(row, inbox.now)) } }
                }
            }
            (list("others", "Also open", &inbox.others, inbox.now))
            (list("leases", "Live access", &inbox.live, inbox.now))
            (list("over", "Lately", &inbox.over, inbox.now))
        }
    }
}

fn empty() -> Markup {
    html! {
        div.empty {
            p { strong { "All quiet." } }
            p { "When an agent asks for something you may review, it appears here." }
        }
    }
}

/// A request that waits for this person: enough to recognise it, and the way to its page. It is decided there.
fn card(row: &Row, now: Time) -> Markup {
    let sealed = row.request.sealed();
    let submission = &row.request.submission;
    html! {
        li.card.ask {
            div.title-line {
                h3 { a.cover href={ "/requests/" (row.request.id()) } { (text::line(&row.title)) } }
                (approvals(row))
            }
            p.facts-line {
                code { (sealed.agent) } span.quiet-text { " owned by " } (text::party(&submission.owner))
                @if let Some(person) = &submission.on_behalf_of { span.quiet-text { " for " } (text::person(person)) }
            }
            (chips(row))
            p.foot-line {
                span { "asked " (text::when(row.request.submitted_at, now)) }
                span { "lapses " (text::when(submission.pending_until, now)) }
                span.go aria-hidden="true" { "Review" }
            }
        }
    }
}

fn chips(row: &Row) -> Markup {
    let sealed = row.request.sealed();
    html! {
        ul.chips aria-label="Facts" {
            @for (name, value) in &sealed.parameters {
                li { span.quiet-text { (text::line(name)) } " " code { (text::value(value)) } }
            }
            li { span.quiet-text { "target" } " " code { (sealed.target) } }
            li { span.quiet-text { "for" } " " (text::duration(sealed.ttl_seconds)) }
        }
    }
}

fn approvals(row: &Row) -> Markup {
    html! {
        @if let Some(Tally { given, wanted, .. }) = &row.tally {
            span.tally-small { (given) " of " (wanted) @if *wanted == 1 { " approval" } @else { " approvals" } }
        }
    }
}

fn list(id: &str, title: &str, rows: &[Row], now: Time) -> Markup {
    html! {
        @if !rows.is_empty() {
            section aria-labelledby=(id) {
                h2 id=(id) { (title) " " span.number { (rows.len()) } }
                ul.rows { @for row in rows { (compact(row, now)) } }
            }
        }
    }
}

fn compact(row: &Row, now: Time) -> Markup {
    let sealed = row.request.sealed();
    html! {
        li {
            div.main-part {
                a.cover href={ "/requests/" (row.request.id()) } { (text::line(&row.title)) }
                span.sub {
                    code { (sealed.agent) }
                    @for value in sealed.parameters.values() { " · " code { (text::value(value)) } }
                    " · " (sealed.target)
                }
            }
            span.state { (layout::badge(&row.request)) }
            span.when { (moment(row, now)) }
        }
    }
}

/// What matters about time in each state.
fn moment(row: &Row, now: Time) -> Markup {
    match &row.request.state {
        RequestState::Approved { collect_until } => {
            html! { "offer lapses " (text::when(*collect_until, now)) }
        }
        RequestState::Live { .. } => html! {
            @if let Some(expires) = row.expires { "ends " (text::when(expires, now)) }
        },
        RequestState::Closed { at, .. } => text::when(*at, now),
        _ => html! {
            @match row.aside {
                Some(words) => (words),
                None => (text::when(row.request.submitted_at, now)),
            }
        },
    }
}
