//! A target that exists only in memory and misbehaves on request. Whoever holds it sees what a real target
//! would hold: it outlives the broker that talks to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use countersign::domain::{Explanation, RequestId, Seconds, Time};
use countersign::issuers::{
    Credential, EndError, Issuer, MintError, MintOrder, PostgresCredential, Proof, Rehearsal,
};
use serde_json::Value;

/// What becomes of one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetFault {
    /// It works.
    Works,
    /// Nothing happens; the caller is told so.
    Away,
    /// A mint is refused for good; an end fails.
    Refuses,
    /// It works, but the answer is lost.
    AnswerLost,
    /// Nothing happens and no answer ever comes.
    HangsBefore,
    /// It works and no answer ever comes.
    HangsAfter,
}

type Hook = Box<dyn Fn(&'static str) -> TargetFault + Send + Sync>;

/// The target's side of the story.
#[derive(Default)]
struct State {
    /// Credentials that work now, and the request each serves.
    live: BTreeMap<String, RequestId>,
    /// Handles ever minted.
    minted: BTreeSet<String>,
    /// Laws broken, in words.
    violations: Vec<String>,
}

/// A target in memory.
#[derive(Clone, Default)]
pub struct FakeTarget {
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl FakeTarget {
    /// From now on `hook` decides what becomes of each call, named `mint`, `end`, `prove` or `list`.
    pub fn set_faults(&self, hook: Option<Hook>) {
        *self.hook.lock().unwrap() = hook;
    }

    /// Handles that work now.
    pub fn live(&self) -> Vec<String> {
        self.locked().live.keys().cloned().collect()
    }

    /// How many were ever minted.
    pub fn minted(&self) -> usize {
        self.locked().minted.len()
    }

    /// Laws the broker broke, as seen from here.
    pub fn violations(&self) -> Vec<String> {
        self.locked().violations.clone()
    }

    /// A credential appears that no broker asked for, as after a restore from a snapshot.
    pub fn plant(&self, handle: &str, request: RequestId) {
        self.locked().live.insert(handle.into(), request);
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn call<T>(
        &self,
        name: &'static str,
        act: impl FnOnce(&mut State) -> T,
    ) -> Result<T, TargetFault> {
        let fault = self
            .hook
            .lock()
            .unwrap()
            .as_ref()
            .map_or(TargetFault::Works, |hook| hook(name));
        let happens = matches!(
            fault,
            TargetFault::Works | TargetFault::AnswerLost | TargetFault::HangsAfter
        );
        let answer = happens.then(|| act(&mut self.locked()));
        if matches!(fault, TargetFault::HangsBefore | TargetFault::HangsAfter) {
            std::future::pending::<()>().await;
        }
        // An answer takes its time, so that other tasks get theirs.
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        match (fault, answer) {
            (TargetFault::Works, Some(answer)) => Ok(answer),
            _ => Err(fault),
        }
    }
}

fn failed(fault: TargetFault) -> EndError {
    EndError {
        code: "target_unavailable".into(),
        detail: format!("{fault:?}"),
    }
}

#[async_trait]
impl Issuer for FakeTarget {
    fn check_scope(&self, _: &Value) -> Result<(), String> {
        Ok(())
    }

    fn longest_ttl(&self) -> Seconds {
        Seconds(43_200)
    }

    fn explain(&self, scope: &Value, _: Seconds) -> Explanation {
        Explanation {
            words: vec!["whatever the test says".into()],
            exact: scope.to_string(),
            ending: vec!["when the broker says so".into()],
        }
    }

    async fn rehearse(&self, _: &[Value]) -> Result<Rehearsal, EndError> {
        Ok(Rehearsal {
            target: "memory".into(),
            ..Rehearsal::default()
        })
    }

    async fn mint(&self, order: &MintOrder) -> Result<Credential, MintError> {
        let handle = countersign::domain::lease::handle_of(&order.lease);
        let minted = self.call("mint", |state| {
            if state.live.values().any(|request| request == &order.request) {
                let request = &order.request;
                state
                    .violations
                    .push(format!("L2: a second live credential for {request}"));
            }
            if !state.minted.insert(handle.clone()) {
                state
                    .violations
                    .push(format!("L3: {handle} was minted twice"));
            }
            state.live.insert(handle.clone(), order.request.clone());
        });
        let detail = || "injected".to_owned();
        match minted.await {
            Ok(()) => Ok(Credential::Postgres(PostgresCredential {
                host: "target.example".into(),
                port: 5432,
                database: "shop".into(),
                user: handle,
                password: "canary-password".to_owned().into(),
                sslmode: "verify-full".into(),
                ca_pem: None,
            })),
            Err(TargetFault::Refuses) => Err(MintError::Refused {
                code: "role_missing".into(),
                detail: detail(),
            }),
            Err(TargetFault::Away) => Err(MintError::Unavailable { detail: detail() }),
            Err(_) => Err(MintError::Unknown { detail: detail() }),
        }
    }

    async fn end(&self, handle: &str, _: &Value) -> Result<(), EndError> {
        let ended = self
            .call("end", |state| drop(state.live.remove(handle)))
            .await;
        ended.map_err(failed)
    }

    async fn prove(&self, handle: &str, _: Option<Time>) -> Result<Proof, EndError> {
        match self
            .call("prove", |state| state.live.contains_key(handle))
            .await
        {
            Ok(false) => Ok(Proof::Gone(vec!["no_role".into()])),
            Ok(true) => Err(EndError {
                code: "role_exists".into(),
                detail: handle.into(),
            }),
            Err(fault) => Err(failed(fault)),
        }
    }

    async fn list(&self) -> Result<Vec<String>, EndError> {
        let listed = self
            .call("list", |state| state.live.keys().cloned().collect())
            .await;
        listed.map_err(failed)
    }
}
