//! For MariaDB: an option file its clients find by themselves.

use std::ffi::OsString;

use countersign_client::{LeaseView, MariadbView};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::{Delivery, Directory};
use crate::cli::exit::{Exit, Failure};
use crate::cli::text::instant;

/// The name under which clients look for it in `MYSQL_HOME` and `MARIADB_HOME`.
const OPTION_FILE: &str = "my.cnf";

/// Settings that would override, or bypass, what we hand over.
const MISLEADING: &[&str] = &[
    "MYSQL_PWD",
    "MYSQL_UNIX_PORT",
    "MYSQL_GROUP_SUFFIX",
    "MARIADB_TLS_DISABLE_PEER_VERIFICATION",
];

/// Writes the files. The password goes into the environment only when `in_environment`.
pub(super) fn lay_out(
    credential: &MariadbView,
    lease: &LeaseView,
    in_environment: bool,
) -> Result<Delivery, Failure> {
    check(credential)?;
    let directory = Directory::make()?;
    if let Some(pem) = &credential.ca_pem {
        directory.put("ca.pem", pem)?;
    }
    directory.put(OPTION_FILE, &option_file(credential, &directory))?;
    let home = directory.path("");
    let mut variables: Vec<(&'static str, OsString)> = vec![
        ("MYSQL_HOME", home.clone().into()),
        ("MARIADB_HOME", home.into()),
        (
            "COUNTERSIGN_OPTION_FILE",
            directory.path(OPTION_FILE).into(),
        ),
        ("MYSQL_HOST", credential.host.clone().into()),
        ("MYSQL_TCP_PORT", credential.port.to_string().into()),
        ("MYSQL_USER", credential.user.clone().into()),
        ("MYSQL_DATABASE", credential.database.clone().into()),
    ];
    if in_environment {
        variables.push(("MYSQL_PWD", credential.password.expose_secret().into()));
    }
    Ok(Delivery {
        directory,
        endpoint: None,
        variables,
        misleading: MISLEADING,
        expires: lease.expires_at.as_deref().and_then(instant),
    })
}

/// `loose-` lets a client pass over what only others know. The database is for the interactive client: the others take
/// it as an argument, and stop at an option they do not have.
fn option_file(credential: &MariadbView, directory: &Directory) -> Zeroizing<String> {
    let mut text = Zeroizing::new(format!(
        "[client]\nprotocol=tcp\nhost=\"{}\"\nport={}\nuser=\"{}\"\npassword=\"{}\"\n",
        credential.host,
        credential.port,
        credential.user,
        credential.password.expose_secret(),
    ));
    if credential.verify_tls {
        text.push_str("loose-ssl-verify-server-cert\nloose-ssl-mode=VERIFY_IDENTITY\n");
        if credential.ca_pem.is_some() {
            let path = directory.path("ca.pem");
            text.push_str(&format!("ssl-ca=\"{}\"\n", path.display()));
        }
    }
    text.push_str(&format!(
        "\n[mysql]\ndatabase=\"{}\"\n",
        credential.database
    ));
    text
}

/// A value that could end its quotes or its line is refused.
fn check(credential: &MariadbView) -> Result<(), Failure> {
    let plain = |text: &str| {
        !text.is_empty()
            && text.len() <= 255
            && !text.contains(|c: char| c.is_control() || "\"'\\#".contains(c))
    };
    let wrong = if !plain(&credential.host) {
        "host"
    } else if !plain(&credential.database) {
        "database"
    } else if !plain(&credential.user) {
        "user"
    } else if !plain(credential.password.expose_secret()) {
        "password"
    } else {
        return Ok(());
    };
    Err(Failure::new(
        Exit::NotStarted,
        "delivery",
        format!("the credential's {wrong} cannot be written to an option file"),
        "check the target's settings in countersign.toml",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(host: &str, password: &str) -> MariadbView {
        MariadbView {
            host: host.into(),
            port: 3306,
            database: "shop".into(),
            user: "jit_a".into(),
            password: password.into(),
            verify_tls: true,
            ca_pem: Some("pem".into()),
        }
    }

    #[test]
    fn the_server_is_verified() {
        let directory = Directory::make().unwrap();
        let text = option_file(&credential("db.internal", "p"), &directory);
        assert!(text.contains("\nloose-ssl-verify-server-cert\n"));
        assert!(text.contains("\nssl-ca=\"/"));
    }

    #[test]
    fn a_value_cannot_add_an_option() {
        assert!(check(&credential("db.internal", "p")).is_ok());
        for (host, password) in [
            ("db\nssl-mode=DISABLED", "p"),
            ("db\" #", "p"),
            ("", "p"),
            ("db", "p\\"),
            ("db", "p\"\nuser=\"root"),
        ] {
            let failure = check(&credential(host, password)).unwrap_err();
            assert_eq!(failure.code, "delivery");
            assert!(!failure.what.contains('\n'));
        }
    }
}
