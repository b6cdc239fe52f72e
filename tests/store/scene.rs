//! A real ledger in the hands of somebody who may do with the file what they like.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign::broker::{Broker, NewRequest};
use countersign::cli::local::{VerifiedLedger, VerifyLedger};
use countersign::domain::request::ReviewDecision;
use countersign::domain::{Digest, Entry, Seconds};
use countersign::ledger::tree::leaf_hash;
use countersign::ledger::{Failure, decode, encode, index};
use countersign::store::{Store, StoredEntry};
use countersign::wiring::verify_ledger;
use serde_json::{Map, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, SqliteConnection};
use tempfile::TempDir;

use super::Fixture;
use crate::support::house::House;
use crate::support::rules::people;

/// Lets a broker write a ledger into `store`: requests, reviews with comments, a lease.
pub(super) async fn write_history(house: &House, store: Arc<dyn Store>) -> Broker {
    let (mut ports, _) = house.ports();
    ports.store = store;
    let broker = Broker::start(ports).await.unwrap();
    let agent = "reporter".parse().unwrap();
    for (number, action) in (0..).zip(["orders.report", "customers.export", "schema.migrate"]) {
        let mut parameters = Map::new();
        if action == "customers.export" {
            parameters.insert("country".into(), json!("de"));
        }
        let asked = NewRequest {
            on_behalf_of: None,
            action: action.parse().unwrap(),
            parameters,
            ttl: Some(Seconds(300)),
            context: Some(json!({"reason": format!("number {number}")})),
            idempotency_key: Some(action.into()),
            fingerprint: Digest::of(action.as_bytes()),
        };
        let (request, _) = broker.submit(&agent, asked).await.unwrap();
        let (id, digest) = (request.id().clone(), request.submission.digest);
        for reviewer in people() {
            let decision = ReviewDecision::Approve;
            let comment = Some(format!("seen, {number}"));
            drop(
                broker
                    .review(reviewer, &id, digest, decision, comment)
                    .await,
            );
        }
    }
    broker
}

/// A state directory whose broker has stopped, and its ledger opened past all the store's protection.
pub(super) struct Scene {
    pub(super) dir: TempDir,
    pub(super) raw: SqliteConnection,
    pub(super) rows: Vec<StoredEntry>,
}

impl Scene {
    pub(super) async fn set() -> Self {
        let kept = Fixture::sqlite().await.remove(0);
        let house = House::new(5);
        let broker = write_history(&house, Arc::clone(&kept.store)).await;
        broker.stop().await;
        let rows = kept.store.read(0, usize::MAX).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let from = kept._directory.as_ref().unwrap().path().join("ledger.db");
        let mut source = connect(&from).await;
        let copy = format!("VACUUM INTO '{}'", path.display());
        source.execute(AssertSqlSafe(copy)).await.unwrap();
        private(&path);
        write_key(&house, dir.path());
        let mut raw = connect(&path).await;
        let triggers: Vec<(String,)> =
            sqlx::query_as("SELECT name FROM sqlite_master WHERE type = 'trigger'")
                .fetch_all(&mut raw)
                .await
                .unwrap();
        assert_eq!(triggers.len(), 6);
        let mut scene = Self { dir, raw, rows };
        for (name,) in triggers {
            scene.sql(&format!("DROP TRIGGER {name}")).await;
        }
        scene.verify(None).await.unwrap();
        // The fold that a clean stop leaves would give away most of what is tried here.
        scene.sql("DELETE FROM snapshot").await;
        scene
    }

    pub(super) async fn sql(&mut self, text: &str) {
        self.raw
            .execute(AssertSqlSafe(text.to_owned()))
            .await
            .unwrap();
    }

    pub(super) async fn verify(&self, since: Option<PathBuf>) -> anyhow::Result<VerifiedLedger> {
        verify(self.dir.path(), None, since).await
    }

    pub(super) async fn failure(&self) -> Failure {
        failure(self.verify(None).await)
    }

    /// The first and the last entry of the append that `seq` was written in.
    pub(super) fn append_of(&self, seq: u64) -> (u64, u64) {
        let signed = |row: &&StoredEntry| row.signature.is_some();
        let before = self.rows.iter().filter(signed).rfind(|row| row.seq < seq);
        let last = self.rows.iter().filter(signed).find(|row| row.seq >= seq);
        (before.map_or(0, |row| row.seq + 1), last.unwrap().seq)
    }

    /// Writes `rows` in place of all that is there.
    pub(super) async fn replace(&mut self, rows: &[StoredEntry]) {
        self.sql("DELETE FROM entries").await;
        for row in rows {
            self.insert(row).await;
        }
    }

    pub(super) async fn insert(&mut self, row: &StoredEntry) {
        let index = row.index.clone();
        sqlx::query("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(i64::try_from(row.seq).unwrap())
            .bind(row.bytes.clone())
            .bind(row.leaf.0.to_vec())
            .bind(row.signature.clone())
            .bind(index.kind)
            .bind(index.time.millis())
            .bind(index.request.map(|id| id.number().to_be_bytes().to_vec()))
            .bind(index.lease.map(|id| id.number().to_be_bytes().to_vec()))
            .bind(index.agent)
            .bind(index.action)
            .bind(index.actor)
            .bind(index.outcome)
            .bind(index.key.map(|key| key.0.to_vec()))
            .execute(&mut self.raw)
            .await
            .unwrap();
    }
}

pub(super) async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    options.connect().await.unwrap()
}

pub(super) fn private(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

pub(super) fn write_key(house: &House, dir: &Path) {
    let key = house.ports().0.key.to_secret_text();
    fs::write(dir.join("ledger.key"), key.as_str()).unwrap();
    private(&dir.join("ledger.key"));
}

pub(super) async fn verify(
    source: &Path,
    key: Option<String>,
    since: Option<PathBuf>,
) -> anyhow::Result<VerifiedLedger> {
    let source = source.to_owned();
    verify_ledger(VerifyLedger { source, key, since }).await
}

pub(super) fn failure(verified: anyhow::Result<VerifiedLedger>) -> Failure {
    verified.unwrap_err().downcast().unwrap()
}

/// The row with other content, in which everything but the signature fits together.
pub(super) fn forged(row: &StoredEntry, change: impl FnOnce(&mut Entry)) -> StoredEntry {
    let mut entry = decode(&row.bytes).unwrap();
    change(&mut entry);
    let bytes = encode(&entry).unwrap();
    StoredEntry {
        seq: entry.seq,
        leaf: leaf_hash(&bytes),
        signature: row.signature.clone(),
        index: index(&entry),
        bytes,
    }
}

/// Gives every row the number of its place, in the entry too.
pub(super) fn renumbered(rows: &[StoredEntry]) -> Vec<StoredEntry> {
    let rows = (0..).zip(rows);
    rows.map(|(seq, row)| forged(row, |entry| entry.seq = seq))
        .collect()
}

/// Gives every row the number of its place, and leaves the entries as they are.
pub(super) fn moved(rows: &[StoredEntry]) -> Vec<StoredEntry> {
    let rows = (0..).zip(rows.iter().cloned());
    rows.map(|(seq, row)| StoredEntry { seq, ..row }).collect()
}
