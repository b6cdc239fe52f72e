//! `countersign abandon`: give up a lease whose end cannot be proven.

use clap::Args;

use super::connect::Global;
use super::exit::{Exit, Failure};

/// `countersign abandon`.
#[derive(Args, Debug)]
pub(crate) struct Abandon {
    /// The lease (`lse_…`): one whose end has failed, or whose target is away.
    #[arg(value_name = "LEASE")]
    lease: String,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
}

impl Abandon {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let client = global.client()?;
        let lease = client.abandon_lease(&self.lease, &self.reason).await?;
        output.say(
            "recorded: its request is over; nobody has proven its credential gone, and it is ended should the target answer again",
        );
        if output.json {
            output.object(&lease)?;
        } else {
            let state = lease.state.clone().unwrap_or_default();
            output.facts(&[("lease", lease.id.clone()), ("state", state)])?;
        }
        Ok(Exit::Ok)
    }
}
