//! `countersign wait`, and waiting for a decision as `request` and `exec` do it.

use std::time::Duration;

use clap::Args;
use countersign_client::{Client, RequestView, State};

use super::connect::{Global, now_ms};
use super::exit::{Exit, Failure};
use super::facts;
use super::output::Output;
use super::text::{instant, seconds, spell};

/// `countersign wait`.
#[derive(Args, Debug)]
pub(crate) struct Wait {
    /// The request's id.
    request: String,
    /// How long to wait.
    #[arg(long, value_parser = seconds, default_value = "10m", value_name = "DURATION")]
    timeout: u64,
}

impl Wait {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let client = global.client()?;
        let mut request = client.request(&self.request, None).await?;
        if request.state == State::Pending {
            announce(output, &request);
            request = wait_for_decision(&client, output, request, self.timeout).await?;
        }
        if let Some(failure) = Failure::of_request(&request) {
            return Err(failure);
        }
        if output.json {
            output.object(&request)?
        } else {
            output.facts(&facts::of_request(&request))?
        }
        Ok(Exit::Ok)
    }
}

/// Says what is waited for, and where it is decided.
pub(crate) fn announce(output: Output, request: &RequestView) {
    let parameters = facts::parameters(request);
    let parameters = if parameters.is_empty() {
        String::new()
    } else {
        format!(" with {parameters}")
    };
    output.say(&format!(
        "asked for {}{parameters} on {} as {} ({})",
        request.action, request.target, request.agent, request.id
    ));
    output.say(&format!(
        "digest {}, waiting for {}",
        facts::short_digest(request),
        needs(request)
    ));
    if let Some(url) = &request.review_url {
        output.say(&format!("review at {url}"));
    }
}

fn needs(request: &RequestView) -> String {
    let needs = facts::needs(request);
    if needs.is_empty() {
        "a reviewer".into()
    } else {
        needs
    }
}

/// Waits until the request is decided, at most `at_most` seconds. Shows a countdown on a terminal, a line a minute elsewhere.
pub(crate) async fn wait_for_decision(
    client: &Client,
    output: Output,
    request: RequestView,
    at_most: u64,
) -> Result<RequestView, Failure> {
    let started = now_ms();
    let ours = started.saturating_add(
        i64::try_from(at_most)
            .unwrap_or(i64::MAX)
            .saturating_mul(1000),
    );
    let theirs = request
        .pending_until
        .as_deref()
        .and_then(instant)
        .unwrap_or(i64::MAX);
    let until = ours.min(theirs);
    let live = output.is_live();
    let mut tick = tokio::time::interval(Duration::from_millis(if live { 250 } else { 60_000 }));
    let mut width = 0;
    let mut turn = 0usize;
    let mut decided = std::pin::pin!(client.wait(&request.id, Duration::from_secs(at_most)));
    let result = loop {
        tokio::select! {
            result = &mut decided => break result,
            _ = tick.tick() => {
                let left = u64::try_from((until - now_ms()) / 1000).unwrap_or(0);
                if live {
                    let spinner = ["|", "/", "-", "\\"].get(turn % 4).copied().unwrap_or("|");
                    width = output.progress(&format!("{spinner} waiting for {}, {} left", needs(&request), spell(left)), width);
                } else if turn > 0 {
                    output.say(&format!("still waiting for {}, {} left", needs(&request), spell(left)));
                }
                turn += 1;
            }
        }
    };
    output.clear_progress(width);
    Ok(result?)
}
