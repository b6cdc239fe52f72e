//! How an instant is spelt: `2026-11-22T10:30:00.007Z`, always 24 characters. Every entry has several of them.

/// The shape of the text; a digit may be where it has a zero.
const SHAPE: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
const DAY: i64 = 86_400_000;
/// Days from 0000-03-01, where the count of days below begins, to 1970-01-01.
const TO_EPOCH: i64 = 719_468;
/// Days in 400 years.
const ERA: i64 = 146_097;

/// The 17 digits of a text of this shape, as one number.
pub fn digits(text: &[u8; 24]) -> Option<u64> {
    let mut number: u64 = 0;
    for (byte, shape) in text.iter().zip(SHAPE) {
        match (byte, shape) {
            (b'0'..=b'9', b'0') => number = number * 10 + u64::from(byte - b'0'),
            _ if byte == shape => {}
            _ => return None,
        }
    }
    Some(number)
}

/// The text with these digits, of which the last 17 count.
pub fn text(digits: u64) -> [u8; 24] {
    let (mut text, mut rest) = (*SHAPE, digits);
    for byte in text.iter_mut().rev().filter(|byte| **byte == b'0') {
        *byte += u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    text
}

/// The digits of an instant: milliseconds since 1970, not negative and before the year 10000.
pub(super) fn digits_of(millis: i64) -> u64 {
    let (days, time) = (millis / DAY + TO_EPOCH, millis % DAY);
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on, in which 153 days are five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + later;
    let (hour, minute) = (time / 3_600_000, time / 60_000 % 60);
    let date = (year * 100 + month) * 100 + day;
    let digits = (date * 100 + hour) * 100 + minute;
    u64::try_from(digits * 100_000 + time % 60_000).unwrap_or(0)
}

/// The instant of these digits; nothing before 1970, and no date or time that there is not.
pub(super) fn millis_of(digits: u64) -> Option<i64> {
    let digits = i64::try_from(digits).ok()?;
    let (date, time) = (digits / 1_000_000_000, digits % 1_000_000_000);
    let (year, month, day) = (date / 10_000, date / 100 % 100, date % 100);
    let (hour, minute, milli) = (time / 10_000_000, time / 100_000 % 100, time % 100_000);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || day < 1 {
        return None;
    }
    if hour > 23 || minute > 59 || milli > 59_999 {
        return None;
    }
    let (year, from_march) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let days = era * ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - TO_EPOCH;
    let millis = days * DAY + hour * 3_600_000 + minute * 60_000 + milli;
    // The thirtieth of February comes out as a day of March.
    (digits_of(millis) == u64::try_from(digits).ok()?).then_some(millis)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Time;

    proptest! {
        /// An independent implementation spells and reads the same.
        #[test]
        fn any_instant_is_spelt_and_read_as_a_library_does(millis in 0..=Time::MAX.millis()) {
            let theirs = jiff::Timestamp::from_millisecond(millis).unwrap();
            let ours = text(digits_of(millis));
            let theirs = format!("{theirs:.3}");
            prop_assert_eq!(theirs.as_bytes(), ours);
            prop_assert_eq!(digits(&ours).and_then(millis_of), Some(millis));
        }

        #[test]
        fn any_digits_are_the_instant_a_library_reads_or_none(
            year in 1960..2500_u64, month in 0..14_u64, day in 0..33_u64, hour in 0..25_u64, minute in 0..61_u64,
            milli in 0..61_000_u64
        ) {
            let number = ((((year * 100 + month) * 100 + day) * 100 + hour) * 100 + minute) * 100_000 + milli;
            let spelt = String::from_utf8(text(number).to_vec()).unwrap();
            let theirs = spelt.parse::<jiff::Timestamp>().map(|it| it.as_millisecond());
            match millis_of(number) {
                Some(ours) => prop_assert_eq!(theirs.unwrap(), ours),
                // The library knows years before 1970, and the leap second.
                None => prop_assert!(theirs.is_err() || year < 1970 || milli > 59_999, "{}", spelt),
            }
        }
    }
}
