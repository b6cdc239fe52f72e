//! Agents that fight their end: by filling the server up, by coming back, by holding locks.

use countersign::issuers::{Deployment, Issuer, Proof};
use serde_json::json;
use sqlx::PgConnection;

use super::shop::{Agent, Shop, assert_dead, attempt, column, ending, run, until};
use crate::support::own_postgres::OwnPostgres;
use crate::support::{PostgresServer, postgres_servers};

/// A server of its own for each version, which fills up soon.
async fn small_servers() -> Vec<OwnPostgres> {
    let mut servers = Vec::new();
    for model in postgres_servers() {
        let settings =
            "max_connections = 20\nmax_locks_per_transaction = 10\nmax_prepared_transactions = 0";
        servers.push(OwnPostgres::start(&model, settings).await);
    }
    servers
}

/// Waits until the broker holds what it keeps open for ends.
async fn until_ready(shop: &mut Shop) {
    let open = format!(
        "SELECT 1 FROM pg_stat_activity WHERE usename = '{}' AND state LIKE 'idle%'",
        shop.target.user
    );
    let admin = &mut shop.admin;
    until(async || column(admin, &open).await.len() >= 3).await;
}

/// Takes locks in an open transaction until there are none left in the server.
async fn take_all_locks(session: &mut PgConnection, take: &str) {
    let mut taken = 0;
    loop {
        run(session, "SAVEPOINT before").await;
        let some = take.replace("{n}", &taken.to_string());
        if let Err(error) = attempt(session, &some).await {
            let said = error.to_string();
            assert!(said.contains("out of shared memory"), "{said}");
            // The locks taken before stay.
            run(session, "ROLLBACK TO before").await;
            return;
        }
        taken += 1;
    }
}

async fn ends_with_a_full_lock_table(server: &PostgresServer, take: &str) {
    let mut shop = Shop::open(server).await;
    let (fighter, bystander) = (shop.mint().await, shop.mint().await);
    until_ready(&mut shop).await;
    let mut session = fighter.session().await;
    run(&mut session, "BEGIN; SELECT count(*) FROM sales.customers").await;
    take_all_locks(&mut session, take).await;
    // The last few too.
    take_all_locks(&mut session, "SELECT pg_advisory_lock(1000000 + {n})").await;
    run(&mut session, "SELECT count(*) FROM sales.customers").await;
    assert!(bystander.log_in().await.is_err());
    shop.end_for_good(&fighter).await;
    assert_dead(&mut session).await;
    shop.end_for_good(&bystander).await;
    shop.close().await;
}

#[tokio::test]
async fn finding_t01_a_session_that_holds_all_locks_is_ended() {
    for own in small_servers().await {
        for take in [
            "SELECT pg_advisory_lock({n} * 1000 + k) FROM generate_series(1, 100) k",
            "SELECT lo_create(0) FROM generate_series(1, 100) k",
        ] {
            ends_with_a_full_lock_table(&own.server, take).await;
        }
    }
}

/// L10: the lease that filled the lock table lives on; its session does not, once another lease has to end.
#[tokio::test]
async fn finding_t01_a_lease_that_fills_the_lock_table_holds_up_no_other() {
    for model in postgres_servers() {
        let own = OwnPostgres::start(&model, "max_connections = 40").await;
        let mut shop = Shop::open(&own.server).await;
        let (hog, bystander) = (shop.mint().await, shop.mint().await);
        until_ready(&mut shop).await;
        let mut session = hog.session().await;
        run(&mut session, "BEGIN").await;
        let take = "SELECT pg_advisory_lock({n} * 1000 + k) FROM generate_series(1, 100) k";
        take_all_locks(&mut session, take).await;
        take_all_locks(&mut session, "SELECT pg_advisory_lock(1000000 + {n})").await;
        shop.end_for_good(&bystander).await;
        assert_dead(&mut session).await;
        assert!(hog.log_in().await.is_ok(), "its lease lives");
        shop.end_for_good(&hog).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t01_a_session_that_locks_its_own_role_is_ended() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        run(
            &mut session,
            "BEGIN; ALTER ROLE CURRENT_USER SET work_mem = '5MB'; ALTER ROLE CURRENT_USER PASSWORD 'x'",
        )
        .await;
        shop.end_for_good(&agent).await;
        assert_dead(&mut session).await;
        shop.close().await;
    }
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "agents act while the broker ends them"
)]
async fn finding_t01_who_keeps_coming_back_is_ended() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = std::sync::Arc::new(shop.mint().await);
        let mut storm = Vec::new();
        for _ in 0..4 {
            let agent = agent.clone();
            storm.push(tokio::spawn(async move {
                loop {
                    if let Ok(mut session) = agent.log_in().await {
                        let lock =
                            "BEGIN; ALTER ROLE CURRENT_USER PASSWORD NULL; SELECT pg_sleep(60)";
                        let _ = attempt(&mut session, lock).await;
                    }
                    tokio::task::yield_now().await;
                }
            }));
        }
        let handle = &agent.handle;
        let seen = format!("SELECT 1 FROM pg_stat_activity WHERE usename = '{handle}'");
        let admin = &mut shop.admin;
        until(async || !column(admin, &seen).await.is_empty()).await;
        shop.end_for_good(&agent).await;
        storm.iter().for_each(tokio::task::JoinHandle::abort);
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t02_leases_that_take_all_connections_are_ended() {
    for own in small_servers().await {
        let mut shop = Shop::open(&own.server).await;
        let scope =
            json!({"roles": [shop.group], "rows": {"country": "de"}, "connection_limit": 10});
        let agents = [shop.mint_with(&scope).await, shop.mint_with(&scope).await];
        until_ready(&mut shop).await;
        let mut sessions = Vec::new();
        for agent in &agents {
            while let Ok(session) = agent.log_in().await {
                sessions.push(session);
            }
        }
        assert!(sessions.len() >= 10);
        let refused = agents[1].log_in().await.unwrap_err().to_string();
        assert!(refused.contains("connection"), "{refused}");
        for agent in &agents {
            shop.end_for_good(agent).await;
        }
        for session in &mut sessions {
            assert_dead(session).await;
        }
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t04_what_another_deployment_made_is_left_alone() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        let ours = std::mem::replace(
            &mut shop.issuer,
            super::shop::issuer_of(&shop.target, &shop.password, Deployment::of("another")),
        );
        let stray = "jit_00000000000000000000000000";
        run(&mut shop.admin, &format!("CREATE ROLE {stray}")).await;
        let whose = |found: Vec<countersign::issuers::Found>, handle: &str| {
            let found = found.into_iter().find(|found| found.handle == handle);
            found.map(|found| format!("{:?}", found.whose))
        };
        let deployment = Deployment::of("shop");
        let theirs = format!("Anothers(\"deployment {}\")", deployment.as_str());
        let listed = shop.issuer.list().await.unwrap();
        assert_eq!(whose(listed, &agent.handle), Some(theirs));
        let listed = shop.issuer.list().await.unwrap();
        assert_eq!(
            whose(listed, stray).as_deref(),
            Some("Anothers(\"no record\")")
        );
        for handle in [agent.handle.as_str(), stray] {
            let ended = shop.issuer.end(&ending(handle, &agent.scope)).await;
            assert_eq!(ended.unwrap_err().code, "not_ours");
        }
        run(&mut session, "SELECT count(*) FROM sales.customers").await;
        assert!(agent.log_in().await.is_ok());
        assert_eq!(
            whose(ours.list().await.unwrap(), &agent.handle).as_deref(),
            Some("Ours")
        );
        shop.issuer = ours;
        shop.end_for_good(&agent).await;
        assert_dead(&mut session).await;
        run(&mut shop.admin, &format!("DROP ROLE {stray}")).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t11_many_end_together_and_one_that_resists_holds_up_no_other() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let mut agents = Vec::new();
        for _ in 0..8 {
            agents.push(shop.mint().await);
        }
        let mut sessions = Vec::new();
        for agent in &agents[..3] {
            sessions.push(agent.session().await);
        }
        // One whose end is not possible, and one that is not ours.
        let blocked: &Agent = &agents[5];
        run(
            &mut shop.admin,
            &format!("GRANT SELECT ON sales.salaries TO {}", blocked.handle),
        )
        .await;
        let mut endings: Vec<_> = agents
            .iter()
            .map(|agent| ending(&agent.handle, &agent.scope))
            .collect();
        endings.push(ending("nonsense", &agents[0].scope));
        assert!(shop.issuer.batch() >= endings.len());
        let results = shop.issuer.end_all(&endings).await;
        for (index, result) in results.iter().enumerate() {
            let code = result.as_ref().map_err(|error| error.code.as_str());
            match index {
                5 => assert_eq!(code.unwrap_err(), "cleanup_blocked"),
                8 => assert_eq!(code.unwrap_err(), "bad_handle"),
                _ => assert!(
                    matches!(code, Ok(Proof::Gone { .. })),
                    "{index}: {result:?}"
                ),
            }
        }
        for session in &mut sessions {
            assert_dead(session).await;
        }
        run(
            &mut shop.admin,
            &format!("REVOKE SELECT ON sales.salaries FROM {}", blocked.handle),
        )
        .await;
        shop.end_for_good(&agents[5]).await;
        shop.close().await;
    }
}

/// What a lease prepares outlives its sessions, may hold its role and may be a lock with the name of an end.
#[tokio::test]
async fn finding_t01_what_a_lease_prepared_does_not_keep_it_alive() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let other = shop.mint().await;
        for prepared in [
            "ALTER ROLE CURRENT_USER PASSWORD 'x'",
            "ALTER ROLE CURRENT_USER SET work_mem = '5MB'",
            "SELECT pg_advisory_xact_lock(hashtextextended(CURRENT_USER, 0))",
        ] {
            let agent = shop.mint().await;
            let mut session = agent.session().await;
            let gid = format!("{}'' \n", agent.handle);
            let prepare = format!("BEGIN; {prepared}; PREPARE TRANSACTION '{gid}'");
            run(&mut session, &prepare).await;
            shop.end_for_good(&agent).await;
            assert_dead(&mut session).await;
        }
        shop.end_for_good(&other).await;
        shop.close().await;
    }
}

/// L10: what one lease prepared is in the way of no other lease's end.
#[tokio::test]
async fn finding_t01_what_a_lease_prepared_holds_up_no_other() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let (fighter, bystander) = (shop.mint().await, shop.mint().await);
        let mut session = fighter.session().await;
        let (database, handle) = (&shop.target.database, &bystander.handle);
        let prepare = format!(
            "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('{handle}', 0));
             ALTER ROLE CURRENT_USER IN DATABASE {database} SET work_mem = '5MB'; PREPARE TRANSACTION '{handle}'"
        );
        run(&mut session, &prepare).await;
        let before = tokio::time::Instant::now();
        shop.end_for_good(&bystander).await;
        assert!(before.elapsed().as_millis() < 1500, "it waited for nobody");
        shop.end_for_good(&fighter).await;
        shop.close().await;
    }
}

/// More than the lock table has room for, which other leases and the shop need too.
#[tokio::test]
async fn finding_t25_who_makes_very_many_objects_is_cleaned_up() {
    for model in postgres_servers() {
        let own = OwnPostgres::start(&model, "max_locks_per_transaction = 10").await;
        let mut shop = Shop::open(&own.server).await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        let mut make = vec!["SELECT count(lo_create(0)) FROM generate_series(1, 500)"; 8];
        if own.server.version > 15 {
            let tables = "DO $$ BEGIN FOR n IN 1..100 LOOP EXECUTE format('CREATE TABLE sales.%I (a text)', gen_random_uuid()); END LOOP; END $$";
            make.extend([tables; 6]);
        } else {
            make.insert(0, "SET ROLE {group}");
        }
        for sql in make {
            run(&mut session, &sql.replace("{group}", &shop.group)).await;
        }
        let behind = shop.end_for_good(&agent).await;
        assert!(behind.len() >= 4000, "{}", behind.len());
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t25_who_grants_a_lease_something_does_not_hold_its_role() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let (granter, agent) = (shop.mint().await, shop.mint().await);
        let mut granting = granter.session().await;
        let handle = &agent.handle;
        let grant = format!("BEGIN; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {handle}");
        run(&mut granting, &grant).await;
        shop.end_for_good(&agent).await;
        assert_dead(&mut granting).await;
        shop.end_for_good(&granter).await;
        shop.close().await;
    }
}
