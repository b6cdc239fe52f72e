//! Rehearsals: what a DBA forgot is said with the statement that mends it (abuse cases 101, 107, 110).

use countersign::issuers::Issuer;
use serde_json::json;

use super::shop::{Shop, column, issuer_for, run};
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
            "REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC",
            shop.other
        );
        let said = found
            .warnings
            .iter()
            .filter(|warning| warning.contains(&mend))
            .count();
        assert_eq!(said, 1, "{:?}", found.warnings);
        let own = format!("DATABASE {} ", shop.target.database);
        assert!(!found.warnings.iter().any(|warning| warning.contains(&own)));
        shop.close().await;
    }
}

/// What a DBA may have forgotten or changed, and what mends it.
fn spoils(shop: &Shop) -> Vec<(String, String)> {
    let (broker, group) = (shop.target.user.clone(), shop.group.clone());
    let procedures = shop.target.procedures.clone();
    vec![
        (
            format!("ALTER ROLE {broker} SUPERUSER"),
            format!("ALTER ROLE {broker} NOSUPERUSER"),
        ),
        (
            format!("ALTER ROLE {broker} CREATEROLE"),
            format!("ALTER ROLE {broker} NOCREATEROLE"),
        ),
        (
            format!("ALTER ROLE {broker} CONNECTION LIMIT 1"),
            format!("ALTER ROLE {broker} CONNECTION LIMIT"),
        ),
        (
            format!("GRANT {group} TO {broker}"),
            format!("REVOKE {group} FROM {broker}"),
        ),
        (
            format!("GRANT SELECT ON sales.customers TO {broker}"),
            format!("REVOKE ALL ON TABLE sales.customers FROM {broker}"),
        ),
        (
            format!("ALTER TABLE sales.salaries OWNER TO {broker}"),
            format!("REASSIGN OWNED BY {broker} TO CURRENT_USER"),
        ),
        (
            format!("ALTER ROLE {procedures}_keeper LOGIN"),
            format!("ALTER ROLE {procedures}_keeper NOLOGIN"),
        ),
        (
            format!("REVOKE pg_signal_backend FROM {procedures}_keeper"),
            format!("GRANT pg_signal_backend TO {procedures}_keeper"),
        ),
        (
            format!("ALTER ROLE {procedures}_minter_001 NOCREATEROLE"),
            format!("ALTER ROLE {procedures}_minter_001 CREATEROLE"),
        ),
        (
            format!("REVOKE {procedures}_granter FROM {procedures}_minter_000"),
            format!("GRANT {procedures}_granter TO {procedures}_minter_000"),
        ),
        (
            format!("REVOKE {group} FROM {procedures}_granter"),
            format!("GRANT {group} TO {procedures}_granter WITH ADMIN"),
        ),
        (
            format!("ALTER TABLE {procedures}.lease_scope DISABLE ROW LEVEL SECURITY"),
            format!("ALTER TABLE {procedures}.lease_scope ENABLE ROW LEVEL SECURITY"),
        ),
        (
            format!("GRANT SELECT ON {procedures}.lease TO PUBLIC"),
            format!("REVOKE SELECT ON {procedures}.lease FROM PUBLIC"),
        ),
        (
            format!("CREATE POLICY all_rows ON {procedures}.lease_scope USING (true)"),
            format!("DROP POLICY all_rows ON {procedures}.lease_scope"),
        ),
    ]
}

#[tokio::test]
async fn case_107_what_the_dba_forgot_is_said_with_its_remedy() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        for (spoil, remedy) in spoils(&shop) {
            run(&mut shop.admin, &spoil).await;
            let said = problems(&shop).await;
            let told = said.iter().find(|problem| problem.contains(&remedy));
            let told = told.unwrap_or_else(|| panic!("{spoil}: {said:?}"));
            // What is told works as it stands.
            run(&mut shop.admin, told.split_once(": ").unwrap().1).await;
            assert_eq!(problems(&shop).await, Vec::<String>::new(), "{remedy}");
        }
        let unknown = shop
            .issuer
            .rehearse(&[json!({"roles": ["nobody_made_this"]})])
            .await
            .unwrap();
        assert!(
            unknown.problems[0].contains("CREATE ROLE nobody_made_this NOLOGIN"),
            "{:?}",
            unknown.problems
        );
        shop.close().await;
    }
}

#[tokio::test]
async fn case_107_functions_that_are_not_what_was_reviewed_are_told() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let (procedures, scope) = (shop.target.procedures.clone(), shop.scope());
        let broker = shop.target.user.clone();
        let one = |column: &str| {
            format!(
                "SELECT {column} FROM pg_proc WHERE proname = 'lease_kill' AND pronamespace = '{procedures}'::regnamespace"
            )
        };
        let signature = column(&mut shop.admin, &one("oid::regprocedure::text")).await;
        let signature = signature[0].clone();
        let body = column(&mut shop.admin, &one("pg_get_functiondef(oid)")).await;
        let spoils = [
            (
                body[0].replace("RETURN killed", "RETURN 0"),
                "body".to_owned(),
            ),
            (
                format!("ALTER FUNCTION {signature} SECURITY INVOKER"),
                "rights".into(),
            ),
            (
                format!("ALTER FUNCTION {signature} RESET search_path"),
                "settings".into(),
            ),
            (
                format!("ALTER FUNCTION {signature} OWNER TO CURRENT_USER"),
                "owner".into(),
            ),
            (
                format!("GRANT EXECUTE ON FUNCTION {signature} TO PUBLIC"),
                "callers".into(),
            ),
            (format!("DROP FUNCTION {signature}"), "is missing".into()),
            (
                format!(
                    "CREATE FUNCTION {procedures}.more() RETURNS int LANGUAGE sql AS 'SELECT 1'"
                ),
                format!("DROP FUNCTION {procedures}.more()"),
            ),
            (
                format!(
                    "CREATE SCHEMA extra; CREATE FUNCTION extra.more() RETURNS int LANGUAGE sql AS 'SELECT 1'; GRANT EXECUTE ON FUNCTION extra.more() TO {broker}"
                ),
                format!("REVOKE ALL ON FUNCTION extra.more() FROM {broker}"),
            ),
        ];
        for (spoil, told) in spoils {
            run(&mut shop.admin, &spoil).await;
            let said = problems(&shop).await;
            assert!(
                said.iter().any(|problem| problem.contains(&told)),
                "{spoil}: {said:?}"
            );
            run(&mut shop.admin, "DROP SCHEMA IF EXISTS extra CASCADE").await;
            shop.prepare_again(&scope).await;
            assert_eq!(problems(&shop).await, Vec::<String>::new(), "{spoil}");
        }
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t02_limits_are_added_up() {
    for server in postgres_servers() {
        let shop = Shop::open(&server).await;
        let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
        let told = found
            .warnings
            .iter()
            .find(|warning| warning.starts_with("max_connections = "));
        let told = told.unwrap_or_else(|| panic!("{:?}", found.warnings));
        assert!(told.contains("leases of 3 connections"), "{told}");
        assert_eq!(told.contains("reserved_connections"), server.version > 15);
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t01_who_can_fill_the_lock_table_is_told() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let told = async |shop: &Shop| {
            let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
            assert_eq!(found.problems, Vec::<String>::new());
            found
                .warnings
                .into_iter()
                .find(|warning| warning.contains("lock table"))
        };
        let words = told(&shop).await.unwrap();
        let revoke = words.split_once("in each database: ").unwrap().1;
        let revoke = revoke.split_once("; and to").unwrap().0;
        run(&mut shop.admin, revoke).await;
        assert_eq!(told(&shop).await, None);
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t24_a_strangers_prepared_transaction_is_told_and_blocks_nothing() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let stranger = format!("stranger_{}", shop.group);
        for step in [
            format!("CREATE ROLE {stranger} SUPERUSER"),
            format!("SET ROLE {stranger}"),
            format!("BEGIN; SELECT txid_current(); PREPARE TRANSACTION '{stranger}'"),
            format!("RESET ROLE; DROP ROLE {stranger}"),
        ] {
            run(&mut shop.admin, &step).await;
        }
        let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
        assert_eq!(found.problems, Vec::<String>::new());
        let mend = format!("ROLLBACK PREPARED '{stranger}'");
        assert!(
            found.warnings.iter().any(|warning| warning.contains(&mend)),
            "{:?}",
            found.warnings
        );
        let agent = shop.mint().await;
        shop.end_for_good(&agent).await;
        run(&mut shop.admin, &mend).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn case_107_a_broker_that_is_not_let_in_is_told_what_lets_it_in() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let broker = format!("\"{}\"", shop.target.user);
        let database = format!("\"{}\"", shop.target.database);
        let stranger = issuer_for(&shop.target, "wrong", None).unwrap();
        let problems = stranger.rehearse(&[shop.scope()]).await.unwrap().problems;
        assert!(problems[0].contains("init-sql"), "{problems:?}");
        assert!(
            problems[0].contains(&format!("\\password {broker}")),
            "{problems:?}"
        );
        let spoils = [
            (
                format!("ALTER ROLE {broker} NOLOGIN"),
                format!("ALTER ROLE {broker} LOGIN"),
            ),
            (
                format!("REVOKE CONNECT ON DATABASE {database} FROM {broker}"),
                format!("GRANT CONNECT ON DATABASE {database} TO {broker}"),
            ),
        ];
        for (spoil, remedy) in spoils {
            run(&mut shop.admin, &spoil).await;
            let issuer = issuer_for(&shop.target, &shop.password, None).unwrap();
            let problems = issuer.rehearse(&[shop.scope()]).await.unwrap().problems;
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(&remedy), "{spoil}: {problems:?}");
            run(&mut shop.admin, &remedy).await;
            let issuer = issuer_for(&shop.target, &shop.password, None).unwrap();
            let problems = issuer.rehearse(&[shop.scope()]).await.unwrap().problems;
            assert_eq!(problems, Vec::<String>::new(), "{remedy}");
        }
        shop.close().await;
    }
}

#[tokio::test]
async fn case_107_how_the_server_quotes_names_changes_no_judgement() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let broker = shop.target.user.clone();
        let quoting = format!("ALTER ROLE {broker} SET quote_all_identifiers = on");
        run(&mut shop.admin, &quoting).await;
        let issuer = issuer_for(&shop.target, &shop.password, None).unwrap();
        let problems = issuer.rehearse(&[shop.scope()]).await.unwrap().problems;
        assert_eq!(problems, Vec::<String>::new());
        shop.close().await;
    }
}

#[tokio::test]
async fn case_107_a_minter_that_makes_no_roles_keeps_the_right_to_pass_groups_on() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let minter = format!("{}_minter_001", shop.target.procedures);
        run(
            &mut shop.admin,
            &format!("ALTER ROLE {minter} NOCREATEROLE"),
        )
        .await;
        let said = problems(&shop).await;
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(&format!("ALTER ROLE {minter} CREATEROLE")));
        shop.close().await;
    }
}
