//! Many leases through one guard and one broker, with revocations in between.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::ends::expiry;
use super::place::AwsPlace;
use super::{DAY, revoke};
use crate::e2e::broker::Broker;
use crate::e2e::cli::{countersign, run};
use crate::e2e::until;
use countersign::system::{Clock as _, SystemClock};

/// Leases in all.
const LEASES: usize = 80;
/// How many agents' errands are under way at a time.
const AT_ONCE: usize = 24;
/// Every so many are revoked.
const REVOKED: usize = 5;
/// How long each lives, in seconds.
const TTL: u64 = 4;
/// And those that are revoked.
const LONG_TTL: u64 = 15;

/// Agents that share them: each may call so and so often a minute.
const AGENTS: usize = 3;

struct Errands<'a> {
    place: &'a AwsPlace,
    broker: &'a Broker,
    operator: String,
    agents: Vec<String>,
    next: AtomicUsize,
}

impl Errands<'_> {
    /// A live lease; the broker may have too many open requests, or no room in its guard, for a moment.
    async fn live(&self, agent: &str, ttl: u64) -> Value {
        let body =
            json!({"action": "exports.write", "parameters": {"day": DAY}, "ttl_seconds": ttl});
        let request = until("a request is taken", async || {
            let answer = self.broker.post("/v1/requests", agent, &body).await;
            let busy = answer.status == StatusCode::TOO_MANY_REQUESTS;
            assert!(busy || answer.status.is_success(), "{answer:?}");
            answer.status.is_success().then_some(answer.body)
        })
        .await;
        until("a credential is handed over", async || {
            let answer = self.broker.collect(agent, &request).await;
            let full = answer.body["code"] == "guard_full";
            assert!(full || answer.status.is_success(), "{answer:?}");
            answer.status.is_success().then_some(answer.body)
        })
        .await
    }

    /// One lease from its mint to its end; what was wrong with it.
    async fn errand(&self, number: usize) -> Option<&'static str> {
        let (agent, revoked) = (
            &self.agents[number % AGENTS],
            number.is_multiple_of(REVOKED),
        );
        let collected = self.live(agent, if revoked { LONG_TTL } else { TTL }).await;
        let credential = &collected["credential"];
        let holder = self.place.holder(credential);
        let left = || {
            let left = expiry(credential).millis() - SystemClock::start().now().millis();
            Duration::from_millis(left.try_into().unwrap_or(0))
        };
        if revoked {
            let cut = revoke(self.broker, &self.operator, &collected["request"]).await;
            let denied = !self.place.works(&holder).await;
            return match cut["lease"]["state"].as_str() {
                Some("cut_off") if denied => None,
                _ => Some("it was not cut off"),
            };
        }
        sleep(left().saturating_sub(Duration::from_millis(1500))).await;
        if !self.place.works(&holder).await && left() > Duration::ZERO {
            return Some("it was denied before its time");
        }
        sleep(left() + Duration::from_millis(1)).await;
        if self.place.works(&holder).await {
            return Some("it works after its time");
        }
        None
    }

    async fn run_one_after_another(&self) -> Vec<(usize, &'static str)> {
        let mut wrong = Vec::new();
        loop {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            if number >= LEASES {
                return wrong;
            }
            wrong.extend(self.errand(number).await.map(|what| (number, what)));
        }
    }
}

#[tokio::test]
async fn l04_of_many_leases_none_is_denied_wrongly_and_none_works_on() {
    let place = AwsPlace::open().await;
    place.edit("policies/exports.cedar", |text| {
        text.replace("principal == Agent::\"exporter\"", "principal")
    });
    let broker = place.dev().await;
    let operator = place.operator();
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        let name = format!("exporter-{number}");
        let add = ["agent", "add", &name, "--owner", "dev:ana"];
        let added = run(countersign(&broker.base, &operator, &add)).await.fine();
        agents.push(added.out.trim().to_owned());
    }
    let errands = Errands {
        place: &place,
        broker: &broker,
        operator,
        agents,
        next: AtomicUsize::new(0),
    };
    let wrong = join_all((0..AT_ONCE).map(|_| errands.run_one_after_another())).await;
    let wrong: Vec<_> = wrong.into_iter().flatten().collect();
    assert_eq!(wrong, []);
    assert!(place.meddler.calls("CreatePolicyVersion") > 2);
    until("all leases have ended", async || {
        let open = broker.get("/v1/leases", &errands.operator).await.body;
        open["data"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    let ledger = broker.ledger(&errands.operator).await;
    let failed = ledger
        .iter()
        .filter(|entry| entry.contains("lease.end_failed"));
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
