//! Many leases that end with one message, and those among them that fight.

use countersign::issuers::{EndError, Ending, Issuer, Proof};
use sqlx::{Connection as _, PgConnection};

use super::shop::{Agent, Shop, assert_dead, attempt, column, ending, run};
use crate::support::own_postgres::OwnPostgres;
use crate::support::postgres_servers;

fn endings(agents: &[Agent]) -> Vec<Ending<'_>> {
    agents
        .iter()
        .map(|agent| ending(&agent.handle, &agent.scope))
        .collect()
}

async fn mint(shop: &Shop, count: usize) -> Vec<Agent> {
    let mut agents = Vec::new();
    for _ in 0..count {
        agents.push(shop.mint().await);
    }
    agents
}

fn is_gone(result: Option<&Result<Proof, EndError>>) -> bool {
    matches!(result, Some(Ok(Proof::Gone { .. })))
}

/// L10: who fights is neither ended by halves nor waited for by those that are dropped with the same statement.
#[tokio::test]
async fn finding_t11_who_fights_among_many_keeps_no_other_from_being_ended() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agents = mint(&shop, 24).await;
        let handle = |place: usize| agents[place].handle.as_str();
        // Its role is held, as a transaction that was prepared would hold it.
        let mut holder = PgConnection::connect(server.url.as_str()).await.unwrap();
        let hold = format!("BEGIN; ALTER ROLE {} CONNECTION LIMIT 9", handle(3));
        run(&mut holder, &hold).await;
        let mut session = agents[7].session().await;
        run(&mut session, "BEGIN; SELECT count(*) FROM sales.customers").await;
        let prepare =
            "BEGIN; ALTER ROLE CURRENT_USER SET work_mem = '5MB'; PREPARE TRANSACTION 'of-11'";
        let mut preparer = agents[11].session().await;
        run(&mut preparer, prepare).await;
        let grant = format!("GRANT SELECT ON sales.salaries TO {}", handle(15));
        run(&mut shop.admin, &grant).await;
        run(&mut shop.admin, &format!("DROP ROLE {}", handle(19))).await;

        let results = shop.issuer.end_willing(&endings(&agents)).await;
        assert_eq!(results.len(), agents.len());
        for (place, result) in results.iter().enumerate() {
            match place {
                3 | 11 | 15 => assert!(result.is_none(), "{place}: {result:?}"),
                _ => assert!(is_gone(result.as_ref()), "{place}: {result:?}"),
            }
        }
        let left =
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'jit\\_%' AND rolname = ANY (ARRAY[";
        let named: Vec<_> = agents
            .iter()
            .map(|agent| format!("'{}'", agent.handle))
            .collect();
        let left = format!("{left}{}]) ORDER BY 1", named.join(", "));
        let mut fighters = vec![handle(3), handle(11), handle(15)];
        fighters.sort_unstable();
        assert_eq!(column(&mut shop.admin, &left).await, fighters);
        assert_dead(&mut session).await;
        assert_dead(&mut preparer).await;
        for fighter in [3, 11, 15] {
            assert!(agents[fighter].log_in().await.is_err() || fighter == 3);
        }

        run(&mut holder, "ROLLBACK").await;
        let revoke = format!("REVOKE SELECT ON sales.salaries FROM {}", handle(15));
        run(&mut shop.admin, &revoke).await;
        for result in shop.issuer.end_all(&endings(&agents)).await {
            assert!(is_gone(Some(&result)), "{result:?}");
        }
        assert_eq!(column(&mut shop.admin, &left).await, Vec::<String>::new());
        shop.close().await;
    }
}

/// What one message has to lock may be more than the server has room for.
#[tokio::test]
async fn finding_t11_many_end_while_the_lock_table_is_full() {
    for model in postgres_servers() {
        let own = OwnPostgres::start(&model, "max_locks_per_transaction = 10").await;
        let mut shop = Shop::open(&own.server).await;
        let agents = mint(&shop, 80).await;
        // Nobody's lease holds this: it is not for us to end.
        let mut stranger = PgConnection::connect(own.server.url.as_str())
            .await
            .unwrap();
        let mut taken = 0;
        while attempt(&mut stranger, &format!("SELECT pg_advisory_lock({taken})"))
            .await
            .is_ok()
        {
            taken += 1;
        }
        for place in 0..160 {
            run(
                &mut stranger,
                &format!("SELECT pg_advisory_unlock({place})"),
            )
            .await;
        }
        for result in shop.issuer.end_willing(&endings(&agents)).await {
            assert!(is_gone(result.as_ref()), "{result:?}");
        }
        run(&mut stranger, "SELECT pg_advisory_unlock_all()").await;
        assert!(
            column(
                &mut shop.admin,
                "SELECT rolname FROM pg_roles WHERE rolname LIKE 'jit\\_%'"
            )
            .await
            .is_empty()
        );
        shop.close().await;
    }
}
