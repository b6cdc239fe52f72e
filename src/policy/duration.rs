//! Durations as people write them in the catalog: `90s`, `10m`, `1h`.

use crate::domain::Seconds;

/// What a duration looks like, for messages.
pub(super) const EXAMPLE: &str =
    "a whole number and its unit, s, m or h, such as \"90s\", \"10m\" or \"1h\"";

/// The longest duration a bundle can name: 30 days.
pub(super) const LONGEST: Seconds = Seconds(30 * 24 * 3600);

/// Parses one; `None` unless it is a whole number above zero, its unit, and at most [`LONGEST`].
pub(super) fn parse(text: &str) -> Option<Seconds> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let digits = text.get(..text.len() - 1)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = Seconds(digits.parse::<u64>().ok()?.checked_mul(unit)?);
    (Seconds(1)..=LONGEST).contains(&seconds).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_form() {
        assert_eq!(parse("90s"), Some(Seconds(90)));
        assert_eq!(parse("10m"), Some(Seconds(600)));
        assert_eq!(parse("1h"), Some(Seconds(3600)));
        for wrong in [
            "",
            "s",
            "10",
            "0s",
            "-1m",
            "1.5h",
            "1 h",
            "1d",
            "1h30m",
            "+5m",
            "99999999999999999999h",
            "721h",
            "５m",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
