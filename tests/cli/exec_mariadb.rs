//! `exec` with a MariaDB account: the real client finds the real credential by itself.

use std::time::Duration;

use countersign::issuers::Ending;
use countersign::issuers::Issuer;
use secrecy::ExposeSecret;
use serde_json::json;

use super::fake::Fake;
use super::{assert_nothing_left, countersign, run};
use crate::issuers::mariadb_shop::MariadbShop;

const ASK: [&str; 4] = ["exec", "orders.report", "--param", "days=7"];

#[tokio::test]
async fn the_client_finds_its_credential_until_the_lease_ends() {
    let shop = MariadbShop::open().await;
    let minted = shop.mint().await;
    let fake = Fake::start("approved").await;
    let credential = json!({"kind": "mariadb", "host": minted.host, "port": minted.port, "database": minted.database,
        "user": minted.user, "password": minted.password.expose_secret(), "verify_tls": false, "ca_pem": null});
    fake.tell(|script| {
        script.credential = Some(credential);
        script.starts_anew = Some("approved");
    });
    let exec = async |options: &[&str], script: &str| {
        let arguments = [&ASK[..], options, &["--", "sh", "-c", script]].concat();
        let mut command = countersign(&fake, &arguments);
        command
            .env("MYSQL_PWD", "stale")
            .env("HOME", "/nonexistent");
        tokio::time::timeout(Duration::from_secs(60), run(command))
            .await
            .unwrap()
    };
    let select = "SELECT CONCAT(CURRENT_USER(), ' in ', DATABASE())";
    let expected = format!("{}@% in {}\n", minted.user, minted.database);
    for client in [
        "mariadb",
        "mariadb --defaults-file=\"$COUNTERSIGN_OPTION_FILE\"",
    ] {
        let ran = exec(&[], &format!("{client} -Ne \"{select}\"")).await;
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (Some(0), expected.as_str()),
            "{ran:?}"
        );
    }
    let dump = exec(
        &[],
        "mariadb-dump --no-tablespaces --skip-lock-tables \"$MYSQL_DATABASE\" notes",
    )
    .await;
    assert!(dump.out.contains("CREATE TABLE `notes`"), "{dump:?}");

    let password = minted.password.expose_secret();
    let look = "env; stat -c %a \"$MYSQL_HOME\" \"$COUNTERSIGN_OPTION_FILE\"";
    let plain = exec(&[], look).await;
    assert!(!plain.out.contains(password) && !plain.out.contains("stale"));
    assert!(plain.out.ends_with("\n700\n600\n"), "{plain:?}");
    let exposed = exec(&["--env"], look).await;
    assert!(exposed.out.contains(&format!("MYSQL_PWD={password}\n")));

    shop.issuer
        .end(&Ending::unexplained(&minted.user))
        .await
        .unwrap();
    let refused = exec(&[], "mariadb -e 'SELECT 1'").await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("Access denied"), "{refused:?}");
    assert_nothing_left(&fake);
    shop.close().await;
}
