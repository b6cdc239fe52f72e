//! Mint and end per second with 0, 1,000 and 10,000 live leases, at 1, 8 and 32 clients, against pgbench sending the same
//! messages to the same server; and the end of a thousand leases, in batches and one by one.
//!
//! `COUNTERSIGN_TEST_POSTGRES="16=URL" cargo bench --bench postgres_issuer`; the newest server of the list is measured.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement reads the clock and the environment, prints, and fails by panicking"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::config::{DatabaseTls, PostgresTarget};
use countersign::domain::{LeaseId, RequestId, ServerId, lease};
use countersign::issuers::postgres::{PostgresIssuer, preparation_parts};
use countersign::issuers::{Deployment, Ending, Issuer, MintOrder, Proof};
use countersign::system::{Clock, Entropy, SystemClock, SystemEntropy};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use url::Url;

#[path = "common/pgbench.rs"]
mod pgbench;
#[path = "common/table.rs"]
mod table;

const ROUND: Duration = Duration::from_secs(4);
const ROUNDS: usize = 2;
const LIVE: [usize; 3] = [0, 1_000, 10_000];
const TOGETHER: usize = 1_000;
/// The default.
const MINTERS: u32 = 128;
const PASSWORD: &str = "benchmark";

fn order(server: &ServerId) -> MintOrder {
    let now = SystemClock::start().now();
    MintOrder {
        lease: LeaseId::draw(now, SystemEntropy.draw()),
        request: RequestId::draw(now, SystemEntropy.draw()),
        agent: "benchmark".into(),
        sponsor: "benchmark".into(),
        scope: json!({"roles": ["bench_group"]}),
        server: server.clone(),
        ordered: now,
        ttl: Duration::from_secs(600),
        mint_within: Duration::from_secs(600),
    }
}

fn target(url: &Url, connections: u32) -> PostgresTarget {
    PostgresTarget {
        host: url.host_str().unwrap().into(),
        port: url.port().unwrap(),
        database: "postgres".into(),
        user: "bench_broker".into(),
        password_file: "unused".into(),
        procedures: "bench".into(),
        minters: MINTERS,
        tls: DatabaseTls::Disable,
        max_connections: connections,
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
        Deployment::of("benchmark"),
    )
    .unwrap()
}

async fn run(admin: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(admin)
        .await
        .unwrap();
}

fn ending<'a>(handle: &'a str, scope: &'a Value, server: &'a ServerId) -> Ending<'a> {
    Ending {
        scope,
        server: Some(server),
        ..Ending::unexplained(handle)
    }
}

/// Mints and ends by `clients` at a time, at least once each, until `round` is over; how often.
async fn mint_and_end(issuer: &Arc<PostgresIssuer>, clients: u32, round: Duration) -> u32 {
    let server = issuer.identify().await.unwrap();
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let (issuer, server) = (issuer.clone(), server.clone());
        tasks.spawn(async move {
            let mut done = 0_u32;
            while done == 0 || started.elapsed() < round {
                let order = order(&server);
                issuer.mint(&order).await.unwrap();
                let handle = lease::handle_of(&order.lease);
                let ending = ending(&handle, &order.scope, &server);
                issuer.end_and_prove(&ending).await.unwrap();
                done += 1;
            }
            done
        });
    }
    tasks.join_all().await.iter().sum()
}

/// Mints `count` leases by 8 at a time; gives their handles.
async fn mint_many(issuer: &Arc<PostgresIssuer>, count: usize) -> Vec<String> {
    let server = issuer.identify().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for part in 0..8 {
        let (issuer, server) = (issuer.clone(), server.clone());
        tasks.spawn(async move {
            let mut handles = Vec::new();
            for _ in (part..count).step_by(8) {
                let order = order(&server);
                issuer.mint(&order).await.unwrap();
                handles.push(lease::handle_of(&order.lease));
            }
            handles
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// Ends all of `handles` in batches of `batch`, one batch after the other; how many a second.
async fn end_many(issuer: &PostgresIssuer, handles: &[String], batch: usize) -> f64 {
    let server = issuer.identify().await.unwrap();
    let started = Instant::now();
    for batch in handles.chunks(batch) {
        let endings: Vec<_> = batch
            .iter()
            .map(|handle| ending(handle, &Value::Null, &server))
            .collect();
        for result in issuer.end_all(&endings).await {
            assert!(matches!(result, Ok(Proof::Gone { .. })), "{result:?}");
        }
    }
    f64::from(u32::try_from(handles.len()).unwrap()) / started.elapsed().as_secs_f64()
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

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("a measurement, not a test: run it with cargo bench --bench postgres_issuer");
        return;
    }
    let servers = std::env::var("COUNTERSIGN_TEST_POSTGRES")
        .expect("COUNTERSIGN_TEST_POSTGRES names the server");
    let newest = servers.split(';').rfind(|part| !part.is_empty());
    let (version, url) = newest.unwrap().split_once('=').unwrap();
    let url: Url = url.parse().unwrap();
    let mut admin = PgConnection::connect(url.as_str()).await.unwrap();
    let scopes = [json!({"roles": ["bench_group"]})];
    for part in preparation_parts(&target(&url, 33), &scopes).unwrap() {
        run(&mut admin, part.sql).await;
    }
    run(
        &mut admin,
        format!("ALTER ROLE bench_broker PASSWORD '{PASSWORD}'"),
    )
    .await;
    table::table(&format!(
        "Mint and end, PostgreSQL {version}, best of {ROUNDS} rounds of {} s",
        ROUND.as_secs()
    ));
    let keeper = Arc::new(issuer(&target(&url, 17)));
    let mut living = Vec::new();
    let mut without = Vec::new();
    for live in LIVE {
        living.extend(mint_many(&keeper, live - living.len()).await);
        run(&mut admin, "VACUUM ANALYZE".into()).await;
        for (number, clients) in [1, 8, 32].into_iter().enumerate() {
            let ours = measure(&target(&url, 2 * clients + 1), clients, live).await;
            match without.get(number) {
                None => without.push(ours),
                Some(before) => table::row(
                    &format!("{clients} clients, {live} live"),
                    &format!("{ours:.0}/s"),
                    &format!("none live {before:.0}/s"),
                    &format!("{:.2} x the time (bar: at most 1.3 x)", before / ours),
                ),
            }
        }
    }
    let (some, rest) = living.split_at(TOGETHER);
    let single = end_many(&keeper, some, 1).await;
    let batched = end_many(&keeper, rest, keeper.batch()).await;
    table::row(
        &format!("ends in batches of {}", keeper.batch()),
        &format!("{batched:.0}/s"),
        &format!("one after the other {single:.0}/s"),
        &format!("{:.1} x", batched / single),
    );
    drop(keeper);
    clean(&mut admin).await;
}

/// Prints one line, and says how many a second.
async fn measure(target: &PostgresTarget, clients: u32, live: usize) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mint_and_end.sql");
    let issuer = Arc::new(issuer(target));
    let server = issuer.identify().await.unwrap();
    let script = pgbench::script(&issuer, &order(&server)).unwrap();
    std::fs::write(&file, script).unwrap();
    warm_up(&issuer, clients).await;
    let (mut ours_best, mut theirs_best) = (0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        ours_best = ours_best.max(ours(&issuer, clients).await);
        let theirs = pgbench::run(target, PASSWORD, &file, clients, ROUND).unwrap();
        theirs_best = theirs_best.max(theirs);
    }
    let ratio = ours_best / theirs_best;
    table::row(
        &format!("{clients} clients, {live} live"),
        &format!("{ours_best:.0}/s"),
        &format!("pgbench {theirs_best:.0}/s"),
        &format!("{ratio:.2} x (bar: at least 0.8 x)"),
    );
    ours_best
}

/// Removes what the measurement made.
async fn clean(admin: &mut PgConnection) {
    run(
        admin,
        "DROP SCHEMA bench CASCADE;
         GRANT CONNECT, TEMPORARY ON DATABASE postgres TO PUBLIC;
         DO $$ DECLARE one text; BEGIN
            FOR one IN SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'bench_') LOOP
                EXECUTE format('DROP OWNED BY %I', one);
                EXECUTE format('DROP ROLE %I', one);
            END LOOP;
         END $$"
            .into(),
    )
    .await;
}
