//! For MariaDB: an option file its clients find by themselves.

use std::path::Path;

use countersign_client::{LeaseView, MariadbView};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::database::{Files, Jdbc, Variables};
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
    let files = Files::write(
        &directory,
        &credential.password,
        credential.verify_tls,
        credential.ca_pem.as_deref(),
    )?;
    directory.put(OPTION_FILE, &option_file(credential, files.ca.as_deref()))?;
    let home = directory.path("");
    let mut variables: Variables = vec![
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
    let verified: &[_] = &[("useSsl", "true"), ("sslMode", "verify-full")];
    variables.extend(files.variables(&Jdbc {
        driver: "mariadb",
        host: &credential.host,
        port: credential.port,
        database: &credential.database,
        user: &credential.user,
        settings: if credential.verify_tls { verified } else { &[] },
        ca: "serverSslCert",
    }));
    if in_environment {
        variables.push(("MYSQL_PWD", credential.password.expose_secret().into()));
    }
    Ok(Delivery {
        directory,
        endpoint: None,
        variables,
        misleads: |name| MISLEADING.contains(&name),
        expires: lease.expires_at.as_deref().and_then(instant),
    })
}

/// For the clients of MariaDB, of MySQL (`loose-` lets one pass over what only others know), and of Python. Nothing is
/// quoted, since not all of them take quotes off. The database is in the groups of those that know the option: others stop
/// at it, and take it as an argument.
fn option_file(credential: &MariadbView, ca: Option<&Path>) -> Zeroizing<String> {
    let database = &credential.database;
    let mut text = Zeroizing::new(format!(
        "[client]\nprotocol=tcp\nhost={}\nport={}\nuser={}\npassword={}\n",
        credential.host,
        credential.port,
        credential.user,
        credential.password.expose_secret(),
    ));
    if let Some(path) = ca {
        text.push_str(&format!("ssl-ca={}\n", path.display()));
    }
    let (mut mariadb, mut python) = ("", "");
    if credential.verify_tls {
        text.push_str("loose-ssl-mode=VERIFY_IDENTITY\n");
        // Without a value MariaDB's library takes it for `off`.
        mariadb = "\n[client-mariadb]\nssl-verify-server-cert=1\n";
        python = "ssl_verify_cert=True\nssl_verify_identity=True\n";
    }
    text.push_str(&format!(
        "{mariadb}\n[mysql]\ndatabase={database}\n\n[connector_python]\ndatabase={database}\n{python}"
    ));
    text
}

/// A value that could end its line, or that not all clients read alike without quotes, is refused.
fn check(credential: &MariadbView) -> Result<(), Failure> {
    let plain = |text: &str| {
        !text.is_empty()
            && text.len() <= 255
            && !text
                .contains(|c: char| c.is_control() || c.is_whitespace() || "\"'\\#;".contains(c))
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
        let ca = Path::new("/run/a/ca.pem");
        let text = option_file(&credential("db.internal", "p"), Some(ca));
        assert!(text.contains("\n[client-mariadb]\nssl-verify-server-cert=1\n"));
        assert!(text.contains("\nssl-ca=/run/a/ca.pem\n"));
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
