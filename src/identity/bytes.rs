//! Small things about bytes: base64url, drawn secrets, derived secrets, constant-time equality.

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::domain::Digest;
use crate::system::Entropy;

/// base64url without padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Strict base64url without padding: one text for one value.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// 256 fresh random bits as base64url.
pub(crate) fn draw(entropy: &dyn Entropy) -> String {
    let mut bytes = Zeroizing::new([0; 32]);
    entropy.fill(bytes.as_mut());
    encode(bytes.as_ref())
}

/// A secret that follows from another one, so that it need not be kept anywhere.
pub(crate) fn derive(secret: &str, purpose: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    encode(hmac::sign(&key, purpose.as_bytes()).as_ref())
}

/// Whether two texts are the same, in time that depends on their length only.
pub(crate) fn same(left: &str, right: &str) -> bool {
    constant_time::verify_slices_are_equal(left.as_bytes(), right.as_bytes()).is_ok()
}

/// Whether two digests are the same, in constant time.
pub(crate) fn same_digest(left: &Digest, right: &Digest) -> bool {
    constant_time::verify_slices_are_equal(&left.0, &right.0).is_ok()
}

/// The key under which the store keeps something about `secret`: never the secret itself.
pub(crate) fn store_key(kind: &str, secret: &str) -> String {
    format!("{kind}:{}", Digest::of(secret.as_bytes()))
}
