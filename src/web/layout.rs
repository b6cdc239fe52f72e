//! The frame around every page, and the small parts pages share.

use maud::{DOCTYPE, Markup, html};
use secrecy::ExposeSecret;

use super::auth::WebSession;
use super::{assets, text};
use crate::domain::{Outcome, Request, RequestState};

/// A whole document around `main`. With a session, its owner's name and the way out are in the header.
pub(super) fn frame(title: &str, session: Option<&WebSession>, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) " · Countersign" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Addresses in an agent's words stay words, on phones too.
                meta name="format-detection" content="telephone=no, date=no, email=no, address=no";
                link rel="icon" type="image/svg+xml" href=(assets::icon());
                link rel="stylesheet" href=(assets::style());
                script src=(assets::script()) defer {}
            }
            body {
                a.skip href="#content" { "Skip to content" }
                header.top {
                    div.wide {
                        a.brand href="/" { (mark()) "Countersign" }
                        @if let Some(session) = session { (who(session)) }
                    }
                }
                (main)
            }
        }
    }
}

fn who(session: &WebSession) -> Markup {
    html! {
        form.who method="post" action="/sign-out" {
            span.name title=(session.reviewer.person.to_string().escape_debug()) {
                span.sr { "Signed in as " }
                (text::line(&session.display_name))
            }
            (token(session))
            button.quiet type="submit" { "Sign out" }
        }
    }
}

/// The product's mark: a ruled line, signed twice.
fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" focusable="false" {
            path.first d="M3 13.5c2.6-6 5-8.6 6.3-7.6 1.6 1.2-2.5 8.3-.6 8.3 1.5 0 2.6-3 4-3 1.2 0 .6 2.4 2 2.4 1.2 0 2-1.2 2.8-2.3" {}
            path.second d="M4 19h16" {}
        }
    }
}

/// The hidden field every form of a signed-in person has.
pub(super) fn token(session: &WebSession) -> Markup {
    html! {
        input type="hidden" name="csrf" value=(session.csrf_token.expose_secret());
    }
}

/// Where a request stands, as a small coloured word.
pub(super) fn badge(request: &Request) -> Markup {
    let (tone, word) = standing(&request.state);
    html! { span class={ "badge " (tone) } { (word) } }
}

/// The tone and the word for a state.
pub(super) fn standing(state: &RequestState) -> (&'static str, &'static str) {
    match state {
        RequestState::Pending => ("waiting", "Waiting"),
        RequestState::Approved { .. } => ("ready", "Approved"),
        RequestState::Issuing { .. } => ("ready", "Issuing"),
        RequestState::Live { .. } => ("live", "Live"),
        RequestState::Ending { .. } => ("waiting", "Ending"),
        RequestState::Closed { outcome, .. } => match outcome {
            Outcome::Completed => ("done", "Completed"),
            Outcome::Expired => ("over", "Expired"),
            Outcome::Abandoned => ("no", "Given up"),
            Outcome::Revoked => ("over", "Revoked"),
            Outcome::Withdrawn => ("over", "Withdrawn"),
            Outcome::Lapsed => ("over", "Lapsed"),
            Outcome::Denied => ("no", "Denied"),
            Outcome::Refused => ("no", "Refused by policy"),
            Outcome::Frozen => ("no", "Frozen"),
            Outcome::Stale => ("no", "Out of date"),
            Outcome::Failed => ("no", "Failed"),
        },
    }
}
