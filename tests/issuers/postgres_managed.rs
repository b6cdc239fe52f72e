//! A managed service gives no superuser: its administrator makes roles and databases, and that is enough.

use countersign::issuers::Issuer;
use sqlx::{Connection, PgConnection};

use super::shop::{Shop, column, run};
use crate::support::{PostgresServer, postgres_servers};

/// The server as the administrator of a managed service sees it, and that administrator's name.
async fn managed(server: &PostgresServer) -> (PostgresServer, String) {
    let mut root = PgConnection::connect(server.url.as_str()).await.unwrap();
    let name = format!("administrator_{}", std::process::id());
    for step in [
        format!("DROP ROLE IF EXISTS {name}"),
        format!("CREATE ROLE {name} LOGIN CREATEROLE CREATEDB PASSWORD 'of-the-service'"),
        format!("GRANT pg_signal_backend TO {name} WITH ADMIN OPTION"),
        format!("ALTER ROLE {name} SET createrole_self_grant = 'set, inherit'"),
    ] {
        run(&mut root, &step).await;
    }
    let mut server = server.clone();
    server.url.set_username(&name).unwrap();
    server.url.set_password(Some("of-the-service")).unwrap();
    (server, name)
}

#[tokio::test]
async fn finding_t21_the_administrator_of_a_managed_service_prepares_all_of_it() {
    // The role system such services give their administrators is that of PostgreSQL 16.
    for root in postgres_servers()
        .into_iter()
        .filter(|server| server.version > 15)
    {
        let (server, name) = managed(&root).await;
        let mut shop = Shop::open(&server).await;
        let found = shop
            .issuer
            .rehearse(&[shop.scope(), shop.owner_scope()])
            .await
            .unwrap();
        assert_eq!(found.problems, Vec::<String>::new());
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        let seen = "SELECT DISTINCT country FROM sales.customers";
        assert_eq!(column(&mut session, seen).await, ["de"]);
        run(&mut session, "CREATE TABLE sales.mine (id int)").await;
        assert_eq!(
            shop.end_for_good(&agent).await,
            ["dropped table sales.mine"]
        );
        let migration = shop.mint_with(&shop.owner_scope()).await;
        let mut session = migration.session().await;
        run(&mut session, "CREATE TABLE app.notes (id int)").await;
        drop(session);
        let left = shop.end_for_good(&migration).await;
        assert!(left.contains(&"new: table app.notes".into()), "{left:?}");
        // Again, as when the catalog grew.
        shop.prepare_again(&shop.scope()).await;
        let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
        assert_eq!(found.problems, Vec::<String>::new());
        shop.close().await;
        let mut root = PgConnection::connect(root.url.as_str()).await.unwrap();
        run(
            &mut root,
            &format!("DROP OWNED BY {name}; DROP ROLE {name}"),
        )
        .await;
    }
}
