//! How a lease came to its end, as far as the broker says, in words for people and for SDKs.

use countersign_client::{Outcome, RequestView, State};

use super::text::seconds_of;

/// Why a lease's credential may not be used any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ending {
    /// The stable word for it, as AWS SDKs show it.
    pub(crate) code: &'static str,
    /// The broker's own word.
    pub(crate) word: String,
    /// What happened, to follow the lease's name.
    pub(crate) what: String,
}

/// States of a lease in which its credential works, or is about to.
const ALIVE: [&str; 2] = ["issuing", "live"];

/// Whether a lease in this state may still have a working credential. A word to come says no.
pub(crate) fn lives(state: Option<&str>) -> bool {
    state.is_some_and(|state| ALIVE.contains(&state))
}

impl Ending {
    /// Its time is over.
    pub(crate) fn expired(at_ms: i64) -> Self {
        Self::of_word("expired", &format!("at {}", seconds_of(at_ms)))
    }

    /// How the request's access ended, or is ending; `None` while it may live. `seen_ms` is when we learned of it.
    pub(crate) fn of(request: &RequestView, seen_ms: i64) -> Option<Self> {
        let lease = request.lease.as_ref();
        let over = matches!(request.state, State::Ending | State::Closed)
            || lease
                .and_then(|lease| lease.state.as_deref())
                .is_some_and(|state| ["ending", "cut_off", "ended"].contains(&state));
        if !over {
            return None;
        }
        let cause = lease.and_then(|lease| lease.cause.as_deref());
        let word = request.outcome.as_ref().map(Outcome::as_str).or(cause);
        let since = lease.and_then(|lease| lease.since.as_deref());
        let when = since.map_or_else(
            || format!("(seen at {})", seconds_of(seen_ms)),
            |since| format!("at {since}"),
        );
        Some(Self::of_word(
            word.unwrap_or_else(|| request.state.as_str()),
            &when,
        ))
    }

    fn of_word(word: &str, when: &str) -> Self {
        let (code, what) = match word {
            "revoked" => ("LeaseRevoked", format!("was revoked {when}")),
            "expired" => ("LeaseExpired", format!("ran out {when}")),
            "completed" | "finished" => ("LeaseFinished", format!("was finished {when}")),
            "frozen" => ("LeaseFrozen", format!("was ended by a freeze {when}")),
            "agent_disabled" => ("AgentDisabled", format!("was ended with its agent {when}")),
            other => ("LeaseEnded", format!("was ended ({other}) {when}")),
        };
        Self {
            code,
            word: word.to_owned(),
            what,
        }
    }

    /// Whether it ended in the ordinary way, so that nobody minds if it is asked for again.
    pub(crate) fn is_ordinary(&self) -> bool {
        matches!(self.code, "LeaseExpired" | "LeaseFinished")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn request(value: Value) -> RequestView {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let lives = request(
            json!({"id": "req_a", "state": "live", "lease": {"id": "lse_a", "state": "live"}}),
        );
        assert_eq!(Ending::of(&lives, 0), None);
        let dreams = request(
            json!({"id": "req_a", "state": "dreaming", "lease": {"id": "lse_a", "state": "dreaming"}}),
        );
        assert_eq!(Ending::of(&dreams, 0), None);
        let ending = request(json!({"id": "req_a", "state": "ending"}));
        let ending = Ending::of(&ending, 0).unwrap();
        assert_eq!(ending.code, "LeaseEnded");
        assert_eq!(
            ending.what,
            "was ended (ending) (seen at 1970-01-01T00:00:00Z)"
        );
        let cut = request(json!({"id": "req_a", "state": "live", "lease":
            {"id": "lse_a", "state": "cut_off", "cause": "revoked", "since": "2026-11-22T10:30:00.000Z"}}));
        let cut = Ending::of(&cut, 0).unwrap();
        assert_eq!(
            (cut.code, cut.what.as_str()),
            ("LeaseRevoked", "was revoked at 2026-11-22T10:30:00.000Z")
        );
    }
}
