//! A machine of its own for one test: a PostgreSQL server with the shop in it, and a copy of the example's files.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _};
use tempfile::TempDir;
use url::Url;

use super::until;
use crate::support::own_postgres::OwnPostgres;
use crate::support::{CERTIFICATE_FOR_LOCALHOST, postgres_servers};

/// The broker's password at the target.
pub const BROKER_PASSWORD: &str = "canary-the-brokers-own-password";

static NUMBER: AtomicU16 = AtomicU16::new(0);

/// The machine. Everything on it ends with this value.
pub struct Place {
    /// `countersign.toml`, catalog, policies and state.
    pub dir: PathBuf,
    /// Superuser URL of the database `postgres`.
    pub superuser: Url,
    /// Where the broker of `countersign.toml` listens. The port after it is free, too.
    pub port: u16,
    server: PathBuf,
    _home: TempDir,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = postgres_script(&["stop", self.server.to_str().unwrap()]);
        let _ = fs::remove_dir_all(&self.server);
    }
}

impl Place {
    /// Starts a server of the newest version, prepares the shop and writes the configuration.
    pub async fn open() -> Self {
        let newest = postgres_servers().pop().unwrap();
        Self::open_on(newest.version).await
    }

    /// The same with a server of this major version.
    pub async fn open_on(version: u32) -> Self {
        let number = next_number();
        let home = tempfile::tempdir().unwrap();
        let server = runs_directory().join(format!("postgres-e2e-{}-{number}", std::process::id()));
        let started = start_server(&server, version).await;
        let place = Self {
            dir: home.path().join("shop"),
            superuser: started,
            port: free_ports(number),
            server,
            _home: home,
        };
        copy(&example(""), &place.dir);
        place.run_sql("postgres", "CREATE DATABASE shop").await;
        place.prepare_shop().await;
        private_file(&place.dir.join("broker-password"), BROKER_PASSWORD);
        let target = place.superuser.port().unwrap();
        place.edit("countersign.toml", |text| {
            text.replace("port = 5432", &format!("port = {target}"))
                .replace("7480", &place.port.to_string())
        });
        place
    }

    /// What the DBA does, step by step as `database.sql` says; again, if need be.
    pub async fn prepare_shop(&self) {
        let prepare = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["target", "init-sql", "shop"])
            .arg(&self.dir)
            .output()
            .unwrap();
        assert!(prepare.status.success(), "{prepare:?}");
        let file = self.dir.join("prepare.sql");
        fs::write(&file, prepare.stdout).unwrap();
        for file in [file, example("database.sql")] {
            let url = self.url_of("shop");
            let psql = Command::new("psql")
                .args(["-d", url.as_str(), "-v", "ON_ERROR_STOP=1", "-q", "-f"])
                .arg(file)
                .output()
                .expect("psql is not installed: install Debian's package postgresql-client");
            assert!(psql.status.success(), "{psql:?}");
        }
        // As psql's `\password` does, nothing of it goes into the server's log.
        let mut session = self.superuser("shop").await;
        let quiet = "SET log_statement = 'none'";
        try_sql(&mut session, quiet).await.unwrap();
        let password = format!("ALTER ROLE countersign_broker PASSWORD '{BROKER_PASSWORD}'");
        try_sql(&mut session, &password).await.unwrap();
    }

    /// Gives the server a certificate for `localhost`, and the target's entry in `countersign.toml` that name; the certificate.
    pub async fn turn_on_tls(&self) -> String {
        for sql in [
            &format!("COPY (SELECT 1) TO PROGRAM '{CERTIFICATE_FOR_LOCALHOST}'"),
            "ALTER SYSTEM SET ssl = on",
            "SELECT pg_reload_conf()",
        ] {
            self.run_sql("postgres", sql).await;
        }
        until("the server has TLS", async || {
            let mut fresh = self.superuser("postgres").await;
            let on = column(&mut fresh, "SHOW ssl").await.unwrap() == ["on"];
            on.then_some(())
        })
        .await;
        let mut session = self.superuser("postgres").await;
        let pem = column(&mut session, "SELECT pg_read_file('server.crt')");
        let pem = pem.await.unwrap().remove(0);
        fs::write(self.dir.join("ca.pem"), &pem).unwrap();
        self.edit("countersign.toml", |text| {
            let verified = "tls = { mode = \"verify_full_with\", root_file = \"ca.pem\" }";
            text.replace("tls = { mode = \"disable\" }", verified)
                .replace("host = \"127.0.0.1\"", "host = \"localhost\"")
        });
        pem
    }

    /// A copy of the server that follows it; the server is stopped for a moment.
    pub fn standby(&self, version: u32) -> OwnPostgres {
        OwnPostgres::follow(&self.server, version)
    }

    /// Stops the server for good.
    pub fn stop_server(&self) {
        let stopped = postgres_script(&["stop", self.server.to_str().unwrap()]);
        assert!(stopped.status.success(), "{stopped:?}");
    }

    /// Has the broker reach its target through `port` from its next start on.
    pub fn point_at(&self, port: u16) {
        self.edit("countersign.toml", |text| {
            let change = |line: &str| match line.starts_with("port = ") {
                true => format!("port = {port}\n"),
                false => format!("{line}\n"),
            };
            text.lines().map(change).collect()
        });
    }

    /// Where the broker is reached.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes a file of the directory.
    pub fn edit(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.dir.join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, change(text)).unwrap();
    }

    /// The operator's token, once the broker has made it.
    pub fn operator(&self) -> String {
        fs::read_to_string(self.dir.join("state/operator.token")).unwrap()
    }

    fn url_of(&self, database: &str) -> Url {
        let mut url = self.superuser.clone();
        url.set_path(database);
        url
    }

    /// A superuser's session.
    pub async fn superuser(&self, database: &str) -> PgConnection {
        let url = self.url_of(database);
        PgConnection::connect(url.as_str()).await.unwrap()
    }

    /// Runs a statement as superuser.
    pub async fn run_sql(&self, database: &str, sql: &str) {
        let mut connection = self.superuser(database).await;
        try_sql(&mut connection, sql).await.unwrap();
    }

    /// Roles of credentials that exist now, and sessions of such roles.
    pub async fn credentials(&self) -> Vec<String> {
        let sql = "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'jit\\_%' \
                   UNION SELECT usename::text FROM pg_stat_activity WHERE usename LIKE 'jit\\_%'";
        let mut connection = self.superuser("shop").await;
        column(&mut connection, sql).await.unwrap()
    }

    /// Logs in with a delivered credential.
    pub async fn log_in(&self, credential: &Value) -> Result<PgConnection, sqlx::Error> {
        let text = |name: &str| credential[name].as_str().unwrap();
        let options = PgConnectOptions::new()
            .host(text("host"))
            .port(credential["port"].as_u64().unwrap().try_into().unwrap())
            .database(text("database"))
            .username(text("user"))
            .password(text("password"))
            .ssl_mode(PgSslMode::Disable);
        options.connect().await
    }

    /// What the PostgreSQL server has logged.
    pub fn server_log(&self) -> Vec<u8> {
        fs::read(self.server.join("run/server.log")).unwrap()
    }
}

/// Runs a statement.
pub async fn try_sql(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    query.execute(connection).await.map(drop)
}

/// The first column of the answer, as text.
pub async fn column(connection: &mut PgConnection, sql: &str) -> Result<Vec<String>, sqlx::Error> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .fetch_all(connection)
        .await?;
    Ok(rows
        .iter()
        .map(|row| row.try_get_unchecked(0).unwrap())
        .collect())
}

/// A file only its owner can read.
pub fn private_file(path: &Path, text: &str) {
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600);
    opened
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/shop")
        .join(file)
}

/// Copies a directory and all below it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Where `scripts/test` looks for servers a killed run left; the system's temporary directory without it.
fn runs_directory() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests learn of their servers this way"
    )]
    let run = std::env::var_os("COUNTERSIGN_TEST_RUN");
    run.map_or_else(std::env::temp_dir, PathBuf::from)
}

fn postgres_script(arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/support/postgres.sh");
    // The log holds every statement, so that it can be searched for secrets.
    let output = Command::new(script)
        .args(arguments)
        .env(
            "COUNTERSIGN_POSTGRES_CONF",
            "fsync = off\nlog_statement = 'all'\nlog_connections = on\nmax_prepared_transactions = 0",
        )
        .output();
    output.unwrap()
}

/// Starts a server with the programs of the one of this version.
async fn start_server(dir: &Path, version: u32) -> Url {
    let mut servers = postgres_servers().into_iter();
    let running = servers.find(|server| server.version == version);
    let running =
        running.unwrap_or_else(|| panic!("no PostgreSQL {version} to start another with"));
    let mut connection = PgConnection::connect(running.url.as_str()).await.unwrap();
    let data = column(&mut connection, "SHOW data_directory")
        .await
        .unwrap();
    let programs = fs::read_to_string(Path::new(&data[0]).join("../bindir")).expect(
        "the server of COUNTERSIGN_TEST_POSTGRES was not started by scripts/support/postgres.sh",
    );
    fs::create_dir_all(dir).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
    let started = postgres_script(&["start", dir.to_str().unwrap(), programs.trim()]);
    assert!(started.status.success(), "{started:?}");
    String::from_utf8(started.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// The number of a place, for ports and directories nobody else uses.
pub fn next_number() -> u16 {
    NUMBER.fetch_add(1, Ordering::SeqCst)
}

/// A port that is free and followed by a free one, below those the system gives to outgoing connections.
pub fn free_ports(number: u16) -> u16 {
    let first = u16::try_from(std::process::id() % 5000).unwrap() * 2;
    let free = |port: &u16| {
        let listens = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        listens(*port) && listens(*port + 1)
    };
    let candidates = (0..5000u16).map(|n| 20_000 + (first + number * 20 + n * 2) % 10_000);
    candidates.into_iter().find(free).expect("no free port")
}
