//! What was found in the running product at MariaDB, and the right outcome of each.

use countersign::config::MariadbAuthentication;
use countersign::domain::lease;
use countersign::issuers::mariadb::preparation_sql;
use countersign::issuers::{Ending, Issuer, MariadbCredential, MintError, TARGET_CHANGED, Whose};
use serde_json::{Value, json};

use super::mariadb_server::OwnServer;
use super::mariadb_shop::{MariadbShop, Session, issuer_of};
use super::orders::{draw_lease, ending, order_for, until};

/// A lease that may change notes, in a session.
async fn writer(shop: &MariadbShop) -> (MariadbCredential, Session, Value) {
    let notes = format!("{}.notes", shop.shop);
    let scope = json!({"grants": [{"privileges": ["select", "update"], "table": notes}]});
    shop.prepare(&[shop.scope(), scope.clone()]).await;
    let agent = shop.try_mint(&draw_lease(), &scope).await.unwrap();
    let session = Session::open(&agent).await.unwrap();
    (agent, session, scope)
}

async fn prepare(session: &mut Session, shop: &MariadbShop, xid: &str, id: u8) {
    let notes = format!("{}.notes", shop.shop);
    let statements = format!(
        "XA START {xid}; UPDATE {notes} SET text = 'theirs' WHERE id = {id}; XA END {xid}; XA PREPARE {xid}; SELECT 'prepared'"
    );
    assert_eq!(session.ask(&statements).await.as_deref(), Some("prepared"));
}

/// XA transactions belong to the whole server, so these run one after the other, at a server of their own.
#[tokio::test]
async fn finding_t13_and_t24_a_prepared_transaction_is_named_and_a_stray_blocks_nobody() {
    let server = OwnServer::start(&[]).await;
    let shop = MariadbShop::open_at(server.url.clone()).await;
    let notes = format!("{}.notes", shop.shop);
    shop.admin(&format!(
        "INSERT INTO {notes} VALUES (1, 'ours'), (2, 'ours'), (3, 'ours')"
    ))
    .await;
    // What somebody prepared before the mint and left.
    let mut stray = Session::of(shop.admin_client()).await.unwrap();
    prepare(&mut stray, &shop, "'stray'", 3).await;
    drop(stray);
    let idle = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{}'",
        server.url.username()
    );
    until(async || shop.admin(&idle).await == ["1"]).await;

    let (first, mut session, scope) = writer(&shop).await;
    prepare(&mut session, &shop, "X'6c65667427',X'00',7", 1).await;
    let (second, mut other, _) = writer(&shop).await;
    let ended = shop.issuer.end(&ending(&first.user, &scope)).await;
    let left = ended.unwrap_err();
    assert_eq!(left.code, "prepared_transaction_left");
    assert!(
        left.detail.contains("XA ROLLBACK X'6c65667427',X'00',7"),
        "{left}"
    );
    assert!(!left.detail.contains("7374726179"), "{left}");
    assert!(session.ask("SELECT 1").await.is_none());
    // The statement runs as it is printed, and then the end is told.
    let statement = left.detail.split_once("it: ").unwrap().1;
    shop.admin(statement).await;
    shop.issuer.end(&ending(&first.user, &scope)).await.unwrap();
    shop.issuer
        .prove(&ending(&first.user, &scope))
        .await
        .unwrap();
    let text = format!("SELECT text FROM {notes} WHERE id = 1");
    assert_eq!(shop.admin(&text).await, ["ours"]);

    // The stray's name used again for another transaction is not the stray.
    let stolen = "XA ROLLBACK 'stray'; SELECT 'gone'";
    assert_eq!(other.ask(stolen).await.as_deref(), Some("gone"));
    prepare(&mut other, &shop, "'stray'", 2).await;
    let left = shop
        .issuer
        .end(&ending(&second.user, &scope))
        .await
        .unwrap_err();
    assert_eq!(left.code, "prepared_transaction_left");
    let statement = left.detail.split_once("it: ").unwrap().1;
    shop.admin(statement).await;
    shop.issuer
        .end(&ending(&second.user, &scope))
        .await
        .unwrap();
    assert!(
        !shop
            .issuer
            .explain(&scope, countersign::domain::Seconds(60))
            .outlives
            .is_empty()
    );
    shop.close().await;
}

#[tokio::test]
async fn finding_t14_nothing_is_minted_ended_or_proven_at_another_server() {
    let (shop, other) = (MariadbShop::open().await, MariadbShop::open().await);
    assert_ne!(shop.identity, other.identity);
    let agent = shop.mint().await;
    let mut session = Session::open(&agent).await.unwrap();
    let scope = shop.scope();
    let at_shop = Ending {
        server: Some(&shop.identity),
        ..ending(&agent.user, &scope)
    };
    let order = order_for(&draw_lease(), &other.scope(), &shop.identity);
    let minted = other.issuer.mint(&order).await;
    assert!(
        matches!(minted, Err(MintError::Elsewhere { .. })),
        "{minted:?}"
    );
    let ended = other.issuer.end(&at_shop).await;
    assert_eq!(ended.unwrap_err().code, TARGET_CHANGED);
    let proven = other.issuer.prove(&at_shop).await;
    assert_eq!(proven.unwrap_err().code, TARGET_CHANGED);
    assert_eq!(session.ask("SELECT 1").await.as_deref(), Some("1"));
    shop.prepare(&[shop.scope()]).await;
    assert_eq!(shop.issuer.identify().await.unwrap(), shop.identity);
    shop.issuer.end_and_prove(&at_shop).await.unwrap();
    assert!(session.ask("SELECT 1").await.is_none());
    shop.close().await;
    other.close().await;
}

#[tokio::test]
async fn finding_t04_mariadb_two_brokers_on_one_server_leave_each_other_alone() {
    let shop = MariadbShop::open().await;
    let agent = shop.mint().await;
    let mut session = Session::open(&agent).await.unwrap();
    let scope = shop.scope();
    let theirs = issuer_of("theirs", &shop.target, &shop.password, None).unwrap();
    let whose = async |issuer: &dyn Issuer| {
        let found = issuer.list().await.unwrap().into_iter();
        found
            .map(|one| (one.handle, one.whose))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(whose(&shop.issuer).await[&agent.user], Whose::Ours);
    assert!(matches!(
        whose(&theirs).await[&agent.user],
        Whose::Anothers(_)
    ));
    for server in [None, Some(&shop.identity)] {
        let end = Ending {
            server,
            ..ending(&agent.user, &scope)
        };
        assert_eq!(theirs.end(&end).await.unwrap_err().code, "not_ours");
        assert_eq!(theirs.prove(&end).await.unwrap_err().code, "not_ours");
    }
    // An account of that form that nobody recorded.
    let unrecorded = lease::handle_of(&draw_lease());
    shop.admin(&format!("CREATE USER '{unrecorded}'@'%' ACCOUNT LOCK"))
        .await;
    assert!(matches!(
        whose(&shop.issuer).await[&unrecorded],
        Whose::Anothers(_)
    ));
    let orphan = ending(&unrecorded, &Value::Null);
    assert_eq!(shop.issuer.end(&orphan).await.unwrap_err().code, "not_ours");
    let there = format!("SELECT COUNT(*) FROM mysql.global_priv WHERE User = '{unrecorded}'");
    assert_eq!(shop.admin(&there).await, ["1"]);
    // The same, when the ledger knows it: the record was lost with the server's last second.
    let known = Ending {
        server: Some(&shop.identity),
        ..orphan
    };
    shop.issuer.end_and_prove(&known).await.unwrap();
    assert_eq!(shop.admin(&there).await, ["0"]);
    // A record whose account was never made is harmless, and closed.
    let unmade = lease::handle_of(&draw_lease());
    let procedures = &shop.target.procedures;
    shop.admin(&format!(
        "INSERT INTO {procedures}.leases SELECT '{unmade}', deployment, request, agent, server, minted_at, NULL, NULL, NULL FROM {procedures}.leases WHERE handle = '{}'",
        agent.user
    ))
    .await;
    assert_eq!(whose(&shop.issuer).await[&unmade], Whose::Ours);
    shop.issuer
        .end(&ending(&unmade, &Value::Null))
        .await
        .unwrap();
    assert!(!whose(&shop.issuer).await.contains_key(&unmade));

    assert_eq!(session.ask("SELECT 1").await.as_deref(), Some("1"));
    shop.issuer.end(&ending(&agent.user, &scope)).await.unwrap();
    shop.close().await;
}

#[tokio::test]
async fn an_end_of_many_is_one_message_and_each_has_its_own_result() {
    let shop = MariadbShop::open().await;
    let scope = shop.scope();
    let mut agents = Vec::new();
    for _ in 0..5 {
        agents.push(shop.mint().await);
    }
    let mut session = Session::open(&agents[3]).await.unwrap();
    let mut endings: Vec<_> = agents
        .iter()
        .map(|agent| Ending {
            server: Some(&shop.identity),
            ..ending(&agent.user, &scope)
        })
        .collect();
    let elsewhere = "mariadb elsewhere server 1".parse().unwrap();
    endings[1].server = Some(&elsewhere);
    endings[2].handle = "root";
    let results = shop.issuer.end_all(&endings).await;
    let codes: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().err().map(|why| why.code.as_str()))
        .collect();
    assert_eq!(
        codes,
        [None, Some(TARGET_CHANGED), Some("bad_handle"), None, None]
    );
    assert!(session.ask("SELECT 1").await.is_none());
    for index in [1, 2] {
        Session::open(&agents[index]).await.unwrap();
        shop.issuer
            .end(&ending(&agents[index].user, &scope))
            .await
            .unwrap();
    }
    shop.close().await;
}

#[tokio::test]
async fn finding_t21_password_validation_is_not_taken_for_a_read_only_server() {
    let server = OwnServer::start(&[]).await;
    let shop = MariadbShop::open_at(server.url.clone()).await;
    let code = async || match shop.try_mint(&draw_lease(), &shop.scope()).await {
        Err(MintError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    shop.admin("INSTALL SONAME 'simple_password_check'").await;
    assert_eq!(code().await, "password_validation");
    let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
    let said = found
        .problems
        .iter()
        .any(|problem| problem.contains("SET GLOBAL strict_password_validation = OFF"));
    assert!(said, "{found:?}");
    shop.admin("SET GLOBAL strict_password_validation = OFF")
        .await;
    let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    // The preparation can be made from nothing at such a server too.
    let mut target = shop.target.clone();
    target.procedures = "second".into();
    target.user = "second_broker".into();
    shop.admin(&preparation_sql(&target, &[shop.scope()]).unwrap())
        .await;

    let agent = shop.mint().await;
    let mut session = Session::open(&agent).await.unwrap();
    shop.admin("SET GLOBAL read_only = ON").await;
    assert_eq!(code().await, "read_only_target");
    let scope = shop.scope();
    let ended = shop.issuer.end(&ending(&agent.user, &scope)).await;
    assert_eq!(ended.unwrap_err().code, "read_only_target");
    assert_eq!(
        shop.issuer.identify().await.unwrap_err().code,
        "read_only_target"
    );
    assert_eq!(
        shop.issuer.list().await.unwrap_err().code,
        "read_only_target"
    );
    assert!(session.ask("SELECT 1").await.is_none());
    shop.admin("SET GLOBAL read_only = OFF").await;
    shop.issuer.end(&ending(&agent.user, &scope)).await.unwrap();
    shop.close().await;
}

#[tokio::test]
async fn finding_t21_the_preparation_says_what_it_changes_and_what_is_not_needed() {
    let shop = MariadbShop::open().await;
    let salaries = format!("{}.salaries", shop.shop);
    let other = json!({"grants": [{"privileges": ["select"], "table": salaries}]});
    let run = async |scopes: &[Value]| {
        shop.admin(&preparation_sql(&shop.target, scopes).unwrap())
            .await
    };
    assert_eq!(run(&[shop.scope()]).await, Vec::<String>::new());
    let grown = run(&[shop.scope(), other]).await;
    assert!(
        matches!(grown.as_slice(), [one] if one.starts_with("adds procedure lease_create_")),
        "{grown:?}"
    );
    shop.admin(&format!(
        "CREATE OR REPLACE PROCEDURE {}.lease_list() SELECT 1",
        shop.target.procedures
    ))
    .await;
    let shrunk = run(&[shop.scope()]).await;
    assert_eq!(shrunk.len(), 3, "{shrunk:?}");
    assert_eq!(shrunk[0], "changes procedure lease_list");
    for line in &shrunk[1..] {
        let statement = line.strip_prefix("not needed by this catalog: ").unwrap();
        shop.admin(statement).await;
    }
    assert_eq!(run(&[shop.scope()]).await, Vec::<String>::new());
    let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    shop.close().await;
}

#[tokio::test]
async fn finding_t23_ed25519_is_there_for_those_who_want_it() {
    let mut shop = MariadbShop::open().await;
    shop.target.authentication = MariadbAuthentication::Ed25519;
    shop.issuer = issuer_of("ours", &shop.target, &shop.password, None).unwrap();
    // What is prepared for one is not taken for the other.
    let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
    assert!(!found.problems.is_empty());
    shop.prepare(&[shop.scope()]).await;
    let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    let agent = shop.mint().await;
    Session::open(&agent).await.unwrap();
    let scope = shop.scope();
    shop.issuer.end(&ending(&agent.user, &scope)).await.unwrap();
    shop.close().await;
}
