//! Passwords and what PostgreSQL stores of them.
//!
//! The broker sends a SCRAM verifier, never the password: `log_statement`, `pg_stat_activity` and proxies see the
//! text of `CREATE ROLE`.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::system::Entropy;

/// What PostgreSQL itself uses, and the fewest that client libraries accept. A drawn password needs no more.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const LENGTH: usize = 40;

/// Draws 40 letters and digits: 238 bits, the same in a URL, a file and after SASLprep.
pub fn draw_password(entropy: &dyn Entropy) -> SecretString {
    let mut password = String::with_capacity(LENGTH);
    let mut bytes = Zeroizing::new([0_u8; 64]);
    while password.len() < LENGTH {
        entropy.fill(bytes.as_mut_slice());
        // 248 is the largest multiple of 62 in a byte: no letter is likelier than another.
        let letters = bytes
            .iter()
            .filter(|byte| **byte < 248)
            .filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        for letter in letters.take(LENGTH - password.len()) {
            password.push(char::from(*letter));
        }
    }
    SecretString::from(password)
}

/// The verifier of `password` with a drawn salt.
pub fn draw_verifier(password: &SecretString, entropy: &dyn Entropy) -> String {
    let mut salt = [0; 16];
    entropy.fill(&mut salt);
    verifier(password, &salt)
}

/// `SCRAM-SHA-256$4096:SALT$STORED_KEY:SERVER_KEY` (RFC 5803).
pub fn verifier(password: &SecretString, salt: &[u8]) -> String {
    let mut salted = Zeroizing::new([0_u8; 32]);
    let secret = password.expose_secret().as_bytes();
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, ITERATIONS, salt, secret, salted.as_mut_slice());
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_slice());
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    format!(
        "SCRAM-SHA-256${ITERATIONS}:{}${}:{}",
        encode(salt),
        encode(stored_key.as_ref()),
        encode(server_key.as_ref())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting;

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for (index, byte) in bytes.iter_mut().enumerate() {
                *byte = u8::try_from(index * 7 % 256).unwrap();
            }
        }
    }

    #[test]
    fn case_109_the_verifier_is_that_of_rfc_7677() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert_eq!(
            verifier(&SecretString::from("pencil"), &salt),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn passwords_are_forty_letters_and_digits() {
        let password = draw_password(&Counting);
        let text = password.expose_secret();
        assert_eq!(text.len(), LENGTH);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
