//! Agents: the software that asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ids::{AgentName, Digest};
use super::person::Party;
use super::time::Time;

/// An agent the broker knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its name, the only identity it has here.
    pub name: AgentName,
    /// The person or group that answers for it, and may therefore never review its requests.
    pub owner: Party,
    /// How it proves itself.
    pub proof: AgentProof,
    /// Where it was declared.
    pub origin: AgentOrigin,
}

/// Where an agent was declared, and so what may take it away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentOrigin {
    /// In the bundle; leaving the bundle disables it.
    Bundle,
    /// With `countersign agent add`.
    Operator,
}

/// How an agent proves itself. Nothing in here is secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum AgentProof {
    /// A 256-bit API key, of which only the SHA-256 is kept.
    ApiKey {
        /// SHA-256 of the whole key text.
        hash: Digest,
    },
    /// An Ed25519 key pair; the agent signs assertions (`private_key_jwt`, RFC 7523).
    PublicKey {
        /// The 32-byte public key, base64url without padding (the `x` of its JWK).
        ed25519: String,
    },
    /// A JWT of a configured issuer whose claims match exactly.
    Workload {
        /// The issuer's name in `countersign.toml`.
        issuer: String,
        /// Claims that must be present with exactly this string value; at least one.
        claims: BTreeMap<String, String>,
    },
}

/// An agent that is no longer served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Disabled {
    /// Since when.
    pub at: Time,
}
