//! Which agents prove themselves with what: how a caller is found without looking at all the others.

use std::collections::{BTreeSet, HashMap};

use super::agent::{Agent, AgentProof};
use super::ids::{AgentName, Digest};

/// The agents that are served, by what they prove themselves with. Derived from the agents, so it is never stored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Roster {
    by_key: HashMap<Digest, BTreeSet<AgentName>>,
    by_issuer: HashMap<String, BTreeSet<AgentName>>,
}

impl Roster {
    /// Takes in an agent that is served from now on.
    pub(super) fn add(&mut self, agent: &Agent) {
        let names = match &agent.proof {
            AgentProof::ApiKey { hash } => self.by_key.entry(*hash).or_default(),
            AgentProof::Workload { issuer, .. } => {
                self.by_issuer.entry(issuer.clone()).or_default()
            }
            // Found by its name.
            AgentProof::PublicKey { .. } => return,
        };
        names.insert(agent.name.clone());
    }

    /// Forgets an agent that is not served any more, or not as it was.
    pub(super) fn remove(&mut self, agent: &Agent) {
        match &agent.proof {
            AgentProof::ApiKey { hash } => forget(&mut self.by_key, hash, &agent.name),
            AgentProof::Workload { issuer, .. } => {
                forget(&mut self.by_issuer, issuer, &agent.name);
            }
            AgentProof::PublicKey { .. } => {}
        }
    }

    /// Whose API key has this hash.
    pub(super) fn with_key(&self, hash: &Digest) -> impl Iterator<Item = &AgentName> {
        self.by_key.get(hash).into_iter().flatten()
    }

    /// Who presents tokens of this issuer.
    pub(super) fn of_issuer(&self, issuer: &str) -> impl Iterator<Item = &AgentName> {
        self.by_issuer.get(issuer).into_iter().flatten()
    }
}

fn forget<K: std::hash::Hash + Eq + Clone>(
    index: &mut HashMap<K, BTreeSet<AgentName>>,
    key: &K,
    name: &AgentName,
) {
    let emptied = index.get_mut(key).is_some_and(|names| {
        names.remove(name);
        names.is_empty()
    });
    if emptied {
        index.remove(key);
    }
}
