//! What PostgreSQL stores of a password.
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

    #[test]
    fn case_109_the_verifier_is_that_of_rfc_7677() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert_eq!(
            verifier(&SecretString::from("pencil"), &salt),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }
}
