//! Crockford's base 32 in lower case: 128 bits as the 26 digits of an id.

/// Digits of an id behind its prefix.
pub const DIGITS: usize = 26;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// What no digit stands for.
const NONE: u8 = 32;

/// What each byte stands for as a digit.
#[expect(
    clippy::indexing_slicing,
    reason = "a byte is below 256, and a constant has no other way"
)]
static VALUES: [u8; 256] = {
    let (mut values, mut value) = ([NONE; 256], 0);
    let mut alphabet: &[u8] = ALPHABET;
    while let Some((digit, rest)) = alphabet.split_first() {
        values[*digit as usize] = value;
        value += 1;
        alphabet = rest;
    }
    values
};

/// The number that `digits` spell, if they are digits and it has no more than 128 bits.
pub fn number(digits: &[u8; DIGITS]) -> Option<u128> {
    let mut number: u128 = 0;
    // 26 digits of five bits are 130; the first two of them are zero.
    let (b'0'..=b'7', _) = digits.split_first()? else {
        return None;
    };
    for digit in digits {
        let value = VALUES.get(usize::from(*digit)).copied()?;
        if value == NONE {
            return None;
        }
        number = (number << 5) | u128::from(value);
    }
    Some(number)
}

/// The digits of `number`.
pub fn digits(number: u128) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        let value = usize::try_from(rest & 31).unwrap_or(0);
        *digit = ALPHABET.get(value).copied().unwrap_or(b'0');
        rest >>= 5;
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// An independent implementation spells the same.
        #[test]
        fn any_number_is_spelt_as_a_ulid_is(value in any::<u128>()) {
            let theirs = ulid::Ulid(value).to_string().to_lowercase();
            let ours = digits(value);
            prop_assert_eq!(theirs.as_bytes(), ours);
            prop_assert_eq!(number(&ours), Some(value));
        }
    }

    #[test]
    fn other_digits_spell_nothing() {
        for text in [
            "8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "0000000000000000000000000u",
            "0000000000000000000000000A",
        ] {
            assert_eq!(
                number(text.as_bytes().first_chunk().unwrap()),
                None,
                "{text}"
            );
        }
    }
}
