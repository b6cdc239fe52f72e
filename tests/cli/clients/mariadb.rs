//! MariaDB's and MySQL's.

use countersign::issuers::{Ending, Issuer};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{AS_DELIVERED, Change, Clients, STRANGER};
use crate::cli::fake::Fake;
use crate::cli::{assert_nothing_left, countersign, run};
use crate::issuers::mariadb_shop::{MariadbShop, admin};

/// A name of the server that no client takes for its socket.
const HOST: &str = "Localhost";

/// The certificate is for another name.
const OTHER_NAME: Change = "sed -i s/Localhost/127.0.0.1/ \"$COUNTERSIGN_OPTION_FILE\"
             export MYSQL_HOST=127.0.0.1 COUNTERSIGN_JDBC_URL=\"$(echo \"$COUNTERSIGN_JDBC_URL\" | sed s/Localhost/127.0.0.1/)\"";

#[tokio::test]
async fn finding_t23_mariadb_clients_connect_to_the_verified_server_only() {
    let shop = MariadbShop::open().await;
    let minted = shop.mint().await;
    let password = minted.password.expose_secret();
    let pem = admin("SELECT LOAD_FILE(@@ssl_cert)")
        .await
        .remove(0)
        .replace("\\n", "\n");
    let fake = Fake::start("approved").await;
    let credential = |pem: Option<&str>| {
        json!({"kind": "mariadb", "host": HOST, "port": minted.port, "database": minted.database,
            "user": minted.user, "password": password, "verify_tls": true, "ca_pem": pem})
    };
    let clients = Clients::of("MariaDB and MySQL");
    let bundle = clients.bundle(&pem);
    let all: &[_] = &[AS_DELIVERED, OTHER_NAME, STRANGER];
    for (pem, changes) in [(Some(pem.as_str()), all), (None, &[AS_DELIVERED])] {
        fake.tell(|script| {
            script.credential = Some(credential(pem));
            script.starts_anew = Some("approved");
        });
        let script = clients.script(changes);
        let arguments = ["exec", "orders.report", "-p", "days=7", "--", "sh", &script];
        let mut exec = clients.with_programs(countersign(&fake, &arguments));
        exec.env("SSL_CERT_FILE", &bundle);
        let ran = run(exec).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        clients.assert_connected(0, &minted.user);
    }
    clients.assert_refused(1, &["mysql2"]);
    clients.assert_refused(2, &[]);
    assert_nothing_left(&fake);
    shop.issuer
        .end(&Ending::unexplained(&minted.user))
        .await
        .unwrap();
    shop.close().await;
}
