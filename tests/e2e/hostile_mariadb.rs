//! The hostile agent at MariaDB: with nothing but its lease it does all it can to stay, against the real broker.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use countersign::issuers::MariadbCredential;

use super::broker::{Broker, id};
use super::place::{free_ports, next_number, private_file};
use super::{REPORTER, until, within};
use crate::issuers::mariadb_server::OwnServer;
use crate::issuers::mariadb_shop::{MariadbShop, Session, agent_client, feed};

/// How long the agent may hold out, on a machine that is busy with other tests.
const AT_MOST: Duration = Duration::from_secs(20);

/// A set-up whose one target is a MariaDB server of its own.
struct Corner {
    broker: Broker,
    operator: String,
    shop: MariadbShop,
    _home: TempDir,
    _server: OwnServer,
}

fn configuration(shop: &MariadbShop, port: u16) -> String {
    let target = &shop.target;
    format!(
        "[server]\nlisten = \"127.0.0.1:{port}\"\npublic_url = \"http://127.0.0.1:{port}\"\nstate_dir = \"state\"\n\
         [targets.shop]\nkind = \"mariadb\"\nhost = \"127.0.0.1\"\nport = {}\ndatabase = \"{}\"\nprocedures = \"{}\"\n\
         user = \"{}\"\npassword_file = \"broker-password\"\ntls = {{ mode = \"disable\" }}\n",
        target.port, target.database, target.procedures, target.user
    )
}

fn catalog(shop: &MariadbShop) -> String {
    let shop = &shop.shop;
    format!(
        "[actions.\"orders.report\"]\ntitle = \"Read orders\"\ndescription = \"Reads orders, writes notes.\"\ntarget = \"shop\"\n\
         ttl = {{ default = \"5m\", longest = \"10m\" }}\nreview = {{ groups = {{ support-leads = 1 }} }}\n\
         scope = {{ grants = [\n\
         {{ privileges = [\"select\"], table = \"{shop}.orders\", columns = [\"id\", \"status\"] }},\n\
         {{ privileges = [\"select\", \"insert\", \"delete\"], table = \"{shop}.notes\" }}] }}\n"
    )
}

const POLICIES: &str = r#"
@id("asks")
permit (principal == Agent::"reporter", action in Action::"request", resource);
@id("routine")
permit (principal == Agent::"reporter", action in Action::"routine", resource);
"#;

impl Corner {
    async fn open() -> Self {
        let server = OwnServer::start(&["--max-connections=60"]).await;
        let shop = MariadbShop::open_at(server.url.clone()).await;
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("shop");
        let port = free_ports(next_number());
        for part in ["catalog", "policies"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        let agents = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let agents = agents.join("examples/shop/catalog/agents.toml");
        fs::copy(agents, dir.join("catalog/agents.toml")).unwrap();
        for (file, text) in [
            ("countersign.toml", configuration(&shop, port)),
            ("catalog/shop.toml", catalog(&shop)),
            ("policies/shop.cedar", POLICIES.to_owned()),
        ] {
            fs::write(dir.join(file), text).unwrap();
        }
        private_file(&dir.join("broker-password"), &shop.password);
        let base = format!("http://127.0.0.1:{port}");
        let broker = Broker::dev_in(&dir, base, Vec::new()).await;
        let operator = fs::read_to_string(dir.join("state/operator.token")).unwrap();
        Self {
            broker,
            operator,
            shop,
            _home: home,
            _server: server,
        }
    }

    /// Accounts of credentials that exist now, and sessions of such accounts.
    async fn credentials(&self) -> Vec<String> {
        let sql = "SELECT user FROM mysql.global_priv WHERE user LIKE 'jit\\_%' \
                   UNION SELECT user FROM information_schema.processlist WHERE user LIKE 'jit\\_%'";
        self.shop.admin(sql).await
    }

    /// The statement by which the broker's log says a prepared transaction is rolled back.
    async fn advice(&self) -> String {
        until("the log says what to do", async || {
            let log = fs::read_to_string(&self.broker.log).unwrap();
            let line = log.lines().find(|line| line.contains("XA ROLLBACK"))?;
            let statement = &line[line.find("XA ROLLBACK").unwrap()..];
            Some(statement.trim().to_owned())
        })
        .await
    }

    async fn revoke(&self, request: &Value) {
        let lease = request["lease"]["id"].as_str().unwrap();
        let path = format!("/v1/leases/{lease}/revoke");
        let revoked = self.broker.post(&path, &self.operator, &json!({})).await;
        assert!(revoked.status.is_success(), "{revoked:?}");
    }
}

fn credential(given: &Value) -> MariadbCredential {
    let text = |name: &str| given[name].as_str().unwrap().to_owned();
    MariadbCredential {
        host: text("host"),
        port: given["port"].as_u64().unwrap().try_into().unwrap(),
        database: text("database"),
        user: text("user"),
        password: SecretString::from(text("password")),
        verify_tls: false,
        ca_pem: None,
    }
}

/// What it tries beyond its grants; gives what the server let it do.
async fn overreach(shop: &MariadbShop, agent: &MariadbCredential) -> Vec<String> {
    let (tables, procedures) = (&shop.shop, &shop.target.procedures);
    let tries = [
        format!("LOCK TABLES {tables}.notes WRITE"),
        "FLUSH TABLES WITH READ LOCK".to_owned(),
        "BACKUP STAGE START".to_owned(),
        "ALTER USER CURRENT_USER() ACCOUNT UNLOCK".to_owned(),
        "CREATE USER friend".to_owned(),
        format!("GRANT SELECT ON {tables}.notes TO PUBLIC"),
        format!("CREATE TABLE {tables}.mine (a int)"),
        format!(
            "CREATE TRIGGER {tables}.stays BEFORE INSERT ON {tables}.notes FOR EACH ROW SET @a = 1"
        ),
        format!("CREATE EVENT {tables}.later ON SCHEDULE EVERY 1 SECOND DO SELECT 1"),
        format!("SELECT card FROM {tables}.orders"),
        format!("SELECT * FROM {procedures}.leases"),
        format!("CALL {procedures}.lease_list('x')"),
        "SET GLOBAL max_connections = 10".to_owned(),
    ];
    let mut done = Vec::new();
    for sql in tries {
        if shop.as_agent(agent, &sql).await.is_ok() {
            done.push(sql);
        }
    }
    done
}

/// Logs in, is killed, logs in again.
async fn log_in_for_ever(
    agent: Arc<MariadbCredential>,
    last_login: Arc<Mutex<Option<Instant>>>,
    over: Arc<AtomicBool>,
) {
    while !over.load(Ordering::SeqCst) {
        if feed(agent_client(&agent), "SELECT 1").await.is_ok() {
            *last_login.lock().await = Some(Instant::now());
        }
    }
}

#[tokio::test]
async fn finding_t01_a_hostile_agent_is_out_on_mariadb() {
    let corner = Corner::open().await;
    let (request, given) = corner.broker.live(300).await;
    // Everybody may choose a password of their own.
    let chosen = "SET PASSWORD = PASSWORD('of-my-own')";
    let minted = credential(&given);
    corner.shop.as_agent(&minted, chosen).await.unwrap();
    let agent = Arc::new(MariadbCredential {
        password: "of-my-own".to_owned().into(),
        ..minted
    });
    assert_eq!(overreach(&corner.shop, &agent).await, Vec::<String>::new());

    // As many locks as it can name, among them those it can guess; a transaction it prepares; a statement that sleeps.
    let mut flood = Session::open(&agent).await.unwrap();
    let guess = format!("SELECT GET_LOCK('countersign {}', 1)", agent.user);
    assert_eq!(flood.ask(&guess).await.as_deref(), Some("1"));
    let locks = "SET max_recursive_iterations = 100000; WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
                 SELECT SUM(GET_LOCK(CONCAT('mine', i), 0)) FROM n";
    assert_eq!(flood.ask(locks).await.as_deref(), Some("20000"));
    let mut prepared = Session::open(&agent).await.unwrap();
    let prepare = format!(
        "XA START 'mine'; INSERT INTO {}.notes VALUES (1, 'mine'); XA END 'mine'; XA PREPARE 'mine'; SELECT 'prepared'",
        corner.shop.shop
    );
    assert_eq!(prepared.ask(&prepare).await.as_deref(), Some("prepared"));
    let (last_login, over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let mut storm = JoinSet::new();
    for _ in 0..3 {
        let (last, over) = (Arc::clone(&last_login), Arc::clone(&over));
        storm.spawn(log_in_for_ever(Arc::clone(&agent), last, over));
    }

    corner.revoke(&request).await;
    // What it prepared is nobody's but an administrator's to roll back: access is over, and the end is not told before.
    within(
        AT_MOST,
        "the account and its sessions are gone",
        async || corner.credentials().await.is_empty().then_some(()),
    )
    .await;
    let end = Instant::now();
    assert_eq!(flood.ask("SELECT 1").await, None);
    assert_eq!(prepared.ask("SELECT 1").await, None);
    let statement = corner.advice().await;
    let now = corner.broker.request(REPORTER, &request).await;
    assert_eq!(now["state"], "ending", "{now}");
    corner.shop.admin(&statement).await;
    let outcome = corner.broker.closed(AT_MOST, REPORTER, &request).await;
    assert_eq!(outcome, "revoked");
    over.store(true, Ordering::SeqCst);
    storm.join_all().await;
    let late = last_login.lock().await.is_some_and(|last| last > end);
    assert!(!late, "a login worked after the end");
    let notes = format!("SELECT COUNT(*) FROM {}.notes", corner.shop.shop);
    assert_eq!(corner.shop.admin(&notes).await, ["0"]);

    // A statement that sleeps ends with its lease, and others are served as before.
    let (request, given) = corner.broker.live(60).await;
    let mut asleep = Session::open(&credential(&given)).await.unwrap();
    let sleep = "SET max_statement_time = 0; SELECT SLEEP(600)";
    let (slept, closed) = tokio::join!(asleep.ask(sleep), corner.broker.finish(REPORTER, &request));
    assert_eq!(
        (slept, &closed["state"]),
        (None, &json!("closed")),
        "{}",
        id(&request)
    );
    assert_eq!(corner.credentials().await, Vec::<String>::new());
}
