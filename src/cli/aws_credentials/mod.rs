//! `countersign aws-credentials`: a `credential_process` for AWS SDKs.
//!
//! * one lease serves every process of this user that asks the same question: it is kept until it ends
//! * each run asks the broker whether the lease still lives, and in doubt hands nothing out
//! * what was denied or taken away is not asked for again until somebody says so with `--end`
//! * SDKs show stderr when it fails: one line, and no secret in it

mod cache;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use clap::Args;
use countersign_client::{
    Client, CollectedView, CredentialView, Error, IdempotencyKey, NewRequest, Outcome, RequestView,
    State,
};
use serde_json::json;
use tokio::time::Instant;

use super::aws::AwsSession;
use super::connect::{Global, now_ms, random};
use super::ending::Ending;
use super::exec::hide_from_others;
use super::exit::{Exit, Failure};
use super::facts;
use super::finish::{PROOF_WITHIN, how_it_ended};
use super::output::Output;
use super::parameters::Ask;
use super::text::seconds;
use cache::{Cache, Held, Kept};

/// `countersign aws-credentials`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct AwsCredentials {
    #[command(flatten)]
    ask: Ask,
    /// How long to wait for a decision; SDKs give up after a minute.
    #[arg(long, value_parser = seconds, default_value = "50s", value_name = "DURATION")]
    wait: u64,
    /// End the access, and forget what is kept: the next run asks anew.
    #[arg(long)]
    end: bool,
}

const AFTER_HELP: &str = "In ~/.aws/config:\n\n  [profile reports]\n  region = eu-central-1\n  \
    credential_process = /usr/local/bin/countersign aws-credentials reports.write --param month=2026-11 --reason \"monthly report\"";

impl AwsCredentials {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        hide_from_others();
        if self.end {
            return self.end(global).await;
        }
        match self.hand_over(global).await {
            Ok(()) => Ok(Exit::Ok),
            Err(failure) => {
                global.output().warn(&in_one_line(&failure));
                Ok(failure.exit)
            }
        }
    }

    async fn hand_over(&self, global: &Global) -> Result<(), Failure> {
        if std::io::stdout().is_terminal() {
            return Err(Failure::usage(
                "terminal",
                "this prints secrets, and stdout is a terminal",
                "let an AWS SDK run it: see `countersign aws-credentials --help`",
            ));
        }
        let client = global.client()?;
        let until = Instant::now() + Duration::from_secs(self.wait);
        let cache = Cache::lock(&self.name(global), until).await?;
        let asking = Asking {
            client: &client,
            ask: &self.ask,
            cache: &cache,
            until,
        };
        let session = asking.session().await?;
        let answer = session
            .for_process(now_ms())
            .map_err(std::io::Error::other)?;
        let mut out = std::io::stdout().lock();
        out.write_all(&answer)?;
        Ok(out.flush()?)
    }

    /// Who asks whom for what, as the name of a file.
    fn name(&self, global: &Global) -> String {
        let question = json!([global.whose(), self.ask.question()]).to_string();
        let name = hex::encode(digest(&SHA256, question.as_bytes()));
        format!("aws-{}", name.get(..32).unwrap_or(&name))
    }

    async fn end(&self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let client = global.client()?;
        let until = Instant::now() + Duration::from_secs(self.wait);
        let cache = Cache::lock(&self.name(global), until).await?;
        match cache.read()? {
            Some(Kept::Asked { request, .. }) => {
                if client.withdraw(&request).await.is_ok() {
                    output.say("the request was withdrawn");
                } else {
                    give_back(&client, output, &request).await?;
                }
            }
            Some(Kept::Held(held)) => give_back(&client, output, &held.request).await?,
            Some(Kept::Asking { .. } | Kept::Refused { .. }) => output.say("forgotten"),
            None => output.say("nothing is held"),
        }
        cache.forget()?;
        Ok(Exit::Ok)
    }
}

/// Ends the access of a request, unless it has ended already.
async fn give_back(client: &Client, output: Output, request: &str) -> Result<(), Failure> {
    let report = json!({"outcome": "succeeded"});
    let ended = match client.finish(request, &report, Some(PROOF_WITHIN)).await {
        Ok(ended) => ended,
        Err(error) => match client.request(request, None).await {
            Ok(ended) if matches!(ended.state, State::Ending | State::Closed) => ended,
            _ => return Err(error.into()),
        },
    };
    output.say(&how_it_ended(&ended));
    Ok(())
}

/// One run's way to a session.
struct Asking<'a> {
    client: &'a Client,
    ask: &'a Ask,
    cache: &'a Cache,
    until: Instant,
}

/// Whether there is something to hand out, or the next step can be taken.
enum Step {
    Done(AwsSession),
    Next,
    /// It ended in the ordinary way: it may be asked for again.
    Over(Box<RequestView>),
}

impl Asking<'_> {
    /// Goes on from where the last run came to, up to a session. Asks at most once for what has ended.
    async fn session(&self) -> Result<AwsSession, Failure> {
        let mut asked_again = false;
        loop {
            let step = match self.cache.read()? {
                None => self.submit(drawn()).await?,
                Some(Kept::Asking { key }) => self.submit(key).await?,
                Some(Kept::Asked { request, key }) => self.decided(&request, key).await?,
                Some(Kept::Held(held)) => self.looked_after(held).await?,
                Some(Kept::Refused { denied, what }) => {
                    return Err(self.refusal(denied, what));
                }
            };
            match step {
                Step::Done(session) => return Ok(session),
                Step::Next => {}
                Step::Over(request) => {
                    self.cache.forget()?;
                    if asked_again {
                        return Err(not_usable(&request));
                    }
                    asked_again = true;
                }
            }
        }
    }

    async fn submit(&self, key: [u8; 16]) -> Result<Step, Failure> {
        let ask = self.ask.prepare(self.client).await?;
        match self.submit_as(&ask, key).await {
            // An earlier run gave another reason or lifetime under this key.
            Err(error) if error.code == "idempotency_mismatch" => {
                self.submit_as(&ask, drawn()).await
            }
            submitted => submitted,
        }
    }

    async fn submit_as(&self, ask: &NewRequest, key: [u8; 16]) -> Result<Step, Failure> {
        // Kept first: a run that is cut short here leaves the next one the key, and nobody is asked twice.
        self.cache.write(&Kept::Asking { key })?;
        let key = IdempotencyKey::from_random(key);
        match self.client.submit(ask, &key, None).await {
            Ok(request) => {
                self.cache.write(&Kept::Asked {
                    request: request.id,
                    key: drawn(),
                })?;
                Ok(Step::Next)
            }
            Err(error) => {
                if error.problem().is_some() && !error.is_outage() {
                    self.cache.forget()?;
                }
                Err(error.into())
            }
        }
    }

    /// Waits for the decision, and collects.
    async fn decided(&self, id: &str, key: [u8; 16]) -> Result<Step, Failure> {
        let mut request = self.read(id).await?;
        if request.state == State::Pending {
            let left = self.until.saturating_duration_since(Instant::now());
            request = self.client.wait(id, left).await?;
        }
        match request.state {
            State::Pending => Err(pending(&request)),
            // Live already: an earlier run collected it and was cut short. The same key ends that lease and mints another.
            State::Approved | State::Issuing | State::Live => self.collect(id, key).await,
            State::Ending if is_between_mints(&request) => self.collect(id, key).await,
            State::Ending | State::Closed => self.conclude(request),
            State::Other(_) => Err(in_doubt(&request)),
        }
    }

    async fn collect(&self, id: &str, key: [u8; 16]) -> Result<Step, Failure> {
        let key = IdempotencyKey::from_random(key);
        let collected = match self.client.collect(id, &key).await {
            Ok(collected) => collected,
            Err(error) => {
                if error.problem().is_some_and(|problem| problem.status == 410) {
                    self.cache.forget()?;
                }
                return Err(error.into());
            }
        };
        let CollectedView { lease, credential } = collected;
        let CredentialView::Aws(credential) = credential else {
            let note = json!({"outcome": "failed", "note": "not an AWS credential"});
            let given_back = self.client.finish(id, &note, None).await;
            self.cache.forget()?;
            given_back?;
            return Err(Failure::usage(
                "not_aws",
                format!("{} does not give AWS credentials", self.ask.action()),
                "run it with `countersign exec`",
            ));
        };
        self.cache.write(&Kept::Held(Held {
            request: id.to_owned(),
            lease: lease.id,
            expires_at: lease.expires_at,
            credential,
        }))?;
        Ok(Step::Next)
    }

    /// What is held is handed out only while the broker says that its lease lives.
    async fn looked_after(&self, held: Held) -> Result<Step, Failure> {
        let request = self.read(&held.request).await.map_err(|failure| Failure {
            what: format!(
                "whether lease {} still stands is not known: {}",
                held.lease, failure.what
            ),
            ..failure
        })?;
        let ours = request
            .lease
            .as_ref()
            .is_some_and(|lease| lease.id == held.lease);
        if Ending::of(&request, now_ms()).is_some() {
            return self.conclude(request);
        }
        if request.state != State::Live || !ours {
            return Err(in_doubt(&request));
        }
        let session = AwsSession::new(held.credential, held.expires_at.as_deref())?;
        Ok(if session.expires <= now_ms() {
            Step::Over(Box::new(request))
        } else {
            Step::Done(session)
        })
    }

    /// Reads the request. One that the broker does not know, or not as this agent's, is forgotten.
    async fn read(&self, id: &str) -> Result<RequestView, Failure> {
        match self.client.request(id, None).await {
            Ok(request) => Ok(request),
            Err(error) => {
                if is_unknown(&error) {
                    self.cache.forget()?;
                }
                Err(error.into())
            }
        }
    }

    /// The request is over, or its access is. What was denied or taken away is remembered.
    fn conclude(&self, request: RequestView) -> Result<Step, Failure> {
        let denied = request.outcome == Some(Outcome::Denied);
        let ending = Ending::of(&request, now_ms());
        match &request.outcome {
            Some(Outcome::Lapsed) => return Ok(Step::Over(Box::new(request))),
            Some(
                Outcome::Refused
                | Outcome::Withdrawn
                | Outcome::Frozen
                | Outcome::Stale
                | Outcome::Failed,
            ) => {
                self.cache.forget()?;
                return Err(not_usable(&request));
            }
            _ if !denied && ending.as_ref().is_some_and(Ending::is_ordinary) => {
                return Ok(Step::Over(Box::new(request)));
            }
            _ => {}
        }
        let what = match ending {
            Some(ending) if !denied => format!("the lease of {} {}", request.id, ending.what),
            _ => not_usable(&request).what,
        };
        let kept = Kept::Refused {
            denied,
            what: what.clone(),
        };
        self.cache.write(&kept)?;
        Err(self.refusal(denied, what))
    }

    fn refusal(&self, denied: bool, what: String) -> Failure {
        let (exit, code) = if denied {
            (Exit::Denied, "denied")
        } else {
            (Exit::Ended, "revoked")
        };
        let next = "nobody is asked again until the same command has run with --end";
        Failure::new(exit, code, what, next)
    }
}

/// The broker is ending a credential whose answer an earlier run lost; another one can be collected.
fn is_between_mints(request: &RequestView) -> bool {
    let cause = request
        .lease
        .as_ref()
        .and_then(|lease| lease.cause.as_deref());
    matches!(
        cause,
        Some("answer_lost" | "unacknowledged" | "mint_unknown")
    )
}

fn is_unknown(error: &Error) -> bool {
    error.problem().is_some_and(|problem| problem.status == 404)
}

fn pending(request: &RequestView) -> Failure {
    let needs = facts::needs(request);
    let who = if needs.is_empty() {
        "a reviewer"
    } else {
        &needs
    };
    let place = request
        .review_url
        .as_ref()
        .map_or_else(String::new, |url| format!(", at {url}"));
    Failure::new(
        Exit::Pending,
        "pending",
        format!("{} waits for {who}{place}", request.id),
        "run it again once it is approved",
    )
}

fn in_doubt(request: &RequestView) -> Failure {
    Failure::new(
        Exit::Conflict,
        "not_live",
        format!(
            "{} is {}, so nothing is handed out",
            request.id,
            facts::state(request)
        ),
        "see it with `countersign show`; --end forgets it",
    )
}

fn not_usable(request: &RequestView) -> Failure {
    Failure::of_request(request).unwrap_or_else(|| in_doubt(request))
}

/// What happened and what to do, as SDKs show it.
fn in_one_line(failure: &Failure) -> String {
    let what = failure.what.lines().next().unwrap_or_default();
    match failure.next.as_deref().filter(|next| !next.is_empty()) {
        Some(next) => format!("{what}; {next} [{}]", failure.code),
        None => format!("{what} [{}]", failure.code),
    }
}

fn drawn() -> [u8; 16] {
    let mut bytes = [0; 16];
    random(&mut bytes);
    bytes
}
