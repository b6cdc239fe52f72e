//! Orders to mint and to end, as a broker writes them.

use std::time::Duration;

use countersign::domain::{LeaseId, RequestId, ServerId, Time};
use countersign::issuers::{Ending, MintOrder};
use countersign::system::{Clock, Entropy, SystemClock, SystemEntropy};
use serde_json::Value;

pub fn draw_lease() -> LeaseId {
    LeaseId::draw(SystemClock::start().now(), SystemEntropy.draw())
}

/// An order for `lease` at `server`.
pub fn order_for(lease: &LeaseId, scope: &Value, server: &ServerId) -> MintOrder {
    let now = SystemClock::start().now();
    MintOrder {
        lease: lease.clone(),
        request: RequestId::draw(now, SystemEntropy.draw()),
        agent: "ci-fixer".into(),
        sponsor: "owner".into(),
        scope: scope.clone(),
        server: server.clone(),
        ordered: now,
        ttl: Duration::from_secs(600),
        mint_within: Duration::from_secs(60),
    }
}

/// A credential to be ended, minted with `scope`.
pub fn ending<'a>(handle: &'a str, scope: &'a Value) -> Ending<'a> {
    Ending {
        scope,
        ..Ending::unexplained(handle)
    }
}

/// A credential to be looked at, which runs out at `expires`.
pub fn ending_at(handle: &str, expires: Option<Time>) -> Ending<'_> {
    Ending {
        expires,
        ..Ending::unexplained(handle)
    }
}

/// Asks again until `condition` holds, for at most ten seconds.
pub async fn until<F: AsyncFnMut() -> bool>(mut condition: F) {
    let asking = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking)
        .await
        .expect("the condition never held");
}
