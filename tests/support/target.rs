//! A target that exists only in memory and misbehaves on request. Whoever holds it sees what a real target
//! would hold: it outlives the broker that talks to it.
//!
//! It is of one of two kinds: one whose credentials can be removed, like a database, and one whose credentials run out by
//! themselves and are cut off by a guard until then, like AWS.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use countersign::domain::{Explanation, GuardRoom, RequestId, Seconds, ServerId, Time};
use countersign::issuers::{
    Credential, EndError, Ending, Found, Guard, GuardContent, Issuer, MintError, MintOrder,
    PostgresCredential, Proof, Rehearsal, TARGET_CHANGED, Whose,
};
use countersign::system::Clock;
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

/// A credential at the target.
struct Session {
    request: RequestId,
    /// When it has to be over, by the target's own clock.
    over: Time,
    /// When it runs out by itself, if ever.
    runs_out: Time,
}

/// The target's side of the story.
#[derive(Default)]
struct State {
    /// Credentials there are.
    sessions: BTreeMap<String, Session>,
    /// What the guard denies.
    denied: GuardContent,
    /// The target's own clock, at the latest call.
    now: Time,
    /// Handles ever minted.
    minted: BTreeSet<String>,
    /// Requests ever served.
    served: BTreeSet<RequestId>,
    /// Laws broken, in words.
    violations: Vec<String>,
    /// Handles that cannot be removed.
    stuck: BTreeSet<String>,
    /// Another server answers.
    elsewhere: bool,
}

impl State {
    fn works(&self, handle: &str) -> bool {
        let session = self.sessions.get(handle);
        session.is_some_and(|session| self.now < session.runs_out)
            && !self.denied.cut.contains(handle)
    }
}

/// A target in memory.
#[derive(Clone, Default)]
pub struct FakeTarget {
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
    clock: Arc<Mutex<Option<Arc<dyn Clock>>>>,
    /// The clock of the broker, by which it says when a credential runs out by itself.
    brokers: Arc<Mutex<Option<Arc<dyn Clock>>>>,
    /// How many leases its guard has room for, when it has one.
    guard: Option<usize>,
    /// Whether it panics where it should only say a number.
    panics: Arc<AtomicBool>,
}

impl FakeTarget {
    /// One whose credentials run out by themselves and are cut off by a guard until then.
    pub fn guarded(room: usize) -> Self {
        Self {
            guard: Some(room),
            ..Self::default()
        }
    }

    /// The time at the target from now on.
    pub fn set_clock(&self, clock: Arc<dyn Clock>) {
        *self.clock.lock().unwrap() = Some(clock);
    }

    /// The time at the broker from now on.
    pub fn set_brokers_clock(&self, clock: Arc<dyn Clock>) {
        *self.brokers.lock().unwrap() = Some(clock);
    }

    /// From now on `hook` decides what becomes of each call, named `identify`, `mint`, `publish`, `holds`,
    /// `end`, `prove` or `list`.
    pub fn set_faults(&self, hook: Option<Hook>) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// Handles that work, at the time of the latest call.
    pub fn live(&self) -> Vec<String> {
        let state = self.locked();
        let handles = state.sessions.keys();
        handles
            .filter(|handle| state.works(handle))
            .cloned()
            .collect()
    }

    /// Handles that work now although their time was over at least `by` ago, by the target's own clock.
    pub fn overdue(&self, by: Duration) -> Vec<String> {
        self.look_at_the_clock();
        let state = self.locked();
        let sessions = state.sessions.iter();
        let overdue = sessions
            .filter(|(handle, session)| session.over.after(by) < state.now && state.works(handle));
        overdue.map(|(handle, _)| handle.clone()).collect()
    }

    /// Goes on to the time it is now, as each call does.
    pub fn look_at_the_clock(&self) {
        if let Some(clock) = &*self.clock.lock().unwrap() {
            self.locked().now = clock.now();
        }
    }

    /// How many were ever minted.
    pub fn minted(&self) -> usize {
        self.locked().minted.len()
    }

    /// Whether a credential was ever minted for `request`.
    pub fn served(&self, request: &RequestId) -> bool {
        self.locked().served.contains(request)
    }

    /// Laws the broker broke, as seen from here.
    pub fn violations(&self) -> Vec<String> {
        self.locked().violations.clone()
    }

    /// Whether `handle` cannot be removed from now on.
    pub fn set_stuck(&self, handle: &str, stuck: bool) {
        let stuck_ones = &mut self.locked().stuck;
        if stuck {
            stuck_ones.insert(handle.into());
        } else {
            stuck_ones.remove(handle);
        }
    }

    /// From now on it panics where it should only say a number.
    pub fn set_panicking(&self) {
        self.panics.store(true, Ordering::SeqCst);
    }

    /// Whether another server answers from now on, one that holds nothing.
    pub fn set_elsewhere(&self, elsewhere: bool) {
        self.locked().elsewhere = elsewhere;
    }

    /// A credential appears that no broker asked for, as after a restore from a snapshot.
    pub fn plant(&self, handle: &str, request: RequestId) {
        let forever = Session {
            request,
            over: Time::MAX,
            runs_out: Time::MAX,
        };
        self.locked().sessions.insert(handle.into(), forever);
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
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map_or(TargetFault::Works, |hook| hook(name));
        self.look_at_the_clock();
        let happens = matches!(
            fault,
            TargetFault::Works | TargetFault::AnswerLost | TargetFault::HangsAfter
        );
        let answer = happens.then(|| act(&mut self.locked()));
        if matches!(fault, TargetFault::HangsBefore | TargetFault::HangsAfter) {
            std::future::pending::<()>().await;
        }
        // An answer takes its time, so that other tasks get theirs.
        tokio::time::sleep(Duration::from_millis(3)).await;
        match (fault, answer) {
            (TargetFault::Works, Some(answer)) => Ok(answer),
            _ => Err(fault),
        }
    }
}

fn changed() -> EndError {
    EndError {
        code: TARGET_CHANGED.into(),
        detail: "other memory".into(),
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
            outlives: Vec::new(),
        }
    }

    async fn rehearse(&self, _: &[Value]) -> Result<Rehearsal, EndError> {
        Ok(Rehearsal {
            target: "memory".into(),
            ..Rehearsal::default()
        })
    }

    async fn identify(&self) -> Result<ServerId, EndError> {
        let server = self.call("identify", |state| match state.elsewhere {
            false => "memory".parse().unwrap(),
            true => "other memory".parse().unwrap(),
        });
        server.await.map_err(failed)
    }

    async fn mint(&self, order: &MintOrder) -> Result<Credential, MintError> {
        let handle = countersign::domain::lease::handle_of(&order.lease);
        if self.locked().elsewhere {
            let detail = "other memory".into();
            return Err(MintError::Elsewhere { detail });
        }
        let brokers = self.brokers.lock().unwrap().clone();
        let minted = self.call("mint", |state| {
            let serves = |(handle, session): (&String, &Session)| {
                session.request == order.request && state.works(handle)
            };
            if state.sessions.iter().any(serves) {
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
            state.served.insert(order.request.clone());
            let over = state.now.after(order.ttl);
            let session = Session {
                request: order.request.clone(),
                over,
                runs_out: match (self.guard, &brokers) {
                    (None, _) => Time::MAX,
                    (Some(_), Some(brokers)) => brokers.utc().after(order.ttl),
                    (Some(_), None) => over,
                },
            };
            state.sessions.insert(handle.clone(), session);
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

    fn guard(&self) -> Option<Arc<dyn Guard>> {
        self.guard?;
        Some(Arc::new(self.clone()))
    }

    async fn end(&self, ending: &Ending<'_>) -> Result<(), EndError> {
        let guarded = self.guard.is_some();
        let end = |state: &mut State| {
            if state.elsewhere {
                return Err(changed());
            }
            if state.stuck.contains(ending.handle) {
                return Err(EndError {
                    code: "cleanup_blocked".into(),
                    detail: ending.handle.into(),
                });
            }
            if !guarded {
                state.sessions.remove(ending.handle);
            }
            Ok(())
        };
        self.call("end", end).await.map_err(failed)?
    }

    async fn prove(&self, ending: &Ending<'_>) -> Result<Proof, EndError> {
        let (handle, expires) = (ending.handle, ending.expires);
        let (guarded, over) = (self.guard.is_some(), ending.over);
        let look = |state: &mut State| match expires {
            _ if state.elsewhere => Err(changed()),
            Some(_) if guarded && over.is_some_and(|over| state.now >= over) => {
                if state.works(handle) {
                    let violation = format!("L4: {handle} is called gone and works");
                    state.violations.push(violation);
                }
                Ok(Proof::gone(["run_out"]))
            }
            Some(until) if guarded && state.denied.cut.contains(handle) => Ok(Proof::CutOff {
                seen: vec!["denied".into()],
                until,
            }),
            _ if !guarded && !state.sessions.contains_key(handle) => Ok(Proof::gone(["no_role"])),
            _ => Err(EndError {
                code: "still_allowed".into(),
                detail: handle.into(),
            }),
        };
        self.call("prove", look).await.map_err(failed)?
    }

    fn batch(&self) -> usize {
        assert!(!self.panics.load(Ordering::SeqCst), "as the test wants it");
        1
    }

    async fn list(&self) -> Result<Vec<Found>, EndError> {
        let guarded = self.guard.is_some();
        let list = |state: &mut State| match guarded {
            true => Vec::new(),
            false => {
                let handles = state.sessions.keys().cloned();
                let found = handles.map(|handle| Found {
                    handle,
                    whose: Whose::Ours,
                });
                found.collect()
            }
        };
        self.call("list", list).await.map_err(failed)
    }
}

#[async_trait]
impl Guard for FakeTarget {
    fn room(&self) -> GuardRoom {
        GuardRoom {
            name: "guard".parse().unwrap(),
            room: self.guard.unwrap_or(0),
        }
    }

    async fn publish(&self, content: &GuardContent) -> Result<(), EndError> {
        let room = self.guard.unwrap_or(0);
        let publish = |state: &mut State| {
            if content.cut.len() > room {
                state.violations.push(format!(
                    "L4: {} cut off, room for {room}",
                    content.cut.len()
                ));
            }
            state.denied = content.clone();
        };
        self.call("publish", publish).await.map_err(failed)
    }

    async fn holds(&self, content: &GuardContent) -> Result<bool, EndError> {
        let holds = self.call("holds", |state| state.denied == *content).await;
        holds.map_err(failed)
    }
}
