//! The store: one conformance suite for every adapter, and what only one of them promises.

mod beside;
mod conformance;
mod lost_answers;
mod memory;
mod pages;
mod postgres;
mod scene;
mod sqlite;
mod tampered;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use countersign::domain::{Digest, Time};
use countersign::store::{
    Batch, Blob, EntryIndex, Head, MemoryStore, PostgresStore, SqliteStore, Store, StoredEntry,
    Tree,
};
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use url::Url;

use crate::support::{PostgresServer, postgres_servers};

/// A store under test and what must outlive it.
struct Fixture {
    store: Arc<dyn Store>,
    _directory: Option<TempDir>,
    database: Option<TestDatabase>,
}

impl Fixture {
    async fn memory() -> Vec<Self> {
        vec![Self {
            store: Arc::new(MemoryStore::new()),
            _directory: None,
            database: None,
        }]
    }

    async fn sqlite() -> Vec<Self> {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("ledger.db"))
            .await
            .unwrap();
        vec![Self {
            store: Arc::new(store),
            _directory: Some(directory),
            database: None,
        }]
    }

    async fn postgres() -> Vec<Self> {
        let mut fixtures = Vec::new();
        for server in postgres_servers() {
            let database = TestDatabase::create(&server).await;
            fixtures.push(Self {
                store: Arc::new(database.store().await),
                _directory: None,
                database: Some(database),
            });
        }
        fixtures
    }

    async fn close(self) {
        drop(self.store);
        if let Some(database) = self.database {
            database.remove().await;
        }
    }
}

/// A PostgreSQL database of one test's own.
struct TestDatabase {
    server: PostgresServer,
    name: String,
    url: Url,
}

impl TestDatabase {
    async fn create(server: &PostgresServer) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("store_{}_{number}", std::process::id());
        let mut admin = PgConnection::connect(server.url.as_str()).await.unwrap();
        run(&mut admin, format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        let mut url = server.url.clone();
        url.set_path(&name);
        Self {
            server: server.clone(),
            name,
            url,
        }
    }

    async fn store(&self) -> PostgresStore {
        PostgresStore::connect(&SecretString::from(self.url.as_str()))
            .await
            .unwrap()
    }

    /// A superuser's connection, with the schema in view.
    async fn raw(&self) -> PgConnection {
        let mut connection = PgConnection::connect(self.url.as_str()).await.unwrap();
        run(
            &mut connection,
            "SET search_path = countersign_store".into(),
        )
        .await
        .unwrap();
        connection
    }

    async fn remove(self) {
        let mut admin = PgConnection::connect(self.server.url.as_str())
            .await
            .unwrap();
        run(
            &mut admin,
            format!("DROP DATABASE {} WITH (FORCE)", self.name),
        )
        .await
        .unwrap();
    }
}

async fn run(connection: &mut PgConnection, text: String) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(AssertSqlSafe(text)).execute(connection).await?;
    Ok(done.rows_affected())
}

fn head_at(size: u64) -> Head {
    if size == 0 {
        return Head::default();
    }
    let roots = size.count_ones().into();
    Head {
        size,
        edge: (0..roots)
            .map(|root: u64| Digest::of(format!("{size} {root}").as_bytes()))
            .collect(),
        checkpoint: format!("ledger.example\n{size}\n"),
    }
}

fn entry(seq: u64, text: &str) -> StoredEntry {
    StoredEntry {
        seq,
        bytes: format!(r#"{{"n":{seq},"text":"{text}"}}"#).into_bytes(),
        leaf: Digest::of(format!("leaf {seq} {text}").as_bytes()),
        signature: seq.is_multiple_of(3).then(|| format!("signature {seq}")),
        index: EntryIndex {
            kind: "submitted".into(),
            time: Time::from_millis(1_000_000 + i64::try_from(seq).unwrap()),
            actor: "broker".into(),
            ..EntryIndex::default()
        },
    }
}

fn tree_at(size: u64) -> Tree {
    Tree::from_head(&head_at(size)).unwrap()
}

fn batch(expected_size: u64, count: u64, text: &str) -> Batch {
    let size = expected_size + count;
    Batch {
        expected: tree_at(expected_size),
        entries: (expected_size..size).map(|seq| entry(seq, text)).collect(),
        blobs: Vec::new(),
        head: head_at(size),
    }
}

fn blob(text: &str) -> Blob {
    Blob {
        sha256: Digest::of(text.as_bytes()),
        salt: [7; 16],
        bytes: text.into(),
    }
}
