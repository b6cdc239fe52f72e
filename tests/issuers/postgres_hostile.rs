//! Hostile text, hostile targets and the wire (abuse cases 109, 115, 120, 121).

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign::config::DatabaseTls;
use countersign::domain::lease;
use countersign::issuers::{Issuer, MintError};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::shop::{self, Shop, column, ending, run};
use crate::support::wire::Relay;
use crate::support::{CERTIFICATE_FOR_LOCALHOST, postgres_servers};

#[tokio::test]
async fn case_109_the_password_is_never_sent_to_the_target() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        let relay = Relay::to(shop.target.port).await;
        shop.target.port = relay.port;
        shop.issuer = shop::issuer_for(&shop.target, &shop.password, None).unwrap();
        let agent = shop.mint().await;
        assert!(relay.saw("SCRAM-SHA-256$4096:"));
        let password = agent.credential.password.expose_secret();
        assert_eq!(password.len(), 40);
        assert!(!relay.saw(password));
        assert!(!format!("{:?}", agent.credential).contains(password));
        agent.session().await;
        shop.end(&agent).await;
        shop.close().await;
    }
}

#[tokio::test]
async fn case_115_parameters_and_names_stay_text() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        for hostile in [
            "de'); ALTER ROLE CURRENT_USER SUPERUSER; --",
            "$$; DROP TABLE sales.customers; $$",
            "{{name}}",
            "\\'; DROP TABLE sales.customers; --",
            "END; $1 %s",
        ] {
            let scope = json!({"roles": [shop.group], "rows": {"country": hostile}});
            let id = shop::draw_lease();
            if hostile.contains('%') {
                assert!(shop.issuer.check_scope(&scope).is_err());
                continue;
            }
            let mut order = shop::order_for(&id, &scope, &shop.identity);
            order.agent = hostile.into();
            shop.issuer.mint(&order).await.unwrap();
            let handle = lease::handle_of(&id);
            let rows = format!(
                "SELECT value FROM {}.lease_scope WHERE role_name = '{handle}'",
                shop.target.procedures
            );
            assert_eq!(column(&mut shop.admin, &rows).await, [hostile]);
            let comment = format!("SELECT shobj_description('{handle}'::regrole, 'pg_authid')");
            assert!(
                column(&mut shop.admin, &comment).await[0].ends_with(&format!("agent={hostile}"))
            );
            shop.issuer.end(&ending(&handle, &scope)).await.unwrap();
            assert_eq!(column(&mut shop.admin, &rows).await, Vec::<String>::new());
        }
        run(&mut shop.admin, "SELECT * FROM sales.customers").await;
        shop.close().await;
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

async fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let count = stream.read(&mut bytes).await.unwrap_or(0);
    bytes.truncate(count);
    bytes
}

/// Asks for two thousand million rounds of hashing.
async fn costly_greeting(mut stream: TcpStream) {
    read(&mut stream).await;
    let offer = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let _ = stream.write_all(&offer).await;
    let first = String::from_utf8_lossy(&read(&mut stream).await).into_owned();
    let nonce = first.split("r=").nth(1).unwrap_or_default();
    let salt = BASE64_STANDARD.encode([7; 16]);
    let mut body = b"\0\0\0\x0b".to_vec();
    body.extend(format!("r={nonce}x,s={salt},i=2000000000").into_bytes());
    let _ = stream.write_all(&message(b'R', &body)).await;
    read(&mut stream).await;
}

/// Lets anybody in and answers with rows that end in the middle of a value.
async fn short_rows(mut stream: TcpStream) {
    read(&mut stream).await;
    let mut welcome = message(b'R', &[0; 4]);
    welcome.extend(message(b'Z', b"I"));
    let _ = stream.write_all(&welcome).await;
    read(&mut stream).await;
    let mut answer = message(b'T', b"\0\x02version\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0now\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0");
    answer.extend(message(b'D', b"\0\x02\0\0\x7f\xff15"));
    answer.extend(message(b'C', b"SELECT 1\0"));
    answer.extend(message(b'Z', b"I"));
    let _ = stream.write_all(&answer).await;
    read(&mut stream).await;
}

#[tokio::test]
async fn case_120_a_hostile_target_harms_itself_only() {
    let server = postgres_servers().pop().unwrap();
    let shop = Shop::open(&server).await;
    for costly in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut target = shop.target.clone();
        target.port = listener.local_addr().unwrap().port();
        let hostile = shop::issuer_for(&target, "secret", None).unwrap();
        let serve = async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if costly {
                    costly_greeting(stream).await;
                } else {
                    short_rows(stream).await;
                }
            }
        };
        let order = shop::order_for(&shop::draw_lease(), &shop.scope(), &shop.identity);
        // One thread carries both targets: the good one must be served while the hostile one keeps us busy.
        let both = async {
            let (refused, agent) = tokio::join!(hostile.mint(&order), shop.mint());
            assert!(
                matches!(refused, Err(MintError::Unavailable { .. })),
                "{refused:?}"
            );
            shop.end(&agent).await;
        };
        tokio::select! {
            done = tokio::time::timeout(Duration::from_secs(20), both) => done.expect("a deadline holds"),
            () = serve => {}
        }
    }
    shop.close().await;
}

#[tokio::test]
async fn case_121_clear_text_is_for_this_machine_only() {
    let server = postgres_servers().pop().unwrap();
    let shop = Shop::open(&server).await;
    let mut target = shop.target.clone();
    for (host, tls, accepted) in [
        ("db.example.com", DatabaseTls::Disable, false),
        ("10.0.0.1", DatabaseTls::Disable, false),
        ("localhost.example.com", DatabaseTls::Disable, false),
        ("127.0.0.1", DatabaseTls::Disable, true),
        ("::1", DatabaseTls::Disable, true),
        ("/run/postgresql", DatabaseTls::Disable, true),
        ("/run/postgresql", DatabaseTls::VerifyFull, false),
        ("db.example.com", DatabaseTls::VerifyFull, true),
        (
            "db.example.com",
            DatabaseTls::VerifyFullWith {
                root_file: "ca.pem".into(),
            },
            false,
        ),
    ] {
        target.host = host.into();
        target.tls = tls;
        let made = shop::issuer_for(&target, "secret", None);
        assert_eq!(made.is_ok(), accepted, "{host} {:?}", target.tls);
    }
    assert!(matches!(DatabaseTls::default(), DatabaseTls::VerifyFull));
    shop.close().await;
}

#[tokio::test]
async fn case_121_a_certificate_is_verified_with_its_name() {
    for server in postgres_servers() {
        let mut shop = Shop::open(&server).await;
        run(
            &mut shop.admin,
            &format!("COPY (SELECT 1) TO PROGRAM '{CERTIFICATE_FOR_LOCALHOST}'"),
        )
        .await;
        run(&mut shop.admin, "ALTER SYSTEM SET ssl = on").await;
        run(&mut shop.admin, "SELECT pg_reload_conf()").await;
        let pem = column(&mut shop.admin, "SELECT pg_read_file('server.crt')")
            .await
            .remove(0);
        shop::until(async || {
            let mut fresh = shop.admin_in("postgres").await;
            column(&mut fresh, "SHOW ssl").await == ["on"]
        })
        .await;
        let mint = async |host: &str, pem: Option<&str>| {
            let mut target = shop.target.clone();
            target.host = host.into();
            target.tls = match pem {
                Some(_) => DatabaseTls::VerifyFullWith {
                    root_file: "ca.pem".into(),
                },
                None => DatabaseTls::VerifyFull,
            };
            let issuer = shop::issuer_for(&target, &shop.password, pem.map(String::from)).unwrap();
            let id = shop::draw_lease();
            let minted = issuer
                .mint(&shop::order_for(&id, &shop.scope(), &shop.identity))
                .await;
            if minted.is_ok() {
                issuer
                    .end(&ending(&lease::handle_of(&id), &shop.scope()))
                    .await
                    .unwrap();
            }
            minted
        };
        let trusted = mint("localhost", Some(&pem)).await;
        assert!(trusted.is_ok(), "{trusted:?}");
        let unknown_authority = mint("localhost", None).await;
        assert!(
            matches!(unknown_authority, Err(MintError::Unavailable { .. })),
            "{unknown_authority:?}"
        );
        let wrong_name = mint("127.0.0.1", Some(&pem)).await;
        assert!(
            matches!(wrong_name, Err(MintError::Unavailable { .. })),
            "{wrong_name:?}"
        );
        let mut clear = shop.admin_in("postgres").await;
        run(&mut clear, "ALTER SYSTEM RESET ssl").await;
        run(&mut clear, "SELECT pg_reload_conf()").await;
        shop::until(async || {
            clear = shop.admin_in("postgres").await;
            column(&mut clear, "SHOW ssl").await == ["off"]
        })
        .await;
        let no_tls = mint("localhost", Some(&pem)).await;
        assert!(
            matches!(no_tls, Err(MintError::Unavailable { .. })),
            "{no_tls:?}"
        );
        drop(clear);
        shop.close().await;
    }
}
