//! The facts of a request, and below them the agent's own words, fenced.
//!
//! Everything above the fence is computed from the sealed request. Nothing the agent wrote is above it,
//! apart from parameter values, which the catalog has checked and which are shown as values.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::sheet::{Sheet, Words};
use super::text;
use crate::domain::request::{Verdict, VerdictAnswer};

/// What is asked, of whom, for how long.
pub(super) fn asked(sheet: &Sheet) -> Markup {
    let submission = &sheet.request.submission;
    let sealed = sheet.request.sealed();
    html! {
        section.card aria-labelledby="asked" {
            h2 #asked { "What is asked" }
            dl.facts {
                div { dt { "Action" } dd {
                    code.strong { (sealed.action) }
                    @match &sheet.action {
                        Some(action) => { p.note { (text::line(&action.description)) } }
                        None => { p.note.warn { "The catalog has changed since this was asked; it can no longer be collected as it is." } }
                    }
                } }
                @if !sealed.parameters.is_empty() {
                    div { dt { "Parameters" } dd { (parameters(&sealed.parameters)) } }
                }
                div { dt { "Target" } dd {
                    code { (sealed.target) } span.quiet-text { ", which is " (sealed.server) }
                } }
                div { dt { "Lifetime" } dd {
                    (text::duration(sealed.ttl_seconds)) span.quiet-text { " from the moment it is issued" }
                } }
                div { dt { "Agent" } dd {
                    code { (sealed.agent) } span.quiet-text { " owned by " } (text::party(&submission.owner))
                } }
                div { dt { "On behalf of" } dd {
                    @match &submission.on_behalf_of {
                        Some(person) => { (text::person(person)) span.quiet-text { ", says the agent" } }
                        None => { span.quiet-text { "nobody; the agent asks for itself" } }
                    }
                } }
            }
        }
    }
}

fn parameters(given: &Map<String, Value>) -> Markup {
    html! {
        table.parameters {
            caption.sr { "Parameters" }
            thead.sr { tr { th scope="col" { "Name" } th scope="col" { "Value" } } }
            tbody {
                @for (name, value) in given {
                    tr {
                        th scope="row" { (text::line(name)) }
                        td {
                            code { (text::value(value)) }
                            @if !value.to_string().is_ascii() {
                                span.note.warn { "has letters beyond ASCII; some look like others" }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What the credential can do, in words and exactly, and how access ends.
pub(super) fn scope(sheet: &Sheet) -> Markup {
    let explained = &sheet.explanation;
    html! {
        section.card aria-labelledby="scope" {
            h2 #scope { "What the credential can do" }
            @if explained.words.is_empty() {
                p.note.warn { "This scope cannot be summarised. Read exactly what is sent before you decide." }
            } @else {
                ul.plain { @for fact in &explained.words { li { (text::line(&text::capital(fact))) } } }
            }
            details.exact open {
                summary { "Exactly what is sent to " code { (sheet.request.sealed().target) } }
                pre tabindex="0" aria-label="Exactly what is sent to the target" { code { (text::lines(&explained.exact)) } }
            }
            @if !explained.outlives.is_empty() {
                h3 { "What may outlive it" }
                ul.plain.warn { @for fact in &explained.outlives { li { (text::line(&text::capital(fact))) } } }
            }
            h3 { "How access ends" }
            ul.plain { @for fact in &explained.ending { li { (text::line(&text::capital(fact))) } } }
        }
    }
}

/// The agent's own words. They may say anything.
pub(super) fn context(sheet: &Sheet) -> Markup {
    html! {
        @if let Some(words) = &sheet.context {
            section.fence aria-labelledby="words" {
                h2 #words { "Written by the agent, not verified" }
                @match words {
                    Words::Erased => p.note { "These words were erased. The ledger still proves that they were there." },
                    Words::Kept(json) => (said(json)),
                }
            }
        }
    }
}

fn said(json: &str) -> Markup {
    match serde_json::from_str::<Map<String, Value>>(json) {
        Ok(members) => html! {
            dl {
                @for (name, value) in &members {
                    dt { (text::line(name)) }
                    dd { @match value {
                        Value::String(words) => (text::lines(words)),
                        other => (text::line(&other.to_string())),
                    } }
                }
            }
        },
        Err(_) => html! { p.words { (text::lines(json)) } },
    }
}

/// Which policies said what, under which bundle, about which digest.
pub(super) fn proof(sheet: &Sheet) -> Markup {
    let submission = &sheet.request.submission;
    html! {
        section.card aria-labelledby="proof" {
            h2 #proof { "What is on record" }
            dl.facts {
                (verdict_row(&sheet.request.verdict))
                div { dt { "Digest" } dd {
                    code.hash { (submission.digest) }
                    p.note { "SHA-256 over the agent, action, parameters, scope, target and lifetime above. An approval counts for this digest and nothing else." }
                } }
                div { dt { "Request" } dd { code.hash { (submission.request) } } }
                @if let Some(lease) = sheet.request.lease() {
                    div { dt { "Lease" } dd { code.hash { (lease) } } }
                }
            }
        }
    }
}

fn verdict_row(verdict: &Verdict) -> Markup {
    let said = match verdict.answer {
        VerdictAnswer::Allow => "Routine: goes through without a person",
        VerdictAnswer::Review => "People decide",
        VerdictAnswer::Deny => "Not for this agent",
    };
    html! {
        div { dt { "Policy" } dd {
            (said)
            @if !verdict.policies.is_empty() {
                span.quiet-text { " by " }
                @for (n, policy) in verdict.policies.iter().enumerate() {
                    @if n > 0 { ", " }
                    code { (text::line(policy)) }
                }
            }
            @for error in &verdict.errors { p.note.warn { (text::line(error)) } }
        } }
        div { dt { "Bundle" } dd { code title=(verdict.bundle) { (verdict.bundle.short()) } } }
    }
}
