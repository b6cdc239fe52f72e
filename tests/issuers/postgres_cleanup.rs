//! What agents leave behind, and that it gains nobody anything (abuse cases 102 to 106, 108, 116 to 118).

use countersign::domain::lease;
use countersign::issuers::Issuer;
use serde_json::{Value, json};

use super::shop::{self, Shop, assert_dead, attempt, column, ending, ending_at, run};
use crate::support::postgres_servers;

#[tokio::test]
async fn case_102_owned_objects_in_any_database_are_cleaned_up_after_access_is_cut() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let (other, quarantine) = (shop.other.clone(), shop.target.quarantine_role.clone());
        let mut there = shop.open_other().await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        run(
            &mut session,
            "CREATE TABLE sales.mine (id int); GRANT SELECT ON sales.mine TO PUBLIC",
        )
        .await;
        let mut elsewhere = agent.log_in_to(&other).await.unwrap();
        run(
            &mut elsewhere,
            "CREATE TABLE public.mine (id int); CREATE TYPE public.mood AS ENUM ('a')",
        )
        .await;
        shop.end_for_good(&agent).await;
        assert_dead(&mut session).await;
        assert_dead(&mut elsewhere).await;
        let owner = "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'mine'";
        assert_eq!(
            column(&mut shop.admin, owner).await,
            std::slice::from_ref(&quarantine)
        );
        assert_eq!(column(&mut there, owner).await, [quarantine]);
        drop(there);
        shop.close().await;
    }
}

#[tokio::test]
async fn case_102_access_is_cut_even_when_cleaning_up_is_not_possible() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let other = shop.other.clone();
        drop(shop.open_other().await);
        let agent = shop.mint().await;
        let mut session = agent.log_in_to(&other).await.unwrap();
        run(&mut session, "CREATE TABLE public.mine (id int)").await;
        run(
            &mut shop.admin,
            &format!("ALTER DATABASE {other} ALLOW_CONNECTIONS false"),
        )
        .await;
        let blocked = shop
            .issuer
            .end(&ending(&agent.handle, &shop.scope()))
            .await
            .unwrap_err();
        assert_eq!(blocked.code, "cleanup_blocked", "{blocked}");
        assert!(blocked.detail.contains(&other), "{blocked}");
        assert_dead(&mut session).await;
        assert!(agent.log_in().await.is_err());
        assert_eq!(
            shop.issuer
                .prove(&ending_at(&agent.handle, None))
                .await
                .unwrap_err()
                .code,
            "role_exists"
        );
        run(
            &mut shop.admin,
            &format!("ALTER DATABASE {other} ALLOW_CONNECTIONS true"),
        )
        .await;
        shop.end_for_good(&agent).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn case_103_a_security_definer_function_falls_to_the_powerless_or_goes() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let quarantine = shop.target.quarantine_role.clone();
        let next = shop.mint().await;
        for (may_create, owners) in [(false, vec![]), (true, vec![quarantine.clone()])] {
            if may_create {
                run(
                    &mut shop.admin,
                    &format!("GRANT USAGE, CREATE ON SCHEMA sales TO {quarantine}"),
                )
                .await;
            }
            let agent = shop.mint().await;
            let mut session = agent.session().await;
            run(
                &mut session,
                "CREATE TABLE sales.kept (id int);
                 CREATE FUNCTION sales.trap() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM pg_authid'",
            )
            .await;
            shop.end_for_good(&agent).await;
            let function = "SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'trap'";
            assert_eq!(column(&mut shop.admin, function).await, owners);
            let table = "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'kept'";
            assert_eq!(
                column(&mut shop.admin, table).await,
                std::slice::from_ref(&quarantine)
            );
            run(&mut shop.admin, "DROP TABLE sales.kept").await;
            let mut session = next.session().await;
            assert!(attempt(&mut session, "SELECT sales.trap()").await.is_err());
        }
        shop.end_for_good(&next).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn case_104_functions_with_the_names_the_broker_uses_are_never_called() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let (group, broker) = (shop.group.clone(), shop.target.user.clone());
        run(
            &mut shop.admin,
            &format!("CREATE TABLE public.calls (who text); GRANT INSERT ON public.calls TO PUBLIC; GRANT CREATE ON SCHEMA public TO {group}; ALTER ROLE {broker} SET search_path = public"),
        )
        .await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        for signature in [
            "quote_ident(name)",
            "count(bigint)",
            "pg_terminate_backend(int)",
            "pg_terminate_backend(int, int)",
            "pg_advisory_xact_lock(bigint)",
            "clock_timestamp()",
            "pg_stat_get_activity(int)",
        ] {
            let trap = format!(
                "CREATE FUNCTION public.{signature} RETURNS text LANGUAGE sql AS 'INSERT INTO public.calls VALUES (current_user); SELECT NULL::text'"
            );
            run(&mut session, &trap).await;
        }
        run(&mut session, "CREATE VIEW public.pg_stat_activity AS SELECT 1 AS pid; CREATE TABLE public.pg_roles (rolname text)").await;
        let second = shop.mint().await;
        shop.issuer.list().await.unwrap();
        shop.end_for_good(&agent).await;
        shop.end_for_good(&second).await;
        assert_eq!(
            column(&mut shop.admin, "SELECT who FROM public.calls").await,
            Vec::<String>::new()
        );
        shop.close().await;
    }
}

#[tokio::test]
async fn case_105_names_from_the_catalog_are_quoted() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let hostile = format!("x\"; ALTER ROLE {} SUPERUSER; -- '\\", shop.group);
        let quoted = hostile.replace('"', "\"\"");
        let group = shop.group.clone();
        run(&mut shop.admin, &format!("CREATE DATABASE \"{quoted}\"")).await;
        run(&mut shop.admin, &format!("CREATE ROLE \"{quoted}\"")).await;
        let database = shop.target.database.clone();
        run(
            &mut shop.admin,
            &format!(
                "GRANT CREATE ON DATABASE {database} TO {group}, {}",
                shop.target.quarantine_role
            ),
        )
        .await;
        let agent = shop.mint().await;
        run(
            &mut shop.admin,
            &format!("GRANT \"{quoted}\" TO {}", agent.handle),
        )
        .await;
        let mut session = agent.session().await;
        run(
            &mut session,
            &format!("CREATE SCHEMA \"{quoted}\" CREATE TABLE \"{quoted}\" (\"{quoted}\" int)"),
        )
        .await;
        let mut there = shop.admin_in(&shop.target.database).await;
        run(
            &mut there,
            &format!("GRANT CREATE ON DATABASE \"{quoted}\" TO {}", agent.handle),
        )
        .await;
        // Somebody else's grant stands in the way of the drop, and of nothing else.
        let ended = shop.issuer.end(&ending(&agent.handle, &shop.scope())).await;
        assert_dead(&mut session).await;
        if let Err(blocked) = ended {
            assert_eq!(blocked.code, "cleanup_blocked", "{blocked}");
            run(
                &mut there,
                &format!("REVOKE ALL ON DATABASE \"{quoted}\" FROM {}", agent.handle),
            )
            .await;
        }
        shop.end_for_good(&agent).await;
        let powerful =
            format!("SELECT rolname FROM pg_roles WHERE rolsuper AND rolname = '{group}'");
        assert_eq!(column(&mut there, &powerful).await, Vec::<String>::new());
        run(
            &mut there,
            &format!(
                "REVOKE CREATE ON DATABASE {database} FROM {group}, {}",
                shop.target.quarantine_role
            ),
        )
        .await;
        run(&mut there, &format!("DROP DATABASE \"{quoted}\"")).await;
        run(&mut there, &format!("DROP ROLE \"{quoted}\"")).await;
        drop(there);
        shop.close().await;
    }
}

#[tokio::test]
async fn case_106_tables_do_not_grow_with_every_lease() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let size = "SELECT string_agg(relname || coalesce(relacl::text, ''), ',' ORDER BY relname) FROM pg_class \
                    WHERE relnamespace IN ('sales'::regnamespace, 'countersign'::regnamespace)";
        let settings = "SELECT count(*)::text FROM pg_db_role_setting WHERE setrole NOT IN (SELECT oid FROM pg_roles)";
        let before = column(&mut shop.admin, size).await;
        for _ in 0..20 {
            let agent = shop.mint().await;
            assert_eq!(column(&mut shop.admin, size).await, before);
            shop.end(&agent).await;
        }
        assert_eq!(column(&mut shop.admin, size).await, before);
        assert_eq!(column(&mut shop.admin, settings).await, ["0"]);
        shop.close().await;
    }
}

#[tokio::test]
async fn case_108_handles_are_never_cut() {
    for server in postgres_servers() {
        let shop = Shop::open(&server).await;
        let (one, two) = (shop.mint().await, shop.mint().await);
        assert!(one.handle.len() <= 63);
        shop.end(&one).await;
        two.session().await;
        shop.end(&two).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn case_116_only_a_role_that_is_not_there_counts_as_gone() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let broker = shop.target.user.clone();
        run(
            &mut shop.admin,
            &format!("ALTER ROLE {broker} NOCREATEROLE"),
        )
        .await;
        let stranger = format!("ALTER ROLE {} SUPERUSER", agent.handle);
        run(&mut shop.admin, &stranger).await;
        assert!(
            shop.issuer
                .end(&ending(&agent.handle, &shop.scope()))
                .await
                .is_err()
        );
        assert!(
            shop.issuer
                .prove(&ending_at(&agent.handle, None))
                .await
                .is_err()
        );
        run(
            &mut shop.admin,
            &format!(
                "ALTER ROLE {broker} CREATEROLE; ALTER ROLE {} NOSUPERUSER",
                agent.handle
            ),
        )
        .await;
        run(
            &mut shop.admin,
            &format!("ALTER ROLE {broker} CONNECTION LIMIT 0"),
        )
        .await;
        let locked_out = shop::issuer_for(&shop.target, &shop.password, None).unwrap();
        assert!(
            locked_out
                .end(&ending(&agent.handle, &shop.scope()))
                .await
                .is_err()
        );
        assert!(
            locked_out
                .prove(&ending_at(&agent.handle, None))
                .await
                .is_err()
        );
        run(
            &mut shop.admin,
            &format!("ALTER ROLE {broker} CONNECTION LIMIT 10"),
        )
        .await;
        shop.end_for_good(&agent).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn case_117_a_lease_ends_whatever_became_of_its_scope() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let temporary = format!("{}_temporary", shop.group);
        let scopes = [
            Value::Null,
            json!({"from": "an older broker"}),
            json!({"roles": ["gone"], "database": "gone", "rows": {"country": "de"}}),
        ];
        for scope in &scopes {
            let agent = shop.mint().await;
            let mut session = agent.session().await;
            shop.issuer
                .end(&ending(&agent.handle, scope))
                .await
                .unwrap();
            assert_dead(&mut session).await;
            shop.end_for_good(&agent).await;
        }
        let broker = shop.target.user.clone();
        run(
            &mut shop.admin,
            &format!("CREATE ROLE {temporary}; GRANT {temporary} TO {broker} WITH ADMIN OPTION"),
        )
        .await;
        let id = shop::draw_lease();
        let scope = json!({"roles": [shop.group, temporary]});
        shop.try_mint(&id, &scope).await.unwrap();
        run(&mut shop.admin, &format!("DROP ROLE {temporary}")).await;
        shop.issuer
            .end(&ending(&lease::handle_of(&id), &scope))
            .await
            .unwrap();
        shop.issuer
            .prove(&ending_at(&lease::handle_of(&id), None))
            .await
            .unwrap();
        shop.close().await;
    }
}

#[tokio::test]
async fn case_118_roles_that_came_back_are_listed_and_ended() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let handle = lease::handle_of(&shop::draw_lease());
        let broker = shop.target.user.clone();
        // As a restored cluster has it: made by the broker, long ago.
        run(
            &mut shop.admin,
            &format!("SET ROLE {broker}; CREATE ROLE {handle} LOGIN; RESET ROLE"),
        )
        .await;
        run(
            &mut shop.admin,
            &format!("CREATE ROLE jit_of_somebody_{}", shop.group),
        )
        .await;
        let listed = shop.issuer.list().await.unwrap();
        assert!(listed.iter().any(|found| found.handle == handle));
        assert!(
            listed
                .iter()
                .all(|found| lease::lease_of(&found.handle).is_some()),
            "{listed:?}"
        );
        shop.issuer
            .end(&ending(&handle, &Value::Null))
            .await
            .unwrap();
        shop.issuer.prove(&ending_at(&handle, None)).await.unwrap();
        run(
            &mut shop.admin,
            &format!("DROP ROLE jit_of_somebody_{}", shop.group),
        )
        .await;
        shop.close().await;
    }
}
