//! What is measured over HTTP: the real broker, optimised, as a process of its own with its ledger on disk, and a PostgreSQL
//! server with leases to be had by any agent.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use countersign::config::{Config, PostgresTarget, TargetConfig};
use countersign::system::{Entropy as _, SystemEntropy};
use countersign_client::{Client, IdempotencyKey, NewAgent};
use secrecy::SecretString;
use serde_json::json;
use url::Url;

const PROGRAM: &str = env!("CARGO_BIN_EXE_countersign");
const CATALOG: &str = r#"
[actions."orders.report"]
title = "Read orders"
description = "Reads the table of orders."
target = "shop"
ttl = { default = "30m", longest = "30m" }
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
pub struct Server {
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
pub struct House {
    broker: Child,
    base: String,
    pub operator: Client,
    pub target: PostgresTarget,
    /// The broker's password there.
    pub password: String,
    pub dir: tempfile::TempDir,
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
    /// Prepares the server and starts a broker with `connections` to it.
    pub async fn open(server: &Server, connections: usize) -> anyhow::Result<Self> {
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

    /// Agents called `name` and a number, with an API key each.
    pub async fn agents(&self, name: &str, count: usize) -> anyhow::Result<Vec<Client>> {
        let mut agents = Vec::new();
        for number in 0..count {
            let agent = NewAgent {
                name: format!("{name}-{number}"),
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

/// An idempotency key nobody else uses.
pub fn key() -> IdempotencyKey {
    let mut bytes = [0; 16];
    SystemEntropy.fill(&mut bytes);
    IdempotencyKey::from_random(bytes)
}

/// The newest server of the environment, with a new database; and its version.
pub fn server() -> anyhow::Result<(String, Server)> {
    let servers = std::env::var("COUNTERSIGN_TEST_POSTGRES")
        .context("COUNTERSIGN_TEST_POSTGRES names no server: use the script")?;
    let newest = servers.split(';').rfind(|server| !server.is_empty());
    let (version, url) = newest
        .and_then(|server| server.split_once('='))
        .ok_or_else(|| anyhow!("COUNTERSIGN_TEST_POSTGRES is VERSION=URL;…"))?;
    let server = Server {
        url: url.parse()?,
        database: "pairs".into(),
    };
    server.psql("postgres", "DROP DATABASE IF EXISTS pairs")?;
    server.psql("postgres", "CREATE DATABASE pairs")?;
    server.psql(
        "pairs",
        "CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id",
    )?;
    Ok((version.into(), server))
}
