//! Mint and end per second at 1, 8 and 32 clients, against pgbench sending the same messages to the same server.
//!
//! `COUNTERSIGN_TEST_POSTGRES="16=URL" cargo bench --bench postgres_issuer`; the newest server of the list is measured.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement reads the clock and the environment, prints, and fails by panicking"
)]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::config::{DatabaseTls, PostgresTarget};
use countersign::domain::{LeaseId, RequestId, Seconds, lease};
use countersign::issuers::postgres::{PostgresIssuer, preparation_sql};
use countersign::issuers::{Issuer, MintOrder};
use countersign::system::{Clock, Entropy, SystemClock, SystemEntropy};
use secrecy::SecretString;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use url::Url;

const ROUND: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
const PASSWORD: &str = "benchmark";

fn order() -> MintOrder {
    let now = SystemClock::start().now();
    MintOrder {
        lease: LeaseId::draw(now, SystemEntropy.draw()),
        request: RequestId::draw(now, SystemEntropy.draw()),
        agent: "benchmark".into(),
        sponsor: "benchmark".into(),
        scope: json!({"roles": ["bench_group"]}),
        expires: now.plus(Seconds(600)),
        mint_until: now.plus(Seconds(600)),
        now,
    }
}

fn target(url: &Url, connections: u32) -> PostgresTarget {
    PostgresTarget {
        host: url.host_str().unwrap().into(),
        port: url.port().unwrap(),
        database: "postgres".into(),
        user: "bench_broker".into(),
        password_file: "unused".into(),
        quarantine_role: "bench_orphans".into(),
        tls: DatabaseTls::Disable,
        max_connections: connections,
        accept_pg15_createrole: false,
        longest_ttl_seconds: 3600,
    }
}

fn issuer(target: &PostgresTarget) -> PostgresIssuer {
    let (entropy, clock) = (Arc::new(SystemEntropy), Arc::new(SystemClock::start()));
    let password = SecretString::from(PASSWORD);
    PostgresIssuer::new(
        &"bench".parse().unwrap(),
        target,
        password,
        None,
        entropy,
        clock,
    )
    .unwrap()
}

async fn run(admin: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(admin)
        .await
        .unwrap();
}

/// Mints and ends by `clients` at a time, at least once each, until `round` is over; how often.
async fn mint_and_end(issuer: &Arc<PostgresIssuer>, clients: u32, round: Duration) -> u32 {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let issuer = issuer.clone();
        tasks.spawn(async move {
            let mut done = 0_u32;
            while done == 0 || started.elapsed() < round {
                let order = order();
                issuer.mint(&order).await.unwrap();
                issuer
                    .end(&ending(&lease::handle_of(&order.lease), &order.scope))
                    .await
                    .unwrap();
                done += 1;
            }
            done
        });
    }
    tasks.join_all().await.iter().sum()
}

/// Opens the connections a few at a time, as a broker does that grows busy.
async fn warm_up(issuer: &Arc<PostgresIssuer>, clients: u32) {
    for some in 1..=clients {
        mint_and_end(issuer, some, Duration::ZERO).await;
    }
}

async fn ours(issuer: &Arc<PostgresIssuer>, clients: u32) -> f64 {
    let started = Instant::now();
    let done = mint_and_end(issuer, clients, ROUND).await;
    f64::from(done) / started.elapsed().as_secs_f64()
}

/// The same messages with a role name of their own each time.
fn script(issuer: &PostgresIssuer) -> String {
    let order = order();
    let handle = lease::handle_of(&order.lease);
    let [mint, end] = issuer.transcript(&order).unwrap();
    let (before, lock) = mint.split_once("pg_advisory_xact_lock(").unwrap();
    let (_, after) = lock.split_once(')').unwrap();
    let mint = format!("{before}pg_advisory_xact_lock(:id){after}");
    let message = |text: String| text.replace(&handle, "jit_bench:id").replace("; ", " \\; ");
    format!(
        "\\set id random(1, 9000000000000000000)\n{};\n{};\n",
        message(mint),
        message(end)
    )
}

fn pgbench(target: &PostgresTarget, script: &str, clients: u32) -> f64 {
    let output = Command::new("pgbench")
        .args([
            "--no-vacuum",
            "--protocol=simple",
            "--jobs=2",
            "--host",
            &target.host,
        ])
        .args([
            "--port",
            &target.port.to_string(),
            "--username",
            &target.user,
        ])
        .args([
            "--client",
            &clients.to_string(),
            "--time",
            &ROUND.as_secs().to_string(),
        ])
        .args(["--file", script, &target.database])
        .env("PGPASSWORD", PASSWORD)
        .env(
            "PGOPTIONS",
            "-c search_path=pg_catalog,pg_temp -c client_min_messages=error",
        )
        .output()
        .expect("pgbench is in Debian's package postgresql-contrib");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let tps = text
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.unwrap_or_else(|| panic!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("a measurement, not a test: run it with cargo bench --bench postgres_issuer");
        return;
    }
    let servers = std::env::var("COUNTERSIGN_TEST_POSTGRES")
        .expect("COUNTERSIGN_TEST_POSTGRES names the server");
    let (version, url) = servers.rsplit(';').next().unwrap().split_once('=').unwrap();
    let url: Url = url.parse().unwrap();
    let mut admin = PgConnection::connect(url.as_str()).await.unwrap();
    run(
        &mut admin,
        preparation_sql(
            &target(&url, 32),
            &[serde_json::json!({"roles": ["bench_group"]})],
        )
        .unwrap(),
    )
    .await;
    run(
        &mut admin,
        format!("ALTER ROLE bench_broker PASSWORD '{PASSWORD}'"),
    )
    .await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mint_and_end.sql");
    println!(
        "PostgreSQL {version}: mint + end per second, best of {ROUNDS} rounds of {}s",
        ROUND.as_secs()
    );
    for clients in [1, 8, 32] {
        let target = target(&url, clients);
        let issuer = Arc::new(issuer(&target));
        std::fs::write(&file, script(&issuer)).unwrap();
        warm_up(&issuer, clients).await;
        let (mut ours_best, mut theirs_best) = (0.0_f64, 0.0_f64);
        for _ in 0..ROUNDS {
            ours_best = ours_best.max(ours(&issuer, clients).await);
            theirs_best = theirs_best.max(pgbench(&target, file.to_str().unwrap(), clients));
        }
        let ratio = ours_best / theirs_best;
        println!(
            "{clients:>3} clients: ours {ours_best:8.0}  pgbench {theirs_best:8.0}  ratio {ratio:.2}"
        );
    }
    run(
        &mut admin,
        "DROP OWNED BY bench_broker, bench_group, bench_orphans".into(),
    )
    .await;
    run(
        &mut admin,
        "DROP ROLE bench_broker, bench_group, bench_orphans".into(),
    )
    .await;
}
