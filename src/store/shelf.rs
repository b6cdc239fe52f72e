//! What identity remembers beside the ledger, under a key of the ledger's own: a row that somebody else wrote is none.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;

use super::{Store, StoreError};
use crate::domain::Time;
use crate::ledger::SigningKey;

/// Bytes of the seal before a value, and of its end after the seal.
const SEAL: usize = 32;
const EXPIRES: usize = 8;

/// Sessions, sign-in states and used token ids. Cheap to clone.
///
/// Whoever can write into the store can remove what is remembered, or put back what was removed before its time was
/// over; they cannot make anything up, move it to another key, or let it live longer.
#[derive(Clone)]
pub struct Shelf {
    store: Arc<dyn Store>,
    key: Arc<hmac::Key>,
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}

impl Shelf {
    /// The shelf in `store` of the brokers that sign with `key`.
    pub fn new(store: Arc<dyn Store>, key: &SigningKey) -> Self {
        let secret = key.derive("countersign shelf 1");
        let key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()));
        Self { store, key }
    }

    /// Remembers `value` under `key` until `expires`; see [`Store::remember`].
    ///
    /// # Errors
    /// The store's.
    pub async fn remember(
        &self,
        key: &str,
        value: &[u8],
        expires: Time,
        now: Time,
    ) -> Result<bool, StoreError> {
        let rest = [&expires.millis().to_be_bytes()[..], value].concat();
        let seal = hmac::sign(&self.key, &text(key, &rest));
        let sealed = [seal.as_ref(), &rest].concat();
        self.store.remember(key, &sealed, expires, now).await
    }

    /// What is remembered under `key` and not over at `now`.
    ///
    /// # Errors
    /// The store's.
    pub async fn recall(&self, key: &str, now: Time) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.store.recall(key, now).await?;
        Ok(found.and_then(|sealed| self.open(key, &sealed, now)))
    }

    /// Takes `key` out; see [`Store::take`].
    ///
    /// # Errors
    /// The store's.
    pub async fn take(&self, key: &str, now: Time) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.store.take(key, now).await?;
        Ok(found.and_then(|sealed| self.open(key, &sealed, now)))
    }

    /// Removes what was over at `now`.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self, now: Time) -> Result<(), StoreError> {
        self.store.sweep_remembered(now).await
    }

    fn open(&self, key: &str, sealed: &[u8], now: Time) -> Option<Vec<u8>> {
        let opened = sealed.split_at_checked(SEAL).and_then(|(seal, rest)| {
            hmac::verify(&self.key, &text(key, rest), seal).ok()?;
            rest.split_first_chunk::<EXPIRES>()
        });
        let Some((expires, value)) = opened else {
            tracing::error!(
                key,
                "what the store remembers here was not written by a broker of this ledger; it counts as absent"
            );
            return None;
        };
        (Time::from_millis(i64::from_be_bytes(*expires)) > now).then(|| value.to_vec())
    }
}

/// What the seal is over: the key, behind its length, then the rest.
fn text(key: &str, rest: &[u8]) -> Vec<u8> {
    let mut text = (key.len() as u64).to_be_bytes().to_vec();
    text.extend(key.as_bytes());
    text.extend(rest);
    text
}
