//! A target mints nothing before its rehearsal has passed. Ending, proving and searching need no permission.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::domain::{Explanation, Seconds, ServerId, TargetName};
use crate::issuers::{
    Credential, EndError, Ending, Found, Guard, Issuer, MintError, MintOrder, Proof, Rehearsal,
};

/// How soon a rehearsal that did not pass is repeated.
const AGAIN: Duration = Duration::from_secs(30);
/// The longest a rehearsal may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An issuer behind its rehearsal.
pub(super) struct Gate {
    name: TargetName,
    issuer: Arc<dyn Issuer>,
    scopes: Vec<Value>,
    open: AtomicBool,
}

impl Gate {
    /// Closed. `scopes` are what the catalog will ask of this target.
    pub(super) fn new(name: TargetName, issuer: Arc<dyn Issuer>, scopes: Vec<Value>) -> Self {
        Self {
            name,
            issuer,
            scopes,
            open: AtomicBool::new(false),
        }
    }

    /// Rehearses once; opens when there is no problem.
    pub(super) async fn try_open(&self) -> bool {
        let target = &self.name;
        let rehearsal = tokio::time::timeout(PATIENCE, self.issuer.rehearse(&self.scopes)).await;
        match rehearsal {
            Ok(Ok(rehearsal)) => {
                for warning in &rehearsal.warnings {
                    tracing::warn!(target_name = %target, "{warning}");
                }
                for problem in &rehearsal.problems {
                    tracing::error!(target_name = %target, "the target is not enabled: {problem}");
                }
                let passed = rehearsal.problems.is_empty();
                if passed {
                    tracing::info!(target_name = %target, kind = %rehearsal.target, "the target is enabled");
                }
                self.open.store(passed, Ordering::SeqCst);
                passed
            }
            Ok(Err(error)) => {
                tracing::error!(target_name = %target, %error, "the target is not enabled: it cannot be looked at");
                false
            }
            Err(_) => {
                tracing::error!(target_name = %target, "the target is not enabled: its rehearsal does not end");
                false
            }
        }
    }

    /// Rehearses again, from time to time, until it passes.
    pub(super) async fn open_some_day(self: Arc<Self>) {
        loop {
            tokio::time::sleep(AGAIN).await;
            if self.try_open().await {
                return;
            }
        }
    }
}

#[async_trait]
impl Issuer for Gate {
    fn check_scope(&self, scope: &Value) -> Result<(), String> {
        self.issuer.check_scope(scope)
    }

    fn longest_ttl(&self) -> Seconds {
        self.issuer.longest_ttl()
    }

    fn explain(&self, scope: &Value, ttl: Seconds) -> Explanation {
        self.issuer.explain(scope, ttl)
    }

    async fn rehearse(&self, scopes: &[Value]) -> Result<Rehearsal, EndError> {
        self.issuer.rehearse(scopes).await
    }

    async fn identify(&self) -> Result<ServerId, EndError> {
        self.issuer.identify().await
    }

    async fn mint(&self, order: &MintOrder) -> Result<Credential, MintError> {
        if !self.open.load(Ordering::SeqCst) {
            let detail = "its rehearsal has not passed; run `countersign doctor`".into();
            return Err(MintError::Unavailable { detail });
        }
        self.issuer.mint(order).await
    }

    fn guard(&self) -> Option<Arc<dyn Guard>> {
        self.issuer.guard()
    }

    async fn end(&self, ending: &Ending<'_>) -> Result<(), EndError> {
        self.issuer.end(ending).await
    }

    async fn prove(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        self.issuer.prove(ending).await
    }

    async fn end_and_prove(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        self.issuer.end_and_prove(ending).await
    }

    async fn end_all(&self, endings: &[Ending<'_>]) -> Vec<Result<Proof, EndError>> {
        self.issuer.end_all(endings).await
    }

    async fn end_willing(&self, endings: &[Ending<'_>]) -> Vec<Option<Result<Proof, EndError>>> {
        self.issuer.end_willing(endings).await
    }

    fn batch(&self) -> usize {
        self.issuer.batch()
    }

    fn batch_of(&self, handle: &str) -> u32 {
        self.issuer.batch_of(handle)
    }

    async fn list(&self) -> Result<Vec<Found>, EndError> {
        self.issuer.list().await
    }
}
