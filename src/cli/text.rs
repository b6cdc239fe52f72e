//! Text for people: nothing in it can steer a terminal or read other than it is written (case 12).

use std::fmt::Write;

/// Whether a character could steer a terminal, hide, or reorder what is around it.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` on one line, with every unsafe character written as `\u{…}`.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            match c {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                c if is_unsafe(c) => {
                    let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
                }
                c => out.push(c),
            }
            out
        })
}

/// JSON with every unsafe character written as `\uXXXX`: the same JSON, harmless on a terminal.
pub(crate) fn plain_json(json: &str) -> String {
    json.chars()
        .fold(String::with_capacity(json.len()), |mut out, c| {
            if is_unsafe(c) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            } else {
                out.push(c);
            }
            out
        })
}

/// Reads `90`, `90s`, `10m`, `2h`, `1h30m` as seconds.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a duration; write it like 90s, 10m or 1h30m");
    let mut total = 0u64;
    let mut digits = String::new();
    for c in text.chars() {
        let unit = match c {
            '0'..='9' => {
                digits.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        total = count
            .checked_mul(unit)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        digits.clear();
    }
    if digits.is_empty() && !text.is_empty() {
        return Ok(total);
    }
    if total > 0 {
        return Err(wrong());
    }
    digits.parse().map_err(|_| wrong())
}

/// Seconds as people say them.
pub(crate) fn spell(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, rest) {
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, 0, _) => format!("{h}h"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

/// The instant in an RFC 3339 text, as milliseconds since 1970.
pub(crate) fn instant(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_millisecond)
}

/// An instant, in milliseconds since 1970, as RFC 3339 in whole seconds, rounded down.
pub(crate) fn seconds_of(millis: i64) -> String {
    let at = jiff::Timestamp::from_second(millis.div_euclid(1000));
    at.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// The known words closest to `wanted`, closest first; at most three, and none that is far off.
pub(crate) fn close_to<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut ranked: Vec<_> = known
        .map(|word| (distance(wanted, word), word))
        .filter(|(distance, word)| {
            *distance <= word.len().max(wanted.len()) / 3 || word.contains(wanted)
        })
        .collect();
    ranked.sort();
    ranked.into_iter().take(3).map(|(_, word)| word).collect()
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(100).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (cb, above) in b.iter().zip(row.iter().skip(1)) {
            let cost = (diagonal + usize::from(ca != *cb))
                .min(left + 1)
                .min(above + 1);
            diagonal = *above;
            left = cost;
            next.push(cost);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_012_text_cannot_steer_a_terminal() {
        let hostile = "a\u{1b}[2Jb\u{9b}31mc\u{7}\r\nd\u{202e}e\u{200b}f\u{e0041}";
        let shown = plain(hostile);
        assert_eq!(
            shown,
            "a\\u{1b}[2Jb\\u{9b}31mc\\u{7}\\u{d}\\nd\\u{202e}e\\u{200b}f\\u{e0041}"
        );
        let json = plain_json(&serde_json::to_string(hostile).unwrap());
        assert!(!json.chars().any(is_unsafe));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
    }

    #[test]
    fn ordinary_text_of_any_script_stays() {
        let text = "Grüße, 東京 – ok 🙂";
        assert_eq!(plain(text), text);
    }

    #[test]
    fn durations_have_units() {
        let read: Vec<_> = ["45", "45s", "10m", "1h30m", "1d"]
            .map(|text| seconds(text).unwrap())
            .into();
        assert_eq!(read, [45, 45, 600, 5400, 86_400]);
        for wrong in [
            "",
            "m",
            "10x",
            "1h30",
            "-5s",
            "99999999999999999999s",
            "1.5h",
        ] {
            assert!(seconds(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_slip_of_the_finger_finds_the_name() {
        let known = ["orders.report", "orders.refund", "customers.export"];
        assert_eq!(
            close_to("orders.raport", known.into_iter()),
            ["orders.report"]
        );
        assert_eq!(
            close_to("orders", known.into_iter()),
            ["orders.refund", "orders.report"]
        );
        assert!(close_to("zzz", known.into_iter()).is_empty());
    }
}
