//! The idempotency keys of the last day, as short hashes: a key that is not among them is new, and the store need not be
//! asked. Asking it for each new key would cost as much as deciding does.

use std::collections::HashSet;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::shared::Shared;
use crate::domain::{Digest, Entry, Event, Seconds, Time};
use crate::ledger::entry;
use crate::store::{Query, StoreError};

/// How long a key stands for its request.
pub(super) const KEY_LIFE: Seconds = Seconds(24 * 3600);
/// Keys held at most. With more in two days each one is looked up in the store again.
const MOST: usize = 1 << 20;
/// How soon what could not be read is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Entries read at once while the day is filled in.
const PAGE: usize = 1000;

/// Keys by the first eight bytes of their hash.
#[derive(Default)]
pub(super) struct Keys {
    held: Mutex<Held>,
    lost: Notify,
}

#[derive(Default)]
struct Held {
    young: HashSet<u64>,
    /// Those of a day before; the young ones take their place after a day.
    old: HashSet<u64>,
    /// When the first of the young ones came.
    turned: Time,
    /// Whether no key of the last day is missing.
    whole: bool,
    /// How often something came to be missing.
    losses: u64,
}

impl Keys {
    /// Whether the ledger may have `key` from the last day, as its index has it ([`entry::asked_with`]).
    pub(super) fn may_have(&self, key: &Digest) -> bool {
        let held = self.locked();
        let short = short(key);
        !held.whole || held.young.contains(&short) || held.old.contains(&short)
    }

    /// Takes in the keys of entries that are being published.
    pub(super) fn take(&self, entries: &[Entry]) {
        for entry in entries {
            if let Event::RequestSubmitted { submission, .. } = &entry.event
                && let Some(key) = &submission.idempotency_key
            {
                let key = entry::asked_with(&submission.sealed.agent, key);
                self.locked().take(&key, entry.time);
            }
        }
    }

    /// Entries were published that were not taken in one by one.
    pub(super) fn lose(&self) {
        self.locked().lose();
        self.lost.notify_one();
    }

    fn locked(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn take(&mut self, key: &Digest, at: Time) {
        if at >= self.turned.plus(KEY_LIFE) {
            self.old = mem::take(&mut self.young);
            self.turned = at;
        }
        if self.young.len() + self.old.len() < MOST {
            self.young.insert(short(key));
        } else {
            self.lose();
        }
    }

    fn lose(&mut self) {
        self.whole = false;
        self.losses += 1;
    }
}

fn short(key: &Digest) -> u64 {
    key.0
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Fills in the last day from the store, and again whenever what was held is lost, until the broker stops.
pub(super) async fn keep(shared: Arc<Shared>) {
    loop {
        let filled = fill(&shared).await;
        let again = async {
            match filled {
                Ok(()) => shared.keys.lost.notified().await,
                Err(error) => {
                    tracing::debug!(
                        error = error.in_full(),
                        "the keys of the last day could not be read; trying again"
                    );
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = again => {}
        }
    }
}

async fn fill(shared: &Shared) -> Result<(), StoreError> {
    let losses = shared.keys.locked().losses;
    let mut before = shared.world(|world| world.size);
    let since = shared.clock.now().minus(KEY_LIFE);
    loop {
        let query = Query {
            kind: Some("request.submitted".into()),
            since: Some(since),
            before: Some(before),
            limit: PAGE,
            ..Query::default()
        };
        let page = shared.store.find(&query).await?;
        let mut held = shared.keys.locked();
        for stored in &page {
            if let Some(key) = &stored.index.key {
                held.take(key, stored.index.time);
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => before = last.seq,
            _ => {
                held.whole = held.losses == losses;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_held_for_a_day_and_not_for_ever() {
        let begun = Time::from_millis(1_795_343_400_000);
        let mut held = Held {
            whole: true,
            ..Held::default()
        };
        let key = |name: &str| Digest::of(name.as_bytes());
        let later = |days: u64| begun.plus(Seconds(days * KEY_LIFE.0));
        held.take(&key("first"), begun);
        held.take(&key("just before"), begun.plus(Seconds(KEY_LIFE.0 - 1)));
        let keys = Keys {
            held: Mutex::new(held),
            lost: Notify::new(),
        };
        assert!(!keys.may_have(&key("new")));
        keys.locked().take(&key("next day"), later(1));
        assert!(keys.may_have(&key("first")) && keys.may_have(&key("just before")));
        keys.locked().take(&key("day after"), later(2));
        assert!(!keys.may_have(&key("just before")));
        assert!(keys.may_have(&key("next day")));
        keys.lose();
        assert!(keys.may_have(&key("new")), "nothing is ruled out");
    }
}
