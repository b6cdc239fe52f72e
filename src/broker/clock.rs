//! The wall clock beside the broker's time: what the operator sees of it, and their word on it and on the ledger.

use std::time::Duration;

use super::shared::Shared;
use super::{Broker, BrokerError};
use crate::domain::command::RefusalCode;
use crate::domain::{Apart, Command, Digest, Event, Refusal, Time};

/// How often the two are compared to tell of it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often it is told again while nothing changes, in looks.
const TELL_EVERY: u32 = 60;
/// How far the operator's own clock may be from the wall clock they call right, in milliseconds.
const WITNESS: u64 = 60_000;

impl Broker {
    /// The wall clock and the broker's time, when they are so far apart that nothing is minted.
    pub fn clock_apart(&self) -> Option<Apart> {
        self.calls.shared.clock.apart()
    }

    /// Takes the operator's word that the wall clock is right: the broker's time goes on from it, or, where it is ahead,
    /// stays so and comes closer bit by bit. `theirs` is what the operator's own clock shows.
    ///
    /// # Errors
    /// There is nothing to accept, the operator's clock shows another time, or the ledger is unavailable.
    pub async fn accept_clock(
        &self,
        theirs: Time,
        reason: Option<String>,
    ) -> Result<Apart, BrokerError> {
        let wall = self.calls.shared.clock.wall();
        if wall.millis().abs_diff(theirs.millis()) > WITNESS {
            let detail = format!("your clock shows {theirs}, and the broker's wall clock {wall}");
            let next = "Set the wrong one right first; only a right wall clock may be accepted.";
            return Err(Refusal::new(RefusalCode::ClocksDiffer, detail, next).into());
        }
        let (reason, blobs) = self.blob(reason.map(String::into_bytes));
        let command = Command::AcceptClock { wall, reason };
        let reply = self.calls.send_with(command, blobs).await?;
        match reply.events.first() {
            Some(&Event::ClockAccepted { wall, ledger, .. }) => Ok(Apart { wall, ledger }),
            _ => Err(super::ledger_unavailable()),
        }
    }

    /// Records the operator's word that the ledger goes on from here, although a broker knew one of `size` entries
    /// with `root`.
    ///
    /// # Errors
    /// When the ledger is unavailable.
    pub async fn accept_ledger(
        &self,
        size: u64,
        root: Digest,
        reason: String,
    ) -> Result<(), BrokerError> {
        let (reason, blobs) = self.blob(Some(reason.into_bytes()));
        let reason = reason.ok_or_else(super::ledger_unavailable)?;
        let command = Command::AcceptLedger { size, root, reason };
        self.calls.send_with(command, blobs).await?;
        Ok(())
    }
}

/// Tells the log when the two come apart and when they are together again, until the broker stops.
pub(super) async fn watch(shared: std::sync::Arc<Shared>) {
    let mut looks = 0;
    loop {
        match (shared.clock.apart(), looks) {
            (Some(apart), _) => {
                if looks % TELL_EVERY == 0 {
                    tracing::error!(
                        wall = %apart.wall, ledger = %apart.ledger,
                        "{apart}: nothing is minted, what has to end ends; set the wall clock right, or say that it is: countersign clock accept --reason …"
                    );
                }
                looks += 1;
            }
            (None, 0) => {}
            (None, _) => {
                tracing::info!("the wall clock and the ledger's time are together again");
                looks = 0;
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}
