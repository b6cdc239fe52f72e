//! A target that is not what it was: a standby, another timeline, another server, a pooler in between.

use countersign::domain::ServerId;
use countersign::issuers::postgres::PostgresIssuer;
use countersign::issuers::{EndError, Ending, Issuer, MintError, Proof};
use sqlx::{Connection, PgConnection};

use super::orders::{draw_lease, order_for};
use super::shop::{Agent, Shop, assert_dead, column, issuer_for, run, until};
use crate::support::own_postgres::OwnPostgres;
use crate::support::wire::Relay;
use crate::support::{PostgresServer, postgres_servers};

fn port(server: &PostgresServer) -> u16 {
    server.url.port().unwrap()
}

/// An issuer of the shop's target at the relay's address.
fn issuer_at(shop: &Shop, relay: &Relay) -> PostgresIssuer {
    let mut target = shop.target.clone();
    target.port = relay.port;
    issuer_for(&target, &shop.password, None).unwrap()
}

fn ending<'a>(agent: &'a Agent, server: &'a ServerId) -> Ending<'a> {
    Ending {
        scope: &agent.scope,
        server: Some(server),
        ..Ending::unexplained(&agent.handle)
    }
}

async fn assert_refused(issuer: &PostgresIssuer, ending: &Ending<'_>, code: &str) {
    let codes = [
        issuer
            .end(ending)
            .await
            .map_err(|EndError { code, .. }| code),
        issuer
            .prove(ending)
            .await
            .map(drop)
            .map_err(|EndError { code, .. }| code),
    ];
    for refused in codes {
        assert_eq!(refused, Err(code.to_owned()));
    }
}

#[tokio::test]
async fn finding_t03_a_standby_proves_nothing() {
    for model in postgres_servers() {
        let primary = OwnPostgres::start(&model, "").await;
        let mut shop = Shop::open(&primary.server).await;
        let agent = shop.mint().await;
        let standby = primary.standby();
        let behind = |relay: &Relay| relay.lead_to(port(&standby.server));
        // The copy was made with the primary stopped, so nothing is connected any more.
        shop.admin = shop.admin_in(&shop.target.database.clone()).await;
        let mut session = agent.session().await;
        let relay = Relay::to(port(&primary.server)).await;
        let issuer = issuer_at(&shop, &relay);
        let server = issuer.identify().await.unwrap();
        behind(&relay);
        assert_refused(&issuer, &ending(&agent, &server), "read_only_target").await;
        assert_eq!(
            issuer.identify().await.unwrap_err().code,
            "read_only_target"
        );
        let minted = issuer
            .mint(&order_for(&draw_lease(), &agent.scope, &server))
            .await;
        assert!(
            matches!(minted, Err(MintError::Elsewhere { .. })),
            "{minted:?}"
        );
        run(&mut session, "SELECT 1").await;

        // Promoted, it is another timeline: what is there is cut off, and nothing is claimed of the other.
        let mut admin = PgConnection::connect(standby.server.url.as_str())
            .await
            .unwrap();
        run(&mut admin, "SELECT pg_promote()").await;
        let role = format!(
            "SELECT 1 FROM pg_roles WHERE rolname = '{}' AND rolcanlogin",
            agent.handle
        );
        until(async || !column(&mut admin, &role).await.is_empty()).await;
        until(async || issuer.identify().await.is_ok()).await;
        assert_ne!(issuer.identify().await.unwrap(), server);
        assert_refused(&issuer, &ending(&agent, &server), "target_changed").await;
        assert!(column(&mut admin, &role).await.is_empty());
        let minted = issuer
            .mint(&order_for(&draw_lease(), &agent.scope, &server))
            .await;
        assert!(
            matches!(minted, Err(MintError::Elsewhere { .. })),
            "{minted:?}"
        );

        relay.lead_to(port(&primary.server));
        let proof = issuer.end_and_prove(&ending(&agent, &server)).await;
        assert!(matches!(proof, Ok(Proof::Gone { .. })), "{proof:?}");
        assert_dead(&mut session).await;
        drop(issuer);
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t14_another_server_proves_nothing_and_mints_nothing() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let mut session = agent.session().await;
        let own = OwnPostgres::start(&server, "").await;
        let mut moved = Shop::open(&own.server).await;
        let identity = shop.identity.clone();
        assert_ne!(moved.identity, identity);
        // A role of the same name there is none of ours to touch.
        run(
            &mut moved.admin,
            &format!("CREATE ROLE {} LOGIN", agent.handle),
        )
        .await;
        assert_refused(&moved.issuer, &ending(&agent, &identity), "target_changed").await;
        let there = format!(
            "SELECT 1 FROM pg_roles WHERE rolname = '{}' AND rolcanlogin",
            agent.handle
        );
        assert_eq!(column(&mut moved.admin, &there).await.len(), 1);
        let minted = moved
            .issuer
            .mint(&order_for(&draw_lease(), &moved.scope(), &identity))
            .await;
        assert!(
            matches!(minted, Err(MintError::Elsewhere { .. })),
            "{minted:?}"
        );
        run(&mut session, "SELECT 1").await;
        shop.end_for_good(&agent).await;
        run(&mut moved.admin, &format!("DROP ROLE {}", agent.handle)).await;
        moved.close().await;
        shop.close().await;
    }
}

#[tokio::test]
async fn finding_t12_a_pooler_that_drops_options_is_refused() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let agent = shop.mint().await;
        let relay = Relay::to(shop.target.port).await;
        relay.drop_options(true);
        let issuer = issuer_at(&shop, &relay);
        let minted = issuer
            .mint(&order_for(&draw_lease(), &agent.scope, &shop.identity))
            .await;
        assert!(
            matches!(&minted, Err(MintError::Refused { code, .. }) if code == "options_dropped"),
            "{minted:?}"
        );
        assert_refused(&issuer, &ending(&agent, &shop.identity), "options_dropped").await;
        drop(issuer);
        shop.end_for_good(&agent).await;
        shop.close().await;
    }
}
