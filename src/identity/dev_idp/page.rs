//! The page on which one chooses whom to be.

use maud::{DOCTYPE, Markup, html};

use super::{Ask, PEOPLE};

pub(super) const STYLE: &str = "\
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 28rem; margin: 3rem auto; padding: 0 1rem; }
.warning { border: 2px dashed #b45309; border-radius: .5rem; padding: .75rem 1rem; }
form { display: grid; gap: .75rem; margin-top: 1.5rem; }
button { font: inherit; text-align: left; padding: .75rem 1rem; border: 1px solid; border-radius: .5rem;
  background: transparent; color: inherit; cursor: pointer; }
button:hover, button:focus-visible { outline: 3px solid #2563eb; outline-offset: 2px; }
button small { display: block; opacity: .8; }
";

fn page(content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "DEVELOPMENT sign-in" }
                link rel="stylesheet" href="/style.css";
            }
            body { main { (content) } }
        }
    }
}

/// The people, each a button.
pub(super) fn choose(ask: &Ask) -> Markup {
    let hidden = [
        ("response_type", Some(&ask.response_type)),
        ("client_id", Some(&ask.client_id)),
        ("redirect_uri", Some(&ask.redirect_uri)),
        ("scope", Some(&ask.scope)),
        ("state", Some(&ask.state)),
        ("code_challenge", Some(&ask.code_challenge)),
        ("code_challenge_method", Some(&ask.code_challenge_method)),
        ("nonce", ask.nonce.as_ref()),
    ];
    page(&html! {
        h1 { "Who are you today?" }
        p class="warning" role="note" {
            strong { "DEVELOPMENT. " }
            "There are no passwords here: this sign-in proves nothing. "
            "Configure an identity provider before anything real depends on it."
        }
        form method="post" action="/authorize" {
            @for (name, value) in hidden {
                @if let Some(value) = value { input type="hidden" name=(name) value=(value); }
            }
            @for person in PEOPLE {
                button type="submit" name="person" value=(person.subject) {
                    "Sign in as " strong { (person.name) }
                    small { "groups: " (person.groups.join(", ")) }
                }
            }
        }
    })
}

/// The request is not one to answer.
pub(super) fn refused() -> Markup {
    page(&html! {
        h1 { "This sign-in cannot go on" }
        p class="warning" role="note" {
            strong { "DEVELOPMENT. " }
            "The request is not one of this broker's. Go back to the broker and begin again."
        }
    })
}
