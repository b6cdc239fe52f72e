//! What agents do with an open session, and that it ends (abuse cases 98 to 101, 110 to 114, 119).

use countersign::issuers::Issuer;
use sqlx::ConnectOptions;

use super::shop::{Shop, assert_dead, attempt, column, ending_at, run, until};
use crate::support::postgres_servers;

#[tokio::test]
async fn case_098_a_session_that_became_the_group_is_dead() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        let became = attempt(&mut session, &format!("SET ROLE {}", shop.group)).await;
        // From 16 on it cannot even become the group.
        assert_eq!(became.is_ok(), server.version == 15);
        run(&mut session, "SELECT count(*) FROM sales.customers").await;
        shop.end_for_good(&agent).await;
        assert_dead(&mut session).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn case_099_an_open_cursor_is_dead() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        run(
            &mut session,
            "BEGIN; DECLARE c CURSOR FOR SELECT * FROM sales.customers",
        )
        .await;
        assert_eq!(column(&mut session, "FETCH 10 FROM c").await.len(), 10);
        shop.end_for_good(&agent).await;
        assert!(attempt(&mut session, "FETCH 10 FROM c").await.is_err());
        shop.close().await;
    }
}

#[tokio::test]
async fn case_100_sessions_die_whether_idle_or_busy() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let (mut idle, mut busy) = (agent.session().await, agent.session().await);
        let handle = agent.handle.clone();
        let admin = &mut shop.admin_in("postgres").await;
        let running = format!(
            "SELECT pid FROM pg_stat_activity WHERE usename = '{handle}' AND state = 'active'"
        );
        let (slept, ()) = tokio::join!(
            attempt(&mut busy, "SET statement_timeout = 0; SELECT pg_sleep(600)"),
            async {
                until(async || !column(admin, &running).await.is_empty()).await;
                shop.end_for_good(&agent).await;
            }
        );
        assert!(slept.is_err());
        assert_dead(&mut idle).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn case_101_what_public_may_read_is_out_of_reach_too() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        run(
            &mut shop.admin,
            "CREATE TABLE public.notice (t text); GRANT SELECT ON public.notice TO PUBLIC",
        )
        .await;
        let mut scope = shop.scope();
        scope["unbound"] = serde_json::json!(["public.notice"]);
        let agent = shop.mint_with(&scope).await;
        let mut session = agent.session().await;
        run(&mut session, "SELECT * FROM public.notice").await;
        shop.end_for_good(&agent).await;
        for read in [
            "SELECT * FROM public.notice",
            "SELECT count(*) FROM pg_class",
        ] {
            assert!(attempt(&mut session, read).await.is_err());
        }
        shop.close().await;
    }
}

#[tokio::test]
async fn case_111_a_prepared_transaction_is_rolled_back() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let other = shop.other.clone();
        drop(shop.open_other().await);
        let agent = shop.mint().await;
        for database in [shop.target.database.clone(), other] {
            let mut session = agent.log_in_to(&database).await.unwrap();
            let gid = format!("it''s \\ {database}; DROP ROLE x; --");
            run(
                &mut session,
                &format!("BEGIN; SELECT pg_advisory_xact_lock(7); PREPARE TRANSACTION '{gid}'"),
            )
            .await;
        }
        shop.end_for_good(&agent).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn case_112_locks_an_agent_holds_do_not_hold_up_its_end() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        run(
            &mut session,
            "BEGIN; LOCK TABLE sales.customers IN ACCESS SHARE MODE",
        )
        .await;
        if server.version > 15 {
            let own =
                "CREATE TABLE sales.mine (id int); LOCK TABLE sales.mine IN ACCESS EXCLUSIVE MODE";
            run(&mut session, own).await;
        }
        shop.end_for_good(&agent).await;
        assert_dead(&mut session).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn case_113_a_changed_password_changes_nothing() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        run(&mut session, "ALTER ROLE CURRENT_USER PASSWORD 'my-own'").await;
        assert!(
            attempt(
                &mut session,
                "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'"
            )
            .await
            .is_err()
        );
        shop.end_for_good(&agent).await;
        assert_dead(&mut session).await;
        let again = shop
            .broker_options()
            .username(&agent.handle)
            .password("my-own")
            .connect()
            .await;
        assert!(again.is_err());
        shop.close().await;
    }
}

#[tokio::test]
async fn case_114_sessions_whose_role_is_gone_are_found_and_killed() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        for proven in [false, true] {
            let agent = shop.mint().await;
            let mut ghost = agent.session().await;
            run(&mut shop.admin, &format!("DROP ROLE {}", agent.handle)).await;
            run(&mut ghost, "SELECT 1").await;
            if proven {
                shop.issuer
                    .prove(&ending_at(&agent.handle, None))
                    .await
                    .unwrap();
            } else {
                shop.issuer.list().await.unwrap();
            }
            assert_dead(&mut ghost).await;
            shop.end_for_good(&agent).await;
        }
        shop.close().await;
    }
}

#[tokio::test]
async fn case_119_sessions_in_every_database_of_the_primary_die() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        drop(shop.open_other().await);
        let agent = shop.mint().await;
        let mut elsewhere = agent.log_in_to(&shop.other).await.unwrap();
        run(
            &mut elsewhere,
            "SET application_name = 'countersign'; SELECT 1",
        )
        .await;
        shop.end_for_good(&agent).await;
        assert_dead(&mut elsewhere).await;
        shop.close().await;
    }
}
