//! Bearer tokens the broker hands out itself: a prefix, 256 random bits, a checksum.
//!
//! `csk_` is an agent's API key, `cst_` an access token, `cso_` the operator's token. The prefix and the
//! checksum let secret scanners recognise a leaked one without asking us. Only the SHA-256 of the whole
//! text is ever kept. One token has exactly one spelling.

use secrecy::SecretString;
use zeroize::{Zeroize as _, Zeroizing};

use crate::domain::Digest;
use crate::system::Entropy;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX: usize = 4;
const BODY: usize = 43;
const CHECKSUM: usize = 6;

/// What a token is for; its first four characters say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    /// An agent's API key, `csk_`.
    ApiKey,
    /// An agent's access token, `cst_`.
    AccessToken,
    /// The operator's token, `cso_`.
    Operator,
}

impl TokenKind {
    /// The first four characters.
    pub fn prefix(self) -> &'static str {
        match self {
            TokenKind::ApiKey => "csk_",
            TokenKind::AccessToken => "cst_",
            TokenKind::Operator => "cso_",
        }
    }
}

/// Draws a token. The text is shown once; the digest is what is kept.
pub fn generate(kind: TokenKind, entropy: &dyn Entropy) -> (SecretString, Digest) {
    let mut bytes = Zeroizing::new([0; 32]);
    entropy.fill(bytes.as_mut());
    let mut text = String::with_capacity(PREFIX + BODY + CHECKSUM);
    text.push_str(kind.prefix());
    push_base62(&mut text, bytes.as_mut(), BODY);
    let mut sum = checksum(&text);
    push_base62(&mut text, &mut sum, CHECKSUM);
    let digest = Digest::of(text.as_bytes());
    (SecretString::from(text), digest)
}

/// The kind and digest of a well-formed token: exact length, alphabet and checksum; nothing is trimmed.
pub fn recognise(text: &str) -> Option<(TokenKind, Digest)> {
    let kind = [
        TokenKind::ApiKey,
        TokenKind::AccessToken,
        TokenKind::Operator,
    ]
    .into_iter()
    .find(|kind| text.starts_with(kind.prefix()))?;
    let (front, sum) = text.split_at_checked(PREFIX + BODY)?;
    let body = front.get(PREFIX..)?;
    let alphabetic = body.bytes().all(|b| b.is_ascii_alphanumeric());
    let mut expected = String::with_capacity(CHECKSUM);
    push_base62(&mut expected, &mut checksum(front), CHECKSUM);
    (alphabetic && super::bytes::same(sum, &expected)).then(|| (kind, Digest::of(text.as_bytes())))
}

/// The first 32 bits of the SHA-256 of what stands before the checksum.
fn checksum(front: &str) -> [u8; 4] {
    let Digest([a, b, c, d, ..]) = Digest::of(front.as_bytes());
    [a, b, c, d]
}

/// Appends the big-endian number `bytes` in base 62, padded to `width` digits. Uses `bytes` up.
fn push_base62(text: &mut String, bytes: &mut [u8], width: usize) {
    let mut digits = Zeroizing::new(vec![b'0'; width]);
    for digit in digits.iter_mut().rev() {
        let mut rest = 0u32;
        for byte in bytes.iter_mut() {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(0);
            rest = value % 62;
        }
        *digit = usize::try_from(rest)
            .ok()
            .and_then(|at| ALPHABET.get(at))
            .map_or(b'0', |&b| b);
    }
    bytes.zeroize();
    text.extend(digits.iter().map(|&b| char::from(b)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_base_62_reads_back() {
        for (bytes, text) in [
            ([0u8, 0, 0, 0], "000000"),
            ([0, 0, 0, 61], "00000z"),
            ([0, 0, 0, 62], "000010"),
            ([255, 255, 255, 255], "4gfFC3"),
        ] {
            let mut out = String::new();
            push_base62(&mut out, &mut bytes.clone(), 6);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn the_largest_secret_fits() {
        let mut out = String::new();
        let mut bytes = [255; 32];
        push_base62(&mut out, &mut bytes, BODY);
        assert_eq!(bytes, [0; 32], "43 digits hold 256 bits");
        assert_ne!(out.as_bytes()[0], b'0');
    }
}
