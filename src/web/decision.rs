//! The decision panel: who has decided, what is still needed, and this person's form or the reason they have none.

use maud::{Markup, html};

use super::auth::WebSession;
use super::problem::{sentence, title_of};
use super::sheet::{Sheet, Tally, Words};
use super::{layout, text, timeline};
use crate::domain::command::RefusalCode;
use crate::domain::request::{Review, ReviewDecision};
use crate::domain::{Refusal, RequestState};

/// The longest comment, in characters.
pub(super) const COMMENT_CHARS_MAX: usize = 2_000;

/// The panel beside the facts.
pub(super) fn panel(sheet: &Sheet, session: &WebSession) -> Markup {
    html! {
        aside.panel aria-labelledby="decision" {
            (standing(sheet))
            (approvals(sheet))
            @if sheet.request.state == RequestState::Pending {
                @match &sheet.may_review {
                    Ok(()) => (form(sheet, session)),
                    Err(refusal) => {
                        (barred(sheet, session, refusal))
                        @if sheet.may_deny { (form(sheet, session)) }
                    }
                }
            }
            @if sheet.may_revoke { (revoke(sheet, session)) }
        }
    }
}

/// One headline for where it stands, and until when.
fn standing(sheet: &Sheet) -> Markup {
    let now = sheet.now;
    let until = |time| text::when(time, now);
    html! {
        @match &sheet.request.state {
            RequestState::Pending => {
                h2 #decision { "Decision" }
                p.note { "Lapses " (until(sheet.request.submission.pending_until)) " if nobody decides." }
            }
            RequestState::Approved { collect_until } => {
                h2 #decision { "Approved" }
                p.note { "The agent may collect the credential once; the offer lapses " (until(*collect_until)) "." }
            }
            RequestState::Issuing { .. } => {
                h2 #decision { "Being issued" }
                p.note { "The target is being called now." }
            }
            RequestState::Live { .. } => {
                h2 #decision { "Access is live" }
                @if let Some(expires) = sheet.expires { p.note { "Ends " (until(expires)) " or when the agent is done." } }
            }
            RequestState::Ending { cause, .. } => @if let Some((since, until_then)) = sheet.cut_off {
                h2 #decision { "Access is cut off" }
                p.note {
                    (timeline::ending(*cause)) ". The credential is seen to be denied everything, " (until(since))
                    "; it runs out for good " (until(until_then)) "."
                }
            } @else {
                h2 #decision { "Access is being ended" }
                p.note {
                    (timeline::ending(*cause)) ". "
                    @if let Some(since) = sheet.away {
                        "Its target went away " (until(since)) "; nothing can be ended there. It is ended, and proven gone, when the target is back."
                    } @else {
                        "It is retried until it is proven gone."
                    }
                }
            }
            RequestState::Closed { outcome, at } => {
                h2 #decision { (layout::standing(&sheet.request.state).1) }
                p.note { (timeline::closed(*outcome)) ", " (until(*at)) "." }
                @if !sheet.request.residue.is_empty() {
                    p.note.warn { "It did not leave the target as it was:" }
                    ul.plain { @for line in &sheet.request.residue { li { (text::line(line)) } } }
                }
            }
        }
    }
}

fn approvals(sheet: &Sheet) -> Markup {
    let waiting = sheet.request.state == RequestState::Pending;
    let counted = sheet
        .tally
        .as_ref()
        .filter(|_| waiting || !sheet.request.reviews.is_empty());
    html! {
        @if let Some(Tally { given, wanted, missing }) = counted {
            div.tally {
                p.tally-words { strong { (given) " of " (wanted) } @if *wanted == 1 { " approval" } @else { " approvals" } }
                div.pips aria-hidden="true" {
                    @for n in 0..(*wanted).min(12) { span.on[n < *given] {} }
                }
                @if waiting {
                    ul.needs { @for (group, owed) in missing {
                        li { "Still needs " (people(*owed)) " from " strong { (text::line(group.as_str())) } }
                    } }
                }
            }
        }
        @if !sheet.request.reviews.is_empty() {
            ul.reviews {
                @for (review, comment) in sheet.request.reviews.iter().zip(&sheet.comments) {
                    (given(sheet, review, comment.as_ref()))
                }
            }
        }
    }
}

fn given(sheet: &Sheet, review: &Review, comment: Option<&Words>) -> Markup {
    let (tone, verb) = match review.decision {
        ReviewDecision::Approve => ("good", "approved"),
        ReviewDecision::Deny => ("no", "denied"),
    };
    html! {
        li class=(tone) {
            p { strong { (text::person(&review.reviewer.person)) } " " (verb) " " span.quiet-text { (text::when(review.at, sheet.now)) } }
            @match comment {
                Some(Words::Kept(words)) => blockquote { (text::lines(words)) },
                Some(Words::Erased) => p.note { "The comment was erased." },
                None => {}
            }
        }
    }
}

fn people(n: u32) -> String {
    if n == 1 {
        "1 person".into()
    } else {
        format!("{n} people")
    }
}

/// The form, with what this person may decide. It carries the digest on this page: a decision counts for nothing else.
fn form(sheet: &Sheet, session: &WebSession) -> Markup {
    let id = sheet.request.id();
    let digest = &sheet.request.submission.digest;
    html! {
        form.decide method="post" action={ "/requests/" (id) "/review" } {
            (layout::token(session))
            input type="hidden" name="digest" value=(digest);
            label for="comment" { "Comment " span.quiet-text { "(optional, kept on record)" } }
            textarea #comment name="comment" rows="3" maxlength=(COMMENT_CHARS_MAX) {}
            p.note.sealed { "You decide about exactly these facts: digest " code { (digest.short()) } }
            div.choices {
                @if sheet.may_review.is_ok() {
                    button.approve type="submit" name="decision" value="approve" data-guard { "Approve" }
                }
                button.deny type="submit" name="decision" value="deny" data-guard { "Deny" }
            }
        }
    }
}

/// Why this person has no buttons.
fn barred(sheet: &Sheet, session: &WebSession, refusal: &Refusal) -> Markup {
    let own = sheet
        .request
        .reviews
        .iter()
        .find(|review| review.reviewer.person == session.reviewer.person);
    html! {
        div.barred role="note" {
            @if let (RefusalCode::AlreadyReviewed, Some(review)) = (refusal.code, own) {
                p { strong { @match review.decision {
                    ReviewDecision::Approve => "You approved this ",
                    ReviewDecision::Deny => "You denied this ",
                } (text::when(review.at, sheet.now)) "." } }
                p { "Your decision is on record. The others decide now." }
            } @else {
                p { strong { (title_of(refusal.code)) } }
                p { (text::line(&sentence(&refusal.detail))) }
                p { (text::line(&sentence(&refusal.next))) }
            }
        }
    }
}

fn revoke(sheet: &Sheet, session: &WebSession) -> Markup {
    html! {
        form.decide method="post" action={ "/requests/" (sheet.request.id()) "/revoke" } {
            (layout::token(session))
            p.note { "Ending it now cuts the agent off in the middle of what it does. It cannot be undone." }
            button.deny type="submit" data-guard { "Revoke access" }
        }
    }
}
