//! Agents that fight their end at MariaDB, and servers that move behind one address.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use countersign::issuers::{Ending, Issuer, MariadbCredential, MintError, TARGET_CHANGED};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use url::Url;

use super::mariadb_server::OwnServer;
use super::mariadb_shop::{MariadbShop, Session, admin_at, agent_client, feed, issuer_for};
use super::orders::{draw_lease, ending, order_for, until};

/// How many sessions the administrator sees of an account.
async fn sessions(shop: &MariadbShop, user: &str) -> String {
    let count =
        format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{user}'");
    shop.admin(&count).await.remove(0)
}

/// Opens sessions until the server has no room for one more.
async fn fill(agents: &[MariadbCredential]) -> Vec<Session> {
    let mut open = Vec::new();
    loop {
        for agent in agents {
            match Session::open(agent).await {
                Ok(session) => open.push(session),
                Err(why) if why.contains("Too many connections") => return open,
                Err(why) => assert!(why.contains("max_user_connections"), "{why}"),
            }
        }
    }
}

#[tokio::test]
async fn finding_t02_leases_that_use_every_connection_cannot_hold_their_ends_up() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let extra = free.local_addr().unwrap().port();
    drop(free);
    let extra_port = format!("--extra-port={extra}");
    let server = OwnServer::start(&[
        "--max-connections=20",
        &extra_port,
        "--extra-max-connections=4",
    ])
    .await;
    let shop = MariadbShop::open_at(server.url.clone()).await;
    let mut scope = shop.scope();
    scope["max_connections"] = 10.into();
    let mut agents = Vec::new();
    for _ in 0..3 {
        agents.push(shop.try_mint(&draw_lease(), &scope).await.unwrap());
    }
    let mut open = fill(&agents).await;
    // A broker that comes back now finds no room, except at the extra port.
    let last = agents.pop().unwrap();
    let mut target = shop.target.clone();
    let late = issuer_for(&target, &shop.password, None).unwrap();
    let refused = late.end(&ending(&last.user, &scope)).await.unwrap_err();
    assert_eq!(refused.code, "target_unavailable");
    target.extra_port = Some(extra);
    let late = issuer_for(&target, &shop.password, None).unwrap();
    late.end(&ending(&last.user, &scope)).await.unwrap();
    // The one that was there has what it needs.
    open.extend(fill(&agents).await);
    let begun = Instant::now();
    let endings: Vec<_> = agents
        .iter()
        .map(|agent| Ending {
            server: Some(&shop.identity),
            ..ending(&agent.user, &scope)
        })
        .collect();
    for result in shop.issuer.end_all(&endings).await {
        result.unwrap();
    }
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    for session in &mut open {
        assert!(session.ask("SELECT 1").await.is_none());
    }
    shop.close().await;
}

/// A backup's locks stop every change of accounts; they do not stop a kill.
#[tokio::test]
async fn finding_t01_mariadb_a_global_read_lock_does_not_delay_the_kill() {
    let server = OwnServer::start(&[]).await;
    let shop = MariadbShop::open_at(server.url.clone()).await;
    let scope = shop.scope();
    for lock in [
        "FLUSH TABLES WITH READ LOCK; SELECT 1",
        "BACKUP STAGE START; BACKUP STAGE BLOCK_COMMIT; SELECT 1",
        &format!(
            "LOCK TABLES {}.leases READ; SELECT 1",
            shop.target.procedures
        ),
    ] {
        let agent = shop.mint().await;
        let mut session = Session::open(&agent).await.unwrap();
        let held = format!("SELECT GET_LOCK('countersign {}', 1)", agent.user);
        assert_eq!(session.ask(&held).await.as_deref(), Some("1"));
        let mut backup = Session::of(shop.admin_client()).await.unwrap();
        assert_eq!(backup.ask(lock).await.as_deref(), Some("1"));
        let end = async || shop.issuer.end(&ending(&agent.user, &scope)).await;
        let begun = Instant::now();
        let killed = async {
            until(async || sessions(&shop, &agent.user).await == "0").await;
            begun.elapsed()
        };
        let released = async {
            let killed = killed.await;
            drop(backup);
            killed
        };
        let (_, killed) = tokio::join!(end(), released);
        assert!(killed < Duration::from_secs(2), "{lock}: {killed:?}");
        until(async || end().await.is_ok()).await;
        assert!(session.ask("SELECT 1").await.is_none());
    }
    shop.close().await;
}

/// In a procedure the broker's session has the definer's name.
#[tokio::test]
async fn a_mint_that_waits_for_a_lock_is_seen_by_the_look() {
    let server = OwnServer::start(&[]).await;
    let shop = MariadbShop::open_at(server.url.clone()).await;
    let order = order_for(&draw_lease(), &shop.scope(), &shop.identity);
    let handle = countersign::domain::lease::handle_of(&order.lease);
    let scope = shop.scope();
    let known = Ending {
        server: Some(&shop.identity),
        ..ending(&handle, &scope)
    };
    let mut backup = Session::of(shop.admin_client()).await.unwrap();
    let lock = "FLUSH TABLES WITH READ LOCK; SELECT 1";
    assert_eq!(backup.ask(lock).await.as_deref(), Some("1"));
    let seen = async {
        until(async || {
            let proof = shop.issuer.prove(&known).await;
            proof.is_err_and(|why| why.code == "mint_under_way")
        })
        .await;
        drop(backup);
    };
    let (_, ()) = tokio::join!(shop.issuer.mint(&order), seen);
    shop.issuer.end_and_prove(&known).await.unwrap();
    shop.close().await;
}

#[tokio::test]
async fn an_agent_that_logs_in_again_and_again_is_locked_out() {
    let shop = MariadbShop::open().await;
    let agent = shop.mint().await;
    let scope = shop.scope();
    let end = async {
        until(async || sessions(&shop, &agent.user).await != "0").await;
        until(async || shop.issuer.end(&ending(&agent.user, &scope)).await.is_ok()).await;
        shop.issuer
            .prove(&ending(&agent.user, &scope))
            .await
            .unwrap();
    };
    tokio::join!(storm_of(&agent), storm_of(&agent), storm_of(&agent), end);
    assert_eq!(sessions(&shop, &agent.user).await, "0");
    shop.close().await;
}

/// Logs in, is killed, logs in again, until it is told that nobody of that name may.
async fn storm_of(agent: &MariadbCredential) {
    loop {
        let told = feed(agent_client(agent), "SELECT SLEEP(0.05)").await;
        if told.is_err_and(|words| words.contains("Access denied")) {
            return;
        }
    }
}

/// A client that has said who it is, and does not answer the server's question.
async fn half_logged_in(agent: &MariadbCredential) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", agent.port)).await.unwrap();
    let mut bytes = vec![0; 4096];
    assert!(stream.read(&mut bytes).await.unwrap() > 0);
    let mut body = Vec::new();
    body.extend(0x0008_8201_u32.to_le_bytes());
    body.extend((1_u32 << 24).to_le_bytes());
    body.push(45);
    body.extend([0; 23]);
    body.extend(agent.user.as_bytes());
    body.extend(b"\0\x14xxxxxxxxxxxxxxxxxxxxof_no_plugin\0");
    let mut message = vec![u8::try_from(body.len()).unwrap(), 0, 0, 1];
    message.extend(body);
    stream.write_all(&message).await.unwrap();
    assert!(stream.read(&mut bytes).await.unwrap() > 0);
    stream
}

#[tokio::test]
async fn a_login_under_way_ends_with_the_lease() {
    let shop = MariadbShop::open().await;
    let agent = shop.mint().await;
    let mut half = half_logged_in(&agent).await;
    assert_eq!(sessions(&shop, &agent.user).await, "1");
    let scope = shop.scope();
    shop.issuer.end(&ending(&agent.user, &scope)).await.unwrap();
    let mut bytes = vec![0; 4096];
    while half.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    shop.close().await;
}

/// While a trigger runs with its maker's rights, the list of sessions shows its maker, and `KILL USER` passes it by.
#[tokio::test]
async fn a_session_hidden_in_a_trigger_is_found_by_who_logged_in() {
    let server = OwnServer::start(&[]).await;
    let shop = MariadbShop::open_at(server.url.clone()).await;
    let tables = &shop.shop;
    shop.admin(&format!(
        "INSERT INTO {tables}.salaries VALUES (1, 0);
         CREATE TRIGGER {tables}.counts BEFORE INSERT ON {tables}.notes FOR EACH ROW UPDATE {tables}.salaries SET amount = amount + 1;"
    ))
    .await;
    let agent = shop.mint().await;
    let mut holder = Session::of(shop.admin_client()).await.unwrap();
    let held = format!("BEGIN; UPDATE {tables}.salaries SET amount = 5; SELECT 'held'");
    assert_eq!(holder.ask(&held).await.as_deref(), Some("held"));
    let mut hidden = Session::open(&agent).await.unwrap();
    let scope = shop.scope();
    let insert = format!("INSERT INTO {tables}.notes VALUES (9, 'hidden'); SELECT 'done'");
    let work = hidden.ask(&insert);
    let end = async {
        until(async || sessions(&shop, &agent.user).await == "0").await;
        shop.issuer
            .end_and_prove(&ending(&agent.user, &scope))
            .await
            .unwrap();
    };
    let (answer, ()) = tokio::join!(work, end);
    assert_eq!(answer, None);
    drop(holder);
    shop.close().await;
}

/// One address that leads now here, now there.
struct Address {
    port: u16,
    to: Arc<AtomicU16>,
    accepting: JoinHandle<()>,
}

impl Address {
    #[expect(
        clippy::disallowed_methods,
        reason = "the address lives as long as its test"
    )]
    async fn of(server: &Url) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = Arc::new(AtomicU16::new(server.port().unwrap()));
        let upstream = Arc::clone(&to);
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let port = upstream.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            port,
            to,
            accepting,
        }
    }

    fn leads_to(&self, server: &Url) {
        self.to.store(server.port().unwrap(), Ordering::SeqCst);
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Makes `replica` follow `primary` from now on.
async fn follow(primary: &Url, replica: &Url) {
    let position = admin_at(
        primary,
        "CREATE USER follower IDENTIFIED BY 'follows'; GRANT REPLICATION SLAVE ON *.* TO follower; SELECT @@gtid_binlog_pos",
    )
    .await;
    let port = primary.port().unwrap();
    admin_at(
        replica,
        &format!(
            "SET GLOBAL gtid_slave_pos = '{}'; CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port},
             MASTER_USER = 'follower', MASTER_PASSWORD = 'follows', MASTER_USE_GTID = slave_pos; START SLAVE;",
            position[0]
        ),
    )
    .await;
}

#[tokio::test]
async fn finding_t03_mariadb_a_replica_behind_the_same_address_proves_nothing() {
    let binlog = ["--log-bin", "--server-id=1"];
    let (primary, replica) = tokio::join!(
        OwnServer::start(&binlog),
        OwnServer::start(&["--server-id=2"])
    );
    follow(&primary.url, &replica.url).await;
    let shop = MariadbShop::open_at(primary.url.clone()).await;
    let address = Address::of(&primary.url).await;
    let mut target = shop.target.clone();
    target.port = address.port;
    let fresh = || issuer_for(&target, &shop.password, None).unwrap();
    let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
    let warned = found
        .warnings
        .iter()
        .any(|one| one.contains("has replicas"));
    assert!(warned, "{found:?}");

    let identity = format!(
        "SELECT COUNT(*) FROM mysql.global_priv WHERE User = '{}'",
        shop.target.user
    );
    until(async || admin_at(&replica.url, &identity).await == ["1"]).await;
    // It is behind: what is made from now on is not there.
    admin_at(&replica.url, "STOP SLAVE SQL_THREAD").await;
    let agent = shop.mint().await;
    let mut session = Session::open(&agent).await.unwrap();
    let scope = shop.scope();
    let end = Ending {
        server: Some(&shop.identity),
        ..ending(&agent.user, &scope)
    };
    address.leads_to(&replica.url);
    for read_only in ["OFF", "ON"] {
        admin_at(&replica.url, &format!("SET GLOBAL read_only = {read_only}")).await;
        let issuer = fresh();
        let refused = [TARGET_CHANGED, "read_only_target"];
        let ended = issuer.end_and_prove(&end).await.unwrap_err();
        assert!(refused.contains(&ended.code.as_str()), "{ended}");
        let proven = issuer.prove(&end).await.unwrap_err();
        assert!(refused.contains(&proven.code.as_str()), "{proven}");
        let order = order_for(&draw_lease(), &scope, &shop.identity);
        let minted = issuer.mint(&order).await;
        assert!(
            matches!(minted, Err(MintError::Elsewhere { .. })),
            "{minted:?}"
        );
        let identified = issuer.identify().await;
        assert_eq!(identified.unwrap_err().code, "read_only_target");
    }
    assert_eq!(session.ask("SELECT 1").await.as_deref(), Some("1"));
    address.leads_to(&primary.url);
    fresh().end_and_prove(&end).await.unwrap();
    assert!(session.ask("SELECT 1").await.is_none());
    shop.close().await;
}
