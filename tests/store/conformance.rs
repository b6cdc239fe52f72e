//! What every adapter promises. Each function runs on memory, SQLite and every PostgreSQL server.

use std::sync::Arc;

use countersign::domain::{Digest, LeaseId, RequestId, Time};
use countersign::store::{
    Batch, ENTRY_BYTES_MAX, FIND_LIMIT, Head, Query, Snapshot, Store, StoreError, StoredEntry,
};
use tokio::task::JoinSet;

use super::{Fixture, batch, blob, entry, head_at, tree_at};

macro_rules! on_every_adapter {
    ($($test:ident),+ $(,)?) => {
        on_every_adapter!(@ memory { $($test)+ });
        on_every_adapter!(@ sqlite { $($test)+ });
        on_every_adapter!(@ postgres { $($test)+ });
    };
    (@ $adapter:ident { $($test:ident)+ }) => {
        mod $adapter {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    for fixture in super::Fixture::$adapter().await {
                        super::$test(Arc::clone(&fixture.store)).await;
                        fixture.close().await;
                    }
                }
            )+
            use std::sync::Arc;
        }
    };
}

on_every_adapter!(
    an_empty_log_is_empty,
    entries_are_read_in_order_and_by_page,
    batches_of_every_size_come_back_as_they_were,
    l12_of_appends_at_one_size_exactly_one_wins,
    l06_no_reader_sees_a_gap_or_half_a_batch,
    a_malformed_batch_is_refused_whole,
    a_batch_that_lost_leaves_no_blob,
    entries_are_found_by_each_column,
    finding_pages_newest_first_and_is_capped,
    blobs_are_kept_once_and_erased,
    snapshots_are_replaced_by_newer_ones,
    remembered_things_are_over_when_they_are_over,
    case_071_remember_is_true_once_and_take_gives_once,
);

async fn an_empty_log_is_empty(store: Arc<dyn Store>) {
    assert_eq!(store.head().await.unwrap(), Head::default());
    assert_eq!(store.read(0, 10).await.unwrap(), []);
    assert_eq!(store.read(u64::MAX, 10).await.unwrap(), []);
    assert_eq!(store.snapshot().await.unwrap(), None);
    assert_eq!(store.blob(&Digest::of(b"")).await.unwrap(), None);
}

async fn entries_are_read_in_order_and_by_page(store: Arc<dyn Store>) {
    store.append(batch(0, 1, "first")).await.unwrap();
    store.append(batch(1, 24, "more")).await.unwrap();
    assert_eq!(store.head().await.unwrap(), head_at(25));
    let all = store.read(0, usize::MAX).await.unwrap();
    assert_eq!(all.len(), 25);
    assert_eq!(all[0], entry(0, "first"));
    let mut paged = Vec::new();
    loop {
        let page = store.read(paged.len() as u64, 10).await.unwrap();
        let last = page.len() < 10;
        paged.extend(page);
        if last {
            break;
        }
    }
    assert_eq!(paged, all);
    assert_eq!(store.read(25, 10).await.unwrap(), []);
    assert_eq!(store.read(3, 0).await.unwrap(), []);
}

async fn batches_of_every_size_come_back_as_they_were(store: Arc<dyn Store>) {
    let mut size = 0;
    let mut written = Vec::new();
    for count in [1, 3, 4, 17, 63, 256, 601] {
        let mut next = batch(size, count, "ünïcode \\u0000 'quoted'");
        let longest = next.entries.last_mut().unwrap();
        longest.bytes = (0..ENTRY_BYTES_MAX).map(|n| (n % 256) as u8).collect();
        written.extend(next.entries.clone());
        store.append(next).await.unwrap();
        size += count;
    }
    assert_eq!(store.read(0, usize::MAX).await.unwrap(), written);
    assert_eq!(store.head().await.unwrap(), head_at(size));
}

async fn l12_of_appends_at_one_size_exactly_one_wins(store: Arc<dyn Store>) {
    for round in 0..60 {
        let mut racers = JoinSet::new();
        for racer in 0..4 {
            let store = Arc::clone(&store);
            racers.spawn(async move {
                let won = store.append(batch(round, 1, &format!("{racer}"))).await;
                (racer, won)
            });
        }
        let mut winners = Vec::new();
        for (racer, outcome) in racers.join_all().await {
            match outcome {
                Ok(()) => winners.push(racer),
                Err(StoreError::Conflict) => {}
                Err(error) => panic!("round {round}: {error:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        let kept = store.read(round, 10).await.unwrap();
        assert_eq!(kept, [entry(round, &format!("{}", winners[0]))]);
    }
    let again = store.append(batch(0, 1, "again")).await;
    assert!(matches!(again, Err(StoreError::Conflict)), "{again:?}");
    let ahead = store.append(batch(61, 1, "ahead")).await;
    assert!(matches!(ahead, Err(StoreError::Conflict)), "{ahead:?}");
    assert_eq!(store.head().await.unwrap(), head_at(60));
}

async fn l06_no_reader_sees_a_gap_or_half_a_batch(store: Arc<dyn Store>) {
    let mut tasks = JoinSet::new();
    let writer = Arc::clone(&store);
    tasks.spawn(async move {
        for round in 0..40 {
            writer.append(batch(round * 5, 5, "five")).await.unwrap();
        }
    });
    for _ in 0..2 {
        let reader = Arc::clone(&store);
        tasks.spawn(async move {
            let mut seen = 0;
            while seen < 200 {
                let head = reader.head().await.unwrap();
                assert_eq!(head, head_at(head.size), "the head is of one moment");
                assert!(head.size >= seen, "the head went back");
                let entries = reader.read(0, usize::MAX).await.unwrap().len() as u64;
                assert!(entries >= head.size, "an acknowledged entry is missing");
                assert_eq!(entries % 5, 0, "half a batch");
                seen = head.size;
            }
        });
    }
    tasks.join_all().await;
}

async fn a_malformed_batch_is_refused_whole(store: Arc<dyn Store>) {
    type Spoil = fn(&mut Batch);
    let spoils: [(&str, Spoil); 8] = [
        ("no entries", |b| b.entries.clear()),
        ("a gap", |b| b.entries[1].seq = 9),
        ("a head that does not cover it", |b| b.head.size = 2),
        ("an entry of no bytes", |b| b.entries[2].bytes.clear()),
        ("an entry too long", |b| {
            b.entries[2].bytes = vec![b'x'; ENTRY_BYTES_MAX + 1];
        }),
        ("a NUL", |b| b.entries[2].index.actor = "a\0b".into()),
        ("a NUL in a signature", |b| {
            b.entries[1].signature = Some("a\0b".into());
        }),
        ("a NUL in the checkpoint", |b| {
            b.head.checkpoint = "\0".into()
        }),
    ];
    for (what, spoil) in spoils {
        let mut wrong = batch(0, 3, "x");
        wrong.blobs.push(blob("y"));
        spoil(&mut wrong);
        let refused = store.append(wrong).await;
        assert!(
            matches!(refused, Err(StoreError::Failed { .. })),
            "{what}: {refused:?}"
        );
        assert_eq!(store.head().await.unwrap(), Head::default(), "{what}");
        assert_eq!(store.read(0, 10).await.unwrap(), [], "{what}");
        assert_eq!(store.blob(&blob("y").sha256).await.unwrap(), None, "{what}");
    }
}

async fn a_batch_that_lost_leaves_no_blob(store: Arc<dyn Store>) {
    store.append(batch(0, 2, "won")).await.unwrap();
    let mut lost = batch(0, 2, "lost");
    lost.blobs.push(blob("lost"));
    let outcome = store.append(lost).await;
    assert!(matches!(outcome, Err(StoreError::Conflict)), "{outcome:?}");
    assert_eq!(store.blob(&blob("lost").sha256).await.unwrap(), None);
    assert_eq!(store.read(1, 10).await.unwrap(), [entry(1, "won")]);
}

/// Forty entries in which every column takes two values, or none.
fn varied() -> (Vec<StoredEntry>, RequestId, LeaseId) {
    let request = RequestId::draw(Time::from_millis(5), 5);
    let lease = LeaseId::draw(Time::from_millis(6), 6);
    let entries = (0..40).map(|seq| {
        let mut made = entry(seq, "varied");
        let index = &mut made.index;
        if seq % 2 == 0 {
            index.kind = "minted".into();
        }
        // Clocks of brokers differ: time is not in the order of the indexes.
        index.time = Time::from_millis(i64::try_from(seq ^ 1).unwrap() * 1000);
        index.request = (seq % 3 == 0).then(|| request.clone());
        index.lease = (seq % 4 == 0).then(|| lease.clone());
        index.agent = (seq % 5 != 0).then(|| format!("agent-{}", seq % 2));
        index.action = (seq % 5 != 1).then(|| format!("orders.{}", seq % 3));
        index.actor = format!("person:{} https://idp.example", seq % 4);
        index.outcome = (seq % 7 == 0).then(|| "completed".into());
        index.key = (seq % 6 == 0).then(|| Digest::of(&[u8::from(seq % 4 == 0)]));
        made
    });
    (entries.collect(), request, lease)
}

/// Whether a query, restricted so, finds exactly the entries that are as expected, newest first.
async fn finds(
    (store, entries): &(Arc<dyn Store>, Vec<StoredEntry>),
    restrict: &dyn Fn(&mut Query),
    expected: &dyn Fn(&StoredEntry) -> bool,
) {
    let mut query = Query {
        limit: 100,
        ..Query::default()
    };
    restrict(&mut query);
    let found = store.find(&query).await.unwrap();
    let newest_first = entries.iter().rev().filter(|e| expected(e)).cloned();
    assert_eq!(found, newest_first.collect::<Vec<_>>(), "{query:?}");
}

async fn entries_are_found_by_each_column(store: Arc<dyn Store>) {
    let (entries, request, lease) = varied();
    let all = Batch {
        expected: tree_at(0),
        entries: entries.clone(),
        blobs: Vec::new(),
        head: head_at(40),
    };
    store.append(all).await.unwrap();
    let person = "person:3 https://idp.example";
    let from = Time::from_millis(11_000);
    let text = |text: &str| Some(text.to_owned());
    let on = (store, entries);
    finds(&on, &|_| {}, &|_| true).await;
    finds(&on, &|q| q.kind = text("minted"), &|e| e.seq % 2 == 0).await;
    let of_request = |q: &mut Query| q.request = Some(request.clone());
    finds(&on, &of_request, &|e| e.seq % 3 == 0).await;
    let of_lease = |q: &mut Query| q.lease = Some(lease.clone());
    finds(&on, &of_lease, &|e| e.seq % 4 == 0).await;
    let of_agent = |e: &StoredEntry| e.index.agent.as_deref() == Some("agent-1");
    finds(&on, &|q| q.agent = text("agent-1"), &of_agent).await;
    let of_action = |e: &StoredEntry| e.index.action.as_deref() == Some("orders.2");
    finds(&on, &|q| q.action = text("orders.2"), &of_action).await;
    finds(&on, &|q| q.actor = text(person), &|e| {
        e.index.actor == person
    })
    .await;
    finds(&on, &|q| q.outcome = text("completed"), &|e| e.seq % 7 == 0).await;
    let of_key = |q: &mut Query| q.key = Some(Digest::of(&[1]));
    finds(&on, &of_key, &|e| e.seq % 12 == 0).await;
    finds(&on, &|q| q.key = Some(Digest::of(b"none")), &|_| false).await;
    finds(&on, &|q| q.since = Some(from), &|e| e.index.time >= from).await;
    finds(&on, &|q| q.until = Some(from), &|e| e.index.time < from).await;
    finds(&on, &|q| q.before = Some(7), &|e| e.seq < 7).await;
    finds(&on, &|q| q.before = Some(u64::MAX), &|_| true).await;
    let injected = "minted' OR '1'='1";
    finds(&on, &|q| q.kind = text(injected), &|_| false).await;
    let by_everything = |q: &mut Query| {
        of_request(q);
        of_lease(q);
        of_key(q);
        q.kind = text("minted");
        q.agent = text("agent-0");
        q.action = text("orders.0");
        q.actor = text("person:0 https://idp.example");
        q.since = Some(Time::from_millis(1));
        q.until = Some(Time::from_millis(36_000));
        q.before = Some(30);
    };
    finds(&on, &by_everything, &|e| [12, 24].contains(&e.seq)).await;
}

async fn finding_pages_newest_first_and_is_capped(store: Arc<dyn Store>) {
    let more = FIND_LIMIT as u64 + 10;
    store.append(batch(0, more, "many")).await.unwrap();
    let mut query = Query {
        kind: Some("submitted".into()),
        limit: usize::MAX,
        ..Query::default()
    };
    let found = store.find(&query).await.unwrap();
    assert_eq!(found.len(), FIND_LIMIT);
    assert_eq!(found[0].seq, more - 1);
    query.before = Some(found[FIND_LIMIT - 1].seq);
    let rest = store.find(&query).await.unwrap();
    assert_eq!(
        rest.iter().map(|e| e.seq).collect::<Vec<_>>(),
        (0..10).rev().collect::<Vec<_>>()
    );
    query.limit = 0;
    assert_eq!(store.find(&query).await.unwrap(), []);
}

async fn blobs_are_kept_once_and_erased(store: Arc<dyn Store>) {
    let mut first = batch(0, 1, "a");
    first.blobs = vec![blob("reason"), blob("prompt"), blob("reason")];
    store.append(first).await.unwrap();
    let mut second = batch(1, 1, "b");
    let mut other = blob("reason");
    other.salt = [9; 16];
    second.blobs = vec![other];
    store.append(second).await.unwrap();
    let reason = blob("reason").sha256;
    assert_eq!(store.blob(&reason).await.unwrap(), Some(blob("reason")));
    store.erase_blob(&reason).await.unwrap();
    store.erase_blob(&reason).await.unwrap();
    assert_eq!(store.blob(&reason).await.unwrap(), None);
    let prompt = blob("prompt").sha256;
    assert_eq!(store.blob(&prompt).await.unwrap(), Some(blob("prompt")));
    assert_eq!(store.head().await.unwrap().size, 2);
}

async fn snapshots_are_replaced_by_newer_ones(store: Arc<dyn Store>) {
    let at = |size: u64, text: &str| Snapshot {
        size,
        edge: tree_at(size).edge().to_vec(),
        bytes: text.into(),
        seal: format!("sealed {text}"),
    };
    store.put_snapshot(at(10, "ten")).await.unwrap();
    store.put_snapshot(at(9, "nine")).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap(), Some(at(10, "ten")));
    store.put_snapshot(at(10, "ten again")).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap(), Some(at(10, "ten again")));
    store.put_snapshot(at(11, "eleven")).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap(), Some(at(11, "eleven")));
    assert_eq!(store.head().await.unwrap(), Head::default(), "only a cache");
}

async fn remembered_things_are_over_when_they_are_over(store: Arc<dyn Store>) {
    let at = Time::from_millis;
    let (end, before) = (at(5000), at(4999));
    assert!(store.remember("k", b"one", end, at(1)).await.unwrap());
    assert!(!store.remember("k", b"two", end, before).await.unwrap());
    assert_eq!(store.recall("k", before).await.unwrap().unwrap(), b"one");
    assert_eq!(store.recall("k", end).await.unwrap(), None);
    assert_eq!(store.take("k", end).await.unwrap(), None);
    assert!(store.remember("k", b"three", at(9000), end).await.unwrap());
    assert_eq!(
        store.recall("k", at(8000)).await.unwrap().unwrap(),
        b"three"
    );
    assert!(store.remember("other", b"", at(9001), end).await.unwrap());
    store.sweep_remembered(at(9000)).await.unwrap();
    assert_eq!(store.recall("k", at(8000)).await.unwrap(), None, "swept");
    assert_eq!(store.recall("other", at(9000)).await.unwrap().unwrap(), b"");
    assert_eq!(store.take("other", at(9000)).await.unwrap().unwrap(), b"");
    assert_eq!(store.take("other", at(9000)).await.unwrap(), None);
    assert!(store.remember("other", b"", at(9), at(1)).await.unwrap());
}

async fn case_071_remember_is_true_once_and_take_gives_once(store: Arc<dyn Store>) {
    let (now, end) = (Time::from_millis(10), Time::from_millis(20));
    for round in 0..20 {
        let key = format!("state-{round}");
        // An older thing of the same key, over by now, must not let two in.
        store
            .remember(&key, b"old", now, Time::from_millis(1))
            .await
            .unwrap();
        let mut first = JoinSet::new();
        let mut taken = JoinSet::new();
        for racer in 0..6_u8 {
            let (store, key) = (Arc::clone(&store), key.clone());
            first.spawn(async move { store.remember(&key, &[racer], end, now).await.unwrap() });
        }
        let won = first.join_all().await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        for _ in 0..6 {
            let (store, key) = (Arc::clone(&store), key.clone());
            taken.spawn(async move { store.take(&key, now).await.unwrap() });
        }
        let got = taken.join_all().await;
        assert_eq!(got.iter().flatten().count(), 1);
    }
}
