//! An old backup of the ledger is put back under the real broker.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::broker::Broker;
use super::cli::local;
use super::place::Place;
use super::{REPORTER, until};

const ACCEPT: [&str; 5] = [
    "ledger",
    "accept",
    ".",
    "--reason",
    "restored last night's backup",
];

/// A broker that is stopped, whose ledger has grown by a lease since its backup.
struct Scene {
    place: Place,
    broker: Broker,
    ledger: PathBuf,
    backup: PathBuf,
}

impl Scene {
    async fn set() -> Self {
        let place = Place::open().await;
        let (ledger, backup) = (
            place.dir.join("state/ledger.db"),
            place.dir.join("backup.db"),
        );
        let mut broker = Broker::dev(&place).await;
        broker.live(600).await;
        broker.stop().await;
        fs::copy(&ledger, &backup).unwrap();
        broker.start_again().await;
        broker.live(600).await;
        broker.stop().await;
        assert_eq!(place.credentials().await.len(), 2);
        Self {
            place,
            broker,
            ledger,
            backup,
        }
    }

    fn restore_backup(&self) {
        fs::copy(&self.backup, &self.ledger).unwrap();
    }

    /// How often the ledger says that it was accepted.
    async fn said(&self) -> usize {
        let entries = self.broker.ledger(&self.place.operator()).await;
        let kind = "\"kind\":\"ledger.accepted\"";
        entries.iter().filter(|entry| entry.contains(kind)).count()
    }
}

#[tokio::test]
async fn finding_b03_an_old_backup_is_not_continued_until_the_operator_says_so() {
    let mut scene = Scene::set().await;
    let dir = scene.place.dir.clone();
    let nothing = local(&ACCEPT, &dir).await;
    assert!(nothing.err.contains("nothing to accept"), "{nothing:?}");
    let doctor = local(&["doctor", "."], &dir).await;
    assert!(doctor.out.contains("which continue the"), "{doctor:?}");

    scene.restore_backup();
    let why = scene.broker.start_in_doubt().await;
    assert!(why.contains("rolled back"), "{why}");
    let body = json!({"action": "orders.report"});
    let refused = scene.broker.post("/v1/requests", REPORTER, &body).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.body["code"], "ledger_in_doubt", "{refused:?}");
    // The lease that the backup knows nothing of is found at the target and ended.
    until("the lost lease is ended", async || {
        (scene.place.credentials().await.len() == 1).then_some(())
    })
    .await;
    let running = local(&["doctor", "."], &dir).await;
    assert_eq!(running.code, Some(2), "{running:?}");
    assert!(running.out.contains("it was rolled back"), "{running:?}");
    let early = local(&ACCEPT, &dir).await;
    assert!(early.err.contains("stop"), "{early:?}");
    scene.broker.stop().await;

    let doctor = local(&["doctor", "."], &dir).await;
    assert_eq!(doctor.code, Some(2), "{doctor:?}");
    for words in ["it was rolled back", "countersign ledger accept ."] {
        assert!(doctor.out.contains(words), "{words}: {doctor:?}");
    }
    let rolled_back = local(&["ledger", "verify", "."], &dir).await;
    assert_eq!(rolled_back.code, Some(1), "{rolled_back:?}");
    assert!(rolled_back.err.contains("rolled back"), "{rolled_back:?}");
    let unexplained = local(&["ledger", "accept", ".", "--reason", " "], &dir).await;
    assert_ne!(unexplained.code, Some(0), "{unexplained:?}");
    local(&ACCEPT, &dir).await.fine();

    scene.broker.start_again().await;
    assert_eq!(scene.said().await, 1);
    scene.broker.live(600).await;
    scene.broker.stop().await;
    local(&["ledger", "verify", "."], &dir).await.fine();
    scene.broker.start_again().await;
    assert_eq!(scene.said().await, 1);
    scene.broker.stop().await;
}

/// The word is written, and the machine dies before the head is: then the newest history is found again.
#[tokio::test]
async fn finding_b03_an_acceptance_that_was_cut_short_is_none() {
    let mut scene = Scene::set().await;
    let dir = scene.place.dir.clone();
    let (head, word) = (
        dir.join("state/ledger.head"),
        dir.join("state/ledger.accepted"),
    );
    let (newest, known) = (dir.join("newest.db"), fs::read(&head).unwrap());
    fs::copy(&scene.ledger, &newest).unwrap();
    scene.restore_backup();
    local(&ACCEPT, &dir).await.fine();
    fs::write(&head, known).unwrap();
    assert!(word.exists(), "that is the premise");

    fs::copy(&newest, &scene.ledger).unwrap();
    scene.broker.start_again().await;
    assert_eq!(scene.said().await, 0, "the ledger was never given up");
    scene.broker.stop().await;
    assert!(!word.exists(), "it would be told at the next start");

    scene.restore_backup();
    local(&ACCEPT, &dir).await.fine();
    scene.broker.start_again().await;
    assert_eq!(scene.said().await, 1);
    scene.broker.stop().await;
}
