//! AWS sessions, end to end: the real broker on an emulator that judges every call, the way a bucket's owner and an
//! attacker who holds the credential would see it.
//!
//! * each test has a corner of the account and a broker of its own, whose identity may do what a broker must and no more
//! * the broker's calls pass a proxy that can make AWS slow or forgetful; the agent's go to AWS directly
//! * what a credential must not do is one list, [`laws`], and `mutants` shows that it finds what it should

mod clients;
mod crash;
mod doctor;
mod ends;
mod guards;
mod late;
mod laws;
mod many;
mod mutants;
mod place;
mod prepare;
mod scope;

use serde_json::{Value, json};

use super::broker::{Broker, id};

/// The public key of the example bundle for its agent `exporter`.
const EXPORTER: &str = "csk_kuKyrK4UOMfqmgR28CKjrZqIY6Rpl0WojZ95nAANunV3lTUJ6";

/// A day whose exports are written.
const DAY: &str = "2026-11-22";

/// Asks for the right to write the exports of [`DAY`], for `ttl` seconds.
async fn ask(broker: &Broker, ttl: u64) -> Value {
    let body = json!({"action": "exports.write", "parameters": {"day": DAY}, "ttl_seconds": ttl});
    broker.ask(EXPORTER, &body).await
}

/// A collected credential: its request and what was handed over.
async fn live(broker: &Broker, ttl: u64) -> (Value, Value) {
    let request = ask(broker, ttl).await;
    let collected = broker.collect(EXPORTER, &request).await;
    assert!(collected.status.is_success(), "{collected:?}");
    let credential = collected.body["credential"].clone();
    (collected.body["request"].clone(), credential)
}

/// The id of a request's lease.
fn lease(request: &Value) -> &str {
    id(&request["lease"])
}

/// Revokes a lease as the operator and waits until it is seen to be cut off.
async fn revoke(broker: &Broker, operator: &str, request: &Value) -> Value {
    let path = format!("/v1/leases/{}/revoke", lease(request));
    let answer = broker.post_and_wait(&path, operator, &json!({})).await;
    assert!(answer.status.is_success(), "{answer:?}");
    answer.body
}

/// The kinds of the ledger's entries about a lease, in order.
async fn told(broker: &Broker, operator: &str, lease: &str) -> Vec<String> {
    let ledger = broker.ledger(operator).await;
    let about = ledger.iter().filter(|entry| entry.contains(lease));
    about
        .map(|entry| {
            let entry: Value = serde_json::from_str(entry).unwrap();
            entry["event"]["kind"].as_str().unwrap().to_owned()
        })
        .collect()
}
