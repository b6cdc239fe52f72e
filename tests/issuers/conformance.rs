//! What every issuer promises, on every server.

use countersign::domain::{Seconds, lease};
use countersign::issuers::{Issuer, MintError, PostgresCredential};
use countersign::system::{Clock, SystemClock};
use serde_json::json;
use tokio::net::TcpListener;

use super::shop::{self, Shop, assert_dead, attempt, column, run, until};
use super::wire::Relay;
use crate::support::postgres_servers;

#[tokio::test]
async fn mint_use_end_prove() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        assert_eq!(agent.credential.user, agent.handle);
        let mut session = agent.session().await;
        let countries = column(&mut session, "SELECT DISTINCT country FROM sales.customers").await;
        assert_eq!(countries, ["de"]);
        assert!(shop.issuer.list().await.unwrap().contains(&agent.handle));
        assert!(shop.issuer.prove(&agent.handle, None).await.is_err());

        shop.end_for_good(&agent).await;
        assert_dead(&mut session).await;
        assert!(!shop.issuer.list().await.unwrap().contains(&agent.handle));
        shop.end_for_good(&agent).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn the_scope_is_all_there_is() {
    for server in postgres_servers() {
        let shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        for refused in [
            "SELECT * FROM sales.salaries",
            "UPDATE sales.customers SET name = 'x'",
            "INSERT INTO countersign.lease_scope VALUES (SESSION_USER, 'country2', 'fr')",
            "UPDATE countersign.lease_scope SET value = 'fr'",
            "CREATE ROLE mine",
            "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'",
            "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1",
            "ALTER TABLE sales.customers DISABLE ROW LEVEL SECURITY",
        ] {
            assert!(attempt(&mut session, refused).await.is_err(), "{refused}");
        }
        let timeout = column(&mut session, "SHOW statement_timeout").await;
        assert_eq!(timeout, ["1min"]);
        let mut sessions = vec![session, agent.session().await, agent.session().await];
        until(async || agent.log_in().await.is_err()).await;
        shop.end(&agent).await;
        for session in &mut sessions {
            assert_dead(session).await;
        }
        shop.close().await;
    }
}

#[tokio::test]
async fn ends_come_in_any_order_and_for_what_never_was() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agents = [shop.mint().await, shop.mint().await, shop.mint().await];
        shop.end_for_good(&agents[2]).await;
        shop.end_for_good(&agents[0]).await;
        let never = lease::handle_of(&shop::draw_lease());
        shop.issuer.end(&never, &shop.scope()).await.unwrap();
        shop.issuer
            .end(&never, &serde_json::Value::Null)
            .await
            .unwrap();
        shop.issuer.prove(&never, None).await.unwrap();
        shop.end_for_good(&agents[1]).await;
        assert!(shop.issuer.end("postgres", &shop.scope()).await.is_err());
        assert!(shop.issuer.end("jit_short", &shop.scope()).await.is_err());
        shop.close().await;
    }
}

#[tokio::test]
async fn ends_may_overlap() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        run(&mut session, "CREATE TABLE sales.mine (id int)").await;
        let scope = shop.scope();
        let end = || shop.issuer.end(&agent.handle, &scope);
        let _ = tokio::join!(end(), end(), end());
        shop.end_for_good(&agent).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn l04_a_crash_at_any_step_of_the_end_is_made_good() {
    let steps = [
        "ALTER ROLE {r} NOLOGIN CONNECTION LIMIT 0 PASSWORD NULL VALID UNTIL '-infinity'",
        "REVOKE {g} FROM {r}",
        "GRANT {r} TO {b}",
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE usename = '{r}'",
        "REASSIGN OWNED BY {r} TO {q}",
        "DROP OWNED BY {r}",
        "DELETE FROM countersign.lease_scope WHERE role_name = '{r}'",
        "DROP ROLE {r}",
    ];
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        for done in 0..=steps.len() {
            let agent = shop.mint().await;
            let mut session = agent.session().await;
            run(&mut session, "CREATE TABLE sales.mine (id int)").await;
            for step in &steps[..done] {
                let step = step
                    .replace("{r}", &agent.handle)
                    .replace("{g}", &shop.group)
                    .replace("{b}", &shop.target.user)
                    .replace("{q}", &shop.target.quarantine_role);
                run(&mut shop.admin, &step).await;
            }
            shop.end_for_good(&agent).await;
            assert_dead(&mut session).await;
            run(&mut shop.admin, "DROP TABLE IF EXISTS sales.mine").await;
        }
        shop.close().await;
    }
}

/// Asserts that nothing was minted and everything else says so too.
async fn assert_unavailable(shop: &Shop) {
    let minted = shop.try_mint(&shop::draw_lease(), &shop.scope()).await;
    assert!(
        matches!(minted, Err(MintError::Unavailable { .. })),
        "{minted:?}"
    );
    let handle = lease::handle_of(&shop::draw_lease());
    let (ended, proven, listed) = tokio::join!(
        async { shop.issuer.end(&handle, &shop.scope()).await },
        shop.issuer.prove(&handle, None),
        shop.issuer.list(),
    );
    for error in [ended.unwrap_err(), proven.unwrap_err(), listed.unwrap_err()] {
        assert_eq!(error.code, "target_unavailable", "{error}");
    }
    assert!(shop.issuer.rehearse(&[]).await.is_err());
}

async fn with_port(port: u16) -> Shop {
    let server = postgres_servers().pop().unwrap();
    let mut shop = Shop::open(&server).await;
    shop.target.port = port;
    shop.issuer = shop::issuer_for(&shop.target, &shop.password, None).unwrap();
    shop
}

#[tokio::test]
async fn a_target_that_is_down_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let shop = with_port(port).await;
    assert_unavailable(&shop).await;
    shop.close().await;
}

#[tokio::test]
async fn a_target_that_hangs_is_unavailable_within_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let shop = with_port(listener.local_addr().unwrap().port()).await;
    let accepting = async {
        let mut kept = Vec::new();
        loop {
            kept.push(listener.accept().await.unwrap());
        }
    };
    let asked = tokio::time::timeout(
        std::time::Duration::from_secs(30),
        assert_unavailable(&shop),
    );
    tokio::select! {
        asked = asked => asked.expect("every question has a deadline"),
        () = accepting => {}
    }
    shop.close().await;
}

#[tokio::test]
async fn l03_a_lost_answer_is_unknown_and_the_role_is_found() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let direct = shop::issuer_for(&shop.target, &shop.password, None).unwrap();
        let relay = Relay::to(shop.target.port).await;
        shop.target.port = relay.port;
        shop.issuer = shop::issuer_for(&shop.target, &shop.password, None).unwrap();
        relay.lose_answers_to("CREATE ROLE");
        let id = shop::draw_lease();
        let minted = shop.try_mint(&id, &shop.scope()).await;
        assert!(
            matches!(minted, Err(MintError::Unknown { .. })),
            "{minted:?}"
        );
        let handle = lease::handle_of(&id);
        until(async || direct.list().await.unwrap().contains(&handle)).await;
        // A second mint under the same name must not call itself refused: something of that name is there.
        relay.be_faithful();
        let again = shop.try_mint(&id, &shop.scope()).await;
        assert!(matches!(again, Err(MintError::Unknown { .. })), "{again:?}");
        shop.issuer.end(&handle, &shop.scope()).await.unwrap();
        direct.prove(&handle, None).await.unwrap();
        shop.close().await;
    }
}

#[tokio::test]
async fn l03_a_frozen_broker_mints_nothing_when_it_thaws() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let relay = Relay::to(shop.target.port).await;
        let direct = shop::issuer_for(&shop.target, &shop.password, None).unwrap();
        shop.target.port = relay.port;
        shop.issuer = shop::issuer_for(&shop.target, &shop.password, None).unwrap();
        relay.hold_back("CREATE ROLE");
        let id = shop::draw_lease();
        let mut order = shop::order_for(&id, &shop.scope());
        order.mint_until = order.now.plus(Seconds(2));
        let deadline = order.mint_until;
        let thaw = async {
            until(async || {
                relay.is_holding() && SystemClock::start().now() > deadline.plus(Seconds(1))
            })
            .await;
            relay.be_faithful();
        };
        let (minted, ()) = tokio::join!(shop.issuer.mint(&order), thaw);
        assert!(
            matches!(minted, Err(MintError::Unavailable { .. })),
            "{minted:?}"
        );
        direct.prove(&lease::handle_of(&id), None).await.unwrap();
        shop.close().await;
    }
}

#[tokio::test]
async fn a_mint_after_its_time_is_not_sent() {
    let server = postgres_servers().pop().unwrap();
    let shop = Shop::open(&server).await;
    let mut order = shop::order_for(&shop::draw_lease(), &shop.scope());
    order.mint_until = order.now.plus(Seconds(0));
    until(async || SystemClock::start().now() > order.mint_until).await;
    let minted = shop.issuer.mint(&order).await;
    assert!(
        matches!(minted, Err(MintError::Unavailable { .. })),
        "{minted:?}"
    );
    shop.close().await;
}

fn code(minted: Result<PostgresCredential, MintError>) -> String {
    match minted {
        Err(MintError::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn refusals_have_stable_codes() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        drop(shop.open_other().await);
        let mint =
            async |shop: &Shop, scope| code(shop.try_mint(&shop::draw_lease(), &scope).await);
        assert_eq!(
            mint(&shop, json!({"roles": ["nobody_made_this"]})).await,
            "role_missing"
        );
        assert_eq!(mint(&shop, json!({"roles": ["{role}"]})).await, "bad_scope");
        let nowhere = json!({"roles": [shop.group], "database": "nowhere"});
        assert_eq!(mint(&shop, nowhere).await, "database_missing");
        let no_table =
            json!({"roles": [shop.group], "database": shop.other, "rows": {"country": "de"}});
        assert_eq!(mint(&shop, no_table).await, "scope_table_missing");
        let broker = shop.target.user.clone();
        run(
            &mut shop.admin,
            &format!("ALTER ROLE {broker} NOCREATEROLE"),
        )
        .await;
        assert_eq!(mint(&shop, shop.scope()).await, "insufficient_privilege");
        shop.password = "wrong".into();
        shop.issuer = shop::issuer_for(&shop.target, &shop.password, None).unwrap();
        assert_eq!(mint(&shop, shop.scope()).await, "broker_login_refused");
        shop.target.accept_pg15_createrole = false;
        shop.close().await;
    }
}

#[tokio::test]
async fn explains_without_asking_anyone() {
    let mut shop = with_port(1).await;
    shop.target.port = 1;
    let scope = json!({"roles": ["customers_limited"], "rows": {"country": "de"}});
    shop.issuer.check_scope(&scope).unwrap();
    let told = shop.issuer.explain(&scope, Seconds(900));
    assert!(
        told.words[0].contains("customers_limited"),
        "{:?}",
        told.words
    );
    assert!(
        told.words[1].contains("only rows where country = de"),
        "{:?}",
        told.words
    );
    assert!(
        told.exact
            .contains("GRANT \"customers_limited\" TO \"jit_…\""),
        "{}",
        told.exact
    );
    assert!(told.ending[0].contains("15m"), "{:?}", told.ending);
    shop.close().await;
}
