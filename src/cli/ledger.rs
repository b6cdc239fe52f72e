//! `countersign ledger`: evidence that can be checked elsewhere.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::connect::Global;
use super::exit::{Exit, Failure};
use super::local::{VerifyLedger, verify_ledger};

/// `countersign ledger`.
#[derive(Subcommand, Debug)]
pub(crate) enum Ledger {
    /// Check that a ledger is whole and signed, and that it continues an earlier checkpoint.
    Verify(Verify),
    /// Write all entries and the signed checkpoint as JSON Lines, for `verify` and for archives.
    Export(Export),
}

/// `countersign ledger verify`.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// An export, or a broker's state directory.
    #[arg(value_name = "FILE|STATE_DIR")]
    source: PathBuf,
    /// The log's verifier key (C2SP vkey), known from elsewhere.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    /// A checkpoint kept from earlier, which the ledger must continue.
    #[arg(long, value_name = "CHECKPOINT_FILE")]
    since: Option<PathBuf>,
}

/// `countersign ledger export`.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Write to this new file instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Ledger {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        match self {
            Ledger::Verify(verify) => verify.run(global).await,
            Ledger::Export(export) => export.run(global).await,
        }
    }
}

impl Verify {
    async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let output = global.output();
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
        let signature = if verified.key_given {
            "checked with the given key"
        } else {
            "checked with the key found beside it"
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
        output.facts(&facts)?;
        Ok(Exit::Ok)
    }
}

const PAGE: u32 = 1000;

impl Export {
    async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let client = global.client()?;
        // The checkpoint first: entries only ever follow, so all it covers can be read afterwards.
        let checkpoint = client.checkpoint().await?;
        let size = checkpoint
            .lines()
            .nth(1)
            .and_then(|line| line.parse::<u64>().ok())
            .ok_or_else(|| {
                Failure::new(
                    Exit::Unavailable,
                    "checkpoint",
                    "the broker's checkpoint has no size",
                    "check that the address is a broker's",
                )
            })?;
        let mut out: Box<dyn Write> = match &self.out {
            Some(path) => {
                let file = File::options()
                    .write(true)
                    .create_new(true)
                    .open(path)
                    .map_err(|error| {
                        let what = format!("create {}: {error}", path.display());
                        Failure::usage("file", what, "name a file that does not exist yet")
                    })?;
                Box::new(BufWriter::new(file))
            }
            None => Box::new(BufWriter::new(std::io::stdout())),
        };
        writeln!(out, "{}", json!({"checkpoint": checkpoint}))?;
        let mut next = Some(0);
        let mut written = 0;
        while let Some(from) = next.filter(|from| *from < size) {
            let (entries, after) = client.ledger_entries(from, PAGE).await?;
            for entry in entries.iter().filter(|entry| entry.seq < size) {
                if entry.seq != written {
                    let what = format!("entry {written} is missing from the broker's answer");
                    return Err(Failure::new(
                        Exit::Failed,
                        "gap",
                        what,
                        "tell the security team: the ledger may be damaged",
                    ));
                }
                writeln!(out, "{}", json!(entry))?;
                written += 1;
            }
            next = after.filter(|after| *after > from);
        }
        out.flush()?;
        if written < size {
            let what = format!("the checkpoint covers {size} entries, the broker gave {written}");
            return Err(Failure::new(
                Exit::Failed,
                "short",
                what,
                "tell the security team: the ledger may be damaged",
            ));
        }
        global.output().say(&format!(
            "exported {written} entries; check them with `countersign ledger verify`"
        ));
        Ok(Exit::Ok)
    }
}
