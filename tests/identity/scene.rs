//! One issuer of workload tokens, one key, one agent.

use std::sync::Arc;

use countersign::identity::Agents;
use serde_json::{Value, json};

use super::world::{KeyServer, Signer, World, matching, workload};

pub const ISSUER: &str = "https://ci.example";

/// One issuer, one key, one agent that is bound to repository 42.
pub struct Scene {
    pub world: World,
    pub signer: Signer,
    pub server: Arc<KeyServer>,
}

impl Scene {
    pub async fn new(signer: Signer) -> Self {
        let server = KeyServer::start(vec![signer.jwk("k1")]).await;
        let world = World::new();
        world.enrol("deployer", matching("ci", &[("repository_id", "42")]));
        Self {
            world,
            signer,
            server,
        }
    }

    pub fn agents(&self) -> Agents {
        let config = workload(&self.server, ISSUER, self.signer.algorithm());
        self.world.agents(&[("ci", config)])
    }

    pub fn header(&self) -> Value {
        json!({"alg": self.signer.algorithm(), "kid": "k1", "typ": "JWT"})
    }

    pub fn claims(&self) -> Value {
        self.world.claims(ISSUER)
    }

    pub fn token(&self) -> String {
        self.signer.sign(&self.header(), &self.claims())
    }

    /// A correctly signed token whose claims were changed.
    pub fn with(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.signer.sign(&self.header(), &claims)
    }

    /// A correctly signed token whose header was changed.
    pub fn headed(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut header = self.header();
        change(&mut header);
        self.signer.sign(&header, &self.claims())
    }
}

pub fn without(name: &'static str) -> impl FnOnce(&mut Value) {
    move |claims| {
        claims.as_object_mut().unwrap().remove(name);
    }
}
