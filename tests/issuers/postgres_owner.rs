//! Leases that act as an owner: what they make stays and works, what they leave is told.

use countersign::issuers::Issuer;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection};

use super::shop::{Agent, Shop, attempt, column, ending, run};
use crate::support::postgres_servers;

/// An application's session.
async fn application(shop: &Shop) -> PgConnection {
    PgConnectOptions::new_without_pgpass()
        .host(&shop.target.host)
        .port(shop.target.port)
        .username(&shop.application)
        .password(&shop.password)
        .database(&shop.target.database)
        .ssl_mode(PgSslMode::Disable)
        .connect()
        .await
        .unwrap()
}

/// What sqlx's own migrator does with the migrations in `directory`, as the agent.
async fn migrate(agent: &Agent, directory: &std::path::Path) {
    let mut session = agent.session().await;
    run(&mut session, "SET search_path = app").await;
    let migrator = Migrator::new(directory).await.unwrap();
    migrator.run(&mut session).await.unwrap();
    session.close().await.unwrap();
}

#[tokio::test]
async fn finding_t08_a_migration_tool_works_twice_and_the_application_goes_on() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let scope = shop.owner_scope();
        let directory = tempfile::tempdir().unwrap();
        let steps = [
            (
                "1_notes.sql",
                "CREATE TABLE notes (id serial PRIMARY KEY, body text)",
            ),
            (
                "2_marks.sql",
                "ALTER TABLE notes ADD COLUMN mark int NOT NULL DEFAULT 0; CREATE INDEX ON notes (mark)",
            ),
        ];
        for (index, (name, text)) in steps.iter().enumerate() {
            std::fs::write(directory.path().join(name), text).unwrap();
            let agent = shop.mint_with(&scope).await;
            migrate(&agent, directory.path()).await;
            let left = shop.end_for_good(&agent).await;
            assert!(
                left.iter().any(|line| line.contains("app.notes")),
                "{left:?}"
            );
            let mut app = application(&shop).await;
            run(&mut app, "INSERT INTO app.notes (body) VALUES ('kept')").await;
            assert_eq!(
                column(&mut app, "SELECT count(*)::text FROM app.notes").await,
                [(index + 1).to_string()]
            );
        }
        let owner = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'app'::regnamespace";
        assert_eq!(column(&mut shop.admin, owner).await, [shop.owner.clone()]);
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t07_what_an_owner_leaves_is_told_or_disarmed() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let (scope, owner) = (shop.owner_scope(), shop.owner.clone());
        run(
            &mut shop.admin,
            &format!(
                "SET ROLE {owner};
                 CREATE TABLE app.customers (id int);
                 ALTER TABLE app.customers ENABLE ROW LEVEL SECURITY;
                 CREATE FUNCTION app.known() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
                 RESET ROLE"
            ),
        )
        .await;
        let agent = shop.mint_with(&scope).await;
        let mut session = agent.session().await;
        run(
            &mut session,
            "CREATE FUNCTION app.trap() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 2';
             CREATE OR REPLACE FUNCTION app.known() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 3';
             CREATE FUNCTION app.fire() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER fires BEFORE INSERT ON app.customers FOR EACH ROW EXECUTE FUNCTION app.fire();
             ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
             ALTER TABLE app.customers DISABLE ROW LEVEL SECURITY;
             CREATE POLICY wide ON app.customers USING (true);
             GRANT SELECT ON app.customers TO PUBLIC",
        )
        .await;
        drop(session);
        let left = shop.end_for_good(&agent).await;
        for said in [
            "dropped SECURITY DEFINER routine app.trap()",
            "made SECURITY INVOKER: routine app.known()",
            "made SECURITY INVOKER: routine app.fire()",
            "gone: row level security of app.customers enabled",
            "new: SELECT on table app.customers granted to PUBLIC",
            &format!("new: default privilege SELECT on new tables of {owner} for PUBLIC"),
        ] {
            assert!(left.iter().any(|line| line == said), "{said}: {left:#?}");
        }
        for begins in [
            "new: trigger CREATE TRIGGER fires",
            "new: permissive policy wide on app.customers",
        ] {
            assert!(
                left.iter().any(|line| line.starts_with(begins)),
                "{begins}: {left:#?}"
            );
        }
        let definers =
            "SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace = 'app'::regnamespace";
        assert_eq!(
            column(&mut shop.admin, definers).await,
            Vec::<String>::new()
        );
        // Whoever asks again is told the same.
        let again = shop.end_for_good(&agent).await;
        assert_eq!(again, left);
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t07_what_a_lease_makes_itself_goes_with_it() {
    for server in postgres_servers() {
        if server.version == 15 {
            continue;
        }
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        run(
            &mut session,
            "CREATE TABLE sales.mine (id int);
             CREATE FUNCTION sales.trap() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
             ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
             GRANT SELECT ON sales.mine TO PUBLIC",
        )
        .await;
        // Somebody else's table has a default that calls it, which may go; a view may not.
        run(
            &mut shop.admin,
            "CREATE TABLE sales.others (id bigint DEFAULT sales.trap()); CREATE VIEW sales.theirs AS SELECT * FROM sales.mine",
        )
        .await;
        drop(session);
        let blocked = shop
            .issuer
            .end_and_prove(&ending(&agent.handle, &agent.scope))
            .await
            .unwrap_err();
        assert_eq!(blocked.code, "cleanup_blocked", "{blocked}");
        assert!(blocked.detail.contains("sales.theirs"), "{blocked}");
        assert!(agent.log_in().await.is_err());
        run(&mut shop.admin, "DROP VIEW sales.theirs").await;
        let left = shop.end_for_good(&agent).await;
        for said in [
            "dropped table sales.mine",
            "dropped function sales.trap()",
            "dropped default value for column id of table sales.others",
        ] {
            assert!(left.iter().any(|line| line == said), "{said}: {left:?}");
        }
        let rest =
            "SELECT 1 FROM pg_default_acl UNION ALL SELECT 1 FROM pg_proc WHERE proname = 'trap'";
        let defaults = column(
            &mut shop.admin,
            &format!(
                "{rest} EXCEPT ALL SELECT 1 FROM pg_default_acl WHERE defaclrole = '{}'::regrole",
                shop.owner
            ),
        )
        .await;
        assert_eq!(defaults, Vec::<String>::new());
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t25_other_leases_hold_up_no_end() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let (maker, reader) = (shop.mint().await, shop.mint().await);
        let mut making = maker.session().await;
        let handle = &reader.handle;
        let make = if server.version == 15 {
            // Groups may not create there, but anybody may make large objects.
            format!(
                "SELECT lo_create(4711); GRANT SELECT ON LARGE OBJECT 4711 TO {handle}; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {handle}"
            )
        } else {
            format!(
                "CREATE TABLE sales.mine (id int); GRANT SELECT ON sales.mine TO {handle}; CREATE TYPE sales.mood AS ENUM ('a'); GRANT USAGE ON TYPE sales.mood TO {handle};
                 ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {handle}"
            )
        };
        run(&mut making, &make).await;
        let mut reading = reader.session().await;
        if server.version > 15 {
            run(&mut reading, "BEGIN; SELECT * FROM sales.mine").await;
        }
        // What the one made goes, although the other has it open.
        let end = ending(&maker.handle, &maker.scope);
        let mut ended = shop.issuer.end_and_prove(&end).await;
        if ended.is_err() {
            ended = shop.issuer.end_and_prove(&end).await;
        }
        ended.unwrap();
        assert!(attempt(&mut making, "SELECT 1").await.is_err());
        shop.end_for_good(&reader).await;

        // And the other way round: the one that was granted something ends first.
        let (maker, reader) = (shop.mint().await, shop.mint().await);
        let mut making = maker.session().await;
        run(&mut making, &make.replace(handle.as_str(), &reader.handle)).await;
        shop.end_for_good(&reader).await;
        run(&mut making, "SELECT 1").await;
        shop.end_for_good(&maker).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t22_the_limits_of_the_scope_are_those_of_the_session() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let mut scope = shop.scope();
        scope["idle_in_transaction_seconds"] = 1800.into();
        scope["idle_session_seconds"] = 240.into();
        scope["statement_timeout_seconds"] = 120.into();
        for (scope, limits) in [
            (shop.scope(), ["1min", "10min", "10min"]),
            (scope, ["2min", "30min", "4min"]),
        ] {
            let agent = shop.mint_with(&scope).await;
            let mut session = agent.session().await;
            for (setting, limit) in [
                "statement_timeout",
                "idle_in_transaction_session_timeout",
                "idle_session_timeout",
            ]
            .iter()
            .zip(limits)
            {
                let shown = column(&mut session, &format!("SHOW {setting}")).await;
                assert_eq!(shown, [limit], "{setting}");
            }
            drop(session);
            shop.end_for_good(&agent).await;
        }
        shop.close().await;
    }
}

/// The lines before and after tell two things apart however somebody words them.
#[tokio::test]
async fn finding_t07_what_an_owner_changes_cannot_be_worded_away() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let (owner, function) = (
            shop.owner.clone(),
            "CREATE OR REPLACE FUNCTION app.f() RETURNS int LANGUAGE sql SECURITY DEFINER",
        );
        let before = format!(
            "SET ROLE {owner}; {function} SET search_path = pg_catalog AS 'SELECT 1 -- one';
             CREATE TABLE app.t (id int); CREATE VIEW app.v WITH (security_invoker = true) AS SELECT * FROM app.t;
             CREATE DOMAIN app.amount AS int; CREATE TYPE app.pair AS (a int, b int); RESET ROLE"
        );
        run(&mut shop.admin, &before).await;
        let agent = shop.mint_with(&shop.owner_scope()).await;
        let mut session = agent.session().await;
        let change = format!(
            "{function} AS 'SELECT 1 -- one|{{search_path=pg_catalog}}';
             ALTER VIEW app.v RESET (security_invoker);
             ALTER DOMAIN app.amount ADD CONSTRAINT odd CHECK (pg_sleep(0) IS NOT NULL); ALTER DOMAIN app.amount SET DEFAULT 7;
             CREATE CAST (app.pair AS text) WITH INOUT AS IMPLICIT"
        );
        run(&mut session, &change).await;
        let behind = shop.end_for_good(&agent).await;
        for told in [
            "made SECURITY INVOKER: routine app.f()",
            "gone: option of app.v: security_invoker=true",
            "new: constraint odd on domain app.amount: ",
            "new: default of type app.amount: 7",
            "new: cast from app.pair to text by i (i)",
        ] {
            let found = behind.iter().any(|line| line.starts_with(told));
            assert!(found, "{told} on {}: {behind:?}", server.version);
        }
        shop.close().await;
    }
}
