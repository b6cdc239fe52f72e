//! The operator's word on the broker's wall clock.

use clap::{Args, Subcommand};

use super::connect::{Global, now_ms};
use super::exit::{Exit, Failure};

/// `countersign clock`.
#[derive(Subcommand, Debug)]
pub(crate) enum Clock {
    /// Say that the broker's wall clock is right although it is apart from the ledger's time (operator). The clock of the
    /// machine this runs on has to show the same.
    Accept(Accept),
}

/// `countersign clock accept`.
#[derive(Args, Debug)]
pub(crate) struct Accept {
    /// Why, for the record.
    #[arg(long)]
    reason: Option<String>,
}

impl Clock {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let Clock::Accept(Accept { reason }) = self;
        let output = global.output();
        let client = global.client()?;
        let now = jiff::Timestamp::from_millisecond(now_ms()).map_err(std::io::Error::other)?;
        let now = format!("{now:.3}");
        let apart = client.accept_clock(&now, reason.as_deref()).await?;
        output.say("recorded: the broker mints again");
        if output.json {
            output.object(&apart)?;
        } else {
            output.facts(&[("wall clock", apart.wall), ("ledger's time", apart.ledger)])?;
        }
        Ok(Exit::Ok)
    }
}
