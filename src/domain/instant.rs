//! How an instant is spelt: `2026-11-22T10:30:00.007Z`, always 24 characters. Every entry has several of them.

/// The shape of the text; a digit may be where it has a zero.
const SHAPE: &[u8; 24] = b"0000-00-00T00:00:00.000Z";

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Time;

    proptest! {
        #[test]
        fn any_instant_comes_back_as_it_was_spelt(millis in 0..=Time::MAX.millis()) {
            let spelt = Time::from_millis(millis).to_string();
            let number = spelt.as_bytes().first_chunk().and_then(digits);
            let back = number.map(text).map(|text| text.to_vec());
            prop_assert_eq!(back, Some(spelt.into_bytes()));
        }
    }

    #[test]
    fn another_spelling_has_no_number() {
        for spelt in [
            "2026-11-22 10:30:00.007Z",
            "2026-11-22T10:30:00.007z",
            "+026-11-22T10:30:00.007Z",
        ] {
            assert_eq!(
                spelt.as_bytes().first_chunk().and_then(digits),
                None,
                "{spelt}"
            );
        }
    }
}
