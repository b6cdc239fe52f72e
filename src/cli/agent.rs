//! `countersign agent`: who may ask. For the operator.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use countersign_client::{AgentView, NewAgent};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::connect::{Global, random};
use super::exit::{Exit, Failure};
use super::output::columns;

/// `countersign agent`.
#[derive(Subcommand, Debug)]
pub(crate) enum Agent {
    /// Add an agent. Without a key, it gets an API key, printed once.
    Add(Add),
    /// List agents.
    Ls,
    /// Stop serving an agent and end what it holds.
    Disable {
        /// The agent's name.
        name: String,
    },
}

/// `countersign agent add`.
#[derive(Args, Debug)]
pub(crate) struct Add {
    /// The agent's name, for ever.
    name: String,
    /// Who answers for it: PEOPLE:SUBJECT or group:NAME. They can never review its requests.
    #[arg(long)]
    owner: String,
    /// Its Ed25519 public key (32 bytes, base64url).
    #[arg(long, value_name = "BASE64URL", conflicts_with_all = ["new_key_file", "api_key_file"])]
    public_key: Option<String>,
    /// Make a key pair, and write its seed to this new file (0600).
    #[arg(long, value_name = "FILE", conflicts_with = "api_key_file")]
    new_key_file: Option<PathBuf>,
    /// Write the API key to this new file (0600) instead of printing it.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
}

impl Agent {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        match self {
            Agent::Add(add) => add.run(global).await,
            Agent::Ls => list(global).await,
            Agent::Disable { name } => {
                let answer = global.client()?.disable_agent(&name).await?;
                let output = global.output();
                output.say(&format!(
                    "{name} is no longer served; what it holds is being ended"
                ));
                if output.json {
                    output.object(&answer)?;
                }
                Ok(Exit::Ok)
            }
        }
    }
}

impl Add {
    async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let client = global.client()?;
        let public_key = match (&self.public_key, &self.new_key_file) {
            (Some(key), _) => Some(key.clone()),
            (None, Some(path)) => Some(make_key(path)?),
            (None, None) => None,
        };
        // The file is made before the key exists: an answer that cannot be kept would be lost for good.
        let key_file = self
            .api_key_file
            .as_deref()
            .map(create_private)
            .transpose()?;
        let proof = match public_key {
            Some(key) => json!({"kind": "public_key", "ed25519": key}),
            None => json!({"kind": "api_key"}),
        };
        let enrolled = client
            .add_agent(&NewAgent {
                name: self.name,
                owner: self.owner,
                proof,
            })
            .await;
        let enrolled = enrolled.inspect_err(|_| {
            for path in [&self.new_key_file, &self.api_key_file]
                .into_iter()
                .flatten()
            {
                let _ = std::fs::remove_file(path);
            }
        })?;
        output.say(&format!("added {}", enrolled.agent.name));
        match (&enrolled.api_key, key_file) {
            (Some(key), Some(mut file)) => {
                writeln!(file, "{}", key.expose_secret())?;
                file.sync_all()?;
                print_agent(global, &enrolled.agent)?;
            }
            (Some(key), None) if output.json => {
                output.object(&json!({"agent": enrolled.agent, "api_key": key.expose_secret()}))?;
            }
            (Some(key), None) => {
                output.say("this is its API key; it cannot be shown again");
                output.lines(&[super::text::plain(key.expose_secret())])?;
            }
            (None, _) => print_agent(global, &enrolled.agent)?,
        }
        Ok(Exit::Ok)
    }
}

fn print_agent(global: &Global, agent: &AgentView) -> Result<(), Failure> {
    if global.output().json {
        global.output().object(&json!({"agent": agent}))
    } else {
        Ok(())
    }
}

async fn list(global: &Global) -> Result<Exit, Failure> {
    let output = global.output();
    let agents = global.client()?.agents().await?;
    if output.json {
        for agent in &agents {
            output.object(agent)?;
        }
        return Ok(Exit::Ok);
    }
    let mut rows = vec![
        ["AGENT", "OWNER", "PROOF", "STATE"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(agents.iter().map(|agent| {
        let disabled = agent
            .rest
            .get("disabled_at")
            .is_some_and(|at| !at.is_null());
        let state = if disabled { "disabled" } else { "served" };
        vec![
            agent.name.clone(),
            owner(agent),
            proof(agent),
            state.to_owned(),
        ]
    }));
    output.lines(&columns(&rows))?;
    Ok(Exit::Ok)
}

fn owner(agent: &AgentView) -> String {
    let owner = agent.rest.get("owner");
    let member = |name: &str| {
        owner
            .and_then(|owner| owner.get(name))
            .and_then(Value::as_str)
    };
    match (owner, member("group"), member("subject"), member("issuer")) {
        (_, Some(group), ..) => format!("group:{group}"),
        (_, _, Some(subject), Some(issuer)) => format!("{subject} ({issuer})"),
        (Some(Value::String(owner)), ..) => owner.clone(),
        _ => String::new(),
    }
}

fn proof(agent: &AgentView) -> String {
    let proof = agent.rest.get("proof");
    let kind = proof.and_then(|proof| proof.get("kind")).or(proof);
    kind.and_then(Value::as_str).unwrap_or("unknown").to_owned()
}

/// Makes a key pair; the seed goes to `path`, the public key is returned.
fn make_key(path: &Path) -> Result<String, Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    for half in seed.chunks_exact_mut(16) {
        let mut bytes = Zeroizing::new([0; 16]);
        random(&mut bytes);
        half.copy_from_slice(bytes.as_slice());
    }
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| {
        Failure::new(
            Exit::Failed,
            "key",
            "make a key pair: the library refused the seed",
            "try again",
        )
    })?;
    let mut file = create_private(path)?;
    let text = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(seed.as_slice()));
    writeln!(file, "{}", text.as_str())?;
    file.sync_all()?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()))
}

/// A new file only this user can read. An existing one is never overwritten.
fn create_private(path: &Path) -> Result<std::fs::File, Failure> {
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    opened.map_err(|error| {
        let next = "name a file that does not exist yet, in a directory you can write to";
        Failure::usage("file", format!("create {}: {error}", path.display()), next)
    })
}
