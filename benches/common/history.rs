//! A ledger as brokers write it in a month: routine requests and reviewed ones, each from the ask to the proven end,
//! decided by the real rules; and at its end, leases that live.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use countersign::broker::Loaded;
use countersign::domain::command::{GiveReview, MintResult, Submit};
use countersign::domain::event::BlobRef;
use countersign::domain::person::Evidence;
use countersign::domain::request::ReviewDecision;
use countersign::domain::{
    Command, Digest, Entry, LeaseId, Owed, Person, Proof, RequestId, Reviewer, Rules, Seconds,
    Time, World, decide,
};
use countersign::ledger::entry::VERSION;
use countersign::ledger::tree::leaf_hash;
use countersign::ledger::{SigningKey, Tree, encode, index};
use countersign::store::{Batch, Blob, Head, Store, StoredEntry};
use countersign::system::{Entropy, SystemEntropy};
use serde_json::{Map, json};

/// How long the history took.
const MONTH: Seconds = Seconds(30 * 24 * 3600);
/// Entries appended at once.
const BATCH: usize = 1024;
/// Entries of four lives, of which one is reviewed.
const FOUR_LIVES: u64 = 4 * 7 + 2;

/// Writes a ledger into a store.
pub struct History {
    rules: Loaded,
    key: SigningKey,
    store: Arc<dyn Store>,
    /// The fold of what is written.
    pub world: World,
    /// The tree over it.
    pub tree: Tree,
    base: Tree,
    entries: Vec<StoredEntry>,
    blobs: Vec<Blob>,
    now: Time,
    step: i64,
}

/// A request that was let through, and its lease.
struct Life {
    request: RequestId,
    lease: LeaseId,
}

impl History {
    /// A new ledger in `store`, begun a month before `now`.
    pub fn open(
        rules: Loaded,
        bundle: &[u8],
        key: SigningKey,
        store: Arc<dyn Store>,
        now: Time,
    ) -> anyhow::Result<Self> {
        let begin = now.millis() - i64::try_from(MONTH.0)? * 1000;
        let mut history = Self {
            rules,
            key,
            store,
            world: World::default(),
            tree: Tree::default(),
            base: Tree::default(),
            entries: Vec::new(),
            blobs: Vec::new(),
            now: Time::from_millis(begin),
            step: 1,
        };
        let origin = history.key.verifying_key().name().to_owned();
        history.tell(&Command::Open { origin })?;
        let content = history.keep([0; 16], bundle.to_vec());
        history.tell(&Command::ApplyBundle { content })?;
        let (target, server) = ("shop".parse()?, "no server".parse()?);
        history.tell(&Command::IdentifyTarget { target, server })?;
        Ok(history)
    }

    fn keep(&mut self, salt: [u8; 16], bytes: Vec<u8>) -> BlobRef {
        let blob = Blob::new(salt, bytes);
        let sha256 = blob.sha256;
        self.blobs.push(blob);
        BlobRef { sha256 }
    }

    fn tell(&mut self, command: &Command) -> anyhow::Result<()> {
        let rules = Rules {
            policy: self.rules.policy.as_ref(),
            targets: self.rules.targets.as_ref(),
        };
        let events = decide(&self.world, command, &rules, self.now);
        for event in events.map_err(|refusal| anyhow::anyhow!("{refusal}"))? {
            let entry = Entry {
                v: VERSION,
                seq: self.world.size,
                time: self.now,
                actor: command.actor(),
                event,
            };
            self.world.apply(&entry)?;
            let bytes = encode(&entry)?;
            let leaf = leaf_hash(&bytes);
            self.tree.append_leaf(leaf);
            self.entries.push(StoredEntry {
                seq: entry.seq,
                leaf,
                signature: None,
                index: index(&entry),
                bytes,
            });
        }
        self.now = Time::from_millis(self.now.millis() + self.step);
        Ok(())
    }

    /// Appends what was told, when there is enough of it or `all` of it is wanted.
    pub async fn write(&mut self, all: bool) -> anyhow::Result<()> {
        if self.entries.is_empty() || (self.entries.len() < BATCH && !all) {
            return Ok(());
        }
        let signed = self.key.sign_head(self.tree.size(), &self.tree.root());
        let mut entries = std::mem::take(&mut self.entries);
        if let Some(last) = entries.last_mut() {
            last.signature = Some(signed.signature);
        }
        let batch = Batch {
            expected: std::mem::replace(&mut self.base, self.tree.clone()),
            entries,
            blobs: std::mem::take(&mut self.blobs),
            head: Head {
                size: self.tree.size(),
                edge: self.tree.edge().to_vec(),
                checkpoint: signed.note,
            },
        };
        Ok(self.store.append(batch).await?)
    }

    /// Whole lives, `entries` in all, evenly until `end`.
    pub async fn past(&mut self, entries: u64, end: Time) -> anyhow::Result<()> {
        let left = end.millis() - self.now.millis();
        // A grant waits for its collect for a quarter of an hour.
        self.step = (left / i64::try_from(entries.max(1))?).clamp(0, 60_000);
        let mut open = VecDeque::new();
        for number in 0..entries * 4 / FOUR_LIVES {
            open.push_back(self.begin(number)?);
            if open.len() > 8
                && let Some(life) = open.pop_front()
            {
                self.finish(&life, number)?;
            }
            self.write(false).await?;
        }
        while let Some(life) = open.pop_front() {
            self.finish(&life, 0)?;
        }
        self.write(true).await
    }

    /// `leases` that live, minted in the minute before `now`.
    pub async fn present(&mut self, leases: u64, now: Time) -> anyhow::Result<()> {
        let before = Time::from_millis(now.millis() - 60_000);
        self.now = self.now.max(before);
        self.step = 0;
        for number in 0..leases {
            self.begin(4 * number)?;
            if number % (leases / 60_000).max(1) == 0 && self.now < now {
                self.now = Time::from_millis(self.now.millis() + 1);
            }
            self.write(false).await?;
        }
        self.write(true).await
    }

    fn begin(&mut self, number: u64) -> anyhow::Result<Life> {
        let reviewed = number % 4 == 3;
        let request = RequestId::draw(self.now, SystemEntropy.draw());
        let lease = LeaseId::draw(self.now, SystemEntropy.draw());
        let key = Digest::of(request.as_str().as_bytes());
        let words = json!({
            "reason": format!("the report of orders {number} for the finance team, as every Monday"),
            "task": format!("FIN-{number}"),
        });
        let mut salt = [0; 16];
        SystemEntropy.fill(&mut salt);
        let context = self.keep(salt, serde_json::to_vec(&words)?);
        let (action, parameters) = if reviewed {
            let parameters = Map::from_iter([("country".to_owned(), json!("de"))]);
            ("customers.export", parameters)
        } else {
            ("orders.report", Map::new())
        };
        self.tell(&Command::Submit(Box::new(Submit {
            request: request.clone(),
            agent: "reporter".parse()?,
            on_behalf_of: None,
            action: action.parse()?,
            parameters,
            ttl: None,
            context: Some(context),
            idempotency_key: Some(key),
            earlier: None,
            fingerprint: Digest::of(key.to_string().as_bytes()),
            prepared: None,
        })))?;
        if reviewed {
            self.approve(&request)?;
        }
        self.tell(&Command::Collect {
            agent: "reporter".parse()?,
            request: request.clone(),
            lease: lease.clone(),
            key: Digest::of(lease.as_str().as_bytes()),
        })?;
        self.tell(&Command::RecordMint {
            lease: lease.clone(),
            result: MintResult::Minted,
        })?;
        self.tell(&Command::Acknowledge {
            agent: "reporter".parse()?,
            lease: lease.clone(),
        })?;
        Ok(Life { request, lease })
    }

    fn approve(&mut self, request: &RequestId) -> anyhow::Result<()> {
        let asked = self.world.requests.get(request);
        let digest = asked.map(|request| request.submission.digest);
        self.tell(&Command::Review(Box::new(GiveReview {
            reviewer: Reviewer {
                person: Person {
                    issuer: "https://people.example".into(),
                    subject: "dmitri".into(),
                },
                groups: BTreeSet::from(["support-leads".parse()?]),
                evidence: Evidence {
                    auth_time: self.now,
                    acr: None,
                    channel: "web".into(),
                },
            },
            request: request.clone(),
            digest: digest.unwrap_or_else(|| Digest::of(b"")),
            decision: ReviewDecision::Approve,
            comment: None,
        })))
    }

    fn finish(&mut self, life: &Life, number: u64) -> anyhow::Result<()> {
        let (request, lease) = (life.request.clone(), life.lease.clone());
        self.tell(&Command::Finish {
            agent: "reporter".parse()?,
            request,
            report: Map::from_iter([("exit_code".to_owned(), json!(number % 3))]),
        })?;
        let broker = || "5f0c1a8e4b7d42c69e30d1f2a5b8c7e4".to_owned();
        let owed = Owed::Lease(lease);
        self.tell(&Command::ClaimEnds {
            broker: broker(),
            owed: vec![owed.clone()],
        })?;
        let seen = Proof::gone(["login_refused", "no_session", "no_role"]);
        self.tell(&Command::RecordEnds {
            broker: broker(),
            results: vec![(owed, Ok(seen))],
        })
    }
}
