//! Watching over the running command: signals, the clock, and whether its access still stands.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use countersign_client::{Client, RequestView};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::OnRevoke;
use super::endpoint::Endpoint;
use super::signals::{Arrived, Signals, exit_code};
use crate::cli::connect::now_ms;
use crate::cli::ending::{Ending, lives};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::text::spell;

/// How long a command that lost its access has to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// Seconds before the end of a lease at which it is announced, longest first.
const WARNINGS: [i64; 2] = [300, 60];
/// A lease that ends this close to its time has run out; it was not taken away.
const NEAR_EXPIRY_MS: i64 = 2_000;
/// How long the broker may hold an answer back while nothing changes; short enough for proxies that cut idle connections.
const ONE_LOOK: Duration = Duration::from_secs(25);

const TIME_IS_OVER: &str =
    "the lease's time is over: its access is being ended; the command goes on without it";

/// How the command ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended(ExitStatus);

impl Ended {
    /// Its own code, or 128 and the signal that ended it.
    pub(super) fn exit_code(self) -> u8 {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            (None, Some(signal)) => exit_code(signal),
            (None, None) => u8::MAX,
        }
    }
}

/// What to watch.
pub(super) struct Watch<'a> {
    pub(super) client: &'a Client,
    pub(super) output: Output,
    pub(super) request: String,
    pub(super) lease: String,
    /// Who hands the credential out, and has to stop when its lease ends.
    pub(super) endpoint: Option<&'a Endpoint>,
    /// When the lease ends, in milliseconds since 1970.
    pub(super) expires: Option<i64>,
    pub(super) every: Duration,
    pub(super) on_revoke: OnRevoke,
}

/// What has been said and done so far.
#[derive(Default)]
struct Progress {
    warned: usize,
    access_over: bool,
    kill_at: Option<Instant>,
}

impl Watch<'_> {
    /// Until the command has ended.
    pub(super) async fn until_ended(
        &self,
        child: &mut Child,
        signals: &mut Signals,
    ) -> Result<Ended, Failure> {
        let said = self.left().map_or(0, |left| {
            WARNINGS.iter().filter(|at| left <= **at * 1000).count()
        });
        let mut progress = Progress {
            warned: said,
            ..Progress::default()
        };
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = Box::pin(self.look());
        let mut serve = Box::pin(self.serve());
        loop {
            let kill_at = progress.kill_at;
            let deadline = async {
                match kill_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                status = child.wait() => return status.map(Ended).map_err(|error| {
                    Failure::new(Exit::Failed, "wait", format!("wait for the command: {error}"), "see whether it still runs")
                }),
                arrived = signals.next() => forward(child, arrived),
                () = &mut serve => {}
                _ = second.tick() => self.watch_the_clock(&mut progress),
                request = &mut look => {
                    self.judge(request, child, &mut progress);
                    look.set(self.look());
                }
                () = deadline => {
                    self.output.warn("the command did not end by itself; killing it");
                    send(child, Signal::SIGKILL);
                    progress.kill_at = None;
                }
            }
        }
    }

    async fn serve(&self) {
        match self.endpoint {
            Some(endpoint) => match endpoint.serve().await {},
            None => std::future::pending().await,
        }
    }

    /// Looks at the request once its lease no longer lives, after a while. `None` when it does, and when the broker does
    /// not answer: that says nothing about the lease.
    async fn look(&self) -> Option<RequestView> {
        tokio::time::sleep(self.every).await;
        match self.client.lease(&self.lease, Some(ONE_LOOK)).await {
            Ok(lease) if lives(lease.state.as_deref()) => None,
            _ => self.client.request(&self.request, None).await.ok(),
        }
    }

    fn left(&self) -> Option<i64> {
        self.expires.map(|expires| expires - now_ms())
    }

    fn watch_the_clock(&self, progress: &mut Progress) {
        let Some(left) = self.left() else { return };
        if progress.access_over {
            return;
        }
        if left <= 0 {
            progress.access_over = true;
            self.forget(Ending::expired(self.expires.unwrap_or_default()));
            self.output.warn(TIME_IS_OVER);
        } else if WARNINGS
            .get(progress.warned)
            .is_some_and(|at| left <= *at * 1000)
        {
            progress.warned = WARNINGS.iter().filter(|at| left <= **at * 1000).count();
            let seconds = u64::try_from((left + 500) / 1000).unwrap_or(0);
            self.output
                .warn(&format!("access ends in {}", spell(seconds)));
        }
    }

    fn forget(&self, ending: Ending) {
        if let Some(endpoint) = self.endpoint {
            endpoint.forget(ending);
        }
    }

    /// Acts on a lease that was ended before its time.
    fn judge(&self, request: Option<RequestView>, child: &Child, progress: &mut Progress) {
        let ending = request.and_then(|request| Ending::of(&request, now_ms()));
        let Some(ending) = ending.filter(|_| !progress.access_over) else {
            return;
        };
        progress.access_over = true;
        let how = ending.word.clone();
        let ran_out = how == "expired" || self.left().is_some_and(|left| left <= NEAR_EXPIRY_MS);
        self.forget(ending);
        if ran_out {
            self.output.warn(TIME_IS_OVER);
            return;
        }
        match self.on_revoke {
            OnRevoke::Warn => self.output.warn(&format!(
                "access was ended early ({how}); the command goes on without it"
            )),
            OnRevoke::Kill => {
                self.output.warn(&format!(
                    "access was ended early ({how}); ending the command"
                ));
                send(child, Signal::SIGTERM);
                progress.kill_at = Some(Instant::now() + GRACE);
            }
        }
    }
}

/// Passes a signal on, unless the terminal has given it to the command as well.
fn forward(child: &Child, arrived: Arrived) {
    if let (false, Ok(signal)) = (arrived.from_terminal, Signal::try_from(arrived.number)) {
        send(child, signal);
    }
}

/// Sends a signal. The id is there only until the command was waited for, so it cannot be somebody else's by now.
fn send(child: &Child, signal: Signal) {
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // It may be a zombie already; then its end is about to be seen.
        let _ = kill(Pid::from_raw(id), signal);
    }
}
