//! An old backup of the ledger is put back under the real broker.

use std::fs;

use serde_json::json;

use super::broker::Broker;
use super::cli::local;
use super::place::Place;
use super::{REPORTER, until};

#[tokio::test]
async fn finding_b03_an_old_backup_is_not_continued_until_the_operator_says_so() {
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
    let nothing = local(&["ledger", "accept", ".", "--reason", "x"], &place.dir).await;
    assert!(nothing.err.contains("nothing to accept"), "{nothing:?}");

    fs::copy(&backup, &ledger).unwrap();
    let why = broker.start_in_doubt().await;
    assert!(why.contains("rolled back"), "{why}");
    let body = json!({"action": "orders.report"});
    let refused = broker.post("/v1/requests", REPORTER, &body).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    // The lease that the backup knows nothing of is found at the target and ended.
    until("the lost lease is ended", async || {
        (place.credentials().await.len() == 1).then_some(())
    })
    .await;
    broker.stop().await;

    let rolled_back = local(&["ledger", "verify", "."], &place.dir).await;
    assert_eq!(rolled_back.code, Some(1), "{rolled_back:?}");
    assert!(rolled_back.err.contains("rolled back"), "{rolled_back:?}");
    let unexplained = local(&["ledger", "accept", ".", "--reason", " "], &place.dir).await;
    assert_ne!(unexplained.code, Some(0), "{unexplained:?}");
    let words = [
        "ledger",
        "accept",
        ".",
        "--reason",
        "restored last night's backup",
    ];
    let accepted = local(&words, &place.dir).await;
    assert_eq!(accepted.code, Some(0), "{accepted:?}");

    broker.start_again().await;
    let entries = broker.ledger(&place.operator()).await;
    let kind = "\"kind\":\"ledger.accepted\"";
    let said = entries.iter().filter(|entry| entry.contains(kind)).count();
    assert_eq!(said, 1, "{entries:?}");
    broker.live(600).await;
    broker.stop().await;
    let verified = local(&["ledger", "verify", "."], &place.dir).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    broker.start_again().await;
    assert_eq!(
        broker
            .ledger(&place.operator())
            .await
            .iter()
            .filter(|entry| entry.contains(kind))
            .count(),
        1
    );
    broker.stop().await;
}
