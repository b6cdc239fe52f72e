//! What agents leave behind, and that it gains nobody anything (abuse cases 102 to 106, 108, 116 to 118).

use countersign::domain::lease;
use countersign::issuers::{Deployment, Issuer, Whose};
use serde_json::{Value, json};

use super::shop::{self, Shop, assert_dead, attempt, column, ending, ending_at, run};
use crate::support::{PostgresServer, postgres_servers};

/// Where leases cannot act as their groups, groups may create.
fn servers_where_groups_may_create() -> Vec<PostgresServer> {
    let servers = postgres_servers().into_iter();
    servers.filter(|server| server.version > 15).collect()
}

#[tokio::test]
async fn case_102_owned_objects_in_any_prepared_database_go_after_access_is_cut() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let mut there = shop.prepare_other().await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        run(&mut session, "SELECT lo_create(4711)").await;
        let mut elsewhere = agent.log_in_to(&shop.other).await.unwrap();
        run(
            &mut elsewhere,
            "CREATE TABLE public.mine (id int); CREATE TYPE public.mood AS ENUM ('a')",
        )
        .await;
        let left = shop.end_for_good(&agent).await;
        assert_dead(&mut session).await;
        assert_dead(&mut elsewhere).await;
        for said in [
            "dropped large object 4711",
            "dropped table public.mine",
            "dropped type public.mood",
        ] {
            assert!(left.iter().any(|line| line.contains(said)), "{left:?}");
        }
        let mine = "SELECT 1 FROM pg_class WHERE relname = 'mine'";
        assert_eq!(column(&mut there, mine).await, Vec::<String>::new());
        drop(there);
        shop.close().await;
    }
}

#[tokio::test]
async fn case_102_access_is_cut_even_when_cleaning_up_is_not_possible() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let other = shop.other.clone();
        drop(shop.prepare_other().await);
        let agent = shop.mint().await;
        let mut session = agent.log_in_to(&other).await.unwrap();
        run(&mut session, "CREATE TABLE public.mine (id int)").await;
        run(
            &mut shop.admin,
            &format!("ALTER DATABASE {other} ALLOW_CONNECTIONS false"),
        )
        .await;
        let end = ending(&agent.handle, &agent.scope);
        let blocked = shop.issuer.end(&end).await.unwrap_err();
        assert_eq!(blocked.code, "cleanup_blocked", "{blocked}");
        assert!(blocked.detail.contains(&other), "{blocked}");
        assert_dead(&mut session).await;
        assert!(agent.log_in().await.is_err());
        assert_eq!(
            shop.issuer.prove(&end).await.unwrap_err().code,
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
async fn case_103_a_security_definer_function_goes_with_its_lease() {
    for server in servers_where_groups_may_create() {
        let mut shop = Shop::open(&server).await;
        let next = shop.mint().await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        run(
            &mut session,
            "CREATE FUNCTION sales.trap() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        )
        .await;
        let left = shop.end_for_good(&agent).await;
        assert_eq!(left, ["dropped function sales.trap()"]);
        let mut session = next.session().await;
        assert!(attempt(&mut session, "SELECT sales.trap()").await.is_err());
        drop(session);
        shop.end_for_good(&next).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn case_104_functions_with_the_names_the_broker_uses_are_never_called() {
    for server in servers_where_groups_may_create() {
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
    for server in servers_where_groups_may_create() {
        let mut shop = Shop::open(&server).await;
        let hostile = format!("x\"; ALTER ROLE {} SUPERUSER; -- '\\", shop.group);
        let quoted = hostile.replace('"', "\"\"");
        let group = shop.group.clone();
        run(&mut shop.admin, &format!("CREATE DATABASE \"{quoted}\"")).await;
        run(&mut shop.admin, &format!("CREATE ROLE \"{quoted}\"")).await;
        let database = shop.target.database.clone();
        run(
            &mut shop.admin,
            &format!("GRANT CREATE ON DATABASE {database} TO {group}"),
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
            &format!("REVOKE CREATE ON DATABASE {database} FROM {group}"),
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
        let size = format!(
            "SELECT string_agg(relname || coalesce(relacl::text, ''), ',' ORDER BY relname) FROM pg_class
             WHERE relnamespace IN ('sales'::regnamespace, '{}'::regnamespace)",
            shop.target.procedures
        );
        let settings = "SELECT count(*)::text FROM pg_db_role_setting WHERE setrole NOT IN (SELECT oid FROM pg_roles)";
        let before = column(&mut shop.admin, &size).await;
        for _ in 0..20 {
            let agent = shop.mint().await;
            assert_eq!(column(&mut shop.admin, &size).await, before);
            shop.end(&agent).await;
        }
        assert_eq!(column(&mut shop.admin, &size).await, before);
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
            &format!("ALTER ROLE {} NOSUPERUSER", agent.handle),
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
            &format!("ALTER ROLE {broker} CONNECTION LIMIT 40"),
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
        let granter = format!("{}_granter", shop.target.procedures);
        run(
            &mut shop.admin,
            &format!("CREATE ROLE {temporary}; GRANT {temporary} TO {granter} WITH ADMIN OPTION"),
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
        let stranger = lease::handle_of(&shop::draw_lease());
        let (minter, deployment) = (
            format!("{}_minter_001", shop.target.procedures),
            Deployment::of("shop"),
        );
        // As a restored cluster has it: made by one of ours, long ago.
        run(
            &mut shop.admin,
            &format!(
                "SET ROLE {minter}; CREATE ROLE {handle} LOGIN;
                 COMMENT ON ROLE {handle} IS 'countersign deployment={} lease=long-gone'; RESET ROLE",
                deployment.as_str()
            ),
        )
        .await;
        run(
            &mut shop.admin,
            &format!(
                "CREATE ROLE jit_of_somebody_{}; CREATE ROLE {stranger}",
                shop.group
            ),
        )
        .await;
        let listed = shop.issuer.list().await.unwrap();
        let whose = |handle: &str| {
            let found = listed.iter().find(|found| found.handle == handle);
            found.map(|found| found.whose.clone())
        };
        assert_eq!(whose(&handle), Some(Whose::Ours));
        assert!(
            matches!(whose(&stranger), Some(Whose::Anothers(_))),
            "{listed:?}"
        );
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
            &format!("DROP ROLE jit_of_somebody_{}, {stranger}", shop.group),
        )
        .await;
        shop.close().await;
    }
}
