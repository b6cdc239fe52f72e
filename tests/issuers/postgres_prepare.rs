//! Preparing a target: again, for a catalog that grew, for several databases, and without a superuser.

use countersign::issuers::Issuer;
use countersign::issuers::postgres::preparation_parts;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, PgConnection};

use super::shop::{Shop, attempt, column, issuer_for, run};
use crate::support::postgres_servers;

/// What differs between two preparations, if anything: every object of ours with owner, body and rights.
async fn prepared(shop: &mut Shop) -> Vec<String> {
    let procedures = &shop.target.procedures;
    let look = format!(
        "SELECT concat_ws(' ', p.oid::regprocedure, p.proowner::regrole, md5(p.prosrc), p.proconfig, p.proacl) AS line
             FROM pg_proc p WHERE p.pronamespace = '{procedures}'::regnamespace
         UNION ALL SELECT concat_ws(' ', c.oid::regclass, c.relowner::regrole, c.relacl) FROM pg_class c WHERE c.relnamespace = '{procedures}'::regnamespace
         UNION ALL SELECT concat_ws(' ', r.rolname, r.rolcreaterole, r.rolcanlogin) FROM pg_roles r WHERE starts_with(r.rolname, '{procedures}_')
         UNION ALL SELECT concat_ws(' ', m.roleid::regrole, m.member::regrole, m.admin_option) FROM pg_auth_members m
             WHERE starts_with(m.member::regrole::text, '{procedures}_')
         ORDER BY 1"
    );
    column(&mut shop.admin, &look).await
}

#[tokio::test]
async fn finding_t21_preparing_again_changes_nothing_and_adds_what_is_missing() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        let before = prepared(&mut shop).await;
        let scope = shop.scope();
        shop.prepare_again(&scope).await;
        assert_eq!(prepared(&mut shop).await, before);
        let problems = shop.issuer.rehearse(&[scope]).await.unwrap().problems;
        assert_eq!(problems, Vec::<String>::new());
        // A lease that was minted before goes on, and ends.
        run(&mut session, "SELECT count(*) FROM sales.customers").await;
        shop.end_for_good(&agent).await;

        let grown = json!({"roles": [format!("{}_more", shop.group)]});
        assert_eq!(shop.refused(&grown).await.0, "role_missing");
        shop.prepare_again(&grown).await;
        let agent = shop.mint_with(&grown).await;
        shop.end_for_good(&agent).await;

        // What was left out, or changed by hand, is put right.
        let procedures = shop.target.procedures.clone();
        run(
            &mut shop.admin,
            &format!(
                "DROP FUNCTION {procedures}.lease_list(text);
                 ALTER FUNCTION {procedures}.lease_kill(text[], text) OWNER TO CURRENT_USER;
                 GRANT EXECUTE ON FUNCTION {procedures}.server_identity() TO PUBLIC;
                 CREATE FUNCTION {procedures}.lease_kill(text) RETURNS text LANGUAGE sql AS 'SELECT $1'"
            ),
        )
        .await;
        shop.prepare_again(&grown).await;
        let after = prepared(&mut shop).await;
        let functions = |lines: &[String]| -> Vec<String> {
            let ours = |line: &&String| line.contains('(');
            lines.iter().filter(ours).cloned().collect()
        };
        assert_eq!(functions(&after), functions(&before));
        run(
            &mut shop.admin,
            &format!("DROP OWNED BY {0}_more; DROP ROLE {0}_more", shop.group),
        )
        .await;
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t21_each_database_is_prepared_by_itself() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let mut there = shop.prepare_other().await;
        // On 15 a lease could create there as its group.
        run(&mut there, "REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
        drop(there);
        let elsewhere = json!({"roles": [shop.group], "database": shop.other});
        for part in preparation_parts(&shop.target, std::slice::from_ref(&elsewhere)).unwrap() {
            if part.database == shop.other {
                let wrong = attempt(&mut shop.admin, &part.sql).await.unwrap_err();
                assert!(wrong.to_string().contains("are for database"), "{wrong}");
                run(&mut shop.admin, "ROLLBACK").await;
            }
        }
        let agent = shop.mint_with(&elsewhere).await;
        drop(agent.session().await);
        shop.end_for_good(&agent).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn a_managed_administrator_can_prepare() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let id = shop.target.database.clone();
        run(
            &mut shop.admin,
            &format!("CREATE ROLE dba_{id} LOGIN CREATEROLE CREATEDB PASSWORD 'dba'; GRANT pg_signal_backend TO dba_{id} WITH ADMIN OPTION"),
        )
        .await;
        run(
            &mut shop.admin,
            &format!("CREATE DATABASE managed_{id} OWNER dba_{id}"),
        )
        .await;
        let mut target = shop.target.clone();
        target.database = format!("managed_{id}");
        target.user = format!("managed_broker_{id}");
        target.procedures = format!("m_{id}");
        let scope = json!({"roles": [format!("managed_group_{id}")]});
        let mut dba = log_in(&shop, &target.database, &format!("dba_{id}"), "dba").await;
        for _ in 0..2 {
            for part in preparation_parts(&target, std::slice::from_ref(&scope)).unwrap() {
                run(&mut dba, &part.sql).await;
            }
        }
        run(
            &mut dba,
            &format!("ALTER ROLE {} PASSWORD 'broker'", target.user),
        )
        .await;
        let issuer = issuer_for(&target, "broker", None).unwrap();
        let rehearsal = issuer.rehearse(&[scope]).await.unwrap();
        assert_eq!(rehearsal.problems, Vec::<String>::new());
        let member = format!(
            "SELECT 1 FROM pg_auth_members m WHERE m.member = 'dba_{id}'::regrole AND pg_has_role('dba_{id}', m.roleid, 'USAGE')
                AND starts_with(m.roleid::regrole::text, '{}')",
            target.procedures
        );
        assert_eq!(column(&mut dba, &member).await.len(), 0);
        drop((issuer, dba));
        run(
            &mut shop.admin,
            &format!("DROP DATABASE managed_{id} WITH (FORCE)"),
        )
        .await;
        let procedures = &target.procedures;
        run(
            &mut shop.admin,
            &format!(
                "DO $$ DECLARE one text; BEGIN
                    FOR one IN SELECT rolname FROM pg_roles WHERE starts_with(rolname, '{procedures}_') OR rolname ~ '^(managed_broker|managed_group)_{id}$' LOOP
                        EXECUTE format('DROP OWNED BY %I', one);
                        EXECUTE format('DROP ROLE %I', one);
                    END LOOP;
                    DROP OWNED BY dba_{id};
                    DROP ROLE dba_{id};
                 END $$"
            ),
        )
        .await;
        shop.close().await;
    }
}

async fn log_in(shop: &Shop, database: &str, user: &str, password: &str) -> PgConnection {
    PgConnectOptions::new_without_pgpass()
        .host(&shop.target.host)
        .port(shop.target.port)
        .username(user)
        .password(password)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
        .connect()
        .await
        .unwrap()
}

/// A trigger on a table that becomes the keeper's would run with the keeper's rights.
#[tokio::test]
async fn finding_t07_a_schema_that_somebody_else_made_is_not_taken_over() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let mut target = shop.target.clone();
        target.procedures = format!("{}_b", target.procedures);
        let (schema, planter) = (
            &target.procedures,
            format!("planter_{}", shop.target.procedures),
        );
        run(
            &mut shop.admin,
            &format!(
                "CREATE ROLE {planter}; CREATE SCHEMA {schema} AUTHORIZATION {planter};
                 CREATE TABLE {schema}.lease (handle text); ALTER TABLE {schema}.lease OWNER TO {planter}"
            ),
        )
        .await;
        let parts = preparation_parts(&target, &[json!({"roles": [shop.group]})]).unwrap();
        let mut refused = String::new();
        for part in parts {
            if let Err(why) = attempt(&mut shop.admin, &part.sql).await {
                refused = why.to_string();
                break;
            }
        }
        assert!(refused.contains("must not belong to"), "{refused}");
        run(&mut shop.admin, "ROLLBACK").await;
        let owner =
            format!("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = '{schema}'");
        assert_eq!(
            column(&mut shop.admin, &owner).await,
            std::slice::from_ref(&planter)
        );
        run(
            &mut shop.admin,
            &format!(
                "DROP SCHEMA {schema} CASCADE;
                 DO $$ DECLARE one text; BEGIN
                    FOR one IN SELECT rolname FROM pg_roles WHERE rolname = '{planter}' OR starts_with(rolname, '{schema}_') LOOP
                        EXECUTE format('DROP OWNED BY %I', one);
                        EXECUTE format('DROP ROLE %I', one);
                    END LOOP;
                 END $$"
            ),
        )
        .await;
        shop.close().await;
    }
}
