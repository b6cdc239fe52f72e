//! The faults that only the store in memory can make.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use countersign::domain::Time;
use countersign::ledger::SigningKey;
use countersign::store::{Fault, Head, MemoryStore, Operation, Shelf, Store, StoreError};
use futures::FutureExt;

use super::{batch, head_at};

fn always(fault: Fault) -> MemoryStore {
    let store = MemoryStore::new();
    store.set_faults(Some(Box::new(move |_| fault)));
    store
}

#[tokio::test]
async fn each_fault_does_what_it_says_to_an_append() {
    type Check = fn(Option<Result<(), StoreError>>) -> bool;
    let unknown: Check = |answer| matches!(answer, Some(Err(StoreError::Unknown { .. })));
    let cases: [(Fault, bool, Check); 7] = [
        (Fault::Proceed, true, |answer| {
            matches!(answer, Some(Ok(())))
        }),
        (Fault::Fail, false, |answer| {
            matches!(answer, Some(Err(StoreError::Failed { .. })))
        }),
        (Fault::Conflict, false, |answer| {
            matches!(answer, Some(Err(StoreError::Conflict)))
        }),
        (Fault::LoseRequest, false, unknown),
        (Fault::LoseAnswer, true, unknown),
        (Fault::HangBefore, false, |answer| answer.is_none()),
        (Fault::HangAfter, true, |answer| answer.is_none()),
    ];
    for (fault, written, expected) in cases {
        let store = always(fault);
        let answer = store.append(batch(0, 3, "x")).now_or_never();
        assert!(expected(answer), "{fault:?}");
        store.set_faults(None);
        let head = if written { head_at(3) } else { Head::default() };
        assert_eq!(store.head().await.unwrap(), head, "{fault:?}");
        let entries = store.read(0, 10).await.unwrap().len();
        assert_eq!(entries, if written { 3 } else { 0 }, "{fault:?}");
    }
}

#[tokio::test]
async fn a_read_is_never_unknown() {
    for fault in [
        Fault::Fail,
        Fault::Conflict,
        Fault::LoseRequest,
        Fault::LoseAnswer,
    ] {
        let answer = always(fault).head().await;
        assert!(
            matches!(answer, Err(StoreError::Failed { .. })),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn the_hook_is_asked_once_for_each_operation_and_may_choose() {
    let store = Arc::new(MemoryStore::new());
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    store.set_faults(Some(Box::new(move |operation| {
        count.fetch_add(1, Ordering::SeqCst);
        match operation {
            Operation::Take => Fault::LoseAnswer,
            _ => Fault::Proceed,
        }
    })));
    let (now, end) = (Time::from_millis(1), Time::from_millis(9));
    assert!(store.remember("k", b"v", end, now).await.unwrap());
    let taken = store.take("k", now).await;
    assert!(
        matches!(taken, Err(StoreError::Unknown { .. })),
        "{taken:?}"
    );
    assert_eq!(store.recall("k", now).await.unwrap(), None, "it happened");
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn an_append_wakes_who_waits_and_waiting_ends_by_itself() {
    let store = Arc::new(MemoryStore::new());
    let mut waiting = Box::pin(store.changed());
    assert!(waiting.as_mut().now_or_never().is_none());
    store.append(batch(0, 1, "x")).await.unwrap();
    assert!(waiting.now_or_never().is_some());
    store.changed().await;
}

/// A forged row, one under another key, and one made to live longer sign nobody in.
#[tokio::test]
async fn finding_b17_what_no_broker_remembered_is_not_recalled() {
    let store = Arc::new(MemoryStore::new());
    let key = |seed: u8| SigningKey::generate("log.example", |bytes| bytes.fill(seed)).unwrap();
    let shelf = Shelf::new(store.clone(), &key(1));
    let other = Shelf::new(store.clone(), &key(2));
    let at = Time::from_millis;
    let (now, end) = (at(1), at(1000));
    assert!(shelf.remember("session a", b"ana", end, now).await.unwrap());
    assert_eq!(
        shelf.recall("session a", now).await.unwrap().unwrap(),
        b"ana"
    );
    assert_eq!(other.recall("session a", now).await.unwrap(), None);
    store.tamper(|contents| {
        let row = contents.remembered["session a"].clone();
        contents.remembered.insert("session b".into(), row.clone());
        let mut changed = row.clone();
        *changed.0.last_mut().unwrap() ^= 1;
        contents.remembered.insert("session c".into(), changed);
        contents
            .remembered
            .insert("session d".into(), (b"ana".to_vec(), end));
        contents
            .remembered
            .insert("session a".into(), (row.0, at(9000)));
    });
    for forged in ["session b", "session c", "session d"] {
        assert_eq!(shelf.recall(forged, now).await.unwrap(), None, "{forged}");
        assert_eq!(shelf.take(forged, now).await.unwrap(), None, "{forged}");
    }
    assert!(shelf.recall("session a", at(999)).await.unwrap().is_some());
    assert_eq!(
        shelf.recall("session a", end).await.unwrap(),
        None,
        "over when it was to be over"
    );
}
