//! A shop's tables in MariaDB, prepared with the statements `countersign target init-sql` prints, and agents that use
//! them with the `mariadb` client.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign::config::{DatabaseTls, MariadbAuthentication, MariadbTarget};
use countersign::domain::{LeaseId, ServerId, lease};
use countersign::issuers::mariadb::{MariadbIssuer, preparation_sql};
use countersign::issuers::{
    Credential, Deployment, GuardContent, Issuer, MariadbCredential, MintError,
};
use countersign::system::{SystemClock, SystemEntropy};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use url::Url;

use super::conformance::{Bench, draw_lease, order_for};
use crate::support::mariadb_server;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A prepared server, with names nobody else uses.
pub struct MariadbShop {
    pub target: MariadbTarget,
    pub password: String,
    pub issuer: MariadbIssuer,
    /// The server, as the issuer tells it.
    pub identity: ServerId,
    /// The database of the shop's tables.
    pub shop: String,
    /// The server's administrator.
    pub url: Url,
}

pub fn issuer_for(
    target: &MariadbTarget,
    password: &str,
    root_pem: Option<String>,
) -> Result<MariadbIssuer, String> {
    issuer_of("ours", target, password, root_pem)
}

/// An issuer of the Countersign whose ledger has this key.
pub fn issuer_of(
    key: &str,
    target: &MariadbTarget,
    password: &str,
    root_pem: Option<String>,
) -> Result<MariadbIssuer, String> {
    MariadbIssuer::new(
        &"shop".parse().unwrap(),
        target,
        SecretString::from(password),
        root_pem,
        Arc::new(SystemEntropy),
        Arc::new(SystemClock::start()),
        Deployment::of(key),
    )
}

/// The `mariadb` client as `user`, with nothing from any option file.
pub fn client(host: &str, port: u16, user: &str, password: &str) -> Command {
    let mut client = Command::new("mariadb");
    client
        .arg("--no-defaults")
        .args(["--protocol=tcp", "--batch", "--skip-column-names"])
        .args(["--unbuffered", "--skip-reconnect"])
        .arg(format!("--host={host}"))
        .arg(format!("--port={port}"))
        .arg(format!("--user={user}"))
        .env("MYSQL_PWD", password)
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    client
}

/// Runs statements in one client; gives its output, or the server's words.
pub async fn feed(mut client: Command, sql: &str) -> Result<Vec<String>, String> {
    let mut child = client.spawn().expect("the mariadb client starts");
    let mut stdin = child.stdin.take().unwrap();
    // A client that is refused goes away before it has read everything.
    let _ = stdin.write_all(sql.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().map(String::from).collect())
}

/// Runs statements as the administrator of the server all tests share.
pub async fn admin(sql: &str) -> Vec<String> {
    admin_at(&mariadb_server(), sql).await
}

/// Runs statements as a server's administrator.
pub async fn admin_at(url: &Url, sql: &str) -> Vec<String> {
    let client = client(
        url.host_str().unwrap(),
        url.port().unwrap(),
        url.username(),
        url.password().unwrap(),
    );
    feed(client, sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn scope_of(shop: &str) -> Value {
    json!({"grants": [
        {"privileges": ["select"], "table": format!("{shop}.orders"), "columns": ["id", "status"]},
        {"privileges": ["select", "insert", "delete"], "table": format!("{shop}.notes")},
    ]})
}

impl MariadbShop {
    pub async fn open() -> Self {
        Self::open_at(mariadb_server()).await
    }

    /// At the server of this administrator.
    pub async fn open_at(url: Url) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let id = format!("{}_{number}", std::process::id());
        let shop = format!("shop_{id}");
        let target = MariadbTarget {
            host: url.host_str().unwrap().into(),
            port: url.port().unwrap(),
            database: shop.clone(),
            procedures: format!("countersign_{id}"),
            user: format!("broker_{id}"),
            password_file: "unused".into(),
            tls: DatabaseTls::Disable,
            extra_port: None,
            authentication: MariadbAuthentication::Native,
            max_connections: 4,
            longest_ttl_seconds: 3600,
        };
        admin_at(
            &url,
            &format!(
                "CREATE DATABASE {shop};
             CREATE TABLE {shop}.orders (id INT PRIMARY KEY, status VARCHAR(20), card VARCHAR(20));
             INSERT INTO {shop}.orders VALUES (1, 'open', '4111'), (2, 'open', '4222');
             CREATE TABLE {shop}.notes (id INT PRIMARY KEY, text VARCHAR(80));
             CREATE TABLE {shop}.salaries (id INT PRIMARY KEY, amount INT);"
            ),
        )
        .await;
        let password = "dba-chose-this-one";
        let prepared = preparation_sql(&target, &[scope_of(&shop)]).unwrap();
        admin_at(&url, &prepared).await;
        let user = &target.user;
        admin_at(
            &url,
            &format!("SET PASSWORD FOR '{user}'@'%' = PASSWORD('{password}')"),
        )
        .await;
        let issuer = issuer_for(&target, password, None).unwrap();
        Self {
            target,
            password: password.into(),
            identity: issuer.identify().await.unwrap(),
            issuer,
            shop,
            url,
        }
    }

    /// Runs statements as the administrator of this shop's server.
    pub async fn admin(&self, sql: &str) -> Vec<String> {
        admin_at(&self.url, sql).await
    }

    /// Runs the preparation for a catalog of these scopes.
    pub async fn prepare(&self, scopes: &[Value]) {
        self.admin(&preparation_sql(&self.target, scopes).unwrap())
            .await;
    }

    /// Reads two columns of the orders, writes notes.
    pub fn scope(&self) -> Value {
        scope_of(&self.shop)
    }

    pub async fn mint(&self) -> MariadbCredential {
        self.try_mint(&draw_lease(), &self.scope()).await.unwrap()
    }

    pub async fn try_mint(
        &self,
        lease: &LeaseId,
        scope: &Value,
    ) -> Result<MariadbCredential, MintError> {
        match self
            .issuer
            .mint(&order_for(lease, scope, &self.identity))
            .await?
        {
            Credential::Mariadb(credential) => {
                assert_eq!(credential.user, lease::handle_of(lease));
                Ok(credential)
            }
            other => panic!("not a MariaDB credential: {other:?}"),
        }
    }

    /// A client of this shop's administrator.
    pub fn admin_client(&self) -> Command {
        let (url, target) = (&self.url, &self.target);
        let password = url.password().unwrap();
        client(&target.host, target.port, url.username(), password)
    }

    /// Runs statements with the broker's own account.
    pub async fn as_broker(&self, sql: &str) -> Result<Vec<String>, String> {
        let target = &self.target;
        let client = client(&target.host, target.port, &target.user, &self.password);
        feed(client, sql).await
    }

    /// Runs statements with a credential.
    pub async fn as_agent(
        &self,
        credential: &MariadbCredential,
        sql: &str,
    ) -> Result<Vec<String>, String> {
        feed(agent_client(credential), sql).await
    }

    pub async fn close(self) {
        let Self { target, shop, .. } = &self;
        let (procedures, user) = (&target.procedures, &target.user);
        self.admin(&format!(
            "DROP DATABASE {shop}; DROP DATABASE IF EXISTS {procedures};
             DROP USER '{user}'@'%', '{procedures}_definer'@'localhost';"
        ))
        .await;
    }
}

/// The `mariadb` client with a credential.
pub fn agent_client(credential: &MariadbCredential) -> Command {
    client(
        &credential.host,
        credential.port,
        &credential.user,
        credential.password.expose_secret(),
    )
}

/// A client that stays connected.
pub struct Session {
    /// Killed when dropped.
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Session {
    pub async fn open(credential: &MariadbCredential) -> Result<Self, String> {
        Self::of(agent_client(credential)).await
    }

    pub async fn of(mut client: Command) -> Result<Self, String> {
        let mut child = client.spawn().unwrap();
        let mut session = Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            _child: child,
        };
        if session.ask("SELECT 1").await.is_some() {
            return Ok(session);
        }
        let mut words = String::new();
        let mut stderr = session._child.stderr.take().unwrap();
        let _ = stderr.read_to_string(&mut words).await;
        Err(words)
    }

    /// The one line a statement answers; none when the connection is gone.
    pub async fn ask(&mut self, sql: &str) -> Option<String> {
        self.stdin
            .write_all(format!("{sql};\n").as_bytes())
            .await
            .ok()?;
        let mut line = String::new();
        match self.stdout.read_line(&mut line).await {
            Ok(count) if count > 0 => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }
}

fn mariadb(credential: &Credential) -> &MariadbCredential {
    match credential {
        Credential::Mariadb(credential) => credential,
        other => panic!("not a MariaDB credential: {other:?}"),
    }
}

impl Bench for MariadbShop {
    const MINT_MESSAGE: &'static str = "lease_create_";

    type Session = Session;

    async fn open_all() -> Vec<Self> {
        vec![MariadbShop::open().await]
    }

    async fn close(self) {
        MariadbShop::close(self).await;
    }

    fn issuer(&self, port: Option<u16>) -> Box<dyn Issuer> {
        let mut target = self.target.clone();
        target.port = port.unwrap_or(target.port);
        Box::new(issuer_for(&target, &self.password, None).unwrap())
    }

    fn port(&self) -> u16 {
        self.target.port
    }

    fn scope(&self) -> Value {
        MariadbShop::scope(self)
    }

    async fn begin(&self, credential: &Credential) -> Result<Session, String> {
        let mut session = Session::open(mariadb(credential)).await?;
        let shop = &self.shop;
        let status = format!("SELECT status FROM {shop}.orders WHERE id = 1");
        assert_eq!(session.ask(&status).await.as_deref(), Some("open"));
        let note = format!(
            "BEGIN; DELETE FROM {shop}.notes WHERE id = 1; INSERT INTO {shop}.notes VALUES (1, 'mine'); SELECT text FROM {shop}.notes WHERE id = 1; COMMIT"
        );
        assert_eq!(session.ask(&note).await.as_deref(), Some("mine"));
        Ok(session)
    }

    async fn works(&self, session: &mut Session) -> bool {
        session.ask("SELECT 'works'").await.as_deref() == Some("works")
    }

    async fn try_beyond(&self, credential: &Credential) -> Vec<String> {
        let (shop, procedures) = (&self.shop, &self.target.procedures);
        let (broker, agent) = (&self.target.user, &mariadb(credential).user);
        let mut let_through = Vec::new();
        for refused in [
            format!("SELECT card FROM {shop}.orders"),
            format!("SELECT * FROM {shop}.orders"),
            format!("UPDATE {shop}.orders SET status = 'x'"),
            format!("UPDATE {shop}.notes SET text = 'x'"),
            format!("SELECT * FROM {shop}.salaries"),
            format!("CREATE TABLE {shop}.mine (id INT)"),
            format!("CREATE VIEW {shop}.mine AS SELECT id FROM {shop}.orders"),
            format!("DROP TABLE {shop}.notes"),
            format!("LOCK TABLES {shop}.notes WRITE"),
            format!("GRANT SELECT (id) ON {shop}.orders TO '{broker}'@'%'"),
            format!("CALL {procedures}.lease_look('', '', '{agent}')"),
            format!("CALL {procedures}.lease_end('', '', '{agent}')"),
            format!("CALL {procedures}.lease_kill_all_of('{broker}')"),
            format!("SELECT * FROM {procedures}.leases"),
            format!("CALL {procedures}.lease_list()"),
            format!("ALTER USER '{agent}'@'%' WITH MAX_USER_CONNECTIONS 100"),
            "CREATE USER mine".into(),
            "SELECT User FROM mysql.global_priv".into(),
            "SELECT LOAD_FILE('/etc/passwd') IS NOT NULL OR SLEEP('not a file')".into(),
            "SET GLOBAL general_log = 1".into(),
        ] {
            let done = self.as_agent(mariadb(credential), &refused).await;
            let nothing = done.as_ref().is_ok_and(|lines| lines == &["0"]);
            if done.is_ok() && !nothing {
                let_through.push(refused);
            }
        }
        let_through
    }

    async fn leftovers(&self, handle: &str) -> Vec<String> {
        admin(&format!(
            "SELECT 'account' FROM mysql.global_priv WHERE User = '{handle}'
             UNION ALL SELECT 'columns' FROM mysql.columns_priv WHERE User = '{handle}'
             UNION ALL SELECT 'tables' FROM mysql.tables_priv WHERE User = '{handle}'
             UNION ALL SELECT 'session' FROM information_schema.processlist WHERE user = '{handle}'"
        ))
        .await
    }

    async fn end_halfway(&self, handle: &str, _: &GuardContent, steps: usize) -> bool {
        let all = [
            format!("ALTER USER '{handle}'@'%' ACCOUNT LOCK"),
            format!("KILL USER '{handle}'"),
            format!("DROP USER '{handle}'@'%'"),
        ];
        for step in all.iter().take(steps) {
            admin(step).await;
        }
        steps < all.len()
    }
}
