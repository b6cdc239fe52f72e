//! Keeping guards in force: what they deny is rendered whole from the ledger, by one writer a broker.
//!
//! A publish covers every lease that is ending when it begins, and those that come meanwhile share the next one, at most
//! one a second. Two brokers may write the same guard: each renders from the ledger's head, a write that met another is
//! done again, and each looks from time to time whether what should be in force is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::shared::Shared;
use super::{Broker, BrokerError};
use crate::domain::command::RefusalCode;
use crate::domain::{
    Command, EndCause, Event, GuardName, Lease, LeaseId, LeaseState, Refusal, Seconds, TargetName,
    Time, World,
};
use crate::issuers::{EndError, Guard, GuardContent, Issuer};

/// Shortest time from one publish of a guard to the next.
const PACE: Duration = Duration::from_secs(1);
/// Most attempts when other brokers keep writing.
const ATTEMPTS: u32 = 5;
/// How long a lease stays denied after it has run out by our clock: AWS's may differ.
const SKEW: Seconds = Seconds(60);
/// How long a kill switch is kept: longer than any session can live.
const SHUT_FOR: Seconds = Seconds(13 * 3600);

/// All guards, by name.
pub(super) struct Guards {
    shared: Arc<Shared>,
    writers: BTreeMap<GuardName, Writer>,
}

/// The one writer of a guard.
struct Writer {
    guard: Arc<dyn Guard>,
    /// The targets whose sessions it can deny.
    targets: BTreeSet<TargetName>,
    /// Held while publishing.
    in_force: Mutex<InForce>,
}

/// What the last publish put in force, as far as is known.
#[derive(Default)]
struct InForce {
    content: Option<GuardContent>,
    published: Option<Instant>,
}

impl Guards {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let mut writers = BTreeMap::new();
        for (target, issuer) in &shared.issuers {
            let Some(guard) = issuer.guard() else {
                continue;
            };
            let writer = writers.entry(guard.room().name).or_insert_with(|| Writer {
                guard,
                targets: BTreeSet::new(),
                in_force: Mutex::default(),
            });
            writer.targets.insert(target.clone());
        }
        Self { shared, writers }
    }

    /// Names of all guards.
    pub(super) fn names(&self) -> impl Iterator<Item = &GuardName> {
        self.writers.keys()
    }

    /// Cuts a session off where its issuer has a guard. Returns when the guard denies it, as read back from the target.
    /// A credential that has run out needs no guard, unless an attempt to prove it failed: AWS may still take it.
    pub(super) async fn cut(
        &self,
        issuer: &dyn Issuer,
        handle: &str,
        expires: Option<Time>,
        attempts: u32,
    ) -> Result<(), EndError> {
        let now = self.shared.clock.now();
        let may_work = |expires| now < expires || attempts > 0;
        let guard = issuer.guard().filter(|_| expires.is_some_and(may_work));
        let Some(guard) = guard else {
            return Ok(());
        };
        let Some(writer) = self.writers.get(&guard.room().name) else {
            return Ok(());
        };
        let mut in_force = writer.in_force.lock().await;
        let covers = |content: &GuardContent| content.cut.contains(handle);
        if in_force.content.as_ref().is_some_and(covers) {
            return Ok(());
        }
        self.publish(writer, &mut in_force).await
    }

    /// Looks whether what the ledger asks for is in force, and puts it in force if not.
    pub(super) async fn keep(&self, name: &GuardName) -> Result<(), EndError> {
        let Some(writer) = self.writers.get(name) else {
            return Ok(());
        };
        let mut in_force = writer.in_force.lock().await;
        let wanted = self.wanted(name, writer).await;
        if writer.guard.holds(&wanted).await? {
            in_force.content = Some(wanted);
            return Ok(());
        }
        self.publish(writer, &mut in_force).await
    }

    async fn publish(&self, writer: &Writer, in_force: &mut InForce) -> Result<(), EndError> {
        let name = writer.guard.room().name;
        in_force.content = None;
        let mut attempt = 1;
        loop {
            if let Some(published) = in_force.published {
                tokio::time::sleep_until(published + PACE).await;
            }
            in_force.published = Some(Instant::now());
            let wanted = self.wanted(&name, writer).await;
            match writer.guard.publish(&wanted).await {
                Ok(()) => {
                    tracing::info!(guard = %name, denied = wanted.cut.len(), "published");
                    in_force.content = Some(wanted);
                    return Ok(());
                }
                Err(error) if error.code == "guard_contended" && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// What the guard has to deny, from the ledger's head. When the store does not answer, from what is known:
    /// cutting off must not wait for it.
    async fn wanted(&self, name: &GuardName, writer: &Writer) -> GuardContent {
        if let Err(error) = self.shared.caught_up().await {
            tracing::warn!(guard = %name, %error, "rendering the guard from what is known of the ledger");
        }
        let now = self.shared.clock.now();
        self.shared
            .world(|world| content(world, name, &writer.targets, now))
    }
}

/// What a kill switch did.
#[derive(Debug)]
pub struct GuardShut {
    /// The leases of its targets that are not proven ended: all of them are ended.
    pub leases: Vec<LeaseId>,
    /// Whether the guard denies their sessions already, as read back from the target.
    pub published: bool,
}

impl Broker {
    /// The kill switch of a role group: denies every session of the guard's targets that was issued until now, whoever
    /// made it, and ends their leases. Waits until the guard is published; when that fails it is tried again for ever.
    ///
    /// # Errors
    /// There is no such guard, or the ledger is unavailable.
    pub async fn shut_guard(&self, guard: &GuardName) -> Result<GuardShut, BrokerError> {
        if !self.guards.names().any(|name| name == guard) {
            let detail = format!("there is no guard {guard}");
            let next = "Check its name under [guards] in countersign.toml.";
            return Err(Refusal::new(RefusalCode::UnknownGuard, detail, next).into());
        }
        let command = Command::ShutGuard {
            guard: guard.clone(),
        };
        let reply = self.calls.send(command).await?;
        let leases = match reply.events.first() {
            Some(Event::GuardShut { targets, .. }) => {
                let leases = self.leases(&|lease| targets.contains(&lease.target));
                leases.into_iter().map(|lease| lease.id).collect()
            }
            _ => Vec::new(),
        };
        let published = self.guards.keep(guard).await;
        if let Err(error) = &published {
            tracing::error!(%guard, %error, "the kill switch is recorded but not published yet; trying again");
        }
        Ok(GuardShut {
            leases,
            published: published.is_ok(),
        })
    }

    /// Puts every guard in force as the ledger asks, once. What fails is tried again in the background.
    pub async fn publish_guards(&self) {
        for guard in self.guards.names() {
            if let Err(error) = self.guards.keep(guard).await {
                tracing::error!(%guard, %error, "the guard could not be published; trying again");
            }
        }
    }
}

/// What a guard has to deny in this world.
fn content(
    world: &World,
    name: &GuardName,
    targets: &BTreeSet<TargetName>,
    now: Time,
) -> GuardContent {
    let here = |lease: &&Arc<Lease>| targets.contains(&lease.target);
    let leases = world.leases.values().filter(here);
    let cut = leases.filter(|lease| must_deny(lease, now));
    GuardContent {
        cut: cut.map(|lease| lease.handle()).collect(),
        issued_before: world
            .shut
            .get(name)
            .filter(|at| now < at.plus(SHUT_FOR))
            .map(|at| world.clock.right_at(*at)),
    }
}

/// Whether a lease ends before it runs out by itself, or should have run out and is not seen to have.
fn must_deny(lease: &Lease, now: Time) -> bool {
    match lease.state {
        LeaseState::Ending {
            attempts, cut_off, ..
        } if attempts > 0 || cut_off.is_some() => true,
        LeaseState::Ending { cause, .. } => {
            cause != EndCause::Expired && now < lease.expires.plus(SKEW)
        }
        LeaseState::Issuing { .. } | LeaseState::Live => false,
    }
}
