//! Text that did not come from us, made safe to look at; and times in words.
//!
//! Nothing is interpreted: no links, no markup, no mentions. What would be invisible, or would move other
//! text about, is shown as what it is: `U+202E`.

use maud::{Markup, Render, html};

use crate::domain::{Party, Person, Seconds, Time};

/// One line of foreign text: everything invisible is shown, line breaks too.
pub(super) fn line(text: &str) -> Markup {
    shown(text, false)
}

/// Foreign text of several lines: line breaks and tabs are kept.
pub(super) fn lines(text: &str) -> Markup {
    shown(text, true)
}

fn shown(text: &str, breaks: bool) -> Markup {
    let text = if breaks {
        text.replace("\r\n", "\n")
    } else {
        text.to_owned()
    };
    let mut pieces: Vec<Result<String, char>> = Vec::new();
    let mut marks = 0;
    for c in text.chars() {
        marks = if is_mark(c) { marks + 1 } else { 0 };
        let plain = (breaks && matches!(c, '\n' | '\t')) || !(is_hidden(c) || marks > 2);
        match (plain, pieces.last_mut()) {
            (true, Some(Ok(run))) => run.push(c),
            (true, _) => pieces.push(Ok(c.into())),
            (false, _) => pieces.push(Err(c)),
        }
    }
    html! {
        bdi {
            @for piece in &pieces {
                @match piece {
                    Ok(run) => { (run) }
                    Err(c) => { span.escape title="A character that cannot be seen" { (format!("U+{:04X}", u32::from(*c))) } }
                }
            }
        }
    }
}

/// Whether a character is invisible, reorders text, or has no agreed shape.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0xAD | 0x34F | 0x61C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F
            | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0x2800 | 0x3164
            | 0xE000..=0xF8FF | 0xFDD0..=0xFDEF | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0
            | 0xFFF0..=0xFFFB | 0xFFFE..=0xFFFF | 0x1_BCA0..=0x1_BCA3 | 0x1_D173..=0x1_D17A
            | 0xE_0000..=0x10_FFFF)
}

/// Marks that stack on the character before them; two are a letter of some language, more are a weapon.
fn is_mark(c: char) -> bool {
    matches!(u32::from(c),
        0x300..=0x36F | 0x483..=0x489 | 0x591..=0x5BD | 0x610..=0x61A | 0x64B..=0x65F
        | 0xE31 | 0xE34..=0xE3A | 0xE47..=0xE4E | 0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF
        | 0x20D0..=0x20FF | 0xFE20..=0xFE2F)
}

/// A person: the subject, and beside it the provider that vouches for it.
pub(super) fn person(person: &Person) -> Markup {
    html! {
        span.person title=(person.issuer.escape_debug()) { (line(&person.subject)) }
    }
}

/// A person or a group that answers for an agent.
pub(super) fn party(party: &Party) -> Markup {
    match party {
        Party::Person(owner) => person(owner),
        Party::Group(group) => html! { "everyone in " (line(group.as_str())) },
    }
}

/// An instant as words seen from `now`, exact in its attributes. With JavaScript, future ones count down.
pub(super) fn when(time: Time, now: Time) -> Markup {
    let future = time > now;
    html! {
        time datetime=(time) title=(exact(time)) data-countdown[future] { (relative(time, now)) }
    }
}

/// An instant to the second, for people: `22 Nov 2026, 10:30:00 UTC`.
pub(super) fn exact(time: Time) -> String {
    jiff::Timestamp::from_millisecond(time.millis())
        .map(|t| t.strftime("%-d %b %Y, %H:%M:%S UTC").to_string())
        .unwrap_or_else(|_| time.to_string())
}

/// `3 minutes ago`, `in 57 minutes`. Rounded so that it never promises more time than there is.
pub(super) fn relative(time: Time, now: Time) -> String {
    if time > now {
        return match time.since(now).0 {
            0 => "in a moment".into(),
            s => format!("in {}", coarse(s)),
        };
    }
    match now.since(time).0 {
        0..=9 => "just now".into(),
        s => format!("{} ago", coarse(s)),
    }
}

fn coarse(seconds: u64) -> String {
    match seconds {
        0..=89 => count(seconds, "second"),
        90..=5_399 => count(seconds / 60, "minute"),
        5_400..=172_799 => count(seconds / 3600, "hour"),
        _ => count(seconds / 86_400, "day"),
    }
}

/// A duration in full: `10 minutes`, `1 hour 30 minutes`.
pub(super) fn duration(of: Seconds) -> String {
    let parts = [
        (of.0 / 3600, "hour"),
        (of.0 / 60 % 60, "minute"),
        (of.0 % 60, "second"),
    ];
    let said: Vec<_> = parts
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| count(n, unit))
        .collect();
    if said.is_empty() {
        "no time at all".into()
    } else {
        said.join(" ")
    }
}

/// The text with a capital first.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

/// `1 minute`, `2 minutes`.
fn count(n: u64, unit: &str) -> String {
    if n == 1 {
        format!("1 {unit}")
    } else {
        format!("{n} {unit}s")
    }
}

/// A JSON value on one line, as foreign text. A text stands as it is; anything else as JSON.
pub(super) fn value(value: &serde_json::Value) -> Markup {
    match value {
        serde_json::Value::String(text) => line(text),
        other => line(&other.to_string()),
    }
}

/// Joins pieces with commas.
pub(super) fn listed<T: Render>(pieces: &[T]) -> Markup {
    html! {
        @for (n, piece) in pieces.iter().enumerate() {
            @if n > 0 { ", " }
            (piece)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_011_what_cannot_be_seen_is_shown() {
        let html = line("safe\u{202e}gpj.exe \u{200b}\u{e0041}\u{2066}x\u{7}\ny").into_string();
        for hidden in ["202E", "200B", "E0041", "2066", "0007", "000A"] {
            assert!(
                html.contains(&format!(">U+{hidden}</span>")),
                "{hidden}: {html}"
            );
        }
        assert!(!html.chars().any(is_hidden), "{html}");
        assert!(html.starts_with("<bdi>") && html.ends_with("</bdi>"));
    }

    #[test]
    fn case_011_stacked_marks_stop_at_two() {
        let html = line(&format!("a{}", "\u{301}".repeat(9))).into_string();
        assert_eq!(html.matches('\u{301}').count(), 2);
        assert_eq!(html.matches("U+0301").count(), 7);
    }

    #[test]
    fn case_013_markup_stays_text() {
        let html = lines("<script>x</script>\n[Approve](http://evil.example)").into_string();
        assert!(html.contains("&lt;script&gt;x&lt;/script&gt;\n[Approve](http://evil.example)"));
        assert!(!html.contains("<a"));
    }

    #[test]
    fn times_read_as_people_say_them() {
        let now = Time::from_millis(1_795_343_400_000);
        let at = |s: i64| relative(Time::from_millis(now.millis() + s * 1000), now);
        assert_eq!(at(0), "just now");
        assert_eq!(at(-45), "45 seconds ago");
        assert_eq!(at(-180), "3 minutes ago");
        assert_eq!(at(3_599), "in 59 minutes");
        assert_eq!(at(-7_200), "2 hours ago");
        assert_eq!(at(-400_000), "4 days ago");
        assert_eq!(exact(now), "22 Nov 2026, 10:30:00 UTC");
        assert_eq!(duration(Seconds(600)), "10 minutes");
        assert_eq!(duration(Seconds(5430)), "1 hour 30 minutes 30 seconds");
    }
}
