//! `countersign ledger`: evidence that can be checked elsewhere.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::connect::Global;
use super::exit::{Exit, Failure};
use super::local::{VerifiedLedger, VerifyLedger, accept_ledger, verify_ledger};

/// `countersign ledger`.
#[derive(Subcommand, Debug)]
pub(crate) enum Ledger {
    /// Check that a ledger is whole and signed, and that it continues an earlier checkpoint.
    Verify(Verify),
    /// Let a broker go on with the ledger in its store although it knew another: after an old backup was restored, or a
    /// standby took over that had not heard of everything. Stop the broker first.
    Accept(Accept),
    /// Write all entries and the signed checkpoint as JSON Lines, for `verify` and for archives.
    Export(Export),
}

/// `countersign ledger verify`.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// An export, a broker's state directory, or the directory of its countersign.toml.
    #[arg(value_name = "FILE|DIR")]
    source: PathBuf,
    /// The log's verifier key (C2SP vkey), known from elsewhere.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    /// A checkpoint kept from earlier, which the ledger must continue.
    #[arg(long, value_name = "CHECKPOINT_FILE")]
    since: Option<PathBuf>,
}

/// `countersign ledger accept`.
#[derive(Args, Debug)]
pub(crate) struct Accept {
    /// The broker's state directory, or the directory of its countersign.toml.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Why: it becomes an entry of the ledger.
    #[arg(long)]
    reason: String,
}

impl Accept {
    async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let accepted = accept_ledger(&self.dir, self.reason).await?;
        if output.json {
            output.object(&accepted)?;
            return Ok(Exit::Ok);
        }
        output.say("accepted: start the broker; it writes ledger.accepted");
        let ledger = |size: u64, root: &str| format!("{size} entries, root {root}");
        output.facts(&[
            ("known", ledger(accepted.known_size, &accepted.known_root)),
            ("accepted", ledger(accepted.size, &accepted.root)),
        ])?;
        Ok(Exit::Ok)
    }
}

/// `countersign ledger export`.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Write to this new file instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The log's verifier key (C2SP vkey), known from elsewhere; a broker with another key is refused.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
}

impl Ledger {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        match self {
            Ledger::Verify(verify) => verify.run(global).await,
            Ledger::Accept(accept) => accept.run(global).await,
            Ledger::Export(export) => export.run(global).await,
        }
    }
}

impl Verify {
    async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
        let of_store = self.source.is_dir();
        let verified = verify_ledger(VerifyLedger {
            source: self.source,
            key: self.key,
            since: self.since,
        })
        .await?;
        if output.json {
            output.object(&verified)?;
            return Ok(Exit::Ok);
        }
        let signature = match (verified.key_given, of_store) {
            (true, _) => "checked with the given key",
            (false, true) => {
                "checked with the key in the state directory; --key names one from elsewhere"
            }
            (false, false) => {
                "checked with the key the file itself names, which anybody could have put there; \
                 give the log's own with --key"
            }
        };
        let mut facts = vec![
            ("ledger", "verified".to_owned()),
            ("origin", verified.origin.clone()),
            ("entries", verified.size.to_string()),
            ("root", verified.root.clone()),
            ("signature", signature.to_owned()),
        ];
        facts.extend(
            verified
                .since_size
                .map(|size| ("continues", format!("the checkpoint of {size} entries"))),
        );
        let erased = verified.texts_erased.filter(|erased| *erased > 0);
        facts.extend(erased.map(|erased| {
            let text = format!("{erased} erased, all others as they were written");
            ("texts", text)
        }));
        facts.push(("decisions", decisions(&verified)));
        output.facts(&facts)?;
        Ok(Exit::Ok)
    }
}

/// `12 decided again alike`, and how many were not decided again and why.
fn decisions(verified: &VerifiedLedger) -> String {
    let alike = format!("{} decided again alike", verified.decisions_replayed);
    match (verified.decisions_not_replayed, &verified.why_not_replayed) {
        (0, _) | (_, None) => alike,
        (left, Some(why)) => format!("{alike}, {left} not decided again: {why}"),
    }
}

const PAGE: u32 = 200;

impl Export {
    async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let client = global.client()?;
        // The checkpoint first: entries only ever follow, so all it covers can be read afterwards.
        let checkpoint = client.checkpoint().await?;
        let size = covered(&checkpoint)?;
        let key = client.ledger_key().await?;
        if let Some(expected) = self.key.as_ref().filter(|expected| **expected != key) {
            return Err(Failure::new(
                Exit::Failed,
                "other_key",
                format!("the broker's ledger has the key {key}, not {expected}"),
                "check that the address is the right broker's; if it is, tell the security team",
            ));
        }
        let mut out = self.open()?;
        writeln!(out, "{}", json!({"countersign_ledger": 1, "vkey": key}))?;
        let mut next = Some(0);
        let mut written = 0;
        while let Some(from) = next.filter(|from| *from < size) {
            let (entries, after) = client.ledger_entries(from, PAGE).await?;
            for entry in entries.iter().filter(|entry| entry.seq < size) {
                if entry.seq != written {
                    return Err(damaged(format!(
                        "entry {written} is missing from the broker's answer"
                    )));
                }
                writeln!(out, "{}", json!(entry))?;
                written += 1;
            }
            next = after.filter(|after| *after > from);
        }
        if written < size {
            return Err(damaged(format!(
                "the checkpoint covers {size} entries, the broker gave {written}"
            )));
        }
        writeln!(out, "{}", json!({"checkpoint": checkpoint}))?;
        out.flush()?;
        global.output().say(&format!(
            "exported {written} entries; check them with `countersign ledger verify`"
        ));
        Ok(Exit::Ok)
    }

    fn open(&self) -> Result<Box<dyn Write>, Failure> {
        let Some(path) = &self.out else {
            return Ok(Box::new(BufWriter::new(std::io::stdout())));
        };
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| {
                let what = format!("create {}: {error}", path.display());
                Failure::usage("file", what, "name a file that does not exist yet")
            })?;
        Ok(Box::new(BufWriter::new(file)))
    }
}

/// How many entries a checkpoint covers: its second line.
fn covered(checkpoint: &str) -> Result<u64, Failure> {
    checkpoint
        .lines()
        .nth(1)
        .and_then(|line| line.parse().ok())
        .ok_or_else(|| {
            let next = "check that the address is a broker's";
            Failure::new(
                Exit::Unavailable,
                "checkpoint",
                "the broker's checkpoint has no size",
                next,
            )
        })
}

fn damaged(what: String) -> Failure {
    Failure::new(
        Exit::Failed,
        "ledger_incomplete",
        what,
        "tell the security team: the ledger may be damaged",
    )
}
