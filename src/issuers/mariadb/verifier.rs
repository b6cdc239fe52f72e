//! What MariaDB stores of a password.
//!
//! The broker sends this and never the password: the general log and proxies see the text of `CREATE USER`.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::ExpandedSecretKey;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::config::MariadbAuthentication;

/// The plugin that checks leases' passwords.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plugin {
    /// `mysql_native_password`, which every client speaks.
    Native,
    /// `ed25519`.
    Ed25519,
}

impl From<MariadbAuthentication> for Plugin {
    fn from(configured: MariadbAuthentication) -> Self {
        match configured {
            MariadbAuthentication::Native => Plugin::Native,
            MariadbAuthentication::Ed25519 => Plugin::Ed25519,
        }
    }
}

impl Plugin {
    /// As `IDENTIFIED VIA` names it.
    pub fn name(self) -> &'static str {
        match self {
            Plugin::Native => "mysql_native_password",
            Plugin::Ed25519 => "ed25519",
        }
    }

    /// The condition, behind others, that the procedures put on a verifier.
    pub fn is_verifier(self) -> &'static str {
        match self {
            Plugin::Native => {
                "\n        AND LENGTH(verifier) = 41 AND verifier REGEXP '^[*][0-9A-F]{40}$'"
            }
            Plugin::Ed25519 => {
                "\n        AND LENGTH(verifier) = 43 AND verifier REGEXP '^[0-9A-Za-z+/]{43}$'"
            }
        }
    }

    /// What the server stores of `password`.
    pub fn verifier(self, password: &SecretString) -> String {
        match self {
            Plugin::Native => native(password),
            Plugin::Ed25519 => ed25519(password),
        }
    }
}

/// The hash of the hash. To log in takes the inner hash, which cannot be computed from it.
fn native(password: &SecretString) -> String {
    let sha1 = |bytes: &[u8]| digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let inner = sha1(password.expose_secret().as_bytes());
    format!("*{}", hex::encode_upper(sha1(inner.as_ref())))
}

/// The public key whose secret is hashed from the password.
fn ed25519(password: &SecretString) -> String {
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
        for (plugin, password, expected) in [
            (
                Plugin::Ed25519,
                "secret",
                "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY",
            ),
            (
                Plugin::Ed25519,
                "leasepw-123",
                "gAE48/zzSrjY5szMuA0/VrQHRv4v4HVt4NiG2JT9fLE",
            ),
            (
                Plugin::Native,
                "secret",
                "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7",
            ),
        ] {
            assert_eq!(plugin.verifier(&SecretString::from(password)), expected);
        }
    }
}
