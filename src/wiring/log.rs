//! What a running broker says: to stderr, as text or JSON Lines.

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::EnvFilter;

/// How the log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log. Libraries stay at warnings whatever `level` says: below that, some of them write out
/// what they send and receive.
///
/// # Errors
/// When a log was started before.
pub fn start_log(level: Level, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("warn,countersign={level}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("start the log: {error}"))
}
