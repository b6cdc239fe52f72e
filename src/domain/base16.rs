//! Lower-case hexadecimal digits, of which an entry has hundreds.

const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// What no digit stands for.
const NONE: u8 = 16;

fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => NONE,
    }
}

/// The bytes that `digits` spell: exactly twice as many lower-case digits.
pub fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    if pairs.len() != N {
        return None;
    }
    let (mut bytes, mut seen) = ([0; N], 0);
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (value(*high), value(*low));
        seen |= high | low;
        *byte = (high << 4) | (low & 15);
    }
    (seen < NONE).then_some(bytes)
}

/// The two digits of a byte.
pub fn pair_of(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|value| DIGITS.get(usize::from(value)).copied().unwrap_or(b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_spelt_as_a_library_does(value in any::<[u8; 32]>()) {
            let theirs = hex::encode(value);
            let ours: Vec<u8> = value.into_iter().flat_map(pair_of).collect();
            prop_assert_eq!(theirs.as_bytes(), ours);
            prop_assert_eq!(bytes(theirs.as_bytes()), Some(value));
        }

        #[test]
        fn any_text_is_read_as_a_library_does_but_for_capitals(text in "[0-9a-gA-F]{0,6}") {
            let capitals = text.bytes().any(|byte| byte.is_ascii_uppercase());
            let theirs = hex::decode(&text).ok().filter(|_| !capitals);
            let theirs = theirs.and_then(|read| <[u8; 2]>::try_from(read).ok());
            prop_assert_eq!(bytes(text.as_bytes()), theirs);
        }
    }
}
