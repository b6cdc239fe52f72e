//! The real program against a broker that does as it is told: what people and scripts see, and what is left behind.

mod acknowledged;
mod aws_credentials;
mod aws_sdks;
mod clients;
mod commands;
mod exec;
mod exec_aws;
mod exec_mariadb;
mod fake;
mod ledger;
mod terminal;

use std::process::{Output, Stdio};
use std::time::Duration;

use fake::Fake;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStderr, Command};

/// The program, with nothing in its environment but what is given here.
fn countersign(fake: &Fake, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("COUNTERSIGN_ADDR", &fake.address)
        .env("COUNTERSIGN_TOKEN_FILE", fake.path("token"))
        .env("XDG_RUNTIME_DIR", fake.path("run"))
        .current_dir(fake.path("work"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it to its end.
async fn run(mut command: Command) -> Ran {
    let output = tokio::time::timeout(Duration::from_secs(60), command.output())
        .await
        .expect("it never ended")
        .unwrap();
    Ran::from(output)
}

/// What a run left.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Reads stderr until it holds these words.
async fn until_said(err: &mut BufReader<ChildStderr>, words: &str) {
    let mut seen = String::new();
    let said = async {
        while !seen.contains(words) {
            assert!(err.read_line(&mut seen).await.unwrap() > 0, "{seen}");
        }
    };
    tokio::time::timeout(Duration::from_secs(30), said)
        .await
        .unwrap_or_else(|_| panic!("never said: {words}"));
}

/// Nothing is left where credentials were, and nothing ever was in the working directory.
fn assert_nothing_left(fake: &Fake) {
    for place in ["run", "work"] {
        let left: Vec<_> = std::fs::read_dir(fake.path(place))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "left behind in {place}: {left:?}");
    }
}
