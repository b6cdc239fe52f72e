//! What a target's administrator sets up, printed from the configuration; and which server a target stands for.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::connect::Global;
use super::exit::{Exit, Failure};
use super::output::{Output, columns};
use super::text::plain;
use crate::wiring;

/// `countersign target`.
#[derive(Subcommand, Debug)]
pub(crate) enum TargetCommand {
    /// Print the documents that prepare AWS for a target of kind aws_sts.
    InitIam(InitIam),
    /// Print the SQL that prepares the database of a target of kind postgres or mariadb for what the catalog asks of it.
    InitSql(InitSql),
    /// List targets: the server each one stands for, and the one that answers (operator).
    List,
    /// Say that a target moved as planned: leases of the old server are ended and proven at the new one (operator).
    Move(Move),
}

/// `countersign target move`.
#[derive(Args, Debug)]
pub(crate) struct Move {
    /// The target, as in countersign.toml.
    target: String,
    /// The server it stands for by the ledger, as `target list` shows it.
    #[arg(long, value_name = "SERVER")]
    from: String,
    /// The server it stands for from now on. The old one must serve nobody any more: nobody looks there again.
    #[arg(long, value_name = "SERVER")]
    to: String,
    /// Why, for the record.
    #[arg(long)]
    reason: Option<String>,
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
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        match self {
            TargetCommand::InitIam(command) => command.run(global.output()),
            TargetCommand::InitSql(command) => command.run(global.output()),
            TargetCommand::List => list(global).await,
            TargetCommand::Move(command) => command.run(global).await,
        }
    }
}

async fn list(global: &Global) -> Result<Exit, Failure> {
    let output = global.output();
    let targets = global.client()?.targets().await?;
    if output.json {
        for target in &targets {
            output.object(target)?;
        }
        return Ok(Exit::Ok);
    }
    let mut rows = vec![
        ["TARGET", "STANDS FOR", "ANSWERS"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(targets.iter().map(|target| {
        let stands_for = target.server.as_deref().unwrap_or("(not known yet)");
        let answers = match (&target.seen, &target.trouble) {
            (Some(_), _) if target.in_order => "the same",
            (Some(seen), _) => seen,
            (None, Some(trouble)) => trouble,
            (None, None) => "(not asked yet)",
        };
        vec![target.name.clone(), plain(stands_for), plain(answers)]
    }));
    output.lines(&columns(&rows))?;
    Ok(Exit::Ok)
}

impl Move {
    async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let client = global.client()?;
        let moved = client
            .move_target(&self.target, &self.from, &self.to, self.reason.as_deref())
            .await?;
        output.say("recorded: what was minted at the old server is ended and proven at the new one from now on");
        if output.json {
            output.object(&moved)?;
        } else {
            let server = moved.server.unwrap_or_default();
            output.facts(&[("target", moved.name), ("stands for", plain(&server))])?;
        }
        Ok(Exit::Ok)
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
