//! The commands that are the broker, or look at its files: thin calls to [`crate::wiring`], and the words the two share.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::text::plain;
use crate::wiring;

/// How serious a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Good,
    /// Works, but should be different.
    Warning,
    /// Does not work.
    Error,
}

/// One thing `check` or `doctor` found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How serious.
    pub severity: Severity,
    /// What it is about: a file and line, a target, a listener.
    pub about: String,
    /// What was found.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What to verify a ledger against.
#[derive(Clone, Debug)]
pub struct VerifyLedger {
    /// An export file, a broker's state directory, or a directory with a `countersign.toml`.
    pub source: PathBuf,
    /// The checkpoints' verifier key (C2SP vkey); the one found beside the ledger when absent.
    pub key: Option<String>,
    /// A checkpoint kept from earlier, which the ledger must continue.
    pub since: Option<PathBuf>,
}

/// A ledger that was accepted instead of the known one.
#[derive(Clone, Debug, Serialize)]
pub struct AcceptedLedger {
    /// Entries of the newest head that was known; 0 when it could not be read.
    pub known_size: u64,
    /// Their root, base64 as in the checkpoint.
    pub known_root: String,
    /// Entries of the accepted ledger.
    pub size: u64,
    /// Their root.
    pub root: String,
}

/// What a verification showed. A ledger that does not verify is an error instead.
#[derive(Clone, Debug, Serialize)]
pub struct VerifiedLedger {
    /// Entries.
    pub size: u64,
    /// Root of the Merkle tree over them, base64 as in the checkpoint.
    pub root: String,
    /// The log's origin.
    pub origin: String,
    /// Whether the signature was checked with a key given from outside.
    pub key_given: bool,
    /// The size of the earlier checkpoint it continues, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_size: Option<u64>,
    /// How many texts that entries refer to were erased; only a store can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub texts_erased: Option<u64>,
    /// Decisions of policy that were decided again under their bundle, with the same entries.
    pub decisions_replayed: u64,
    /// Decisions that were not: their bundle is not at hand or cannot be loaded.
    pub decisions_not_replayed: u64,
    /// Why not, for the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not_replayed: Option<String>,
}

/// `countersign serve`.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// `countersign.toml`, or the directory it is in.
    #[arg(
        long,
        env = "COUNTERSIGN_CONFIG",
        default_value = ".",
        value_name = "DIR|FILE"
    )]
    config: PathBuf,
    #[command(flatten)]
    log: Log,
}

/// `countersign dev`.
#[derive(Args, Debug)]
pub(crate) struct Dev {
    /// The directory with `catalog/` and `policies/`.
    dir: PathBuf,
    #[command(flatten)]
    log: Log,
}

/// What the broker says while it runs, on stderr.
#[derive(Args, Clone, Copy, Debug)]
struct Log {
    /// How much: error, warn, info, debug or trace.
    #[arg(
        long = "log",
        env = "COUNTERSIGN_LOG",
        default_value = "info",
        value_name = "LEVEL"
    )]
    level: tracing::Level,
    /// For people, or one JSON object a line.
    #[arg(
        long = "log-format",
        env = "COUNTERSIGN_LOG_FORMAT",
        value_enum,
        default_value = "text"
    )]
    format: wiring::LogFormat,
}

/// `countersign check`.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The directory with `countersign.toml`, `catalog/` and `policies/`.
    dir: PathBuf,
}

/// `countersign doctor`.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// The directory with `countersign.toml`.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

impl Serve {
    pub(crate) async fn run(self, output: Output) -> Result<Exit, Failure> {
        let config = if self.config.is_dir() {
            self.config.join("countersign.toml")
        } else {
            self.config
        };
        wiring::start_log(self.log.level, self.log.format)?;
        until_told(output, |stop| wiring::serve(config, stop)).await
    }
}

impl Dev {
    pub(crate) async fn run(self, output: Output) -> Result<Exit, Failure> {
        wiring::start_log(self.log.level, self.log.format)?;
        until_told(output, |stop| wiring::dev(self.dir, stop)).await
    }
}

/// Runs a broker until it ends by itself or SIGINT or SIGTERM arrives; then it may finish what it has begun. A second signal ends at once.
async fn until_told<F>(
    output: Output,
    broker: impl FnOnce(CancellationToken) -> F,
) -> Result<Exit, Failure>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let mut broker = Box::pin(broker(stop.clone()));
    loop {
        tokio::select! {
            ended = &mut broker => return Ok(ended.map(|()| Exit::Ok)?),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if stop.is_cancelled() {
            return Err(Failure::new(
                Exit::Failed,
                "interrupted",
                "stopped before everything was finished",
                "start it again: what was begun is in the ledger and goes on from there",
            ));
        }
        output.say("stopping; once more to stop at once");
        stop.cancel();
    }
}

impl Check {
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        report(output, &wiring::check(&self.dir)?)
    }
}

impl Doctor {
    pub(crate) async fn run(self, output: Output) -> Result<Exit, Failure> {
        report(output, &wiring::doctor(&self.dir).await?)
    }
}

/// Prints findings; any error among them is the usage exit.
fn report(output: Output, findings: &[Finding]) -> Result<Exit, Failure> {
    for finding in findings {
        if output.json {
            output.object(finding)?;
            continue;
        }
        if output.quiet && finding.severity == Severity::Good {
            continue;
        }
        let word = match finding.severity {
            Severity::Good => "ok",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let mut lines = vec![format!(
            "{word:7}  {}: {}",
            plain(&finding.about),
            plain(&finding.message)
        )];
        lines.extend(
            finding
                .next
                .as_ref()
                .map(|next| format!("         next: {}", plain(next))),
        );
        output.lines(&lines)?;
    }
    let bad = findings
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    Ok(if bad { Exit::Usage } else { Exit::Ok })
}

/// Accepts the ledger of a directory.
pub(crate) async fn accept_ledger(dir: &Path, reason: String) -> Result<AcceptedLedger, Failure> {
    let accepted = wiring::accept_ledger(dir, reason).await;
    accepted.map_err(ledger_failure)
}

/// Verifies a ledger. The failure says which entry or signature does not hold, or why it could not be looked at.
pub(crate) async fn verify_ledger(what: VerifyLedger) -> Result<VerifiedLedger, Failure> {
    let verified = wiring::verify_ledger(what).await;
    verified.map_err(ledger_failure)
}

fn ledger_failure(error: anyhow::Error) -> Failure {
    let text = format!("{error:#}");
    if error.is::<wiring::NothingToAccept>() {
        let next = "start the broker";
        Failure::new(Exit::Failed, "nothing_to_accept", text, next)
    } else if error.is::<wiring::NotRead>() {
        let next = "put that right and try again; nothing is known of the ledger yet";
        Failure::new(Exit::Failed, "ledger_not_read", text, next)
    } else {
        let next = "keep this copy and the last good checkpoint, and tell the security team";
        Failure::new(Exit::Failed, "ledger_not_verified", text, next)
    }
}
