//! B16: a caller is found without looking at all the others, in the world that the broker serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign::domain::agent::AgentOrigin;
use countersign::domain::{
    Actor, Agent, AgentName, AgentProof, Digest, Entry, Event, Party, World as Ledger,
};
use countersign::identity::keys::{self, TokenKind};
use countersign::identity::{AgentDirectory, Agents, AuthError, Grant, Principal};
use countersign::ledger::entry::VERSION;
use secrecy::ExposeSecret as _;

use super::scene::{ISSUER, Scene};
use super::world::{BROKER, Signer, World, matching, workload};

/// A fold with agents, that counts those it yields.
struct Counted {
    ledger: Ledger,
    looked_at: AtomicUsize,
}

impl Counted {
    fn count<'a>(&self, found: impl Iterator<Item = &'a Agent>) -> Vec<Agent> {
        let found = found.inspect(|_| {
            self.looked_at.fetch_add(1, Ordering::SeqCst);
        });
        found.cloned().collect()
    }
}

impl AgentDirectory for Counted {
    fn named(&self, name: &AgentName) -> Option<Agent> {
        self.count(self.ledger.agent(name).into_iter()).pop()
    }

    fn with_key(&self, hash: &Digest) -> Vec<Agent> {
        self.count(self.ledger.agents_with_key(hash))
    }

    fn of_issuer(&self, issuer: &str, wanted: &dyn Fn(&Agent) -> bool) -> Vec<Agent> {
        let mut found = self.count(self.ledger.agents_of_issuer(issuer));
        found.retain(wanted);
        found
    }
}

fn tell(ledger: &mut Ledger, event: Event) {
    let entry = Entry {
        v: VERSION,
        seq: ledger.size,
        time: ledger.time,
        actor: Actor::Operator,
        event,
    };
    ledger.apply(&entry).unwrap();
}

fn enrol(ledger: &mut Ledger, name: &str, proof: AgentProof) {
    let agent = Agent {
        name: name.parse().unwrap(),
        owner: Party::Group("owners".parse().unwrap()),
        proof,
        origin: AgentOrigin::Bundle,
    };
    tell(ledger, Event::AgentEnrolled { agent });
}

fn key_of(number: usize) -> AgentProof {
    AgentProof::ApiKey {
        hash: Digest::of(number.to_string().as_bytes()),
    }
}

/// One caller of each kind among `others` of each kind, and how many agents were looked at: for a key, a token of
/// an issuer, and the access token it is exchanged for.
async fn looked_at(others: usize) -> usize {
    let scene = Scene::new(Signer::ed(1)).await;
    let (key, hash) = keys::generate(TokenKind::ApiKey, &*scene.world.ports.entropy);
    let mut ledger = Ledger::default();
    enrol(&mut ledger, "exporter", AgentProof::ApiKey { hash });
    let deployer = matching("ci", &[("repository_id", "42")]);
    enrol(&mut ledger, "deployer", deployer);
    for number in 0..others {
        enrol(&mut ledger, &format!("other-{number}"), key_of(number));
        let elsewhere = matching("elsewhere", &[("repository_id", "42")]);
        enrol(&mut ledger, &format!("third-{number}"), elsewhere);
    }
    let directory = Arc::new(Counted {
        ledger,
        looked_at: AtomicUsize::new(0),
    });
    let config = workload(&scene.server, ISSUER, scene.signer.algorithm());
    let agents = Agents::new(
        scene.world.ports.clone(),
        directory.clone(),
        &[("ci".to_owned(), config)].into(),
        &BROKER.parse().unwrap(),
        None,
    )
    .unwrap();
    let exporter = agents.authenticate(key.expose_secret()).await.unwrap();
    assert!(matches!(exporter, Principal::Agent(agent) if agent.name.as_str() == "exporter"));
    let grant = Grant::WorkloadToken(scene.token().into());
    let token = agents.exchange(grant).await.unwrap().token;
    let deployer = agents.authenticate(token.expose_secret()).await.unwrap();
    assert!(matches!(deployer, Principal::Agent(agent) if agent.name.as_str() == "deployer"));
    directory.looked_at.load(Ordering::SeqCst)
}

#[tokio::test]
async fn finding_b16_what_is_looked_at_to_know_a_caller_does_not_grow_with_the_agents() {
    let few = looked_at(1).await;
    assert_eq!((few, looked_at(2_000).await), (3, 3));
}

/// Enrolled, declared anew with another proof, disabled, read back from a snapshot: the index says what the agents say.
#[test]
fn finding_b16_the_index_is_what_the_agents_say() {
    let mut ledger = Ledger::default();
    let by_key = |ledger: &Ledger, number| {
        let AgentProof::ApiKey { hash } = key_of(number) else {
            panic!("no key");
        };
        let found = ledger.agents_with_key(&hash);
        found
            .map(|agent| agent.name.to_string())
            .collect::<Vec<_>>()
    };
    let from_ci = |ledger: &Ledger| ledger.agents_of_issuer("ci").count();
    enrol(&mut ledger, "exporter", key_of(1));
    enrol(&mut ledger, "importer", key_of(2));
    enrol(&mut ledger, "deployer", matching("ci", &[("sub", "x")]));
    assert_eq!(by_key(&ledger, 1), ["exporter"]);
    enrol(&mut ledger, "exporter", key_of(3));
    assert_eq!(
        (by_key(&ledger, 1), by_key(&ledger, 3)),
        (vec![], vec!["exporter".into()])
    );
    enrol(&mut ledger, "deployer", matching("other", &[("sub", "x")]));
    assert_eq!(from_ci(&ledger), 0);
    let agent = "importer".parse().unwrap();
    tell(&mut ledger, Event::AgentDisabled { agent });
    assert!(by_key(&ledger, 2).is_empty());
    let snapshot = serde_json::to_vec(&ledger).unwrap();
    let restored: Ledger = serde_json::from_slice(&snapshot).unwrap();
    assert_eq!(restored.restored(), ledger);
}

/// Two agents with one key cannot be told apart, so neither is served.
#[tokio::test]
async fn finding_b16_two_agents_with_one_key_are_refused() {
    let world = World::new();
    let (key, hash) = keys::generate(TokenKind::ApiKey, &*world.ports.entropy);
    for name in ["exporter", "importer"] {
        world.enrol(name, AgentProof::ApiKey { hash });
    }
    let answer = world.agents(&[]).authenticate(key.expose_secret()).await;
    assert_eq!(answer, Err(AuthError::Unauthenticated));
}
