//! The commands. Each talks to the broker through its HTTP API, apart from the few in [`local`] that are the broker, or look at its
//! files.
//!
//! Data goes to stdout and talk to stderr; `--json` prints one object, or one a line; exit codes are in [`exit`]. No secret is taken
//! from an argument or printed, apart from a new agent's API key, once, and what an AWS SDK reads from `aws-credentials`.

mod abandon;
mod actions;
mod agent;
mod aws;
mod aws_credentials;
mod clock;
mod connect;
mod ending;
mod exec;
mod exit;
mod facts;
mod finish;
mod ledger;
pub mod local;
mod ls;
mod output;
mod parameters;
mod request;
mod revoke;
mod show;
mod target;
mod text;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use connect::Global;
use exit::{Exit, Failure};

/// A credential broker for AI agents: ask for a named action, have it countersigned, run it, and see its access end.
#[derive(Parser, Debug)]
#[command(name = "countersign", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 unauthenticated, 4 denied by a person, 5 denied by policy, 6 still \
    pending, 7 expired or revoked, 8 broker or network, 9 conflict. `exec`: the command's own code, 128+N when signal N ended it, \
    125 not started, 126 not executable, 127 not found.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the broker.
    Serve(local::Serve),
    /// Run a broker for trying out, with its own sign-in, from a directory of catalog and policies.
    Dev(local::Dev),
    /// Check a directory of catalog, policies and configuration.
    Check(local::Check),
    /// Look for what is wrong with a set-up and say what to do.
    Doctor(local::Doctor),
    /// Prepare a target, and see or say which server it stands for.
    #[command(subcommand)]
    Target(target::TargetCommand),
    /// Say that the broker's wall clock is right (operator).
    #[command(subcommand)]
    Clock(clock::Clock),
    /// Add, list and disable agents (operator).
    #[command(subcommand)]
    Agent(agent::Agent),
    /// List actions that can be asked for, or show one.
    Actions(actions::Actions),
    /// Ask for an action.
    Request(request::Request),
    /// Wait until a request is decided.
    Wait(wait::Wait),
    /// Ask for an action, run a command with its credential, and end the access.
    Exec(exec::Exec),
    /// Give an AWS SDK its credentials, as a credential_process.
    AwsCredentials(aws_credentials::AwsCredentials),
    /// Report a request's outcome and end its access.
    Finish(finish::Finish),
    /// Show a request.
    Show(show::Show),
    /// List requests.
    Ls(ls::Ls),
    /// Give up a lease whose end cannot be proven, because its target is gone for good (operator).
    Abandon(abandon::Abandon),
    /// End the access of a request or lease now.
    Revoke(revoke::Revoke),
    /// Verify or export the ledger.
    #[command(subcommand)]
    Ledger(ledger::Ledger),
}

/// Parses the arguments, runs the command, and says how it went.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return usage_exit(&error, &arguments);
        }
    };
    let output = cli.global.output();
    let is_exec = matches!(cli.command, Command::Exec(_));
    let result = runtime(&cli.command)
        .and_then(|runtime| runtime.block_on(Box::pin(dispatch(cli.command, &cli.global))));
    match result {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            let failure = if is_exec {
                failure.before_start()
            } else {
                failure
            };
            output.failure(&failure, !is_exec);
            ExitCode::from(failure.exit.code())
        }
    }
}

/// The numbers below 125 belong to `exec`'s command, so its own mistakes get another one.
fn usage_exit(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let lenient = Cli::command()
        .ignore_errors(true)
        .try_get_matches_from(arguments);
    let exec = lenient.is_ok_and(|matches| matches.subcommand_name() == Some("exec"));
    ExitCode::from(if exec { Exit::NotStarted } else { Exit::Usage }.code())
}

fn runtime(command: &Command) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = match command {
        Command::Serve(_) | Command::Dev(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    Ok(builder.enable_all().build()?)
}

async fn dispatch(command: Command, global: &Global) -> Result<Exit, Failure> {
    match command {
        Command::Serve(command) => command.run(global.output()).await,
        Command::Dev(command) => command.run(global.output()).await,
        Command::Check(command) => command.run(global.output()),
        Command::Doctor(command) => command.run(global.output()).await,
        Command::Target(command) => command.run(global).await,
        Command::Clock(command) => command.run(global).await,
        Command::Agent(command) => command.run(global).await,
        Command::Actions(command) => command.run(global).await,
        Command::Request(command) => command.run(global).await,
        Command::Wait(command) => command.run(global).await,
        Command::Exec(command) => command.run(global).await,
        Command::AwsCredentials(command) => command.run(global).await,
        Command::Finish(command) => command.run(global).await,
        Command::Show(command) => command.run(global).await,
        Command::Ls(command) => command.run(global).await,
        Command::Abandon(command) => command.run(global).await,
        Command::Revoke(command) => command.run(global).await,
        Command::Ledger(command) => command.run(global).await,
    }
}
