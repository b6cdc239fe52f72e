//! Scopes that may not be minted: what a group has the power to do, and what rows do not bind.

use countersign::issuers::Issuer;
use serde_json::json;

use super::shop::{Shop, attempt, column, run};
use crate::support::postgres_servers;

/// The statement a sentence ends with.
fn mend(words: &str) -> &str {
    words.split_once(": ").unwrap().1
}

/// Spoils the shop; the mint and the rehearsal must say so, with `remedy`, which must work on this server.
async fn refuses(shop: &mut Shop, code: &str, spoil: &str, remedy: &str) {
    let scope = shop.scope();
    run(&mut shop.admin, spoil).await;
    let (refused, words) = shop.refused(&scope).await;
    assert_eq!(refused, code, "{spoil}: {words}");
    assert!(words.contains(remedy), "{spoil}: {words}");
    let said = shop.issuer.rehearse(std::slice::from_ref(&scope)).await;
    let said = said.unwrap().problems;
    assert!(said.contains(&words), "{spoil}: {said:?}");
    run(&mut shop.admin, mend(&words)).await;
    let agent = shop.mint().await;
    shop.end_for_good(&agent).await;
}

#[tokio::test]
async fn finding_t09_a_group_with_power_is_refused() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let group = shop.group.clone();
        let nested = format!("{group}_nested");
        run(&mut shop.admin, &format!("CREATE ROLE {nested}")).await;
        let alter = |what: &str| format!("ALTER ROLE {group} {what}");
        let mut spoils = vec![
            (alter("CREATEROLE"), alter("NOCREATEROLE")),
            (alter("BYPASSRLS"), alter("NOBYPASSRLS")),
            (alter("SUPERUSER"), alter("NOSUPERUSER")),
            (alter("CREATEDB"), alter("NOCREATEDB")),
            (alter("REPLICATION"), alter("NOREPLICATION")),
            (alter("LOGIN"), alter("NOLOGIN")),
            (
                format!("GRANT pg_read_all_data TO {group}"),
                format!("REVOKE pg_read_all_data FROM {group}"),
            ),
            (
                format!("GRANT pg_monitor TO {group}"),
                format!("REVOKE pg_monitor FROM {group}"),
            ),
            (
                format!("GRANT {nested} TO {group} WITH ADMIN OPTION"),
                format!("REVOKE ADMIN OPTION FOR {nested} FROM {group}"),
            ),
            (
                format!("GRANT {nested} TO {group}; ALTER ROLE {nested} CREATEROLE"),
                format!("ALTER ROLE {nested} NOCREATEROLE"),
            ),
            (
                format!("ALTER TABLE sales.salaries OWNER TO {group}"),
                format!("REASSIGN OWNED BY {group} TO CURRENT_USER"),
            ),
            (
                format!("GRANT SELECT ON sales.customers TO {group} WITH GRANT OPTION"),
                format!(
                    "REVOKE GRANT OPTION FOR SELECT ON TABLE sales.customers FROM {group} CASCADE"
                ),
            ),
            (
                format!("GRANT SELECT (name) ON sales.customers TO {group} WITH GRANT OPTION"),
                "REVOKE GRANT OPTION FOR SELECT (name) ON TABLE sales.customers".into(),
            ),
            (
                format!("GRANT TRIGGER ON sales.salaries TO {group}"),
                format!("REVOKE TRIGGER ON TABLE sales.salaries FROM {group}"),
            ),
            (
                "GRANT TRIGGER ON sales.salaries TO PUBLIC".into(),
                "REVOKE TRIGGER ON sales.salaries FROM PUBLIC".into(),
            ),
            (
                format!("GRANT SET ON PARAMETER session_preload_libraries TO {group}"),
                "ON PARAMETER session_preload_libraries".into(),
            ),
        ];
        if server.version == 15 {
            spoils.push((
                format!("GRANT CREATE ON SCHEMA sales TO {group}"),
                format!("REVOKE CREATE ON SCHEMA sales FROM {group}"),
            ));
        }
        for (spoil, remedy) in spoils {
            refuses(&mut shop, "scope_too_powerful", &spoil, &remedy).await;
        }
        run(&mut shop.admin, &format!("DROP ROLE {nested}")).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t10_rows_that_do_not_bind_are_refused() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let group = shop.group.clone();
        let spoils = [
            (
                "ALTER TABLE sales.customers DISABLE ROW LEVEL SECURITY".into(),
                "ALTER TABLE sales.customers ENABLE ROW LEVEL SECURITY",
            ),
            (
                "CREATE POLICY everybody ON sales.customers USING (true)".into(),
                "DROP POLICY everybody ON sales.customers",
            ),
            (
                format!("CREATE POLICY chosen ON sales.customers TO {group} USING (country = current_setting('app.country'))"),
                "DROP POLICY chosen ON sales.customers",
            ),
            (
                format!("CREATE VIEW sales.all_customers AS SELECT * FROM sales.customers; GRANT SELECT ON sales.all_customers TO {group}"),
                "ALTER VIEW sales.all_customers SET (security_invoker = true)",
            ),
            (
                format!("CREATE MATERIALIZED VIEW sales.kept AS SELECT * FROM sales.customers; GRANT SELECT ON sales.kept TO {group}"),
                "REVOKE ALL ON sales.kept FROM",
            ),
            (
                "CREATE FUNCTION sales.peek() RETURNS SETOF sales.customers LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM sales.customers'".into(),
                "REVOKE EXECUTE ON ROUTINE sales.peek() FROM PUBLIC",
            ),
            (
                format!("CREATE TABLE sales.countries (id int, secret text); GRANT SELECT (id) ON sales.countries TO {group}"),
                "ALTER TABLE sales.countries ENABLE ROW LEVEL SECURITY",
            ),
            (
                "CREATE TABLE sales.open (id int); GRANT SELECT ON sales.open TO PUBLIC".into(),
                "ALTER TABLE sales.open ENABLE ROW LEVEL SECURITY",
            ),
        ];
        for (spoil, remedy) in spoils {
            refuses(&mut shop, "rows_unbound", &spoil, remedy).await;
        }
        let scope = shop.scope();
        run(&mut shop.admin, "DROP POLICY lease_rows ON sales.customers").await;
        let (code, words) = shop.refused(&scope).await;
        assert_eq!(code, "rows_unbound");
        assert!(words.contains("country"), "{words}");
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t10_an_owner_is_held_to_its_own_policies() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let (owner, procedures) = (shop.owner.clone(), shop.target.procedures.clone());
        run(
            &mut shop.admin,
            &format!(
                "SET ROLE {owner};
                 CREATE TABLE app.customers (country text);
                 INSERT INTO app.customers VALUES ('de'), ('fr');
                 ALTER TABLE app.customers ENABLE ROW LEVEL SECURITY;
                 CREATE POLICY lease_rows ON app.customers USING (country IN (
                     SELECT value FROM {procedures}.lease_scope WHERE role_name = SESSION_USER AND key = 'country'));
                 RESET ROLE;"
            ),
        )
        .await;
        let scope = json!({"as": owner, "rows": {"country": "de"}});
        let (code, words) = shop.refused(&scope).await;
        assert_eq!(code, "rows_unbound");
        assert!(
            words.contains("ALTER TABLE app.customers FORCE ROW LEVEL SECURITY"),
            "{words}"
        );
        run(&mut shop.admin, mend(&words)).await;
        let agent = shop.mint_with(&scope).await;
        let mut session = agent.session().await;
        assert_eq!(
            column(&mut session, "SELECT country FROM app.customers").await,
            ["de"]
        );
        drop(session);
        shop.end_for_good(&agent).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t10_what_is_declared_unbound_or_bound_otherwise_is_accepted() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let (group, procedures) = (shop.group.clone(), shop.target.procedures.clone());
        run(
            &mut shop.admin,
            &format!(
                "CREATE TABLE sales.countries (code text);
                 GRANT SELECT ON sales.countries TO {group};
                 CREATE POLICY broad ON sales.customers USING (true);
                 CREATE POLICY narrow ON sales.customers AS RESTRICTIVE USING (country IN (
                     SELECT value FROM {procedures}.lease_scope WHERE role_name = SESSION_USER AND key = 'country'))"
            ),
        )
        .await;
        let mut scope = shop.scope();
        assert_eq!(shop.refused(&scope).await.0, "rows_unbound");
        scope["unbound"] = json!(["sales.countries"]);
        let agent = shop.mint_with(&scope).await;
        let mut session = agent.session().await;
        let seen = "SELECT DISTINCT country FROM sales.customers";
        assert_eq!(column(&mut session, seen).await, ["de"]);
        drop(session);
        shop.end_for_good(&agent).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t25_a_database_nothing_cleans_up_in_is_refused() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        drop(shop.open_other().await);
        let (group, other) = (shop.group.clone(), shop.other.clone());
        refuses(
            &mut shop,
            "scope_too_powerful",
            &format!("GRANT CONNECT ON DATABASE {other} TO {group}"),
            &format!("REVOKE CONNECT ON DATABASE {other} FROM {group}"),
        )
        .await;
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t06_what_is_done_as_the_group_on_15_ends_with_the_lease() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let (group, scope) = (shop.group.clone(), shop.scope());
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        let become_group = attempt(&mut session, &format!("SET ROLE {group}")).await;
        assert_eq!(become_group.is_ok(), server.version == 15);
        if become_group.is_ok() {
            run(&mut session, "SELECT lo_create(0)").await;
            assert!(
                attempt(&mut session, "CREATE TABLE sales.mine (id int)")
                    .await
                    .is_err()
            );
            run(
                &mut session,
                &format!(
                    "BEGIN; SELECT lo_create(0); PREPARE TRANSACTION '{}'",
                    agent.handle
                ),
            )
            .await;
            drop(session);
            let blocked = shop
                .issuer
                .end_and_prove(&super::shop::ending(&agent.handle, &scope))
                .await
                .unwrap_err();
            assert_eq!(blocked.code, "prepared_transaction_left", "{blocked}");
            assert!(blocked.detail.contains(&agent.handle), "{blocked}");
            assert!(agent.log_in().await.is_err());
            run(
                &mut shop.admin,
                &format!("ROLLBACK PREPARED '{}'", agent.handle),
            )
            .await;
            let left = shop.end_for_good(&agent).await;
            assert_eq!(left.len(), 1, "{left:?}");
            assert!(left[0].starts_with("dropped large object "), "{left:?}");
            let owned = format!(
                "SELECT 1 FROM pg_largeobject_metadata WHERE lomowner = '{group}'::regrole"
            );
            assert_eq!(column(&mut shop.admin, &owned).await, Vec::<String>::new());
        } else {
            drop(session);
            shop.end_for_good(&agent).await;
        }
        shop.close().await;
    }
}
