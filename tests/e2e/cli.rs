//! The program as an agent or an operator runs it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

/// What a run left.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// What it printed, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that it went well.
    pub fn fine(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

/// The program, for the broker at `base`, as whoever holds `token`.
pub fn countersign(base: &str, token: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("COUNTERSIGN_ADDR", base)
        .env("COUNTERSIGN_TOKEN", token)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it to its end.
pub async fn run(mut command: Command) -> Ran {
    let ended = tokio::time::timeout(Duration::from_secs(90), command.output()).await;
    let output = ended.expect("it never ended").unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A command without a broker: `check`, `serve` that is to fail, `ledger verify`.
pub async fn local(arguments: &[&str], dir: &Path) -> Ran {
    let mut command = countersign("http://127.0.0.1:9", "", arguments);
    command.current_dir(dir);
    run(command).await
}
