//! Set-ups that must not start, and what the operator reads then.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::broker::Broker;
use super::cli::{Ran, local};
use super::place::{Place, private_file};

const PEOPLE: &str =
    "\n[people.dev]\nissuer = \"http://127.0.0.1:1\"\nclient_id = \"countersign\"\n";

/// Writes a changed configuration and tries to serve it.
async fn serve(place: &Place, change: impl FnOnce(String) -> String) -> Ran {
    let text = fs::read_to_string(place.dir.join("countersign.toml")).unwrap();
    fs::write(place.dir.join("changed.toml"), change(text + PEOPLE)).unwrap();
    local(&["serve", "--config", "changed.toml"], &place.dir).await
}

/// It did not start, and said all of this.
fn refused(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "{word:?} is missing in {ran:?}");
    }
    assert!(!ran.err.contains("\\n"), "an unreadable error: {ran:?}");
}

fn set(line: &str, to: &str) -> impl FnOnce(String) -> String {
    move |text: String| {
        let changed: Vec<_> = text
            .lines()
            .map(|l| if l.starts_with(line) { to } else { l })
            .collect();
        changed.join("\n")
    }
}

fn mode(place: &Place, file: &str, mode: u32) {
    fs::set_permissions(place.dir.join(file), fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn case_121_nothing_crosses_a_network_in_clear() {
    let place = Place::open().await;
    let ran = serve(
        &place,
        set("public_url", "public_url = \"http://broker.example\""),
    )
    .await;
    refused(
        &ran,
        &[
            "http://broker.example/ is not https",
            "put a proxy with TLS in front",
        ],
    );
    let ran = serve(&place, set("listen", "listen = \"0.0.0.0:0\"")).await;
    refused(&ran, &["is not https", "listen on 127.0.0.1"]);
    let ran = serve(&place, set("host", "host = \"db.example.com\"")).await;
    refused(
        &ran,
        &[
            "target shop",
            "`disable` is for loopback",
            "use verify_full",
        ],
    );
    assert!(
        !place.dir.join("state/ledger.db").exists(),
        "a ledger was made all the same"
    );
    let ran = serve(&place, |text| {
        text.replace("http://127.0.0.1:1\"", "http://idp.example\"")
    })
    .await;
    refused(&ran, &["http://idp.example", "https"]);

    // The target has no certificate: verified is the default, so it is not enabled and nothing is minted.
    place.edit("countersign.toml", set("tls", ""));
    let doctor = local(&["doctor", "."], &place.dir).await;
    assert_eq!(doctor.code, Some(2), "{doctor:?}");
    assert!(
        doctor
            .out
            .contains("error    target shop: cannot be looked at"),
        "{doctor:?}"
    );
}

#[tokio::test]
async fn secrets_others_can_read_keep_a_broker_from_starting() {
    let place = Place::open().await;
    mode(&place, "broker-password", 0o640);
    let ran = serve(&place, |text| text).await;
    refused(
        &ran,
        &["broker-password can be read by others", "chmod 600"],
    );
    fs::remove_file(place.dir.join("broker-password")).unwrap();
    let ran = serve(&place, |text| text).await;
    refused(
        &ran,
        &[
            "target shop",
            "broker-password",
            "put the secret into this file",
        ],
    );
    private_file(&place.dir.join("broker-password"), "");
    let ran = serve(&place, |text| text).await;
    refused(&ran, &["broker-password is empty"]);
    private_file(&place.dir.join("broker-password"), "x");
    fs::create_dir_all(place.dir.join("state")).unwrap();
    mode(&place, "state", 0o755);
    let ran = serve(&place, |text| text).await;
    refused(&ran, &["state is open to others", "chmod 700"]);
    mode(&place, "state", 0o700);
    private_file(
        &place.dir.join("url"),
        "postgres://a:canary-password@127.0.0.1:1/x",
    );
    mode(&place, "url", 0o644);
    let store = "\n[store]\nkind = \"postgres\"\nurl_file = \"url\"\n";
    let ran = serve(&place, |text| text + store).await;
    refused(&ran, &["url can be read by others"]);
    mode(&place, "url", 0o600);
    let ran = serve(&place, |text| text + store).await;
    refused(
        &ran,
        &["connect to the ledger's PostgreSQL", "store.url_file"],
    );
    assert!(!ran.err.contains("canary-password"), "{ran:?}");
}

#[tokio::test]
async fn mistakes_in_the_configuration_are_named_with_their_line() {
    let place = Place::open().await;
    let ran = serve(&place, set("listen", "lisen = \"127.0.0.1:0\"")).await;
    refused(
        &ran,
        &[
            "changed.toml",
            "line 10",
            "unknown field `lisen`",
            "expected one of `listen`",
        ],
    );
    let ran = serve(&place, |text| text + "\n[target.shop]\n").await;
    refused(&ran, &["unknown field `target`", "`targets`"]);
    let ran = serve(&place, set("user", "user = 1")).await;
    refused(&ran, &["invalid type: integer `1`, expected a string"]);
    let ran = serve(&place, |text| text.replace(PEOPLE, "")).await;
    refused(
        &ran,
        &["nobody could sign in", "[people.NAME]", "countersign dev"],
    );
    let ran = local(&["serve", "--config", "nowhere"], &place.dir).await;
    refused(&ran, &["there is no nowhere", "--config"]);
    place.edit("catalog/shop.toml", |text| {
        text.replace("title =", "titel =")
    });
    let ran = serve(&place, |text| text).await;
    refused(
        &ran,
        &[
            "the bundle in . is not loaded",
            "catalog/shop.toml:",
            "titel",
            "write instead",
        ],
    );
    let check = local(&["check", "."], &place.dir).await;
    assert_eq!(check.code, Some(2), "{check:?}");
    assert!(check.out.contains("catalog/shop.toml:"), "{check:?}");
}

#[tokio::test]
async fn a_mistake_in_a_target_is_one_finding() {
    let place = Place::open().await;
    for (line, said) in [
        ("procedures = \"Our-Own\"", "procedures \"Our-Own\" must be"),
        (
            "quarantine_role = \"orphans\"",
            "unknown field `quarantine_role`",
        ),
    ] {
        let text = fs::read_to_string(place.dir.join("countersign.toml")).unwrap();
        let more = format!("kind = \"postgres\"\n{line}");
        let spoiled = text.replace("kind = \"postgres\"", &more);
        fs::write(place.dir.join("countersign.toml"), spoiled).unwrap();
        let check = local(&["check", "."], &place.dir).await;
        assert_eq!(check.code, Some(2), "{check:?}");
        assert!(check.out.contains(said), "{check:?}");
        assert_eq!(check.out.matches("error  ").count(), 1, "{check:?}");
        assert!(!check.out.contains("\\n"), "{check:?}");
        fs::write(place.dir.join("countersign.toml"), text).unwrap();
    }
}

#[tokio::test]
async fn a_ledger_keeps_its_name_and_its_only_broker() {
    let place = Place::open().await;
    let mut broker = Broker::dev(&place).await;
    let port = place.port.to_string();
    let ran = serve(&place, |text| {
        text.replace(
            &format!("listen = \"127.0.0.1:{port}"),
            "listen = \"127.0.0.1:0",
        )
    })
    .await;
    refused(&ran, &["another process has the ledger", "stop it first"]);
    let ran = serve(&place, |text| text).await;
    refused(&ran, &["listen on 127.0.0.1", "is another broker running?"]);
    let ran = local(&["ledger", "verify", "state"], &place.dir).await;
    refused(
        &ran,
        &[
            "while its broker runs",
            "ledger export",
            "nothing is known of the ledger yet",
        ],
    );
    assert!(broker.stop().await.success());
    let ran = serve(
        &place,
        set("public_url", "public_url = \"https://elsewhere.example\""),
    )
    .await;
    refused(
        &ran,
        &[
            "belongs to 127.0.0.1",
            "elsewhere.example",
            "use the former public_url",
        ],
    );
    local(&["ledger", "verify", "state"], &place.dir)
        .await
        .fine();
}
