//! What a target's administrator sets up once, printed from the configuration.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};
use super::output::Output;
use super::text::plain;
use crate::wiring;

/// `countersign target`.
#[derive(Subcommand, Debug)]
pub(crate) enum TargetCommand {
    /// Print the documents that prepare AWS for a target of kind aws_sts.
    InitIam(InitIam),
    /// Print the SQL that prepares the database of a target of kind postgres or mariadb for what the catalog asks of it.
    InitSql(InitSql),
}

/// `countersign target init-sql`.
#[derive(Args, Debug)]
pub(crate) struct InitSql {
    /// The target, as in countersign.toml.
    target: String,
    /// The directory with `countersign.toml`, `catalog/` and `policies/`.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

/// `countersign target init-iam`.
#[derive(Args, Debug)]
pub(crate) struct InitIam {
    /// The target, as in countersign.toml.
    target: String,
    /// The role or user the broker is in AWS.
    #[arg(long, value_name = "ARN")]
    broker: String,
    /// The directory with `countersign.toml`.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

impl TargetCommand {
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        match self {
            TargetCommand::InitIam(command) => command.run(output),
            TargetCommand::InitSql(command) => command.run(output),
        }
    }
}

impl InitSql {
    fn run(self, output: Output) -> Result<Exit, Failure> {
        let sql = wiring::init_sql(&self.dir, &self.target)?;
        if output.json {
            output.object(&serde_json::json!({ "sql": sql }))?;
        } else {
            output.lines(&sql.lines().map(plain).collect::<Vec<_>>())?;
        }
        Ok(Exit::Ok)
    }
}

impl InitIam {
    fn run(self, output: Output) -> Result<Exit, Failure> {
        let documents = wiring::init_iam(&self.dir, &self.target, &self.broker)?;
        if output.json {
            output.object(&documents)?;
        } else {
            let pretty = serde_json::to_string_pretty(&documents).map_err(std::io::Error::other)?;
            output.lines(&pretty.lines().map(plain).collect::<Vec<_>>())?;
        }
        Ok(Exit::Ok)
    }
}
