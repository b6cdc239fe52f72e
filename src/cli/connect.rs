//! How a command finds the broker and proves who it is. Secrets come from files or the environment, never from arguments.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use countersign_client::{Client, Credentials, IdempotencyKey, Sources};

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::system::{Clock, Entropy, SystemClock, SystemEntropy};

/// Options every command has.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// The broker's address.
    #[arg(
        long,
        global = true,
        env = "COUNTERSIGN_ADDR",
        default_value = "http://127.0.0.1:7480",
        value_name = "URL"
    )]
    addr: String,
    /// File holding an API key or token. COUNTERSIGN_TOKEN holds one directly.
    #[arg(
        long,
        global = true,
        env = "COUNTERSIGN_TOKEN_FILE",
        value_name = "FILE"
    )]
    token_file: Option<PathBuf>,
    /// File holding the agent's Ed25519 seed, for private_key_jwt; needs --agent.
    #[arg(long, global = true, env = "COUNTERSIGN_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The agent's name, for --key-file.
    #[arg(long, global = true, env = "COUNTERSIGN_AGENT", value_name = "NAME")]
    agent: Option<String>,
    /// File in which the platform keeps a fresh JWT (GitHub Actions, Kubernetes, SPIFFE).
    #[arg(
        long,
        global = true,
        env = "COUNTERSIGN_WORKLOAD_TOKEN_FILE",
        value_name = "FILE"
    )]
    workload_token_file: Option<PathBuf>,
    /// The broker's public URL, when it is reached under another address (for --key-file).
    #[arg(long, global = true, env = "COUNTERSIGN_AUDIENCE", value_name = "URL")]
    audience: Option<String>,
    /// Print data as JSON: one object, or one a line.
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but data and errors.
    #[arg(long, short, global = true)]
    quiet: bool,
}

impl Global {
    /// How the command talks.
    pub(crate) fn output(&self) -> Output {
        Output {
            json: self.json,
            quiet: self.quiet,
        }
    }

    /// A client of the configured broker.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::with_credentials(&self.addr, self.credentials()?)?)
    }

    /// Which broker, and what proves who asks it, as far as it stays the same from run to run.
    pub(crate) fn whose(&self) -> [String; 2] {
        let path = |path: &PathBuf| path.display().to_string();
        let proof = given(self.token_file.as_ref())
            .map(path)
            .or_else(|| given(self.key_file.as_ref()).and(self.agent.clone()))
            .or_else(|| given(self.workload_token_file.as_ref()).map(path))
            .or_else(|| environment("COUNTERSIGN_TOKEN"));
        [self.addr.clone(), proof.unwrap_or_default()]
    }

    /// The first of: token file, key file, workload token file, `COUNTERSIGN_TOKEN`.
    fn credentials(&self) -> Result<Credentials, Failure> {
        if let Some(path) = given(self.token_file.as_ref()) {
            self.warn_if_open(path);
            return Ok(Credentials::from_token_file(path)?);
        }
        if let Some(path) = given(self.key_file.as_ref()) {
            self.warn_if_open(path);
            let agent = self
                .agent
                .clone()
                .filter(|name| !name.is_empty())
                .ok_or_else(|| {
                    Failure::usage(
                        "agent_missing",
                        "a key file is given, but not whose it is",
                        "set COUNTERSIGN_AGENT, or --agent, to the agent's name",
                    )
                })?;
            let audience = self
                .audience
                .as_deref()
                .filter(|url| !url.is_empty())
                .unwrap_or(&self.addr);
            return Ok(Credentials::PrivateKey {
                agent,
                seed_file: path.clone(),
                audience: audience.trim_end_matches('/').to_owned(),
                sources: Sources {
                    unix_seconds,
                    random,
                },
            });
        }
        if let Some(path) = given(self.workload_token_file.as_ref()) {
            return Ok(Credentials::WorkloadFile(path.clone()));
        }
        match environment("COUNTERSIGN_TOKEN") {
            Some(token) => Ok(Credentials::Token(token.into())),
            None => Err(Failure::new(
                Exit::Unauthenticated,
                "no_credentials",
                "nothing proves who is asking",
                "set COUNTERSIGN_TOKEN_FILE to a file with the agent's API key, or COUNTERSIGN_KEY_FILE and COUNTERSIGN_AGENT",
            )),
        }
    }

    fn warn_if_open(&self, path: &Path) {
        let open = std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
        if open {
            self.output().say(&format!(
                "{} can be read by others; run chmod 600 on it",
                path.display()
            ));
        }
    }
}

fn given(path: Option<&PathBuf>) -> Option<&PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// An environment variable that is set, is text and is not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line reads its environment here"
)]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn unix_seconds() -> u64 {
    u64::try_from(now_ms() / 1000).unwrap_or(0)
}

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    SystemClock::start().now().millis()
}

/// Fills 16 bytes with unpredictable ones.
pub(crate) fn random(bytes: &mut [u8; 16]) {
    SystemEntropy.fill(bytes);
}

/// A new idempotency key.
pub(crate) fn new_key() -> IdempotencyKey {
    let mut bytes = [0; 16];
    random(&mut bytes);
    IdempotencyKey::from_random(bytes)
}
