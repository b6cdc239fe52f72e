//! A ledger of the example shop, decided by the real rules and signed by the log's own key, to be lied in.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use countersign::cli::local::{VerifiedLedger, VerifyLedger};
use countersign::domain::command::{GiveReview, MintResult, Submit};
use countersign::domain::event::BlobRef;
use countersign::domain::request::ReviewDecision;
use countersign::domain::{
    Actor, Command, Digest, Entry, Event, LeaseId, Owed, Proof, RequestId, Reviewer, Rules,
    Seconds, Time, World, decide,
};
use countersign::issuers::{DeclaredTargets, IssuerSet};
use countersign::ledger::entry::VERSION;
use countersign::ledger::tree::leaf_hash;
use countersign::ledger::{Blob, Head, StoredEntry, Tree, encode, index};
use countersign::policy::{Bundle, Document};
use countersign::store::{Batch, SqliteStore, Store};
use countersign::wiring::verify_ledger;
use serde_json::{Map, json};
use tempfile::TempDir;

use super::samples::at;
use super::{ORIGIN, exports, log_key};
use crate::policy::{directory, document, reviewer};

/// A ledger of the example shop, decided by the real rules.
pub(super) struct Book {
    bundle: Bundle,
    targets: DeclaredTargets,
    content: Blob,
    world: World,
    pub(super) entries: Vec<Entry>,
    now: Time,
    ids: u128,
}

impl Book {
    fn open() -> Self {
        let shop = json!({
            "kind": "postgres", "host": "127.0.0.1", "port": 5432, "database": "shop",
            "user": "countersign_broker", "procedures": "countersign", "longest_ttl_seconds": 3600,
        });
        let document = Document {
            targets: BTreeMap::from([("shop".parse().unwrap(), shop)]),
            ..document(&directory("examples/shop"))
        };
        let targets = DeclaredTargets::read(&document.targets, IssuerSet(BTreeMap::new())).unwrap();
        let bundle = Bundle::compile(&document, &targets).unwrap();
        let content = Blob::new([0; 16], bundle.bytes().to_vec());
        let mut book = Self {
            bundle,
            targets,
            content,
            world: World::default(),
            entries: Vec::new(),
            now: at(0),
            ids: 0,
        };
        book.tell(&Command::Open {
            origin: ORIGIN.into(),
        });
        let content = BlobRef {
            sha256: book.content.sha256,
        };
        book.tell(&Command::ApplyBundle { content });
        book.tell(&Command::IdentifyTarget {
            target: "shop".parse().unwrap(),
            server: "the shop's server".parse().unwrap(),
        });
        book
    }

    fn tell(&mut self, command: &Command) {
        let rules = Rules {
            policy: &self.bundle,
            targets: &self.targets,
        };
        for event in decide(&self.world, command, &rules, self.now).unwrap() {
            let entry = Entry {
                v: VERSION,
                seq: self.world.size,
                time: self.now,
                actor: command.actor(),
                event,
            };
            self.world.apply(&entry).unwrap();
            self.entries.push(entry);
        }
        self.now = self.now.plus(Seconds(1));
    }

    fn draw(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    fn ask(&mut self, agent: &str, action: &str, ttl: Option<u64>) -> RequestId {
        let request = RequestId::draw(self.now, self.draw());
        let mut parameters = Map::new();
        if action == "customers.export" {
            parameters.insert("country".into(), json!("de"));
        }
        self.tell(&Command::Submit(Box::new(Submit {
            request: request.clone(),
            agent: agent.parse().unwrap(),
            on_behalf_of: None,
            action: action.parse().unwrap(),
            parameters,
            ttl: ttl.map(Seconds),
            context: None,
            idempotency_key: Some(Digest::of(request.to_string().as_bytes())),
            earlier: None,
            fingerprint: Digest::of(action.as_bytes()),
            prepared: None,
        })));
        request
    }

    fn review(&mut self, request: &RequestId, reviewer: Reviewer, decision: ReviewDecision) {
        let digest = self.world.requests[request].submission.digest;
        self.tell(&Command::Review(Box::new(GiveReview {
            reviewer,
            request: request.clone(),
            digest,
            decision,
            comment: None,
        })));
    }

    /// Collects, and with `whole` sees the lease to its end.
    fn use_it(&mut self, agent: &str, request: &RequestId, whole: bool) {
        let lease = LeaseId::draw(self.now, self.draw());
        self.tell(&Command::Collect {
            agent: agent.parse().unwrap(),
            request: request.clone(),
            lease: lease.clone(),
            key: Digest::of(b"key"),
        });
        self.tell(&Command::RecordMint {
            lease: lease.clone(),
            result: MintResult::Minted,
        });
        self.tell(&Command::Acknowledge {
            agent: agent.parse().unwrap(),
            lease: lease.clone(),
        });
        if !whole {
            return;
        }
        self.tell(&Command::Finish {
            agent: agent.parse().unwrap(),
            request: request.clone(),
            report: Map::new(),
        });
        let (broker, owed) = ("b1".to_owned(), Owed::Lease(lease));
        self.tell(&Command::ClaimEnds {
            broker: broker.clone(),
            owed: vec![owed.clone()],
        });
        let result = Ok(Proof::gone(["no_role"]));
        self.tell(&Command::RecordEnds {
            broker,
            results: vec![(owed, result)],
        });
    }

    /// An honest ledger: routine, reviewed by one and by two, denied, and lapsed.
    pub(super) fn honest() -> Self {
        let mut book = Self::open();
        let approve = ReviewDecision::Approve;
        let report = book.ask("reporter", "orders.report", Some(200));
        book.use_it("reporter", &report, true);
        let export = book.ask("reporter", "customers.export", None);
        book.review(&export, reviewer("dmitri", &["support-leads"]), approve);
        book.use_it("reporter", &export, true);
        let migration = book.ask("migrator", "schema.migrate", None);
        book.review(&migration, reviewer("ben", &["dba"]), approve);
        book.review(&migration, reviewer("chloe", &["security"]), approve);
        book.use_it("migrator", &migration, false);
        let denied = book.ask("reporter", "customers.export", None);
        book.review(
            &denied,
            reviewer("ben", &["support-leads"]),
            ReviewDecision::Deny,
        );
        let lapsed = book.ask("reporter", "customers.export", None);
        book.now = book.world.requests[&lapsed].submission.pending_until;
        book.tell(&Command::Lapse {
            requests: vec![lapsed],
        });
        book
    }

    /// The number of the `nth` entry of a kind, from 0.
    pub(super) fn place(&self, kind: &str, nth: usize) -> usize {
        let mut of_kind = self
            .entries
            .iter()
            .filter(|entry| entry.event.kind() == kind);
        usize::try_from(of_kind.nth(nth).unwrap().seq).unwrap()
    }

    /// Takes an entry out; those after it move up.
    pub(super) fn remove(&mut self, at: usize) {
        self.entries.remove(at);
        for (seq, entry) in (0..).zip(&mut self.entries) {
            entry.seq = seq;
        }
    }

    /// Puts an event of the broker's in; those after it move down.
    pub(super) fn insert(&mut self, at: usize, event: Event) {
        let entry = Entry {
            actor: Actor::Broker,
            event,
            ..self.entries[at].clone()
        };
        self.entries.insert(at, entry);
        for (seq, entry) in (0..).zip(&mut self.entries) {
            entry.seq = seq;
        }
    }

    fn bytes(&self) -> Vec<Vec<u8>> {
        self.entries
            .iter()
            .map(|entry| encode(entry).unwrap())
            .collect()
    }

    /// A state directory with this ledger, signed by the log's own key, with or without the bundle.
    async fn store(&self, with_bundle: bool) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let key_file = dir.path().join("ledger.key");
        std::fs::write(&key_file, log_key().to_secret_text().as_str()).unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let store = SqliteStore::open(&dir.path().join("ledger.db"))
            .await
            .unwrap();
        let mut tree = Tree::default();
        let mut rows = Vec::new();
        for (entry, bytes) in self.entries.iter().zip(self.bytes()) {
            tree.append(&bytes);
            rows.push(StoredEntry {
                seq: entry.seq,
                leaf: leaf_hash(&bytes),
                signature: None,
                index: index(entry),
                bytes,
            });
        }
        let signed = log_key().sign_head(tree.size(), &tree.root());
        rows.last_mut().unwrap().signature = Some(signed.signature);
        let batch = Batch {
            expected: Tree::default(),
            entries: rows,
            blobs: if with_bundle {
                vec![self.content.clone()]
            } else {
                vec![]
            },
            head: Head {
                size: tree.size(),
                edge: tree.edge().to_vec(),
                checkpoint: signed.note,
            },
        };
        store.append(batch).await.unwrap();
        dir
    }

    pub(super) async fn verify(&self, with_bundle: bool) -> anyhow::Result<VerifiedLedger> {
        let dir = self.store(with_bundle).await;
        verify(dir.path()).await
    }

    pub(super) async fn verify_export(&self) -> anyhow::Result<VerifiedLedger> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("export.jsonl");
        std::fs::write(&path, exports::export(&self.bytes())).unwrap();
        verify(&path).await
    }
}

async fn verify(source: &std::path::Path) -> anyhow::Result<VerifiedLedger> {
    let (source, key, since) = (source.to_owned(), None, None);
    verify_ledger(VerifyLedger { source, key, since }).await
}
