//! PostgreSQL's.

use serde_json::json;

use super::{AS_DELIVERED, Change, Clients, STRANGER};
use crate::cli::fake::Fake;
use crate::cli::{assert_nothing_left, countersign, run};
use crate::e2e::broker::Broker;
use crate::e2e::place::Place;
use crate::e2e::{REPORTER, cli};

/// The certificate is for another name.
const OTHER_NAME: Change = "export PGHOST=127.0.0.1 COUNTERSIGN_JDBC_URL=\"$(echo \"$COUNTERSIGN_JDBC_URL\" | sed s/localhost/127.0.0.1/)\"";

#[tokio::test]
async fn finding_t23_postgresql_clients_connect_to_the_verified_server_only() {
    let place = Place::open().await;
    let pem = place.turn_on_tls().await;
    let broker = Broker::dev(&place).await;
    let clients = Clients::of("PostgreSQL");
    let script = clients.script(&[AS_DELIVERED, OTHER_NAME, STRANGER]);
    let exec = [
        "exec",
        "orders.report",
        "--reason",
        "weekly",
        "--",
        "sh",
        &script,
    ];
    let exec = cli::countersign(&broker.base, REPORTER, &exec);
    cli::run(clients.with_programs(exec)).await.fine();
    clients.assert_connected(0, "jit_");
    clients.assert_refused(1, &["Postgres.js"]);
    clients.assert_refused(2, &[]);

    // The certificate of an authority that this machine trusts: no file of the target's, and none of the user's.
    let password = "chosen-by-hand";
    let role = format!(
        "CREATE ROLE made_by_hand LOGIN PASSWORD '{password}'; GRANT CONNECT ON DATABASE postgres TO made_by_hand"
    );
    place.run_sql("postgres", &role).await;
    let fake = Fake::start("approved").await;
    let credential = json!({"kind": "postgres", "host": "localhost", "port": place.superuser.port(), "database": "postgres",
        "user": "made_by_hand", "password": password, "sslmode": "verify-full", "ca_pem": null});
    fake.tell(|script| script.credential = Some(credential));
    let script = clients.script(&[AS_DELIVERED]);
    let exec = ["exec", "orders.report", "-p", "days=7", "--", "sh", &script];
    let mut exec = clients.with_programs(countersign(&fake, &exec));
    exec.env("SSL_CERT_FILE", clients.bundle(&pem));
    let ran = run(exec).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    clients.assert_connected(0, "made_by_hand");
    assert_nothing_left(&fake);
}
