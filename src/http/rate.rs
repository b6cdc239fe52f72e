//! How often one agent may call: a token bucket for each agent, in memory. A noisy agent is told to wait and
//! delays nobody else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;

use super::problem::Problem;
use crate::domain::{AgentName, Time};

/// Calls an agent may make at once after a pause.
const BURST: i64 = 100;
/// How long it takes to earn one call back, in milliseconds: 600 a minute.
const EARN_MS: i64 = 100;

/// The buckets. Only agents that proved who they are have one, so there are never more than agents.
#[derive(Debug, Default)]
pub struct Buckets(Mutex<HashMap<AgentName, Bucket>>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Calls left, in milliseconds of earning.
    left_ms: i64,
    /// When that was so.
    at: Time,
}

impl Buckets {
    /// Takes one call out of the agent's bucket.
    ///
    /// # Errors
    /// A problem when it is empty; it says when to come back.
    pub fn take(&self, agent: &AgentName, now: Time) -> Result<(), Problem> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(agent.clone()).or_insert(Bucket {
            left_ms: BURST * EARN_MS,
            at: now,
        });
        let earned = now.millis().saturating_sub(bucket.at.millis()).max(0);
        bucket.left_ms = bucket.left_ms.saturating_add(earned).min(BURST * EARN_MS);
        bucket.at = now.max(bucket.at);
        if bucket.left_ms < EARN_MS {
            return Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "this agent calls more than 600 times a minute",
                "Wait for the time in Retry-After; use `Prefer: wait` instead of polling.",
            )
            .retry_after(1));
        }
        bucket.left_ms -= EARN_MS;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_spent_and_earned_back_by_each_agent_alone() {
        let buckets = Buckets::default();
        let (noisy, calm) = ("noisy".parse().unwrap(), "calm".parse().unwrap());
        let at = Time::from_millis;
        let spent = (0..150)
            .filter(|_| buckets.take(&noisy, at(1000)).is_ok())
            .count();
        assert_eq!(spent, 100);
        assert!(buckets.take(&calm, at(1000)).is_ok());
        assert!(buckets.take(&noisy, at(1099)).is_err());
        assert!(buckets.take(&noisy, at(1100)).is_ok());
        assert!(
            buckets.take(&noisy, at(900)).is_err(),
            "a clock that goes back earns nothing"
        );
        let later = (0..150)
            .filter(|_| buckets.take(&noisy, at(999_000)).is_ok())
            .count();
        assert_eq!(later, 100);
    }
}
