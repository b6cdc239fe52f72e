//! `countersign exec`: ask, run a command with the credential, end the access.
//!
//! * what can be wrong with the command is found before anybody is asked
//! * the credential is in files only this user can read, outside the working directory, or for AWS behind an endpoint on loopback;
//!   either is gone when the command has ended
//! * the command never sees what `exec` itself proves its identity with
//! * whatever ends `exec` short of SIGKILL, the access is ended; after SIGKILL the broker ends it when its time is over

mod child;
mod command;
mod delivery;
mod endpoint;
mod signals;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};
use countersign_client::{Client, CollectedView, RequestView, State};
use serde_json::json;

use super::connect::{Global, environment, new_key};
use super::exit::{Exit, Failure};
use super::finish::{PROOF_WITHIN, how_it_ended};
use super::output::Output;
use super::parameters::Ask;
use super::text::seconds;
use super::wait::{announce, wait_for_decision};
use child::{Ended, Watch};
pub(crate) use command::hide_from_others;
use delivery::Delivery;
use signals::Signals;

/// `countersign exec`.
#[derive(Args, Debug)]
pub(crate) struct Exec {
    #[command(flatten)]
    ask: Ask,
    /// How long to wait for a decision.
    #[arg(long, value_parser = seconds, default_value = "10m", value_name = "DURATION")]
    wait: u64,
    /// Give up at once when somebody has to decide; the request stays open.
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// Leave the access as it is when the command has ended; it ends when its time is over.
    #[arg(long)]
    keep: bool,
    /// Put the secret itself into the environment, where every child process can read it: PGPASSWORD, MYSQL_PWD, or AWS's keys.
    #[arg(long)]
    env: bool,
    /// Allow it inside another `exec`.
    #[arg(long)]
    nest: bool,
    /// What to do with the command when its access is ended early.
    #[arg(long, value_enum, default_value = "kill")]
    on_revoke: OnRevoke,
    /// The least time between two looks at whether the access still stands.
    #[arg(long, value_parser = seconds, default_value = "1s", value_name = "DURATION")]
    poll: u64,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum OnRevoke {
    /// SIGTERM, and SIGKILL ten seconds later.
    Kill,
    /// Only say so.
    Warn,
}

impl Exec {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        self.refuse_nesting()?;
        let program = command::find(&self.command)?;
        // From here on nothing but SIGKILL ends us without cleaning up.
        let mut signals = Signals::install()?;
        hide_from_others();
        let client = global.client()?;
        let request = match self.approved(&client, output, &mut signals).await? {
            Ok(request) => request,
            Err(signal) => return Ok(Exit::Child(signals::exit_code(signal))),
        };
        let held = Held {
            client: &client,
            output,
            request: &request,
        };
        let collected = match client.collect(&request.id, &new_key()).await {
            Ok(collected) => collected,
            Err(error) => {
                // Without an answer it may have been minted all the same; a refusal says that it was not.
                if error.problem().is_none() {
                    held.give_back(failed("the credential never arrived"), &mut signals)
                        .await;
                }
                return Err(error.into());
            }
        };
        let lease = collected.lease.id.clone();
        let prepared = self.prepare(collected, &request, &mut signals).await;
        let (delivery, mut child) = match prepared {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(signal)) => {
                held.give_back(
                    failed("interrupted before the command started"),
                    &mut signals,
                )
                .await;
                return Ok(Exit::Child(signals::exit_code(signal)));
            }
            Err(failure) => {
                held.give_back(failed("the command could not be started"), &mut signals)
                    .await;
                return Err(failure);
            }
        };
        let watch = Watch {
            client: &client,
            output,
            request: request.id.clone(),
            lease: lease.clone(),
            endpoint: delivery.endpoint(),
            expires: delivery.expires(),
            every: Duration::from_secs(self.poll.max(1)),
            on_revoke: self.on_revoke,
        };
        self.say_started(output, &program, &lease);
        let ended = watch.until_ended(&mut child, &mut signals).await;
        delivery.remove(output);
        if self.keep {
            output.say("access is kept (--keep); it ends when its time is over");
        } else {
            held.give_back(report(ended.as_ref().ok()), &mut signals)
                .await;
        }
        Ok(Exit::Child(ended?.exit_code()))
    }

    fn say_started(&self, output: Output, program: &Path, lease: &str) {
        let program = program.display();
        output.say(&format!("running {program} under lease {lease}"));
        if self.env {
            output.warn("the secret is in the command's environment (--env): every child process can read it");
        }
    }

    fn refuse_nesting(&self) -> Result<(), Failure> {
        if environment("COUNTERSIGN_LEASE").is_none() || self.nest {
            return Ok(());
        }
        Err(Failure::new(
            Exit::NotStarted,
            "nested",
            "this already runs inside `countersign exec`",
            "run the command directly with the credential at hand, or add --nest to ask for another one",
        ))
    }

    /// Asks, and waits until the request may be collected. A signal takes the request back.
    async fn approved(
        &self,
        client: &Client,
        output: Output,
        signals: &mut Signals,
    ) -> Result<Result<RequestView, i32>, Failure> {
        let mut request = match self.ask.existing()? {
            Some(id) => client.request(id, None).await?,
            None => {
                client
                    .submit(&self.ask.prepare(client).await?, &new_key(), None)
                    .await?
            }
        };
        if request.state == State::Pending && !self.no_wait {
            announce(output, &request);
            let id = request.id.clone();
            let decided = tokio::select! {
                decided = wait_for_decision(client, output, request, self.wait) => Ok(decided?),
                signal = signals.ending() => Err(signal),
            };
            request = match decided {
                Ok(request) => request,
                Err(signal) => {
                    let taken_back = client.withdraw(&id).await.is_ok();
                    output.say(if taken_back {
                        "interrupted; the request was withdrawn"
                    } else {
                        "interrupted; the request could not be withdrawn and lapses by itself"
                    });
                    return Ok(Err(signal));
                }
            };
        }
        match Failure::of_request(&request) {
            Some(failure) => Err(failure),
            None if request.state == State::Approved => Ok(Ok(request)),
            None => Err(Failure {
                request: Some(Box::new(request.clone())),
                ..Failure::new(
                    Exit::Conflict,
                    "not_collectable",
                    format!(
                        "{} is {} and cannot be collected",
                        self.ask.action(),
                        request.state
                    ),
                    format!("see `countersign show {}`", request.id),
                )
            }),
        }
    }

    /// Lays the credential out and starts the command, unless a signal has arrived meanwhile.
    async fn prepare(
        &self,
        collected: CollectedView,
        request: &RequestView,
        signals: &mut Signals,
    ) -> Result<Result<(Delivery, tokio::process::Child), i32>, Failure> {
        if let Some(signal) = signals.ending_now() {
            return Ok(Err(signal));
        }
        let delivery = Delivery::lay_out(collected, &request.id, self.env).await?;
        let child = command::start(&self.command, delivery.variables(), delivery.misleads())?;
        Ok(Ok((delivery, child)))
    }
}

fn report(ended: Option<&Ended>) -> serde_json::Value {
    match ended.map(|ended| ended.exit_code()) {
        Some(code) => {
            json!({"outcome": if code == 0 { "succeeded" } else { "failed" }, "exit_code": code})
        }
        None => failed("the command's end was not seen"),
    }
}

fn failed(note: &str) -> serde_json::Value {
    json!({"outcome": "failed", "note": note})
}

/// Access that is held and has to be given back.
struct Held<'a> {
    client: &'a Client,
    output: Output,
    request: &'a RequestView,
}

impl Held<'_> {
    /// Reports the outcome and waits for the proof that access has ended, for a while.
    /// The signal that ended the command must not keep the broker from hearing of it: only a second one does.
    async fn give_back(&self, report: serde_json::Value, signals: &mut Signals) {
        let mut told = Box::pin(self.tell(report));
        let mut interrupted = false;
        while signals.ending_now().is_some() {}
        let result = loop {
            tokio::select! {
                result = &mut told => break result,
                _ = signals.ending() => {}
            }
            if interrupted {
                let id = &self.request.id;
                self.output.warn(&format!(
                    "interrupted while access was being ended; see `countersign show {id}`"
                ));
                return;
            }
            interrupted = true;
            self.output
                .warn("ending access first; once more to leave it to the broker");
        };
        match result {
            Ok(request) => self.output.say(&how_it_ended(&request)),
            Err(failure) => self.output.warn(&format!(
                "the broker could not be told that the command has ended ({}); access ends by itself when its time is over, or with \
                 `countersign revoke {}`",
                failure.what, self.request.id
            )),
        }
    }

    /// Tells the broker, again after an outage: what it already did, it answers with the state it is in.
    async fn tell(&self, report: serde_json::Value) -> Result<RequestView, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self
                .client
                .finish(&self.request.id, &report, Some(PROOF_WITHIN))
                .await
            {
                Ok(request) => return Ok(request),
                Err(error) => error,
            };
            // A first report whose answer was lost, or a revocation that came first, shows in the state.
            if let Ok(request) = self.client.request(&self.request.id, None).await
                && matches!(request.state, State::Ending | State::Closed)
            {
                return Ok(request);
            }
            if tries >= 3 || !error.is_outage() {
                return Err(error.into());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
