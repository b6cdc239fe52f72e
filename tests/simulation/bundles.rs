//! Brokers on one store that were set up differently: one bundle is in force, with all that its verdicts depend on.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign::broker::{Broker, BrokerError, Loaded, NewRequest};
use countersign::domain::command::{RefusalCode, Revoker};
use countersign::domain::rules::Limits;
use countersign::domain::{Agent, AgentProof, Digest, Party, Request, Seconds};
use countersign::issuers::{DeclaredTargets, IssuerSet};
use countersign::policy::{Bundle, Document};
use serde_json::{Map, json};

use super::life;
use crate::policy::{directory, document};
use crate::support::house::House;
use crate::support::rules::person;

/// The example shop, where an agent may have so many requests open.
fn shop(open_requests: usize) -> Document {
    let target = json!({
        "kind": "postgres", "host": "127.0.0.1", "port": 5432, "database": "shop",
        "user": "countersign_broker", "procedures": "countersign", "longest_ttl_seconds": 3600,
    });
    Document {
        targets: BTreeMap::from([("shop".parse().unwrap(), target)]),
        limits: Limits {
            open_requests_per_agent: open_requests,
            ..Limits::default()
        },
        ..document(&directory("examples/shop"))
    }
}

fn load(document: &Document) -> (Loaded, Vec<u8>) {
    let targets = DeclaredTargets::read(&document.targets, IssuerSet(BTreeMap::new())).unwrap();
    let bundle = Bundle::compile(document, &targets).unwrap();
    let bytes = bundle.bytes().to_vec();
    let loaded = Loaded {
        policy: Arc::new(bundle),
        targets: Arc::new(targets),
    };
    (loaded, bytes)
}

/// Another broker in `house`, set up with `document`. `follows` says whether it can load what others put in force.
async fn broker(house: &House, document: &Document, follows: bool) -> Broker {
    let (mut ports, _) = house.ports();
    (ports.bundle, ports.bundle_bytes) = load(document);
    if !follows {
        ports.bundle.targets = Arc::new(IssuerSet(ports.issuers.clone()));
    }
    ports.load_bundle = Arc::new(move |bytes| {
        let document = Document::from_bytes(bytes).map_err(|_| "no document".to_owned())?;
        if follows {
            Ok(load(&document).0)
        } else {
            Err("it was written by a newer countersign".into())
        }
    });
    Broker::start(ports).await.unwrap()
}

async fn ask(broker: &Broker, number: u32) -> Result<Request, BrokerError> {
    let asked = NewRequest {
        on_behalf_of: None,
        action: "orders.report".parse().unwrap(),
        parameters: Map::new(),
        ttl: Some(Seconds(300)),
        context: None,
        idempotency_key: Some(format!("ask {number}")),
        fingerprint: Digest::of(&number.to_be_bytes()),
    };
    let asked = broker.submit(&"reporter".parse().unwrap(), asked).await;
    asked.map(|(request, _)| request)
}

#[test]
fn finding_b04_brokers_with_other_limits_decide_alike() {
    let house = House::new(31);
    life(async {
        let left = broker(&house, &shop(100), true).await;
        ask(&left, 1).await.unwrap();
        ask(&left, 2).await.unwrap();
        let right = broker(&house, &shop(1), true).await;
        for broker in [&left, &right] {
            let refused = ask(broker, 3).await.unwrap_err();
            let too_many = matches!(&refused, BrokerError::Refused(refusal)
                if refusal.code == RefusalCode::TooManyOpen);
            assert!(too_many, "{refused:?}");
            assert_eq!(broker.policy().bundle(), right.policy().bundle());
        }
        left.stop().await;
        right.stop().await;
    });
}

/// B9: what needs no policy goes on in a broker that cannot load the bundle in force.
#[test]
fn finding_b09_access_ends_without_the_bundle_in_force() {
    let house = House::guarded(32, 10);
    life(async {
        let left = broker(&house, &shop(100), false).await;
        let request = ask(&left, 1).await.unwrap();
        let agent = "reporter".parse().unwrap();
        left.collect(&agent, request.id(), "key").await.unwrap();
        let right = broker(&house, &shop(1), true).await;
        let refused = ask(&left, 2).await.unwrap_err();
        assert!(
            matches!(refused, BrokerError::Unavailable { .. }),
            "{refused:?}"
        );
        let shut = left.shut_guard(&"guard".parse().unwrap()).await.unwrap();
        assert_eq!(shut.leases.len(), 1, "the kill switch waits for no bundle");
        left.revoke(Revoker::Operator, request.id()).await.unwrap();
        let agent = Agent {
            name: "later".parse().unwrap(),
            owner: Party::Person(person("ana")),
            proof: AgentProof::ApiKey {
                hash: Digest::of(b"later"),
            },
            origin: countersign::domain::agent::AgentOrigin::Operator,
        };
        left.enroll_agent(agent).await.unwrap();
        left.disable_agent(&"later".parse().unwrap()).await.unwrap();
        left.stop().await;
        right.stop().await;
    });
}
