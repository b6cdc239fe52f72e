//! `countersign revoke`: end access now.

use clap::Args;
use countersign_client::{Client, State};

use super::connect::Global;
use super::exit::{Exit, Failure};
use super::facts;
use super::finish::{PROOF_WITHIN, how_it_ended};
use super::output::Output;

/// `countersign revoke`.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// A request (`req_…`) or a lease (`lse_…`). A request that has no lease yet is withdrawn.
    #[arg(value_name = "REQUEST|LEASE", required_unless_present = "guard")]
    id: Option<String>,
    /// The kill switch: deny every session of this guard's roles that was issued until now, whoever made it. For the
    /// operator.
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    guard: Option<String>,
}

impl Revoke {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let client = global.client()?;
        match (self.guard, self.id) {
            (Some(guard), _) => shut(&client, &guard, output).await,
            (None, id) => revoke(&client, &id.unwrap_or_default(), output).await,
        }
    }
}

async fn revoke(client: &Client, id: &str, output: Output) -> Result<Exit, Failure> {
    let ended = if id.starts_with("lse_") {
        client.revoke_lease(id, Some(PROOF_WITHIN)).await?
    } else {
        let request = client.request(id, None).await?;
        match (&request.state, &request.lease) {
            (State::Closed, _) => request,
            (_, Some(lease)) => client.revoke_lease(&lease.id, Some(PROOF_WITHIN)).await?,
            (_, None) => client.withdraw(id).await?,
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

async fn shut(client: &Client, guard: &str, output: Output) -> Result<Exit, Failure> {
    let shut = client.shut_guard(guard).await?;
    output.say(if shut.published {
        "every session issued until now is denied, as read back from AWS; that takes effect within seconds"
    } else {
        "recorded, but AWS could not be told yet; the broker goes on trying"
    });
    if output.json {
        output.object(&shut)?;
    } else {
        let leases = shut.leases.iter().map(|lease| ("ends", lease.clone()));
        let guard = std::iter::once(("guard", shut.guard.clone()));
        output.facts(&guard.chain(leases).collect::<Vec<_>>())?;
    }
    Ok(Exit::Ok)
}
