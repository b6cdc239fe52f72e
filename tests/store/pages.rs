//! Reading ahead gives the pages that reading one by one gives, and the same error at the same place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use countersign::store::{Fault, MemoryStore, Operation, Page, Pages, Store};

use super::batch;

async fn store(size: u64) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    store.append(batch(0, size, "entry")).await.unwrap();
    store
}

fn places(page: &Page) -> Vec<u64> {
    page.iter().map(|(row, _)| row.seq).collect()
}

#[tokio::test]
async fn pages_come_in_their_order_whatever_is_asked_for() {
    let store = store(95).await;
    let mut pages = Pages::new(Arc::clone(&store) as Arc<dyn Store>, 95);
    let mut read = Vec::new();
    loop {
        let page = pages.next(read.len() as u64, 10).await.unwrap();
        read.extend(places(&page));
        if page.len() < 10 {
            break;
        }
    }
    assert_eq!(read, (0..95).collect::<Vec<_>>());
    for (from, limit) in [
        (40, 10),
        (41, 10),
        (41, 1),
        (42, 1),
        (90, 50),
        (95, 10),
        (7, 3),
    ] {
        let page = pages.next(from, limit).await.unwrap();
        let end = (from + limit as u64).min(95);
        assert_eq!(places(&page), (from..end).collect::<Vec<_>>());
    }
    pages.stop().await;
    assert_eq!(Arc::strong_count(&store), 1, "nothing holds the store");
}

#[tokio::test]
async fn a_page_that_cannot_be_read_fails_in_its_turn() {
    let store = store(95).await;
    let reads = AtomicU32::new(0);
    store.set_faults(Some(Box::new(move |operation| {
        let third = operation == Operation::Read && reads.fetch_add(1, Ordering::SeqCst) == 2;
        if third { Fault::Fail } else { Fault::Proceed }
    })));
    let mut pages = Pages::new(Arc::clone(&store) as Arc<dyn Store>, 95);
    assert_eq!(places(&pages.next(0, 10).await.unwrap()).len(), 10);
    assert_eq!(places(&pages.next(10, 10).await.unwrap()).len(), 10);
    pages.next(20, 10).await.unwrap_err();
    pages.stop().await;
}
