//! `countersign ls`: requests, newest first.

use clap::{Args, ValueEnum};

use super::connect::Global;
use super::exit::{Exit, Failure};
use super::facts;
use super::output::columns;

/// `countersign ls`.
#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Which ones.
    #[arg(long, value_enum, default_value = "open")]
    state: Which,
    /// At most so many.
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Which {
    /// From pending to ending.
    Open,
    /// Over.
    Closed,
    /// Both.
    All,
}

impl Ls {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let client = global.client()?;
        let state = match self.state {
            Which::Open => Some("open"),
            Which::Closed => Some("closed"),
            Which::All => None,
        };
        let mut requests = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let wanted = self
                .limit
                .saturating_sub(u32::try_from(requests.len()).unwrap_or(u32::MAX));
            let page = client
                .requests(state, wanted.min(200), cursor.as_deref())
                .await?;
            let empty = page.data.is_empty();
            requests.extend(page.data);
            cursor = page.next_cursor;
            if empty
                || cursor.is_none()
                || requests.len() >= usize::try_from(self.limit).unwrap_or(usize::MAX)
            {
                break;
            }
        }
        if output.json {
            for request in &requests {
                output.object(request)?;
            }
            return Ok(Exit::Ok);
        }
        let mut rows = vec![
            ["REQUEST", "STATE", "AGENT", "ACTION", "PARAMETERS", "NEEDS"]
                .map(String::from)
                .to_vec(),
        ];
        rows.extend(requests.iter().map(|request| {
            let parameters = facts::parameters(request);
            vec![
                request.id.clone(),
                facts::state(request),
                request.agent.clone(),
                request.action.clone(),
                parameters,
                facts::needs(request),
            ]
        }));
        output.lines(&columns(&rows))?;
        Ok(Exit::Ok)
    }
}
