//! A target that nothing can be ended at for now.

use serde::{Deserialize, Serialize};

use super::time::Time;

/// Since when, and why, as the broker that looked last saw it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Since when.
    pub since: Time,
    /// The stable code of what was in the way.
    pub code: String,
    /// What is in the way and what to do about it; no secret.
    pub detail: String,
}

impl Outage {
    pub(super) fn new(since: Time, code: &str, detail: &str) -> Self {
        Self {
            since,
            code: code.into(),
            detail: detail.into(),
        }
    }
}
