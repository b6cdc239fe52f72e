//! Configuration to adapters to a running broker: the only place that names adapters.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::cli::local::{Finding, VerifiedLedger, VerifyLedger};

/// Runs the broker of `countersign.toml` until `stop`.
///
/// # Errors
/// What could not be set up, or what failed while running.
pub async fn serve(_config: PathBuf, _stop: CancellationToken) -> anyhow::Result<()> {
    anyhow::bail!("run the broker: not wired up in this build")
}

/// Runs a broker for trying out until `stop`.
///
/// # Errors
/// As for [`serve`].
pub async fn dev(_dir: PathBuf, _stop: CancellationToken) -> anyhow::Result<()> {
    anyhow::bail!("run the broker: not wired up in this build")
}

/// Checks a directory of catalog, policies and configuration.
///
/// # Errors
/// When the directory cannot be read.
pub fn check(_dir: &Path) -> anyhow::Result<Vec<Finding>> {
    anyhow::bail!("check the directory: not wired up in this build")
}

/// Looks for what is wrong with a set-up.
///
/// # Errors
/// When the directory cannot be read.
pub async fn doctor(_dir: &Path) -> anyhow::Result<Vec<Finding>> {
    anyhow::bail!("examine the set-up: not wired up in this build")
}

/// Verifies an export file or the ledger of a state directory.
///
/// # Errors
/// What does not verify, or could not be read.
pub async fn verify_ledger(_what: VerifyLedger) -> anyhow::Result<VerifiedLedger> {
    anyhow::bail!("verify the ledger: not wired up in this build")
}
