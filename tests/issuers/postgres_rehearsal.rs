//! Rehearsals: what a DBA forgot is said with the statement that mends it (abuse cases 101, 107, 110).

use countersign::issuers::Issuer;
use serde_json::json;

use super::shop::{self, Shop, column, run};
use crate::support::postgres_servers;

async fn problems(shop: &Shop) -> Vec<String> {
    shop.issuer
        .rehearse(&[shop.scope()])
        .await
        .unwrap()
        .problems
}

#[tokio::test]
async fn a_prepared_target_has_no_problems_and_keeps_no_probe() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let template = json!({"roles": [shop.group], "rows": {"country": "{country}"}});
        let found = shop
            .issuer
            .rehearse(&[shop.scope(), template])
            .await
            .unwrap();
        assert_eq!(found.problems, Vec::<String>::new());
        assert!(
            found
                .target
                .starts_with(&format!("PostgreSQL {}", server.version)),
            "{}",
            found.target
        );
        assert!(
            found
                .warnings
                .iter()
                .any(|warning| warning.contains("in clear"))
        );
        let probes = "SELECT rolname FROM pg_roles WHERE shobj_description(oid, 'pg_authid') LIKE '%agent=rehearsal%'";
        let group = format!("{probes} AND pg_has_role(oid, '{}', 'MEMBER')", shop.group);
        assert_eq!(column(&mut shop.admin, &group).await, Vec::<String>::new());
        shop.close().await;
    }
}

#[tokio::test]
async fn case_101_what_public_reaches_is_listed() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        drop(shop.open_other().await);
        let found = shop.issuer.rehearse(&[]).await.unwrap();
        let mend = format!(
            "REVOKE CONNECT, TEMPORARY ON DATABASE \"{}\" FROM PUBLIC",
            shop.other
        );
        let said = found
            .warnings
            .iter()
            .filter(|warning| warning.contains(&mend))
            .count();
        assert_eq!(said, 1, "{:?}", found.warnings);
        let own = format!("\"{}\"", shop.target.database);
        assert!(!found.warnings.iter().any(|warning| warning.contains(&own)));
        shop.close().await;
    }
}

#[tokio::test]
async fn case_107_what_the_dba_forgot_is_said_with_its_remedy() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let (broker, group) = (shop.target.user.clone(), shop.group.clone());
        let quarantine = shop.target.quarantine_role.clone();
        let spoils = [
            (
                format!("ALTER ROLE {broker} NOCREATEROLE"),
                format!("ALTER ROLE \"{broker}\" CREATEROLE"),
            ),
            (
                format!("ALTER ROLE {broker} SUPERUSER"),
                format!("ALTER ROLE \"{broker}\" NOSUPERUSER"),
            ),
            (
                format!("REVOKE {quarantine} FROM {broker}"),
                format!("GRANT \"{quarantine}\" TO \"{broker}\""),
            ),
            (
                format!("ALTER ROLE {quarantine} LOGIN"),
                format!("ALTER ROLE \"{quarantine}\" NOLOGIN"),
            ),
            (
                format!("ALTER ROLE {group} SUPERUSER"),
                format!("ALTER ROLE \"{group}\" NOSUPERUSER"),
            ),
            (
                format!("GRANT pg_execute_server_program TO {group}"),
                format!("REVOKE pg_execute_server_program FROM \"{group}\""),
            ),
            (
                format!("REVOKE INSERT ON countersign.lease_scope FROM {broker}"),
                format!("GRANT SELECT, INSERT, DELETE ON countersign.lease_scope TO \"{broker}\""),
            ),
            (
                "ALTER TABLE countersign.lease_scope DISABLE ROW LEVEL SECURITY".into(),
                "ALTER TABLE countersign.lease_scope ENABLE ROW LEVEL SECURITY".into(),
            ),
        ];
        for (spoil, remedy) in spoils {
            run(&mut shop.admin, &spoil).await;
            let said = problems(&shop).await;
            assert!(
                said.iter().any(|problem| problem.contains(&remedy)),
                "{spoil}: {said:?}"
            );
            run(&mut shop.admin, &remedy).await;
            assert_eq!(problems(&shop).await, Vec::<String>::new(), "{remedy}");
        }
        run(&mut shop.admin, "DROP POLICY lease_rows ON sales.customers").await;
        assert!(
            problems(&shop)
                .await
                .iter()
                .any(|problem| problem.contains("no row level security policy"))
        );
        let unknown = shop
            .issuer
            .rehearse(&[json!({"roles": ["nobody_made_this"]})])
            .await
            .unwrap();
        assert!(
            unknown.problems[0].contains("CREATE ROLE \"nobody_made_this\" NOLOGIN"),
            "{:?}",
            unknown.problems
        );
        shop.close().await;
    }
}

#[tokio::test]
async fn case_107_the_right_to_grant_a_group_is_checked() {
    for server in postgres_servers()
        .into_iter()
        .filter(|server| server.version >= 16)
    {
        let mut shop = Shop::open(&server).await;
        let (broker, group) = (shop.target.user.clone(), shop.group.clone());
        run(&mut shop.admin, &format!("REVOKE {group} FROM {broker}")).await;
        let remedy =
            format!("GRANT \"{group}\" TO \"{broker}\" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE");
        let said = problems(&shop).await;
        assert!(
            said.iter().any(|problem| problem.contains(&remedy)),
            "{said:?}"
        );
        run(&mut shop.admin, &remedy).await;
        assert_eq!(problems(&shop).await, Vec::<String>::new());
        shop.close().await;
    }
}

#[tokio::test]
async fn case_107_postgresql_15_has_to_be_accepted() {
    for server in postgres_servers()
        .into_iter()
        .filter(|server| server.version == 15)
    {
        let mut shop = Shop::open(&server).await;
        shop.target.accept_pg15_createrole = false;
        shop.issuer = shop::issuer_for(&shop.target, &shop.password, None).unwrap();
        assert!(problems(&shop).await[0].contains("accept_pg15_createrole = true"));
        assert!(
            shop.try_mint(&shop::draw_lease(), &shop.scope())
                .await
                .is_err()
        );
        shop.close().await;
    }
}

#[tokio::test]
async fn case_110_a_broker_that_cannot_end_sessions_is_told_so() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let broker = shop.target.user.clone();
        run(
            &mut shop.admin,
            &format!("REVOKE pg_signal_backend FROM {broker}"),
        )
        .await;
        let said = problems(&shop).await;
        let remedy = format!("GRANT pg_signal_backend TO \"{broker}\"");
        assert!(
            said.iter().any(|problem| problem.contains(&remedy)),
            "{said:?}"
        );
        run(&mut shop.admin, &remedy).await;
        assert_eq!(problems(&shop).await, Vec::<String>::new());
        shop.close().await;
    }
}
