//! Reading a store on and on: while one page is folded, the next are read, hashed and decoded elsewhere. No more than
//! a few pages are held, however long the log is.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::{Store, StoreError, StoredEntry};
use crate::ledger::Decoded;

/// Pages under way at most.
const AHEAD: usize = 3;

/// A page of entries, each with what its bytes are.
pub type Page = Vec<(StoredEntry, Decoded)>;

/// Reads pages in their order. Nothing is known of an entry before a [`Reader`](crate::ledger::Reader) has taken it.
pub struct Pages {
    store: Arc<dyn Store>,
    /// Nothing is read ahead from here on.
    end: u64,
    under_way: VecDeque<Asked>,
}

struct Asked {
    from: u64,
    limit: usize,
    page: AbortOnDropHandle<Result<Page, StoreError>>,
}

impl Pages {
    /// Reads `store`, which is known to have `end` entries.
    pub fn new(store: Arc<dyn Store>, end: u64) -> Self {
        Self {
            store,
            end,
            under_way: VecDeque::new(),
        }
    }

    /// At most `limit` entries from `from` on, as [`Store::read`] has them; further pages are as long.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn next(&mut self, from: u64, limit: usize) -> Result<Page, StoreError> {
        let step = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        let first = self.under_way.front();
        if first.is_some_and(|asked| (asked.from, asked.limit) != (from, limit)) {
            self.under_way.clear();
        }
        if self.under_way.is_empty() && from.saturating_add(step) >= self.end {
            return Ok(decoded(self.store.read(from, limit).await?));
        }
        let last = self.under_way.back();
        let mut at = last.map_or(from, |asked| asked.from.saturating_add(step));
        while at < self.end && self.under_way.len() < AHEAD {
            self.ask(at, limit);
            at = at.saturating_add(step);
        }
        match self.under_way.pop_front() {
            Some(asked) => asked
                .page
                .await
                .unwrap_or_else(|stopped| Err(not_read(stopped))),
            None => Ok(Vec::new()),
        }
    }

    /// Ends what is under way, so that nothing of this holds the store any more.
    pub async fn stop(self) {
        for asked in self.under_way {
            asked.page.abort();
            drop(asked.page.await);
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the task ends with the pages that it belongs to"
    )]
    fn ask(&mut self, from: u64, limit: usize) {
        let store = Arc::clone(&self.store);
        let page = tokio::spawn(async move {
            let rows = store.read(from, limit).await?;
            let decoding = tokio::task::spawn_blocking(move || decoded(rows));
            decoding.await.map_err(not_read)
        });
        self.under_way.push_back(Asked {
            from,
            limit,
            page: AbortOnDropHandle::new(page),
        });
    }
}

fn decoded(rows: Vec<StoredEntry>) -> Page {
    let decode = |row: StoredEntry| {
        let decoded = Decoded::of(&row.bytes);
        (row, decoded)
    };
    rows.into_iter().map(decode).collect()
}

fn not_read(stopped: tokio::task::JoinError) -> StoreError {
    StoreError::Failed {
        operation: "read ledger entries",
        source: stopped.into(),
    }
}
