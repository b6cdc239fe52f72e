//! `countersign revoke`: end access now.

use clap::Args;
use countersign_client::State;

use super::connect::Global;
use super::exit::{Exit, Failure};
use super::facts;
use super::finish::{PROOF_WITHIN, how_it_ended};

/// `countersign revoke`.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// A request (`req_…`) or a lease (`lse_…`). A request that has no lease yet is withdrawn.
    #[arg(value_name = "REQUEST|LEASE")]
    id: String,
}

impl Revoke {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let client = global.client()?;
        let ended = if self.id.starts_with("lse_") {
            client.revoke_lease(&self.id, Some(PROOF_WITHIN)).await?
        } else {
            let request = client.request(&self.id, None).await?;
            match (&request.state, &request.lease) {
                (State::Closed, _) => request,
                (_, Some(lease)) => client.revoke_lease(&lease.id, Some(PROOF_WITHIN)).await?,
                (_, None) => client.withdraw(&self.id).await?,
            }
        };
        output.say(&how_it_ended(&ended));
        if output.json {
            output.object(&ended)?
        } else {
            output.facts(&facts::of_request(&ended))?
        }
        Ok(Exit::Ok)
    }
}
