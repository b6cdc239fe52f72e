//! `countersign show`: one request.

use clap::Args;

use super::connect::Global;
use super::exit::{Exit, Failure};
use super::facts;

/// `countersign show`.
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The request's id.
    request: String,
}

impl Show {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let request = global.client()?.request(&self.request, None).await?;
        if output.json {
            output.object(&request)?
        } else {
            output.facts(&facts::of_request(&request))?
        }
        Ok(Exit::Ok)
    }
}
