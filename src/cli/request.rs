//! `countersign request`: ask, and optionally wait.

use clap::Args;
use countersign_client::State;

use super::connect::{Global, new_key};
use super::exit::{Exit, Failure};
use super::facts;
use super::parameters::Ask;
use super::text::seconds;
use super::wait::{announce, wait_for_decision};

/// `countersign request`.
#[derive(Args, Debug)]
pub(crate) struct Request {
    #[command(flatten)]
    ask: Ask,
    /// Wait this long for a decision, such as 10m.
    #[arg(long, value_parser = seconds, value_name = "DURATION")]
    wait: Option<u64>,
}

impl Request {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let client = global.client()?;
        let ask = self.ask.prepare(&client).await?;
        let mut request = client.submit(&ask, &new_key(), None).await?;
        if let (State::Pending, Some(wait)) = (&request.state, self.wait) {
            announce(output, &request);
            request = wait_for_decision(&client, output, request, wait).await?;
        }
        let waits_on = request.state == State::Pending && self.wait.is_none();
        match Failure::of_request(&request) {
            Some(failure) if !waits_on => Err(failure),
            _ => {
                if output.json {
                    output.object(&request)?
                } else {
                    output.facts(&facts::of_request(&request))?
                }
                Ok(Exit::Ok)
            }
        }
    }
}
