//! Which server each target stands for, and what is there that no lease explains.
//!
//! The first answer of a target is an entry; from then on only the operator's word changes it. A target behind which
//! another server answers is not searched, and its issuer mints, ends and proves nothing there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::calls::Calls;
use super::draft::SequenceError;
use super::{Broker, BrokerError};
use crate::domain::command::RefusalCode;
use crate::domain::{Command, Refusal, ServerId, TargetName};
use crate::issuers::{EndError, Ending, Issuer, Whose};

/// How often targets are asked which server they are.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How soon one is asked again that has not answered.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often targets are searched for credentials no lease explains.
const SWEEP_EVERY: Duration = Duration::from_secs(300);
/// The longest a start waits for targets to say who they are.
const AT_START: Duration = Duration::from_secs(3);
/// The longest one may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a target answered when it was last asked which server it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// This server.
    Server(ServerId),
    /// Nothing good: the stable code, and words for the operator.
    Trouble(EndError),
}

/// A target as the operator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Its name.
    pub target: TargetName,
    /// The server it stands for, by the ledger.
    pub server: Option<ServerId>,
    /// What answered last, if it was asked since the start.
    pub seen: Option<Seen>,
}

impl Standing {
    /// Whether the server the ledger knows is the one that answered last.
    pub fn is_in_order(&self) -> bool {
        matches!((&self.server, &self.seen), (Some(known), Some(Seen::Server(seen))) if known == seen)
    }
}

impl Broker {
    /// Every target: the server it stands for, and what answered last.
    pub fn target_standings(&self) -> Vec<Standing> {
        let seen = self.targets.seen();
        let shared = &self.calls.shared;
        let targets = shared.issuers.keys();
        shared.world(|world| {
            let standing = |target: &TargetName| Standing {
                target: target.clone(),
                server: world.servers.get(target).cloned(),
                seen: seen.get(target).cloned(),
            };
            targets.map(standing).collect()
        })
    }

    /// Takes the operator's word that a target moved as planned: what was minted at `from` is ended and proven at `to`,
    /// and approvals for `from` are void.
    ///
    /// # Errors
    /// A refusal, or the ledger is unavailable.
    pub async fn move_target(
        &self,
        target: &TargetName,
        from: &ServerId,
        to: &ServerId,
        reason: Option<String>,
    ) -> Result<(), BrokerError> {
        self.answers_as(target, to).await?;
        let (reason, blobs) = self.blob(reason.map(String::into_bytes));
        let command = Command::MoveTarget {
            target: target.clone(),
            from: from.clone(),
            to: to.clone(),
            reason,
        };
        self.calls.send_with(command, blobs).await?;
        Ok(())
    }

    /// A target moves to the server that answers, and to no other: a slip would leave its leases nowhere to be ended.
    async fn answers_as(&self, target: &TargetName, to: &ServerId) -> Result<(), Box<Refusal>> {
        let Some(issuer) = self.calls.shared.issuers.get(target) else {
            return Ok(());
        };
        let answer = tokio::time::timeout(PATIENCE, issuer.identify()).await;
        let detail = match answer {
            Ok(Ok(server)) if server == *to => return Ok(()),
            Ok(Ok(server)) => format!("target {target} answers as \"{server}\", not as \"{to}\""),
            Ok(Err(error)) => format!("target {target} does not say which server it is: {error}"),
            Err(_) => format!("target {target} does not say which server it is"),
        };
        let next = "Point the target at the new server first, and name what `countersign target list` then shows as --to.";
        Err(Refusal::new(RefusalCode::TargetChanged, detail, next))
    }
}

/// The watch over all targets. One a broker.
#[derive(Clone)]
pub(super) struct TargetWatch {
    calls: Calls,
    seen: Arc<Mutex<BTreeMap<TargetName, Seen>>>,
}

impl TargetWatch {
    pub(super) fn new(calls: Calls) -> Self {
        Self {
            calls,
            seen: Arc::default(),
        }
    }

    /// What each target answered last.
    pub(super) fn seen(&self) -> BTreeMap<TargetName, Seen> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<TargetName, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all targets once, at start, for as long as a start may take.
    pub(super) async fn look_at_all(&self) {
        let targets = self.calls.shared.issuers.iter();
        let looks = targets.map(|(target, issuer)| self.look(target, issuer.as_ref()));
        // Who has not answered by then is asked again in the background.
        let _ = tokio::time::timeout(AT_START, join_all(looks)).await;
    }

    /// Asks a target and searches it, from time to time, until the broker stops.
    pub(super) async fn watch_for_ever(self, target: TargetName) {
        let Some(issuer) = self.calls.shared.issuers.get(&target).cloned() else {
            return;
        };
        let mut swept: Option<Instant> = None;
        loop {
            let mut next = LOOK_AGAIN;
            if self.look(&target, issuer.as_ref()).await {
                next = LOOK_EVERY;
                if swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
                    match self.sweep(&target, issuer.as_ref()).await {
                        Ok(()) => swept = Some(Instant::now()),
                        Err(error) => {
                            tracing::warn!(target_name = %target, %error, "the target could not be searched; trying again");
                            next = LOOK_AGAIN;
                        }
                    }
                }
            }
            tokio::select! {
                () = self.calls.shared.stop.cancelled() => return,
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// Asks which server the target is; true when it is the one the ledger knows, now or as of now.
    async fn look(&self, target: &TargetName, issuer: &dyn Issuer) -> bool {
        let answer = tokio::time::timeout(PATIENCE, issuer.identify()).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(EndError {
                code: "target_timeout".into(),
                detail: "no answer in time".into(),
            })
        });
        let seen = match &answer {
            Ok(server) => Seen::Server(server.clone()),
            Err(error) => Seen::Trouble(error.clone()),
        };
        let changed = self.locked().insert(target.clone(), seen.clone()) != Some(seen);
        let server = match answer {
            Ok(server) => server,
            Err(error) => {
                if changed {
                    tracing::warn!(target_name = %target, %error, "the target does not say which server it is");
                }
                return false;
            }
        };
        let known = self
            .calls
            .shared
            .world(|world| world.servers.get(target).cloned());
        if known.as_ref() == Some(&server) {
            return true;
        }
        let identify = Command::IdentifyTarget {
            target: target.clone(),
            server,
        };
        match self.calls.send(identify).await {
            Ok(_) => true,
            Err(SequenceError::Refused(refusal)) => {
                if changed {
                    tracing::error!(target_name = %target, %refusal, next = refusal.next, "nothing is minted, ended or proven there");
                }
                false
            }
            // A ledger that is not believed may have lost which server it is. What bears our mark there is ours all the same.
            Err(error) => matches!(error, SequenceError::InDoubt),
        }
    }

    /// Looks for credentials of ours that no lease explains. Each becomes a duty of its own.
    async fn sweep(&self, target: &TargetName, issuer: &dyn Issuer) -> anyhow::Result<()> {
        let explained = |handle: &str| {
            let lease = crate::domain::lease::lease_of(handle);
            self.calls.shared.world(|world| {
                lease.is_some_and(|id| world.leases.contains_key(&id))
                    || world
                        .orphans
                        .contains_key(&(target.clone(), handle.to_owned()))
            })
        };
        for found in issuer.list().await? {
            let handle = found.handle;
            if let Whose::Anothers(whose) = found.whose {
                tracing::warn!(target_name = %target, handle, whose, "a credential with a name like ours is somebody else's; it is left alone");
                continue;
            }
            // A lease may have ended between the list and this look: only what is still there counts.
            if explained(&handle) || issuer.prove(&Ending::unexplained(&handle)).await.is_ok() {
                continue;
            }
            let find = Command::FindOrphan {
                target: target.clone(),
                handle: handle.clone(),
            };
            match self.calls.send(find).await {
                Ok(reply) if reply.events.is_empty() => {}
                Ok(_) => {
                    tracing::warn!(target_name = %target, handle, "found a credential that no lease explains; ending it");
                }
                // A ledger that is not believed may have lost the lease, and cannot be told of it.
                Err(SequenceError::InDoubt) => {
                    let ended = issuer.end_and_prove(&Ending::unexplained(&handle)).await;
                    tracing::error!(target_name = %target, handle, ended = ended.is_ok(), "a credential that no lease explains is ended without an entry");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
