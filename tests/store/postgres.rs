//! What only the PostgreSQL store promises: several brokers, the schema, the connection.

use std::sync::Arc;
use std::time::Duration;

use countersign::store::{PostgresStore, Store, StoreError};
use secrecy::SecretString;
use sqlx::{Executor, SqlSafeStr};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{TestDatabase, batch, blob, head_at, run};
use crate::support::postgres_servers;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l12_two_brokers_append_without_a_gap_or_a_fork() {
    for server in postgres_servers() {
        let database = TestDatabase::create(&server).await;
        let (left, right) = (database.store().await, database.store().await);
        let stores = [Arc::new(left), Arc::new(right)];
        let mut brokers = JoinSet::new();
        for (name, store) in ["left", "right"].into_iter().zip(&stores) {
            let store = Arc::clone(store);
            brokers.spawn(async move {
                let mut mine = Vec::new();
                let mut conflicts = 0;
                while mine.len() < 200 {
                    let size = store.head().await.unwrap().size;
                    match store.append(batch(size, 2, name)).await {
                        Ok(()) => mine.push(size),
                        Err(StoreError::Conflict) => conflicts += 1,
                        Err(error) => panic!("{error:?}"),
                    }
                }
                (name, mine, conflicts)
            });
        }
        let outcomes = brokers.join_all().await;
        assert!(
            outcomes.iter().any(|(_, _, conflicts)| *conflicts > 0),
            "no race"
        );
        let mut owners = vec![None; 800];
        for (name, mine, _) in &outcomes {
            for size in mine {
                for seq in *size..size + 2 {
                    let owner = owners[usize::try_from(seq).unwrap()].replace(*name);
                    assert_eq!(owner, None, "{seq} has two owners");
                }
            }
        }
        for store in &stores {
            assert_eq!(store.head().await.unwrap(), head_at(800));
            let entries = store.read(0, usize::MAX).await.unwrap();
            assert_eq!(entries.len(), 800);
            for (found, owner) in entries.iter().zip(&owners) {
                let text = String::from_utf8(found.bytes.clone()).unwrap();
                assert!(text.contains(owner.unwrap()), "{text}");
            }
        }
        drop(stores);
        database.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_start_at_once_on_an_empty_database() {
    for server in postgres_servers() {
        let database = TestDatabase::create(&server).await;
        let stores: Vec<PostgresStore> =
            futures::future::join_all((0..3).map(|_| database.store())).await;
        stores[0].append(batch(0, 1, "x")).await.unwrap();
        assert_eq!(stores[2].head().await.unwrap(), head_at(1));
        drop(stores);
        database.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_brokers_append_is_heard_and_ones_own_is_not() {
    for server in postgres_servers() {
        let database = TestDatabase::create(&server).await;
        let (speaker, hearer) = (database.store().await, Arc::new(database.store().await));
        // The first wait starts to listen; from then on the server keeps what was not yet read.
        hearer.changed().await;
        hearer.append(batch(0, 1, "own")).await.unwrap();
        let own = timeout(Duration::from_millis(300), hearer.changed()).await;
        assert!(own.is_err(), "woken by its own append");
        let mut waiting = JoinSet::new();
        for _ in 0..2 {
            let hearer = Arc::clone(&hearer);
            waiting.spawn(async move { hearer.changed().await });
        }
        tokio::task::yield_now().await;
        let start = Instant::now();
        speaker.append(batch(1, 1, "other")).await.unwrap();
        waiting.join_next().await.unwrap().unwrap();
        assert!(start.elapsed() < Duration::from_millis(1500), "not woken");
        waiting.join_all().await;
        drop((speaker, hearer));
        database.remove().await;
    }
}

#[tokio::test]
async fn l06_the_database_refuses_to_change_history() {
    for server in postgres_servers() {
        let database = TestDatabase::create(&server).await;
        let store = database.store().await;
        store.append(batch(0, 5, "x")).await.unwrap();
        let mut raw = database.raw().await;
        let attempts = [
            "UPDATE entries SET bytes = '' WHERE seq = 1",
            "UPDATE entries SET actor = 'broker'",
            "DELETE FROM entries WHERE seq = 4",
            "DELETE FROM entries",
            "TRUNCATE entries",
            "TRUNCATE entries, blobs CASCADE",
            "INSERT INTO entries (seq, bytes, leaf, kind, time, actor) VALUES (4, 'x', sha256('x'), 'k', 1, 'a') \
             ON CONFLICT (seq) DO UPDATE SET actor = 'a'",
            "UPDATE head SET size = 4",
            "UPDATE head SET checkpoint = 'another'",
            "DELETE FROM head",
            "TRUNCATE head",
            "INSERT INTO head (id, size, edge, checkpoint) VALUES (1, 0, '', '')",
        ];
        for role in ["origin", "replica"] {
            run(&mut raw, format!("SET session_replication_role = {role}"))
                .await
                .unwrap();
            for attempt in attempts {
                let error = run(&mut raw, attempt.into()).await.unwrap_err().to_string();
                assert!(error.contains("append-only"), "{role}: {attempt}: {error}");
            }
        }
        assert_eq!(store.head().await.unwrap(), head_at(5));
        assert_eq!(store.read(0, 10).await.unwrap().len(), 5);
        drop(store);
        database.remove().await;
    }
}

#[tokio::test]
async fn a_batch_that_fails_half_way_leaves_nothing() {
    for server in postgres_servers() {
        let database = TestDatabase::create(&server).await;
        let store = database.store().await;
        store.append(batch(0, 2, "x")).await.unwrap();
        let mut raw = database.raw().await;
        let stray = "INSERT INTO entries (seq, bytes, leaf, kind, time, actor) VALUES (3, 'x', sha256('x'), 'k', 1, 'a')";
        run(&mut raw, stray.into()).await.unwrap();
        let mut next = batch(2, 3, "y");
        next.blobs.push(blob("y"));
        let outcome = store.append(next).await;
        assert!(
            matches!(outcome, Err(StoreError::Failed { .. })),
            "{outcome:?}"
        );
        assert_eq!(store.head().await.unwrap(), head_at(2));
        assert_eq!(store.blob(&blob("y").sha256).await.unwrap(), None);
        let gap = store.read(0, 10).await;
        assert!(matches!(gap, Err(StoreError::Damaged(_))), "{gap:?}");
        drop(store);
        database.remove().await;
    }
}

/// What a DBA's trigger swallows would be missing for ever.
#[tokio::test]
async fn l03_a_batch_of_which_a_row_is_swallowed_is_not_written() {
    for server in postgres_servers() {
        let database = TestDatabase::create(&server).await;
        let store = database.store().await;
        store.append(batch(0, 2, "x")).await.unwrap();
        let mut raw = database.raw().await;
        let trigger = [
            "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER swallow BEFORE INSERT ON entries FOR EACH ROW WHEN (NEW.seq = 3) EXECUTE FUNCTION swallow()",
        ];
        for statement in trigger {
            run(&mut raw, statement.into()).await.unwrap();
        }
        let outcome = store.append(batch(2, 3, "y")).await;
        assert!(
            matches!(outcome, Err(StoreError::Failed { .. })),
            "{outcome:?}"
        );
        assert_eq!(store.head().await.unwrap(), head_at(2));
        assert_eq!(store.read(0, 10).await.unwrap().len(), 2);
        drop(store);
        database.remove().await;
    }
}

#[tokio::test]
async fn every_statement_is_one_postgres_understands() {
    for server in postgres_servers() {
        let database = TestDatabase::create(&server).await;
        let store = database.store().await;
        let mut raw = database.raw().await;
        for statement in PostgresStore::statements() {
            let prepared = raw.prepare(statement.into_sql_str()).await;
            prepared.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        drop(store);
        database.remove().await;
    }
}

#[tokio::test]
async fn case_139_commits_wait_for_the_disk_whatever_the_default() {
    for server in postgres_servers() {
        let database = TestDatabase::create(&server).await;
        let mut raw = database.raw().await;
        let lax = format!(
            "ALTER DATABASE {} SET synchronous_commit = off",
            database.name
        );
        run(&mut raw, lax).await.unwrap();
        let store = database.store().await;
        // What the store's own sessions have, seen from inside an append.
        let watch = "CREATE TABLE seen (setting TEXT, path TEXT); \
            CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            INSERT INTO seen VALUES (current_setting('synchronous_commit'), current_setting('search_path')); \
            RETURN NULL; END $$; \
            CREATE TRIGGER see AFTER UPDATE ON head FOR EACH ROW EXECUTE FUNCTION see()";
        raw.execute(watch).await.unwrap();
        store.append(batch(0, 1, "x")).await.unwrap();
        let seen: (String, String) = sqlx::query_as("SELECT setting, path FROM seen")
            .fetch_one(&mut raw)
            .await
            .unwrap();
        assert_eq!(seen, ("on".into(), "countersign_store,pg_temp".into()));
        drop(store);
        database.remove().await;
    }
}

#[tokio::test]
async fn a_role_with_nothing_but_the_schema_is_enough() {
    for server in postgres_servers() {
        let database = TestDatabase::create(&server).await;
        let mut raw = database.raw().await;
        let role = format!("{}_broker", database.name);
        for text in [
            format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'"),
            format!("CREATE SCHEMA countersign_store AUTHORIZATION {role}"),
        ] {
            run(&mut raw, text).await.unwrap();
        }
        let mut url = database.url.clone();
        url.set_username(&role).unwrap();
        url.set_password(Some("pw")).unwrap();
        let store = PostgresStore::connect(&SecretString::from(url.as_str()))
            .await
            .unwrap();
        store.append(batch(0, 2, "x")).await.unwrap();
        assert_eq!(store.read(0, 9).await.unwrap().len(), 2);
        drop(store);
        database.remove().await;
        let other = TestDatabase::create(&server).await;
        run(&mut other.raw().await, format!("DROP ROLE {role}"))
            .await
            .unwrap();
        other.remove().await;
    }
}

#[tokio::test]
async fn urls_that_are_not_safe_are_refused_without_being_shown() {
    let password = "hunter2hunter2";
    let cases = [
        (format!("mysql://u:{password}@127.0.0.1/x"), "postgres://"),
        (format!("u:{password}@127.0.0.1"), "postgres://"),
        (
            format!("postgres://u:{password}@db.example/x"),
            "sslmode=verify-full",
        ),
        (
            format!("postgres://u:{password}@db.example/x?sslmode=disable"),
            "sslmode=verify-full",
        ),
        (
            format!("postgres://u:{password}@db.example/x?sslmode=require"),
            "sslmode=verify-full",
        ),
        (
            format!("postgres://u:{password}@127.0.0.1/x?host=db.example"),
            "sslmode=verify-full",
        ),
        (
            format!("postgres://u:{password}@127.0.0.1/x?options=-csearch_path%3Dx"),
            "\"options\"",
        ),
        (
            format!("postgres://u:{password}@127.0.0.1/x?sslmode={password}"),
            "postgres://",
        ),
    ];
    for (url, advice) in cases {
        match PostgresStore::connect(&SecretString::from(url.clone())).await {
            Err(StoreError::Refused(text)) => {
                assert!(text.contains(advice), "{url}: {text}");
                assert!(!text.contains(password), "{text}");
            }
            other => panic!("{url}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn l07_a_failed_connection_shows_no_password() {
    for server in postgres_servers() {
        let mut url = server.url.clone();
        url.set_password(Some("hunter2hunter2")).unwrap();
        let error = PostgresStore::connect(&SecretString::from(url.as_str()))
            .await
            .unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(matches!(error, StoreError::Failed { .. }), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("store.url_file"), "{shown}");
    }
}
