//! The breaker of one target: while it is away nothing is claimed there, and one probe at a time looks whether it is back.
//!
//! It opens when an attempt fails in a way that says nothing of the credential, and the target does not say which server it
//! is either. It closes as soon as one of the two works again. What is in the way is what the target said last. A broker that alone cannot reach the target notes so once
//! and leaves the target to the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::NAP;
use super::ends::{Attempt, Known, no_answer, shortened};
use super::lane::{Lane, State};
use crate::domain::{Command, Outage, Time};
use crate::issuers::EndError;

/// How long a target may take to say which server it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the end of one credential may take that is tried as a probe.
const PROBE_PATIENCE: Duration = Duration::from_secs(15);
/// Longest wait between two probes.
const PROBE_MAX_SECONDS: u64 = 15;

/// What a lane knows of its target while it is away.
pub(super) struct Away {
    code: String,
    detail: String,
    /// Whether this outage is in the ledger, by our word or another broker's.
    noted: bool,
}

impl Lane {
    /// Whether nothing is to be claimed here. What another broker noted is believed until a probe says otherwise.
    pub(super) fn is_away(&self) -> bool {
        let noted = self.noted_outage();
        let mut state = self.locked();
        let Some(noted) = noted.filter(|noted| state.over_since() != Some(noted.since)) else {
            return state.away.is_some();
        };
        state.away.get_or_insert(Away {
            code: noted.code,
            detail: noted.detail,
            noted: true,
        });
        true
    }

    fn noted_outage(&self) -> Option<Outage> {
        let shared = &self.calls.shared;
        shared.world(|world| world.away.get(&self.target).cloned())
    }

    /// Takes out those attempts that failed because the target is away. They count for nothing.
    pub(super) async fn without_outage<'a>(&self, attempts: Vec<Attempt<'a>>) -> Vec<Attempt<'a>> {
        let is_about_target = |(_, result): &Attempt<'_>| {
            let error = result.as_ref().err();
            error.is_some_and(EndError::is_about_target)
        };
        let errors = attempts.iter().filter(|attempt| is_about_target(attempt));
        let Some(error) = errors
            .filter_map(|(_, result)| result.as_ref().err())
            .next()
        else {
            return attempts;
        };
        if !self.open_for(error).await {
            return attempts;
        }
        let kept = attempts.into_iter();
        kept.filter(|attempt| !is_about_target(attempt)).collect()
    }

    /// Opens the breaker if the target does not answer a probe either.
    async fn open_for(&self, error: &EndError) -> bool {
        if self.locked().away.is_some() {
            return true;
        }
        let Some(trouble) = self.trouble().await else {
            return false;
        };
        tracing::warn!(target_name = %self.target, %error, %trouble, "the target is away; what is owed there waits until it is back");
        self.locked().stay_away(trouble);
        true
    }

    /// Why the target does not say which server it is, if it does not.
    async fn trouble(&self) -> Option<EndError> {
        let answer = timeout(PATIENCE, self.issuer.identify()).await;
        answer.unwrap_or_else(|_| Err(no_answer())).err()
    }

    /// Probes the target until it is back or the broker stops.
    pub(super) async fn wait_until_it_is_back(self: &Arc<Self>) {
        let shared = &self.calls.shared;
        let mut seconds = 1;
        loop {
            self.note_away().await;
            tokio::select! {
                () = shared.stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            }
            let Some(trouble) = self.trouble().await else {
                break;
            };
            if self.probe().await {
                break;
            }
            self.locked().stay_away(trouble);
            seconds = (seconds * 2).min(PROBE_MAX_SECONDS);
        }
        tracing::info!(target_name = %self.target, "the target is back");
        self.note_back().await;
    }

    /// Ends one credential that is owed, without a claim. Whether that says anything but that the target is away.
    async fn probe(self: &Arc<Self>) -> bool {
        let Ok(permit) = self.permits().try_acquire_owned() else {
            return false;
        };
        let Some(turn) = self.pull(permit, 1) else {
            return false;
        };
        let shared = &self.calls.shared;
        let owed = turn.owed.first();
        let known = owed.and_then(|owed| shared.world(|world| Known::of(owed, world)));
        let mut is_back = false;
        if let Some(known) = &known {
            let until = Instant::now() + PROBE_PATIENCE;
            let result = self.fight(known, until).await;
            is_back = !matches!(&result, Err(error) if error.is_about_target());
            if is_back {
                self.record(vec![(known, result)]).await;
            }
        }
        turn.finish();
        is_back
    }

    async fn note_away(&self) {
        let away = self.locked().away.as_ref().map(|away| {
            let words = (away.code.clone(), away.detail.clone());
            (away.noted, words)
        });
        let Some((false, (code, detail))) = away else {
            return;
        };
        let note = Command::NoteTargetAway {
            target: self.target.clone(),
            broker: self.calls.shared.name.clone(),
            code,
            detail,
        };
        if self.calls.tell(note).await.is_ok()
            && let Some(away) = &mut self.locked().away
        {
            away.noted = true;
        }
    }

    /// Closes the breaker. When the ledger cannot be told, it is told later; ends go on.
    async fn note_back(&self) {
        let outage = self.noted_outage();
        {
            let mut state = self.locked();
            state.away = None;
            state.over = outage.as_ref().map(|outage| (outage.since, Instant::now()));
        }
        if outage.is_some() {
            let target = self.target.clone();
            let note = Command::NoteTargetBack { target };
            if let Err(error) = self.calls.tell(note).await {
                tracing::warn!(target_name = %self.target, %error, "the ledger could not be told that the target is back; trying again");
            }
        }
    }

    /// Tells the ledger again that the target is back, if it could not be told.
    pub(super) fn tell_it_is_back(self: &Arc<Self>) {
        let Some(outage) = self.noted_outage() else {
            return;
        };
        let mut state = self.locked();
        match &mut state.over {
            Some((since, told)) if *since == outage.since && told.elapsed() >= NAP => {
                *told = Instant::now();
            }
            _ => return,
        }
        drop(state);
        let lane = Arc::clone(self);
        self.calls.shared.tasks.spawn(async move {
            let target = lane.target.clone();
            // What fails is done again.
            drop(lane.calls.tell(Command::NoteTargetBack { target }).await);
        });
    }
}

impl State {
    /// The ledger is told what is in the way, and again when that becomes something else.
    fn stay_away(&mut self, trouble: EndError) {
        let is_known = |away: &Away| away.code == trouble.code;
        if !self.away.as_ref().is_some_and(is_known) {
            self.away = Some(Away {
                detail: shortened(&trouble.detail),
                code: trouble.code,
                noted: false,
            });
        }
    }

    fn over_since(&self) -> Option<Time> {
        self.over.map(|(since, _)| since)
    }
}
