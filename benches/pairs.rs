//! Whole pairs over HTTP: ask, collect a credential of PostgreSQL, finish, proven gone. The real broker, optimised, as a
//! process of its own with its ledger on disk; beside it what pgbench gets for the mint and the end alone.
//!
//! `scripts/pairs` starts a server and runs this; or `COUNTERSIGN_TEST_POSTGRES="18=URL" cargo bench --bench pairs`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement reads the clock and the environment, and prints"
)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use countersign::config::{Config, PostgresTarget, TargetConfig};
use countersign::domain::{LeaseId, RequestId};
use countersign::issuers::postgres::PostgresIssuer;
use countersign::issuers::{Deployment, Issuer as _, MintOrder};
use countersign::system::{Clock as _, Entropy, SystemClock, SystemEntropy};
use countersign_client::{Client, IdempotencyKey, NewAgent, NewRequest, State};
use secrecy::SecretString;
use serde_json::json;
use url::Url;

#[path = "common/pgbench.rs"]
mod pgbench;

/// How long each number of clients goes on.
const ROUND: Duration = Duration::from_secs(10);
/// One agent may make 600 calls a minute, so there are many.
const AGENTS: usize = 400;
const PROGRAM: &str = env!("CARGO_BIN_EXE_countersign");
const CATALOG: &str = r#"
[actions."orders.report"]
title = "Read orders"
description = "Reads the table of orders."
target = "shop"
ttl = { default = "5m", longest = "10m" }
scope = { roles = ["pairs_group"] }
review = { groups = { support-leads = 1 } }
"#;
const POLICIES: &str = r#"
@id("asks")
permit (principal, action == Action::"request:orders.report", resource);
@id("is-routine")
permit (principal, action == Action::"routine:orders.report", resource);
"#;

/// The server, and its superuser.
struct Server {
    url: Url,
    database: String,
}

impl Server {
    fn psql(&self, database: &str, sql: &str) -> anyhow::Result<()> {
        self.run_psql(database, &["-c", sql])
    }

    fn psql_file(&self, database: &str, file: &Path) -> anyhow::Result<()> {
        let file = file.to_str().context("a path in UTF-8")?;
        self.run_psql(database, &["-f", file])
    }

    fn run_psql(&self, database: &str, what: &[&str]) -> anyhow::Result<()> {
        let mut url = self.url.clone();
        url.set_path(database);
        let ran = Command::new("psql")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url.as_str()])
            .args(what)
            .stdout(Stdio::null())
            .output()
            .context("run psql: install Debian's package postgresql-client")?;
        ensure!(
            ran.status.success(),
            "psql: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
        Ok(())
    }
}

/// A broker and its files. Everything ends with this value.
struct House {
    broker: Child,
    base: String,
    operator: Client,
    /// The target, and the broker's password there.
    target: PostgresTarget,
    password: String,
    dir: tempfile::TempDir,
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

impl House {
    async fn open(server: &Server, connections: usize) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let base = format!("http://127.0.0.1:{port}");
        for (file, text) in [
            ("catalog/orders.toml", CATALOG),
            ("policies/all.cedar", POLICIES),
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().context("a folder")?)?;
            fs::write(path, text)?;
        }
        let password = format!("{:032x}", SystemEntropy.draw());
        private(&dir.path().join("password"), &password)?;
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\npublic_url = \"{base}\"\nstate_dir = \"state\"\n\
             [targets.shop]\nkind = \"postgres\"\nhost = \"{}\"\nport = {}\ndatabase = \"{}\"\nuser = \"pairs_broker\"\n\
             password_file = \"password\"\ntls = {{ mode = \"disable\" }}\nprocedures = \"pairs\"\nmax_connections = {connections}\n",
            server.url.host_str().context("the server's host")?,
            server.url.port().context("the server's port")?,
            server.database,
        );
        fs::write(dir.path().join("countersign.toml"), &config)?;
        let target = match Config::parse(&config)?.targets.into_values().next() {
            Some(TargetConfig::Postgres(target)) => target,
            _ => return Err(anyhow!("the configuration names no PostgreSQL target")),
        };
        prepare(server, dir.path(), &password)?;
        let broker = Command::new(PROGRAM)
            .args(["dev", "--log", "warn"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()?;
        let token = dir.path().join("state/operator.token");
        let operator = ready(&base, &token).await?;
        Ok(Self {
            broker,
            base,
            operator,
            target,
            password,
            dir,
        })
    }

    /// A script for pgbench that mints and ends as the broker does.
    async fn script(&self) -> anyhow::Result<PathBuf> {
        let issuer = PostgresIssuer::new(
            &"shop".parse()?,
            &self.target,
            SecretString::from(self.password.clone()),
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
        let file = self.dir.path().join("mint_and_end.sql");
        fs::write(&file, pgbench::script(&issuer, &order)?)?;
        Ok(file)
    }

    /// Agents with an API key each.
    async fn agents(&self) -> anyhow::Result<Vec<Client>> {
        let mut agents = Vec::new();
        for number in 0..AGENTS {
            let agent = NewAgent {
                name: format!("pairs-{number}"),
                owner: "group:pairs".into(),
                proof: json!({ "kind": "api_key" }),
            };
            let enrolled = self.operator.add_agent(&agent).await?;
            let key: SecretString = enrolled.api_key.context("a new agent's key")?;
            agents.push(Client::new(&self.base, key)?);
        }
        Ok(agents)
    }
}

/// What the DBA does, as `countersign target init-sql` says.
fn prepare(server: &Server, dir: &Path, password: &str) -> anyhow::Result<()> {
    let printed = Command::new(PROGRAM)
        .args(["target", "init-sql", "shop"])
        .arg(dir)
        .output()?;
    ensure!(
        printed.status.success(),
        "init-sql: {}",
        String::from_utf8_lossy(&printed.stderr)
    );
    fs::write(dir.join("prepare.sql"), printed.stdout)?;
    server.psql_file(&server.database, &dir.join("prepare.sql"))?;
    server.psql(
        &server.database,
        &format!(
            "ALTER ROLE pairs_broker PASSWORD '{password}'; GRANT SELECT ON orders TO pairs_group"
        ),
    )
}

/// Waits until the broker serves and its target can be minted at; gives the operator's client.
async fn ready(base: &str, token: &Path) -> anyhow::Result<Client> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Ok(token) = fs::read_to_string(token) {
            let client = Client::new(base, SecretString::from(token.trim_end().to_owned()))?;
            if let Ok(targets) = client.targets().await
                && targets.iter().all(|target| target.in_order)
            {
                return Ok(client);
            }
        }
        ensure!(Instant::now() < deadline, "the broker is not ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn key() -> IdempotencyKey {
    let mut bytes = [0; 16];
    SystemEntropy.fill(&mut bytes);
    IdempotencyKey::from_random(bytes)
}

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

/// Milliseconds below which `percent` of `times` are.
fn percentile(times: impl Iterator<Item = Duration>, percent: usize) -> f64 {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times
        .get(place)
        .map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

fn server() -> anyhow::Result<(String, Server)> {
    let servers = std::env::var("COUNTERSIGN_TEST_POSTGRES")
        .context("COUNTERSIGN_TEST_POSTGRES names no server: run scripts/pairs")?;
    let newest = servers.split(';').rfind(|server| !server.is_empty());
    let (version, url) = newest
        .and_then(|server| server.split_once('='))
        .ok_or_else(|| anyhow!("COUNTERSIGN_TEST_POSTGRES is VERSION=URL;…"))?;
    let server = Server {
        url: url.parse()?,
        database: "pairs".into(),
    };
    Ok((version.into(), server))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("a measurement, not a test: run it with scripts/pairs");
        return Ok(());
    }
    let (version, server) = server()?;
    server.psql("postgres", "DROP DATABASE IF EXISTS pairs")?;
    server.psql("postgres", "CREATE DATABASE pairs")?;
    server.psql(
        "pairs",
        "CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id",
    )?;
    println!("PostgreSQL {version}, {} s a row\n", ROUND.as_secs());
    println!(
        "| clients | pairs/s | issue p50 | issue p99 | pair p50 | pair p99 | pgbench, mint and end alone | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let house = House::open(&server, 40).await?;
    let agents = Arc::new(house.agents().await?);
    let script = house.script().await?;
    for clients in [1_u32, 8, 32] {
        let (took, time) = round(&agents, usize::try_from(clients)?).await?;
        let issued = || took.iter().map(|(issued, _)| *issued);
        let whole = || took.iter().map(|(_, whole)| *whole);
        #[expect(clippy::cast_precision_loss, reason = "a rate is a rounded thing")]
        let rate = took.len() as f64 / time.as_secs_f64();
        let theirs = pgbench::run(&house.target, &house.password, &script, clients, ROUND)?;
        println!(
            "| {clients} | {rate:.0} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms | {theirs:.0}/s | {:.2} |",
            percentile(issued(), 50),
            percentile(issued(), 99),
            percentile(whole(), 50),
            percentile(whole(), 99),
            rate / theirs,
        );
    }
    Ok(())
}
