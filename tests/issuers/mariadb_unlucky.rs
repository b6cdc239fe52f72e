//! What agents did to stay at MariaDB and what operators do to it by the way, each at a server of its own.

use std::time::Duration;

use countersign::domain::lease;
use countersign::issuers::{Ending, Issuer, MariadbCredential, MintError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::mariadb_server::OwnServer;
use super::mariadb_shop::{MariadbShop, Session};
use super::orders::{draw_lease, ending, until};

/// How many sessions are shown under a name like this.
async fn shown(shop: &MariadbShop, name: &str) -> String {
    let count =
        format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user LIKE '{name}'");
    shop.admin(&count).await.remove(0)
}

fn code(minted: Result<MariadbCredential, MintError>) -> String {
    match minted {
        Err(MintError::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

async fn packet(stream: &mut TcpStream, number: u8, body: &[u8]) -> Vec<u8> {
    let mut message = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    message[3] = number;
    message.extend(body);
    stream.write_all(&message).await.unwrap();
    let mut answer = vec![0; 4096];
    let count = stream.read(&mut answer).await.unwrap();
    answer.truncate(count);
    answer
}

/// Logs in as `user`, who has no password, asks to be `other`, and leaves the server's question about that unanswered.
async fn hidden_as(port: u16, user: &str, other: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    let mut body = Vec::new();
    body.extend(0x0008_8201_u32.to_le_bytes());
    body.extend((1_u32 << 24).to_le_bytes());
    body.push(45);
    body.extend([0; 23]);
    body.extend(user.as_bytes());
    body.extend(b"\0\0mysql_native_password\0");
    let answer = packet(&mut stream, 1, &body).await;
    assert_eq!(answer.get(4), Some(&0), "{answer:?}");
    let mut body = b"\x11".to_vec();
    body.extend(other.as_bytes());
    body.extend(b"\0\x14xxxxxxxxxxxxxxxxxxxx\0\x2d\0of_no_plugin\0");
    let answer = packet(&mut stream, 0, &body).await;
    assert_eq!(answer.get(4), Some(&0xfe), "{answer:?}");
    stream
}

#[tokio::test]
async fn finding_t26_a_session_that_asks_to_be_somebody_else_is_killed() {
    let server = OwnServer::start(&[]).await;
    let shop = MariadbShop::open_at(server.url.clone()).await;
    let agent = shop.mint().await;
    shop.as_agent(&agent, "SET PASSWORD = ''").await.unwrap();
    let mut hidden = hidden_as(agent.port, &agent.user, "administrator").await;
    assert_eq!(shown(&shop, "administrator").await, "1");
    assert_eq!(shown(&shop, &agent.user).await, "0");
    let scope = shop.scope();
    until(async || shop.issuer.end(&ending(&agent.user, &scope)).await.is_ok()).await;
    let mut bytes = [0; 4096];
    while hidden.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    assert_eq!(shown(&shop, "administrator").await, "0");
    shop.close().await;
}

/// Without the performance schema the server does not say who logged in.
#[tokio::test]
async fn finding_t26_nothing_is_minted_or_proven_where_a_session_can_hide() {
    let server = OwnServer::start(&["--performance-schema=OFF"]).await;
    let shop = MariadbShop::open_at(server.url.clone()).await;
    let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
    let told = |problem: &String| problem.contains("set performance_schema = ON");
    assert!(found.problems.iter().any(told), "{found:?}");
    let scope = shop.scope();
    let refused = shop.try_mint(&draw_lease(), &scope).await;
    assert_eq!(code(refused), "performance_schema_off");

    // Minted before the server was started anew without it.
    let handle = lease::handle_of(&draw_lease());
    shop.admin(&format!("CREATE USER '{handle}'@'%'")).await;
    let _hidden = hidden_as(shop.target.port, &handle, "administrator").await;
    let known = Ending {
        server: Some(&shop.identity),
        ..ending(&handle, &scope)
    };
    let ended = shop.issuer.end_and_prove(&known).await.unwrap_err();
    assert_eq!(ended.code, "sessions_unseen", "{ended}");
    let left = format!("SELECT COUNT(*) FROM mysql.global_priv WHERE User = '{handle}'");
    assert_eq!(shop.admin(&left).await, ["0"]);
    shop.close().await;
}

/// What is done to the broker's own tables delays no kill, and what it cannot see it does not claim.
#[tokio::test]
async fn finding_t27_a_kill_waits_for_no_table_of_the_broker() {
    let server = OwnServer::start(&[]).await;
    let shop = MariadbShop::open_at(server.url.clone()).await;
    let scope = shop.scope();
    let procedures = &shop.target.procedures;
    for (spoil, mend) in [
        (
            format!("LOCK TABLES {procedures}.leases WRITE"),
            "UNLOCK TABLES".to_owned(),
        ),
        (
            format!("LOCK TABLES {procedures}.identity WRITE"),
            "UNLOCK TABLES".to_owned(),
        ),
        (
            format!("BEGIN; UPDATE {procedures}.identity SET uuid = uuid"),
            "ROLLBACK".to_owned(),
        ),
        (
            format!("RENAME TABLE {procedures}.leases TO {procedures}.away"),
            format!("RENAME TABLE {procedures}.away TO {procedures}.leases"),
        ),
        (
            "SET GLOBAL read_only = ON".to_owned(),
            "SET GLOBAL read_only = OFF".to_owned(),
        ),
    ] {
        let agent = shop.mint().await;
        let mut session = Session::open(&agent).await.unwrap();
        let mut operator = Session::of(shop.admin_client()).await.unwrap();
        let spoilt = operator.ask(&format!("{spoil}; SELECT 'spoilt'")).await;
        assert_eq!(spoilt.as_deref(), Some("spoilt"));
        let known = Ending {
            server: Some(&shop.identity),
            ..ending(&agent.user, &scope)
        };
        let begun = Instant::now();
        let killed = async {
            until(async || shown(&shop, &agent.user).await == "0").await;
            begun.elapsed()
        };
        let (ended, killed) = tokio::join!(shop.issuer.end_and_prove(&known), killed);
        assert!(killed < Duration::from_secs(2), "{spoil}: {killed:?}");
        assert!(ended.is_err(), "{spoil}");
        assert!(session.ask("SELECT 1").await.is_none());
        let mended = operator.ask(&format!("{mend}; SELECT 'mended'")).await;
        assert_eq!(mended.as_deref(), Some("mended"));
        shop.issuer.end_and_prove(&known).await.unwrap();
    }
    shop.close().await;
}

/// Whoever waits to see what is prepared holds nobody else up.
#[tokio::test]
async fn finding_t27_the_turn_to_look_at_transactions_delays_no_mint_and_no_end() {
    let shop = MariadbShop::open().await;
    let procedures = &shop.target.procedures;
    let mut waiting = Session::of(shop.admin_client()).await.unwrap();
    let turn = format!("BEGIN; SELECT id FROM {procedures}.identity WHERE id = 2 FOR UPDATE");
    assert_eq!(waiting.ask(&turn).await.as_deref(), Some("2"));
    let agent = shop.mint().await;
    let scope = shop.scope();
    let known = Ending {
        server: Some(&shop.identity),
        ..ending(&agent.user, &scope)
    };
    shop.issuer.list().await.unwrap();
    shop.issuer.end_and_prove(&known).await.unwrap();
    drop(waiting);
    shop.close().await;
}

/// Statements on accounts ignore `lock_wait_timeout`: each retry would add a session that waits for the backup.
#[tokio::test]
async fn finding_t28_what_waits_for_a_backup_gives_up() {
    let server = OwnServer::start(&[]).await;
    let shop = MariadbShop::open_at(server.url.clone()).await;
    let scope = shop.scope();
    let mut agents = Vec::new();
    for _ in 0..3 {
        agents.push(shop.mint().await);
    }
    let endings: Vec<_> = agents
        .iter()
        .map(|agent| Ending {
            server: Some(&shop.identity),
            ..ending(&agent.user, &scope)
        })
        .collect();
    let mut backup = Session::of(shop.admin_client()).await.unwrap();
    let lock = "FLUSH TABLES WITH READ LOCK; SELECT 'held'";
    assert_eq!(backup.ask(lock).await.as_deref(), Some("held"));
    let lease = draw_lease();
    let (ended, minted) =
        tokio::join!(shop.issuer.end_all(&endings), shop.try_mint(&lease, &scope));
    for result in ended {
        assert_eq!(result.unwrap_err().code, "account_exists");
    }
    assert!(
        matches!(minted, Err(MintError::Unavailable { .. })),
        "{minted:?}"
    );
    let waiting = format!("{}_definer", shop.target.procedures);
    assert_eq!(shown(&shop, &waiting).await, "0");
    drop(backup);
    until(async || {
        let results = shop.issuer.end_all(&endings).await;
        results.iter().all(Result::is_ok)
    })
    .await;
    shop.close().await;
}

#[tokio::test]
async fn finding_t29_rows_that_would_come_after_the_end_are_refused() {
    let server = OwnServer::start(&[]).await;
    let shop = MariadbShop::open_at(server.url.clone()).await;
    let notes = format!("{}.notes", shop.shop);
    shop.admin(&format!("ALTER TABLE {notes} ENGINE = MyISAM"))
        .await;
    let scope = shop.scope();
    let refused = shop.try_mint(&draw_lease(), &scope).await;
    assert_eq!(code(refused), "delayed_inserts");
    let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
    let told = |problem: &String| problem.contains("SET GLOBAL max_delayed_threads = 0");
    assert!(found.problems.iter().any(told), "{found:?}");

    shop.admin("SET GLOBAL max_delayed_threads = 0").await;
    let agent = shop.mint().await;
    let delayed = format!("INSERT DELAYED INTO {notes} VALUES (1, 'at once')");
    shop.as_agent(&agent, &delayed).await.unwrap();
    assert_eq!(shown(&shop, "delayed").await, "0");
    shop.issuer.end(&ending(&agent.user, &scope)).await.unwrap();
    shop.close().await;
}

/// Without the record nobody knows what was prepared before the mint.
#[tokio::test]
async fn finding_t30_a_lost_record_hides_no_prepared_transaction() {
    let server = OwnServer::start(&[]).await;
    let shop = MariadbShop::open_at(server.url.clone()).await;
    let agent = shop.mint().await;
    let mut session = Session::open(&agent).await.unwrap();
    let notes = format!("{}.notes", shop.shop);
    let prepare = format!(
        "XA START 'mine'; INSERT INTO {notes} VALUES (1, 'mine'); XA END 'mine'; XA PREPARE 'mine'; SELECT 'prepared'"
    );
    assert_eq!(session.ask(&prepare).await.as_deref(), Some("prepared"));
    shop.admin(&format!("TRUNCATE TABLE {}.leases", shop.target.procedures))
        .await;
    let scope = shop.scope();
    let known = Ending {
        server: Some(&shop.identity),
        ..ending(&agent.user, &scope)
    };
    let left = shop.issuer.end_and_prove(&known).await.unwrap_err();
    assert_eq!(left.code, "prepared_transaction_left", "{left}");
    let statement = left.detail.split_once("it: ").unwrap().1;
    shop.admin(statement).await;
    shop.issuer.end_and_prove(&known).await.unwrap();
    shop.close().await;
}

#[tokio::test]
async fn finding_t31_settings_for_everybody_do_not_reach_the_broker() {
    let server = OwnServer::start(&[]).await;
    let shop = MariadbShop::open_at(server.url.clone()).await;
    let notes = format!("{}.notes", shop.shop);
    for xid in ["'one'", "'two'"] {
        let mut manager = Session::of(shop.admin_client()).await.unwrap();
        let prepare = format!(
            "XA START {xid}; INSERT INTO {notes} VALUES (ORD({xid}), ''); XA END {xid}; XA PREPARE {xid}; SELECT 'prepared'"
        );
        assert_eq!(manager.ask(&prepare).await.as_deref(), Some("prepared"));
    }
    let settings = "SET GLOBAL tx_read_only = 1, GLOBAL completion_type = 'RELEASE', GLOBAL group_concat_max_len = 4, \
                    GLOBAL sql_select_limit = 0, GLOBAL max_join_size = 1, GLOBAL sql_big_selects = 0, \
                    GLOBAL init_connect = 'SET timestamp = 1', GLOBAL max_statement_time = 0.001, GLOBAL wait_timeout = 1";
    shop.admin(settings).await;
    let agent = shop.mint().await;
    let scope = shop.scope();
    let known = Ending {
        server: Some(&shop.identity),
        ..ending(&agent.user, &scope)
    };
    let proven = shop.issuer.prove(&known).await;
    assert_eq!(proven.unwrap_err().code, "account_exists");
    shop.issuer.end_and_prove(&known).await.unwrap();
}

#[tokio::test]
async fn what_everybody_has_and_what_keeps_the_broker_out_is_told() {
    let server = OwnServer::start(&["--max-password-errors=2"]).await;
    let mut shop = MariadbShop::open_at(server.url.clone()).await;
    let salaries = format!("{}.salaries", shop.shop);
    shop.admin(&format!("GRANT SELECT ON {salaries} TO PUBLIC"))
        .await;
    let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
    for told in ["REVOKE it FROM PUBLIC", "SET GLOBAL max_password_errors"] {
        let said = found.problems.iter().any(|problem| problem.contains(told));
        assert!(said, "{told}: {found:?}");
    }
    shop.admin(&format!(
        "REVOKE SELECT ON {salaries} FROM PUBLIC; SET GLOBAL max_password_errors = 4294967295"
    ))
    .await;
    let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
    assert_eq!(found.problems, Vec::<String>::new());

    // Locked out by somebody else's wrong passwords.
    shop.admin("SET GLOBAL max_password_errors = 2").await;
    let right = std::mem::replace(&mut shop.password, "wrong".into());
    for _ in 0..3 {
        assert!(shop.as_broker("SELECT 1").await.is_err());
    }
    let issuer = super::mariadb_shop::issuer_for(&shop.target, &right, None).unwrap();
    let found = issuer.rehearse(&[shop.scope()]).await.unwrap();
    let told = |problem: &String| problem.contains("FLUSH PRIVILEGES");
    assert!(found.problems.iter().any(told), "{found:?}");
    shop.close().await;
}
