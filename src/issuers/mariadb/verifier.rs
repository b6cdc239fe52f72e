//! What MariaDB stores of a password.
//!
//! The broker sends an Ed25519 public key, never the password: the general log and proxies see the text of `CREATE USER`.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::ExpandedSecretKey;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

/// The verifier of the plugin `ed25519`: the public key whose secret is hashed from the password.
pub fn verifier(password: &SecretString) -> String {
    let hash = digest::digest(&digest::SHA512, password.expose_secret().as_bytes());
    let mut bytes = Zeroizing::new([0_u8; 64]);
    for (byte, hashed) in bytes.iter_mut().zip(hash.as_ref()) {
        *byte = *hashed;
    }
    let secret = ExpandedSecretKey::from_bytes(&bytes);
    BASE64_STANDARD_NO_PAD.encode(VerifyingKey::from(&secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_109_the_verifier_is_the_one_mariadb_computes() {
        for (password, expected) in [
            ("secret", "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY"),
            ("leasepw-123", "gAE48/zzSrjY5szMuA0/VrQHRv4v4HVt4NiG2JT9fLE"),
        ] {
            assert_eq!(verifier(&SecretString::from(password)), expected);
        }
    }
}
