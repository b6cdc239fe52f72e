//! Whole pairs over HTTP: ask, collect a credential of PostgreSQL, finish, proven gone. The real broker, optimised, as a
//! process of its own with its ledger on disk; beside it what pgbench gets for the mint and the end alone. With `-- mass-end`
//! the end of a thousand leases, one by one and with one command.
//!
//! `scripts/pairs` starts a server and runs this; or `COUNTERSIGN_TEST_POSTGRES="18=URL" cargo bench --bench pairs`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement reads the clock and the environment, and prints"
)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use countersign::domain::{LeaseId, RequestId};
use countersign::issuers::postgres::PostgresIssuer;
use countersign::issuers::{Deployment, Issuer as _, MintOrder};
use countersign::system::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use countersign_client::{Client, NewRequest, State};
use secrecy::SecretString;
use serde_json::json;

use house::{House, key};

#[path = "common/house.rs"]
mod house;
#[path = "common/mass_end.rs"]
mod mass_end;
#[path = "common/pgbench.rs"]
mod pgbench;
#[path = "common/table.rs"]
mod table;

/// How long each number of clients goes on.
const ROUND: Duration = Duration::from_secs(10);
/// One agent may make 600 calls a minute, so there are many.
const AGENTS: usize = 400;
/// One pair: how long the credential took, and how long all of it.
async fn pair(agent: &Client) -> anyhow::Result<(Duration, Duration)> {
    let started = Instant::now();
    let request = agent
        .submit(&NewRequest::new("orders.report"), &key(), None)
        .await?;
    let collected = agent.collect(&request.id, &key()).await?;
    let issued = started.elapsed();
    drop(collected);
    let wait = Some(Duration::from_secs(30));
    let ended = agent
        .finish(&request.id, &json!({ "outcome": "succeeded" }), wait)
        .await?;
    ensure!(ended.state == State::Closed, "not ended: {:?}", ended.state);
    Ok((issued, started.elapsed()))
}

/// `clients` at once, until the round is over.
async fn round(
    agents: &Arc<Vec<Client>>,
    clients: usize,
) -> anyhow::Result<(Vec<(Duration, Duration)>, Duration)> {
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let (agents, next) = (Arc::clone(agents), Arc::clone(&next));
        tasks.spawn(async move {
            let mut took = Vec::new();
            while started.elapsed() < ROUND {
                let turn = next.fetch_add(1, Ordering::SeqCst) % agents.len();
                let agent = agents.get(turn).context("an agent")?;
                took.push(pair(agent).await?);
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(done) = tasks.join_next().await {
        took.extend(done??);
    }
    Ok((took, started.elapsed()))
}

/// A script for pgbench that mints and ends as the broker of `house` does.
async fn script(house: &House) -> anyhow::Result<PathBuf> {
    let issuer = PostgresIssuer::new(
        &"shop".parse()?,
        &house.target,
        SecretString::from(house.password.clone()),
        None,
        Arc::new(SystemEntropy),
        Arc::new(SystemClock::start()),
        Deployment::of("pgbench"),
    );
    let issuer = issuer.map_err(anyhow::Error::msg)?;
    let now = SystemClock::start().now();
    let order = MintOrder {
        lease: LeaseId::draw(now, SystemEntropy.draw()),
        request: RequestId::draw(now, SystemEntropy.draw()),
        agent: "pgbench".into(),
        sponsor: "pgbench".into(),
        scope: json!({ "roles": ["pairs_group"] }),
        server: issuer.identify().await?,
        ordered: now,
        ttl: Duration::from_secs(600),
        mint_within: Duration::from_secs(600),
    };
    let file = house.dir.path().join("mint_and_end.sql");
    fs::write(&file, pgbench::script(&issuer, &order)?)?;
    Ok(file)
}

/// Milliseconds below which `percent` of `times` are.
fn percentile(times: impl Iterator<Item = Duration>, percent: usize) -> f64 {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times
        .get(place)
        .map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("a measurement, not a test: run it with scripts/pairs");
        return Ok(());
    }
    let (version, server) = house::server()?;
    let house = House::open(&server, 40).await?;
    if std::env::args().any(|argument| argument == "mass-end") {
        return mass_end::measure(&version, &house).await;
    }
    table::table(&format!("Whole pairs over HTTP, PostgreSQL {version}"));
    let agents = Arc::new(house.agents("pairs", AGENTS).await?);
    let script = script(&house).await?;
    for clients in [1_u32, 8, 32] {
        let (took, time) = round(&agents, usize::try_from(clients)?).await?;
        let issued = || took.iter().map(|(issued, _)| *issued);
        let whole = || took.iter().map(|(_, whole)| *whole);
        #[expect(clippy::cast_precision_loss, reason = "a rate is a rounded thing")]
        let rate = took.len() as f64 / time.as_secs_f64();
        let theirs = pgbench::run(&house.target, &house.password, &script, clients, ROUND)?;
        table::row(
            &format!("{clients} clients"),
            &format!(
                "{rate:.0} pairs/s; issue p50 {:.1}, p99 {:.1} ms; pair p50 {:.1}, p99 {:.1} ms",
                percentile(issued(), 50),
                percentile(issued(), 99),
                percentile(whole(), 50),
                percentile(whole(), 99),
            ),
            &format!("pgbench, mint and end alone {theirs:.0}/s"),
            &format!("{:.2} x", rate / theirs),
        );
    }
    Ok(())
}
