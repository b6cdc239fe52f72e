//! What pgbench gets for the calls a mint and an end are made of: the same messages, with a role name of their own each time.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, anyhow};
use countersign::config::PostgresTarget;
use countersign::domain::lease;
use countersign::issuers::MintOrder;
use countersign::issuers::postgres::PostgresIssuer;

/// A script for pgbench that mints leases like `order` and ends them.
pub fn script(issuer: &PostgresIssuer, order: &MintOrder) -> anyhow::Result<String> {
    let handle = lease::handle_of(&order.lease);
    let [mint, end] = issuer.transcript(order).map_err(anyhow::Error::msg)?;
    let message = |text: String| text.replace(&handle, "jit_:a:b").replace("; ", " \\; ");
    let half = "random(1000000000000, 9999999999999)";
    Ok(format!(
        "\\set a {half}\n\\set b {half}\n{};\n{};\n",
        message(mint),
        message(end)
    ))
}

/// Runs a script as the broker of `target`; transactions a second.
pub fn run(
    target: &PostgresTarget,
    password: &str,
    script: &Path,
    clients: u32,
    round: Duration,
) -> anyhow::Result<f64> {
    let settings = "-c search_path=pg_catalog,pg_temp -c client_min_messages=error";
    let output = Command::new("pgbench")
        .args(["--no-vacuum", "--protocol=simple", "--jobs=2"])
        .args(["--host", &target.host, "--port", &target.port.to_string()])
        .args(["--username", &target.user, "--client", &clients.to_string()])
        .args(["--time", &round.as_secs().to_string(), "--file"])
        .arg(script)
        .arg(&target.database)
        .env("PGPASSWORD", password)
        .env("PGOPTIONS", settings)
        .output()
        .context("run pgbench: it is in Debian's package postgresql")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
        .ok_or_else(|| anyhow!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
}
