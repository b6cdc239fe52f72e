//! The end of a thousand leases: one by one over HTTP, each waited for, and together.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use countersign_client::{Client, LedgerEntryView, NewRequest, State};
use futures::future::try_join_all;
use serde_json::json;

use super::house::{House, key};
use super::table::{row, table};

/// Ended together.
const FLEET: usize = 1_000;
/// An agent may have 100 requests open.
const FLEET_AGENTS: usize = 10;
/// Ended one after the other, before and after that.
const SINGLE: usize = 200;
/// An agent may make 100 calls at once.
const SINGLE_AGENTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(150);
/// A claim and an end for each lease, besides the order to end it.
const ENTRIES: u64 = 3;

/// A live lease of `agent`: its request.
async fn live(agent: &Client) -> anyhow::Result<String> {
    let ask = NewRequest::new("orders.report");
    let request = agent.submit(&ask, &key(), None).await?;
    drop(agent.collect(&request.id, &key()).await?);
    Ok(request.id)
}

/// How many entries the ledger has.
async fn size(operator: &Client) -> anyhow::Result<u64> {
    let checkpoint = operator.checkpoint().await?;
    let size = checkpoint.lines().nth(1).context("a checkpoint's size")?;
    Ok(size.parse()?)
}

/// Seconds for the end of one lease after the other, for each of them.
async fn one_by_one(house: &House, name: &str) -> anyhow::Result<f64> {
    let agents = house.agents(name, SINGLE_AGENTS).await?;
    let mut living = Vec::new();
    for agent in agents.iter().cycle().take(SINGLE) {
        living.push((agent, live(agent).await?));
    }
    let started = Instant::now();
    for (agent, request) in living {
        let wait = Some(Duration::from_secs(30));
        let report = json!({ "outcome": "succeeded" });
        let ended = agent.finish(&request, &report, wait).await?;
        ensure!(ended.state == State::Closed, "not ended: {:?}", ended.state);
    }
    #[expect(clippy::cast_precision_loss, reason = "a duration is a rounded thing")]
    let each = started.elapsed().as_secs_f64() / SINGLE as f64;
    Ok(each)
}

/// Seconds from the commands that disable the agents, sent together, to the entry of their last lease's end.
async fn together(house: &House) -> anyhow::Result<f64> {
    let operator = &house.operator;
    let before = size(operator).await?;
    let last = before + u64::try_from(FLEET_AGENTS)? + ENTRIES * u64::try_from(FLEET)?;
    let started = Instant::now();
    let names: Vec<_> = (0..FLEET_AGENTS)
        .map(|agent| format!("fleet-{agent}"))
        .collect();
    try_join_all(names.iter().map(|name| operator.disable_agent(name))).await?;
    while size(operator).await? < last {
        ensure!(
            started.elapsed() < Duration::from_secs(120),
            "not all ended"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = started.elapsed().as_secs_f64();
    let mut ended = 0;
    let mut next = Some(before);
    while let Some(from) = next {
        let (entries, after) = operator.ledger_entries(from, 200).await?;
        let of = |entry: &&LedgerEntryView| entry.entry.contains("\"lease.ended\"");
        ended += entries.iter().filter(of).count();
        next = after;
    }
    ensure!(ended == FLEET, "{ended} ends in the ledger");
    Ok(took)
}

/// Measures and prints.
pub async fn measure(version: &str, house: &House) -> anyhow::Result<()> {
    let fleet = house.agents("fleet", FLEET_AGENTS).await?;
    try_join_all(fleet.iter().map(async |agent| {
        for _ in 0..FLEET / FLEET_AGENTS {
            live(agent).await?;
            // An agent may make 100 calls at once and 10 a second, and a lease takes two.
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::Ok(())
    }))
    .await?;
    let before = one_by_one(house, "before").await?;
    let all = together(house).await?;
    let after = one_by_one(house, "after").await?;
    #[expect(clippy::cast_precision_loss, reason = "a duration is a rounded thing")]
    let fleet = FLEET as f64;
    let single = before.midpoint(after) * fleet;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    table(&format!("Mass end, PostgreSQL {version}, load {load}"));
    row(
        &format!("the end of {FLEET} leases"),
        &format!("together {all:.2} s"),
        &format!(
            "one by one {single:.2} s ({:.1} ms each before, {:.1} ms after)",
            before * 1000.0,
            after * 1000.0
        ),
        &format!("{:.1} x (bar: at least 10 x)", single / all),
    );
    Ok(())
}
