//! The real program against a real PostgreSQL, end to end: what an agent, a reviewer, a DBA and an attacker would see.
//!
//! * each test has its own PostgreSQL server with the example shop in it, prepared by `examples/shop/database.sql`
//! * a broker is a process of its own, killed and started as an operator or a crash would
//! * people sign in on the broker's pages, through the embedded identity provider or a certified one

mod agents;
mod aws;
pub mod broker;
mod browser;
mod canary;
pub mod cli;
mod clock;
mod commands;
mod crash;
mod ends;
mod exposure;
mod hostile;
mod hostile_mariadb;
mod hostile_owner;
mod moves;
mod person;
pub mod place;
mod relay;
mod replicas;
mod restored;
mod sign_in;
mod story;

use std::time::Duration;

/// How long a condition may take to come true; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// The public key of the example bundle for its agent `reporter`.
pub const REPORTER: &str = "csk_kuKyrK4UOMfqmgR28CKjrZqIY6Rpl0WojZ95nAANunV3lTUJ6";
/// The public key of the example bundle for its agent `migrator`.
const MIGRATOR: &str = "csk_JHcD534BbYQP0WYYYswiKZS6Cv9pMfHfimc3RHzD6dc3EvGuc";

/// Looks until there is something to see; fails when it does not come in time.
async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look).await
}

/// As [`until`], with a deadline of its own.
async fn within<T>(deadline: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let seen = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let seen = tokio::time::timeout(deadline, seen).await;
    seen.unwrap_or_else(|_| panic!("{what}: not within {deadline:?}"))
}
