//! MariaDB in the conformance suite, and what only MariaDB has to promise (abuse cases 105, 108, 109, 115, 119 to 121).

use countersign::config::{DatabaseTls, MariadbTarget};
use countersign::domain::lease;
use countersign::issuers::mariadb::preparation_sql;
use countersign::issuers::{Issuer, MariadbCredential, MintError, Proof};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::conformance::{self, draw_lease, ending, ending_at, order_for, until};
use super::mariadb_shop::{MariadbShop, Session, admin, client, feed, issuer_for};
use crate::support::wire::Relay;

conformance::conforms!(suite, MariadbShop);

#[tokio::test]
async fn limits_hold_and_all_sessions_die() {
    let shop = MariadbShop::open().await;
    let mut scope = shop.scope();
    scope["max_connections"] = json!(2);
    scope["max_statement_seconds"] = json!(7);
    let agent = shop.try_mint(&draw_lease(), &scope).await.unwrap();
    let mut sessions = Vec::new();
    for _ in 0..2 {
        sessions.push(Session::open(&agent).await.unwrap());
    }
    let limit = sessions[0].ask("SELECT @@max_statement_time").await;
    assert_eq!(limit.as_deref(), Some("7.000000"));
    let refused = Session::open(&agent).await.err().unwrap();
    assert!(refused.contains("max_user_connections"), "{refused}");
    shop.issuer.end(&ending(&agent.user, &scope)).await.unwrap();
    for session in &mut sessions {
        assert!(session.ask("SELECT 1").await.is_none());
    }
    shop.close().await;
}

#[tokio::test]
async fn ends_may_overlap() {
    let shop = MariadbShop::open().await;
    let agent = shop.mint().await;
    let _session = Session::open(&agent).await.unwrap();
    let scope = shop.scope();
    let end = async || shop.issuer.end(&ending(&agent.user, &scope)).await;
    let _ = tokio::join!(end(), end(), end());
    end().await.unwrap();
    shop.issuer
        .prove(&ending_at(&agent.user, None))
        .await
        .unwrap();
    shop.close().await;
}

fn code(minted: Result<MariadbCredential, MintError>) -> String {
    match minted {
        Err(MintError::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn refusals_have_stable_codes_and_leave_nothing() {
    let mut shop = MariadbShop::open().await;
    let id = draw_lease();
    let scope = shop.scope();
    let unprepared = json!({"grants": [{"privileges": ["select"], "table": "a.b"}]});
    assert_eq!(code(shop.try_mint(&id, &unprepared).await), "not_prepared");
    assert_eq!(code(shop.try_mint(&id, &json!({})).await), "bad_scope");

    let procedures = shop.target.procedures.clone();
    let definer = format!("'{procedures}_definer'@'localhost'");
    let notes = format!("{}.notes", shop.shop);
    admin(&format!("REVOKE INSERT ON {notes} FROM {definer}")).await;
    assert_eq!(
        code(shop.try_mint(&id, &scope).await),
        "insufficient_privilege"
    );
    shop.issuer
        .prove(&ending_at(&lease::handle_of(&id), None))
        .await
        .unwrap();

    shop.prepare(std::slice::from_ref(&scope)).await;
    admin(&format!("DROP TABLE {notes}")).await;
    assert_eq!(code(shop.try_mint(&id, &scope).await), "table_missing");
    shop.issuer
        .prove(&ending_at(&lease::handle_of(&id), None))
        .await
        .unwrap();

    admin(&format!("DROP USER {definer}")).await;
    assert_eq!(code(shop.try_mint(&id, &scope).await), "definer_missing");
    admin(&format!(
        "DROP DATABASE {procedures}; CREATE USER {definer} ACCOUNT LOCK"
    ))
    .await;
    assert_eq!(code(shop.try_mint(&id, &scope).await), "not_prepared");

    shop.password = "wrong".into();
    shop.issuer = issuer_for(&shop.target, &shop.password, None).unwrap();
    let barred = shop.try_mint(&id, &scope).await;
    assert!(
        matches!(barred, Err(MintError::Unavailable { .. })),
        "its operator mends that: {barred:?}"
    );
    shop.close().await;
}

#[tokio::test]
async fn case_109_the_password_is_never_sent_to_the_target() {
    let mut shop = MariadbShop::open().await;
    let relay = Relay::to(shop.target.port).await;
    let port = std::mem::replace(&mut shop.target.port, relay.port);
    shop.issuer = issuer_for(&shop.target, &shop.password, None).unwrap();
    let mut agent = shop.mint().await;
    agent.port = port;
    assert!(relay.saw("lease_create_"));
    let password = agent.password.expose_secret();
    assert_eq!(password.len(), 40);
    assert!(!relay.saw(password));
    assert!(!format!("{agent:?}").contains(password));
    Session::open(&agent).await.unwrap();
    shop.issuer
        .end(&ending(&agent.user, &shop.scope()))
        .await
        .unwrap();
    shop.close().await;
}

/// What a thief of the broker's account can do: what the catalog lets it do, and nothing else.
#[tokio::test]
async fn case_105_a_stolen_broker_account_can_only_call_its_procedures() {
    let shop = MariadbShop::open().await;
    let (procedures, tables) = (&shop.target.procedures, &shop.shop);
    for refused in [
        "ALTER USER root@localhost ACCOUNT LOCK".to_owned(),
        "SET PASSWORD FOR root@localhost = PASSWORD('x')".into(),
        "CREATE USER mine".into(),
        "SELECT User FROM mysql.global_priv".into(),
        "SELECT User, Password FROM mysql.user".into(),
        format!("SELECT id FROM {tables}.orders"),
        format!("GRANT SELECT ON {tables}.notes TO CURRENT_USER"),
        format!("DROP PROCEDURE {procedures}.lease_end"),
        format!("CREATE PROCEDURE {procedures}.mine() SELECT 1"),
        "SET ROLE ALL".into(),
        "SET GLOBAL general_log = 1".into(),
    ] {
        let done = shop.as_broker(&refused).await;
        assert!(done.is_err(), "{refused}: {done:?}");
    }
    for foreign in ["root", "admin", "mariadb.sys", &shop.target.user] {
        let mut session = Session::of(shop.admin_client()).await.unwrap();
        for server in ["", shop.identity.as_str()] {
            let end =
                format!("CALL {procedures}.lease_end('0123456789abcdef', '{server}', '{foreign}')");
            shop.as_broker(&end).await.unwrap();
        }
        assert_eq!(session.ask("SELECT 1").await.as_deref(), Some("1"));
    }
    shop.close().await;
}

#[tokio::test]
async fn case_115_the_procedures_refuse_what_is_not_plain() {
    let shop = MariadbShop::open().await;
    let procedures = &shop.target.procedures;
    let create = admin(&format!(
        "SELECT routine_name FROM information_schema.routines WHERE routine_schema = '{procedures}' AND routine_name LIKE 'lease\\_create\\_%'"
    ))
    .await
    .remove(0);
    let handle = lease::handle_of(&draw_lease());
    let verifier = "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7";
    let server = shop.identity.as_str();
    let rest = format!("'0123456789abcdef', '{server}', 'req', 'agent'");
    let later = format!("'2099-01-01', {rest}");
    for arguments in [
        format!("'root', '{verifier}', 1, 1, {later}"),
        format!("'mine', '{verifier}', 1, 1, {later}"),
        format!("'{}', '{verifier}', 1, 1, {later}", handle.to_uppercase()),
        format!("'{handle}\\n', '{verifier}', 1, 1, {later}"),
        format!("'\\n{handle}', '{verifier}', 1, 1, {later}"),
        format!("'{handle}''@''%'' IDENTIFIED BY ''x'' -- ', '{verifier}', 1, 1, {later}"),
        format!("'{handle}', '{verifier}\\n', 1, 1, {later}"),
        format!("'{handle}', 'x'' ACCOUNT UNLOCK -- ', 1, 1, {later}"),
        format!("'{handle}', '{verifier}', 0, 1, {later}"),
        format!("'{handle}', '{verifier}', 11, 1, {later}"),
        format!("'{handle}', '{verifier}', NULL, 1, {later}"),
        format!("'{handle}', '{verifier}', 1, 0, {later}"),
        format!("'{handle}', '{verifier}', 1, 1, NULL, {rest}"),
        format!("NULL, '{verifier}', 1, 1, {later}"),
        format!("'{handle}', NULL, 1, 1, {later}"),
        format!(
            "'{handle}', '{verifier}', 1, 1, '2099-01-01', 'x'' --', '{server}', 'req', 'agent'"
        ),
        format!("'{handle}', '{verifier}', 1, 1, '2099-01-01', NULL, '{server}', 'req', 'agent'"),
    ] {
        for settings in [
            "SET sql_mode = ''",
            "SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'",
            "SET NAMES utf8mb3 COLLATE utf8mb3_general_ci",
            "SET SESSION default_regex_flags = 'DOTALL,MULTILINE,EXTENDED,EXTRA'",
        ] {
            let call = format!("{settings}; CALL {procedures}.{create}({arguments})");
            let done = shop.as_broker(&call).await;
            let refused = match &done {
                Ok(lines) => lines == &["bad_argument"],
                Err(_) => true,
            };
            assert!(refused, "{call}: {done:?}");
        }
    }
    let left = admin(&format!(
        "SELECT User FROM mysql.global_priv WHERE User = '{handle}'"
    ))
    .await;
    assert_eq!(left, Vec::<String>::new());
    shop.close().await;
}

#[tokio::test]
async fn case_108_a_handle_is_never_cut_or_reused() {
    let shop = MariadbShop::open().await;
    let id = draw_lease();
    let first = shop.try_mint(&id, &shop.scope()).await.unwrap();
    let second = shop.try_mint(&id, &shop.scope()).await;
    assert!(
        matches!(second, Err(MintError::Unknown { .. })),
        "{second:?}"
    );
    Session::open(&first).await.unwrap();
    shop.issuer
        .end(&ending(&first.user, &shop.scope()))
        .await
        .unwrap();
    shop.close().await;
}

#[tokio::test]
async fn case_114_and_119_sessions_whose_account_is_gone_are_found_and_killed() {
    let shop = MariadbShop::open().await;
    let agent = shop.mint().await;
    let mut ghost = Session::open(&agent).await.unwrap();
    admin(&format!("DROP USER '{}'@'%'", agent.user)).await;
    assert_eq!(ghost.ask("SELECT 1").await.as_deref(), Some("1"));
    let listed = shop.issuer.list().await.unwrap();
    assert!(listed.iter().any(|found| found.handle == agent.user));
    let proof = shop.issuer.prove(&ending_at(&agent.user, None)).await;
    assert_eq!(proof.unwrap_err().code, "session_alive");
    shop.issuer
        .end(&ending(&agent.user, &shop.scope()))
        .await
        .unwrap();
    assert!(ghost.ask("SELECT 1").await.is_none());
    let proof = shop
        .issuer
        .prove(&ending_at(&agent.user, None))
        .await
        .unwrap();
    assert_eq!(
        proof,
        Proof::gone(["no_account", "no_session", "no_prepared_transaction"])
    );
    shop.close().await;
}

#[tokio::test]
async fn case_112_a_busy_agent_cannot_hold_the_end_up() {
    let shop = MariadbShop::open().await;
    let agent = shop.mint().await;
    let mut busy = Session::open(&agent).await.unwrap();
    let table = &shop.shop;
    let held = format!(
        "BEGIN; INSERT INTO {table}.notes VALUES (7, 'held'); SELECT GET_LOCK('countersign {}', 1)",
        agent.user
    );
    assert_eq!(busy.ask(&held).await.as_deref(), Some("1"));
    let sleeping = async {
        let _ = busy
            .ask("SET max_statement_time = 0; SELECT SLEEP(1000)")
            .await;
    };
    let ending = async {
        let active = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{}' AND info LIKE '%SLEEP%'",
            agent.user
        );
        until(async || admin(&active).await == ["1"]).await;
        shop.issuer
            .end(&ending(&agent.user, &shop.scope()))
            .await
            .unwrap();
        shop.issuer
            .prove(&ending_at(&agent.user, None))
            .await
            .unwrap();
    };
    tokio::join!(sleeping, ending);
    let held = admin(&format!("SELECT COUNT(*) FROM {table}.notes WHERE id = 7")).await;
    assert_eq!(held, ["0"]);
    shop.close().await;
}

#[tokio::test]
async fn case_113_a_changed_password_changes_nothing() {
    let shop = MariadbShop::open().await;
    let agent = shop.mint().await;
    let changed = shop
        .as_agent(&agent, "SET PASSWORD = PASSWORD('my-own')")
        .await;
    assert!(changed.is_ok(), "{changed:?}");
    shop.issuer
        .end(&ending(&agent.user, &shop.scope()))
        .await
        .unwrap();
    for password in ["my-own", agent.password.expose_secret()] {
        let again = client(&agent.host, agent.port, &agent.user, password);
        assert!(feed(again, "SELECT 1").await.is_err());
    }
    shop.close().await;
}

#[tokio::test]
async fn case_120_a_hostile_target_harms_itself_only() {
    let shop = MariadbShop::open().await;
    // A greeting that ends in the middle, and one that has no TLS and asks for the password in clear.
    let short = b"\x0a\0\0\0\x0a10.11.0\0".to_vec();
    let mut clear = b"\x0a10.11.0-MariaDB\0\x01\0\0\0abcdefgh\0\xff\xf7\x2d\x02\0\xff\x81\x15\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0mysql_clear_password\0".to_vec();
    let length = u8::try_from(clear.len()).unwrap();
    clear.splice(0..0, [length, 0, 0, 0]);
    for greeting in [short, clear] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut target = shop.target.clone();
        target.port = listener.local_addr().unwrap().port();
        target.tls = DatabaseTls::VerifyFull;
        let hostile = issuer_for(&target, "never-say-this", None).unwrap();
        let heard = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&greeting).await.unwrap();
            let mut bytes = vec![0; 4096];
            let count = stream.read(&mut bytes).await.unwrap_or(0);
            bytes.truncate(count);
            bytes
        };
        let order = order_for(&draw_lease(), &shop.scope(), &shop.identity);
        let (refused, heard, agent) = tokio::join!(hostile.mint(&order), heard, shop.mint());
        assert!(
            matches!(refused, Err(MintError::Unavailable { .. })),
            "{refused:?}"
        );
        assert!(!String::from_utf8_lossy(&heard).contains("never-say-this"));
        shop.issuer
            .end(&ending(&agent.user, &shop.scope()))
            .await
            .unwrap();
    }
    shop.close().await;
}

#[tokio::test]
async fn case_121_clear_text_is_for_this_machine_only() {
    let shop = MariadbShop::open().await;
    let mut target = shop.target.clone();
    for (host, tls, accepted) in [
        ("db.example.com", DatabaseTls::Disable, false),
        ("10.0.0.1", DatabaseTls::Disable, false),
        ("127.0.0.1", DatabaseTls::Disable, true),
        ("/run/mysqld.sock", DatabaseTls::Disable, false),
        ("db.example.com", DatabaseTls::VerifyFull, true),
        (
            "db.example.com",
            DatabaseTls::VerifyFullWith {
                root_file: "ca.pem".into(),
            },
            false,
        ),
    ] {
        target.host = host.into();
        target.tls = tls;
        let made = issuer_for(&target, "secret", None);
        assert_eq!(made.is_ok(), accepted, "{host} {:?}", target.tls);
    }
    shop.close().await;
}

#[tokio::test]
async fn case_121_a_certificate_is_verified_and_leases_must_use_tls() {
    let shop = MariadbShop::open().await;
    let pem = admin("SELECT LOAD_FILE(@@ssl_cert)")
        .await
        .join("\n")
        .replace("\\n", "\n");
    let with = |host: &str, pem: Option<&str>| {
        let mut target = shop.target.clone();
        target.host = host.into();
        target.tls = match pem {
            Some(_) => DatabaseTls::VerifyFullWith {
                root_file: "ca.pem".into(),
            },
            None => DatabaseTls::VerifyFull,
        };
        target
    };
    let encrypted = with("localhost", Some(&pem));
    admin(&preparation_sql(&encrypted, &[shop.scope()]).unwrap()).await;
    let mint = async |target: &MariadbTarget| {
        let trusts = matches!(target.tls, DatabaseTls::VerifyFullWith { .. });
        let issuer = issuer_for(target, &shop.password, trusts.then(|| pem.clone())).unwrap();
        issuer
            .mint(&order_for(&draw_lease(), &shop.scope(), &shop.identity))
            .await
    };
    let trusted = mint(&encrypted).await;
    let Ok(countersign::issuers::Credential::Mariadb(agent)) = trusted else {
        panic!("{trusted:?}");
    };
    assert!(agent.verify_tls && agent.ca_pem.is_some());
    let mut clear = client(
        "127.0.0.1",
        agent.port,
        &agent.user,
        agent.password.expose_secret(),
    );
    clear.arg("--skip-ssl");
    assert!(feed(clear, "SELECT 1").await.is_err());
    let mut tls = client(
        "127.0.0.1",
        agent.port,
        &agent.user,
        agent.password.expose_secret(),
    );
    tls.arg("--ssl");
    assert_eq!(feed(tls, "SELECT 1").await.unwrap(), ["1"]);
    let issuer = issuer_for(&encrypted, &shop.password, Some(pem.clone())).unwrap();
    let found = issuer.rehearse(&[shop.scope()]).await.unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    issuer
        .end(&ending(&agent.user, &shop.scope()))
        .await
        .unwrap();

    for untrusted in [with("localhost", None), with("127.0.0.1", Some(&pem))] {
        let minted = mint(&untrusted).await;
        assert!(
            matches!(minted, Err(MintError::Unavailable { .. })),
            "{minted:?}"
        );
    }
    shop.close().await;
}
