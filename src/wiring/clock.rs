//! Where the clock's course is kept in the state directory, for the next broker on the same start of the machine.
//!
//! It tells a broker that was down from a wall clock that was set: while the machine ran on, its own clock says how long
//! that was. After another start of the machine, or on another one, nothing does, and the wall clock is believed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::files;
use crate::system::{Kept, SystemClock, ThisMachine};

/// The file's name.
const FILE: &str = "clock.json";
/// How often it is seen to that what is kept is still right.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How far off it may be, in milliseconds.
const OFF: u64 = 100;

/// The clock, gone on from what `state_dir` keeps.
pub(super) fn begin(state_dir: &Path) -> SystemClock {
    let path = state_dir.join(FILE);
    let kept = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Kept>(&bytes)
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "the clock's course cannot be read; beginning at the wall clock");
            })
            .ok(),
        Err(_) => None,
    };
    SystemClock::begin(ThisMachine::new(), kept.as_ref())
}

/// Keeps the course of `clock` in `state_dir`.
pub(super) struct Keeper {
    clock: Arc<SystemClock>,
    path: PathBuf,
    kept: Option<Kept>,
}

impl Keeper {
    /// Keeps it once.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn start(clock: Arc<SystemClock>, state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join(FILE);
        let mut keeper = Self {
            clock,
            path,
            kept: None,
        };
        keeper.look()?;
        Ok(keeper)
    }

    /// Keeps it for ever: it changes when the time leans, or goes on from the ledger's.
    pub(super) async fn keep(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Err(error) = self.look() {
                tracing::warn!(error = format!("{error:#}"), "trying again");
            }
        }
    }

    /// Writes it when what is written would lead elsewhere.
    fn look(&mut self) -> anyhow::Result<()> {
        let now = self.clock.kept();
        let holds = match (&self.kept, &now) {
            (Some(kept), Some(now)) => leads_to(kept, now),
            (None, Some(_)) => false,
            (_, None) => true,
        };
        if let Some(now) = now.filter(|_| !holds) {
            files::replace(&self.path, &serde_json::to_vec(&now)?)
                .context("keep the clock's course")?;
            self.kept = Some(now);
        }
        Ok(())
    }
}

fn leads_to(kept: &Kept, now: &Kept) -> bool {
    let passed = Duration::from_millis(now.running_millis.saturating_sub(kept.running_millis));
    let near = |then: crate::domain::Time, now: crate::domain::Time| {
        then.after(passed).millis().abs_diff(now.millis()) <= OFF
    };
    kept.start == now.start && near(kept.time, now.time) && near(kept.utc, now.utc)
}
